package stream

import (
	"sync/atomic"
	"time"
)

// meterWindow is the length of one window of a rate.
const meterWindow = 5 * time.Second

// A meter counts the bytes of one direction of one connection. One goroutine adds; any goroutine
// may read.
type meter struct {
	total     atomic.Uint64
	from      atomic.Pointer[mark] // start of the window
	last      atomic.Pointer[mark] // start of the next window
	windowEnd time.Time            // end of the next window; of the goroutine that adds
}

type mark struct {
	at    time.Time
	total uint64
}

func (m *meter) add(n int, now time.Time) {
	total := m.total.Add(uint64(n))
	if now.Before(m.windowEnd) {
		return
	}
	m.windowEnd = now.Add(meterWindow)
	last := m.last.Load()
	if last == nil {
		last = &mark{now, total - uint64(n)}
	}
	m.from.Store(last)
	m.last.Store(&mark{now, total})
}

// kbps returns the rate in kbit/s over the last five to ten seconds, or since the start.
func (m *meter) kbps(now time.Time) float64 {
	from := m.from.Load()
	if from == nil {
		return 0
	}
	d := now.Sub(from.at)
	if d < time.Second {
		d = time.Second
	}
	return float64(m.total.Load()-from.total) * 8 / 1000 / d.Seconds()
}
