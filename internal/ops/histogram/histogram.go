// Package histogram counts durations in fixed buckets, without a lock and without memory. It knows no
// format of metrics: internal/ops/metrics exports it.
package histogram

import (
	"sync/atomic"
	"time"
)

// A Histogram counts durations by bucket. It is safe for concurrent use.
type Histogram struct {
	bounds []time.Duration
	counts []atomic.Uint64 // by bucket; the last is for durations above all bounds
	sum    atomic.Int64    // ns
}

// New returns a Histogram whose buckets end at bounds, which ascend. Shared: do not modify bounds.
func New(bounds []time.Duration) *Histogram {
	return &Histogram{bounds: bounds, counts: make([]atomic.Uint64, len(bounds)+1)}
}

// Observe counts d. A duration equal to a bound belongs to the bucket that ends there. Negative
// durations count as zero.
func (h *Histogram) Observe(d time.Duration) {
	d = max(d, 0)
	i := 0
	for i < len(h.bounds) && d > h.bounds[i] {
		i++
	}
	h.counts[i].Add(1)
	h.sum.Add(int64(d))
}

// Add adds what other has counted. Both have the same bounds.
func (h *Histogram) Add(other *Histogram) {
	for i := range h.counts {
		if n := other.counts[i].Load(); n > 0 {
			h.counts[i].Add(n)
		}
	}
	h.sum.Add(other.sum.Load())
}

// Snapshot returns what h has counted.
func (h *Histogram) Snapshot() Snapshot {
	s := Snapshot{Bounds: h.bounds, Counts: make([]uint64, len(h.counts))}
	for i := range h.counts {
		s.Counts[i] = h.counts[i].Load()
	}
	s.Sum = time.Duration(h.sum.Load())
	return s
}

// A Snapshot is what a Histogram had counted at one moment.
type Snapshot struct {
	Bounds []time.Duration // shared: do not modify
	Counts []uint64        // by bucket, as in Histogram
	Sum    time.Duration
}

// Count returns the number of durations.
func (s Snapshot) Count() (n uint64) {
	for _, c := range s.Counts {
		n += c
	}
	return n
}
