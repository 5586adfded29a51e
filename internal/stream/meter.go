package stream

import (
	"sync/atomic"
	"time"
)

// meterWindow is the length of one window of a rate.
const meterWindow = 5 * time.Second

// A Meter counts the bytes of one direction of one connection. One goroutine adds, without a lock
// or memory; any goroutine may read. Times count from the start of the connection.
type Meter struct {
	total atomic.Uint64
	// marks are the starts of the window that rates are measured in, of the next one, and the next
	// to write. A reader has a whole window to read the first before it is written again.
	marks [3]mark
	first atomic.Uint32 // index of the first, plus 1; 0: none yet
}

type mark struct {
	at    atomic.Int64
	total atomic.Uint64
}

func (m *mark) set(at time.Duration, total uint64) {
	m.at.Store(int64(at))
	m.total.Store(total)
}

func (m *mark) time() time.Duration { return time.Duration(m.at.Load()) }

// Add counts n bytes at a time.
func (m *Meter) Add(n int, at time.Duration) {
	total := m.total.Add(uint64(n))
	first := m.first.Load()
	switch {
	case first == 0:
		m.marks[0].set(at, total-uint64(n))
		m.marks[1].set(at, total)
		m.first.Store(1)
	case at >= m.marks[first%3].time()+meterWindow:
		m.marks[(first+1)%3].set(at, total)
		m.first.Store(first%3 + 1)
	}
}

// Total returns the number of bytes.
func (m *Meter) Total() uint64 { return m.total.Load() }

// Kbps returns the rate in kbit/s over the last five to ten seconds, or since the start.
func (m *Meter) Kbps(now time.Duration) float64 {
	first := m.first.Load()
	if first == 0 {
		return 0
	}
	from := &m.marks[first-1]
	d := max(now-from.time(), time.Second)
	return float64(m.total.Load()-from.total.Load()) * 8 / 1000 / d.Seconds()
}
