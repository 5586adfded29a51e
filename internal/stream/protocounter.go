package stream

import (
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"livego/internal/ops/histogram"
)

// ProtoStats sums up the viewers of a stream by one protocol.
type ProtoStats struct {
	Viewers int    // of now
	Bytes   uint64 // payload bytes sent to viewers so far, also to those that have left
	Skips   uint64 // how often viewers have skipped to a newer keyframe so far

	BatchWindow time.Duration // in use for the viewers of now
}

// A protoCounter counts for ProtoStats and ViewerTotals, without a lock.
type protoCounter struct {
	proto               string
	viewers             atomic.Int64
	joins, bytes, skips atomic.Uint64
	delay, firstFrame   *histogram.Histogram
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
	p := &protoCounter{proto: proto, delay: histogram.New(delayBounds), firstFrame: histogram.New(firstFrameBounds)}
	c.list = append(c.list, p)
	return p
}

// all returns the counters so far. Shared: do not modify.
func (c *protoCounters) all() []*protoCounter {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.list
}

// watched reports whether there are viewers now.
func (c *protoCounters) watched() bool {
	return slices.ContainsFunc(c.all(), func(p *protoCounter) bool { return p.viewers.Load() > 0 })
}

// add adds what other has counted, except the viewers of now.
func (c *protoCounters) add(other *protoCounters) {
	for _, from := range other.all() {
		to := c.of(from.proto)
		to.joins.Add(from.joins.Load())
		to.bytes.Add(from.bytes.Load())
		to.skips.Add(from.skips.Load())
		to.delay.Add(from.delay)
		to.firstFrame.Add(from.firstFrame)
	}
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
