package bench

import (
	"context"
	"sync/atomic"
	"time"
)

// A clock tells wall time in nanoseconds that no correction of the system's moves: publisher and
// viewers may be two processes, and one run is measured by one scale.
type clock struct {
	wall int64
	base time.Time
}

func newClock() clock {
	now := time.Now()
	return clock{now.UnixNano(), now}
}

func (c clock) now() int64 { return c.wall + int64(time.Since(c.base)) }

// A window is the time that is measured, in nanoseconds of the clock.
type window struct{ from, to int64 }

func (w *window) contains(t int64) bool { return w != nil && w.from <= t && t < w.to }

// measurement is what all parts of a run share.
type measurement struct {
	clock
	window atomic.Pointer[window] // nil until everybody has joined
}

// measured tells whether what was sent at t counts.
func (s *measurement) measured(t int64) bool { return s.window.Load().contains(t) }

// sleep waits for d, and reports false when ctx ended before.
func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}
