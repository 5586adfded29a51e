package hls

import (
	"sync"
	"sync/atomic"
	"time"

	"livego/internal/deliver/segment"
)

// blockedRequests counts the requests that wait for a segment or a part.
type blockedRequests struct {
	current         atomic.Int64
	total, timeouts atomic.Uint64
	timers          sync.Pool // of *time.Timer: stopped, for the next request
}

// start counts a request, and returns a timer for it.
func (b *blockedRequests) start(d time.Duration) *time.Timer {
	b.current.Add(1)
	b.total.Add(1)
	if t, ok := b.timers.Get().(*time.Timer); ok {
		t.Reset(d)
		return t
	}
	return time.NewTimer(d)
}

// end counts the end of a request whose timer is t.
func (b *blockedRequests) end(t *time.Timer) {
	b.current.Add(-1)
	t.Stop()
	b.timers.Put(t)
}

// Statistics are counts over all streams since the start of the server.
type Statistics struct {
	segment.Counts
	Blocked         int    // requests of now that wait for a segment or a part
	BlockedTotal    uint64 // requests that have waited
	BlockedTimeouts uint64 // of these, without the segment or part in time
}

// Statistics returns the counts.
func (s *Server) Statistics() Statistics {
	b := &s.blocked
	return Statistics{s.segments.Counts(), int(b.current.Load()), b.total.Load(), b.timeouts.Load()}
}

// Mismatches returns how many segments of replicated sessions differed from those of their owners. It is
// 0 unless there is a bug.
func (s *Server) Mismatches() uint64 { return s.mismatches.Load() }
