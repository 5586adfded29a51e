package hls

import (
	"sync/atomic"

	"livego/internal/deliver/segment"
)

// blockedRequests counts the requests that wait for a segment or a part.
type blockedRequests struct {
	current         atomic.Int64
	total, timeouts atomic.Uint64
}

func (b *blockedRequests) start() {
	b.current.Add(1)
	b.total.Add(1)
}

func (b *blockedRequests) end() { b.current.Add(-1) }

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
