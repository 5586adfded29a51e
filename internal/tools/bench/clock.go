package bench

import (
	"context"
	"sync/atomic"
	"time"
)

// A clock returns wall-clock time in nanoseconds that corrections of the system clock do not
// change: publisher and viewers may be two processes, and a run needs one time scale.
type clock struct {
	wall int64
	base time.Time
}

func newClock() clock {
	now := time.Now()
	return clock{now.UnixNano(), now}
}

func (c clock) now() int64 { return c.wall + int64(time.Since(c.base)) }

// A window is the measured time, in nanoseconds of the clock.
type window struct{ from, to int64 }

func (w *window) contains(t int64) bool { return w != nil && w.from <= t && t < w.to }

// A measurement is what all parts of a run share.
type measurement struct {
	clock
	window atomic.Pointer[window] // nil until all viewers have joined
}

// measured reports whether something sent at t counts.
func (s *measurement) measured(t int64) bool { return s.window.Load().contains(t) }

// sleep waits for d, and reports false if ctx ended before.
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
