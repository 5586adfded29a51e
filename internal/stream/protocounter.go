package stream

import (
	"sync"
	"sync/atomic"
	"time"
)

// ProtoStats sums up the viewers of a stream by one protocol.
type ProtoStats struct {
	Viewers int    // of now
	Bytes   uint64 // payload bytes sent to viewers so far, also to those that have left
	Skips   uint64 // how often viewers have skipped to a newer keyframe so far

	BatchWindow time.Duration // in use for the viewers of now
}

// A protoCounter counts for ProtoStats, without a lock.
type protoCounter struct {
	proto        string
	viewers      atomic.Int64
	bytes, skips atomic.Uint64
}

// protoCounters has a protoCounter for each protocol that has had viewers.
type protoCounters struct {
	mu   sync.Mutex
	list []*protoCounter
}

// of returns the counter of proto.
func (c *protoCounters) of(proto string) *protoCounter {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, p := range c.list {
		if p.proto == proto {
			return p
		}
	}
	p := &protoCounter{proto: proto}
	c.list = append(c.list, p)
	return p
}

// stats returns the sums by protocol, without those that are zero.
func (c *protoCounters) stats() map[string]ProtoStats {
	c.mu.Lock()
	defer c.mu.Unlock()
	stats := make(map[string]ProtoStats, len(c.list))
	for _, p := range c.list {
		sum := ProtoStats{Viewers: int(p.viewers.Load()), Bytes: p.bytes.Load(), Skips: p.skips.Load()}
		if sum != (ProtoStats{}) {
			stats[p.proto] = sum
		}
	}
	return stats
}
