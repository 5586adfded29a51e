package bench

import (
	"math/bits"
	"time"
)

// A bucket is 1/64 as wide as its values, so percentiles are exact to 1.6 %, for durations up to an
// hour.
const (
	subBits    = 6
	subBuckets = 1 << subBits
	maxShift   = 36
)

// A histogram counts durations. The zero value is empty.
type histogram struct {
	counts []uint64 // allocated by the first add
	n      uint64
	max    time.Duration
}

// add counts d. A negative duration, caused by different clocks, counts as zero.
func (h *histogram) add(d time.Duration) {
	if h.counts == nil {
		h.counts = make([]uint64, (maxShift+2)*subBuckets)
	}
	d = max(d, 0)
	h.counts[bucketOf(uint64(d))]++
	h.n++
	h.max = max(h.max, d)
}

func (h *histogram) merge(o *histogram) {
	if o.n == 0 {
		return
	}
	if h.counts == nil {
		h.counts = make([]uint64, len(o.counts))
	}
	for i, c := range o.counts {
		h.counts[i] += c
	}
	h.n += o.n
	h.max = max(h.max, o.max)
}

// bucketOf returns the bucket of v: one for each value below 64, then 64 for each power of two.
func bucketOf(v uint64) int {
	shift := min(max(bits.Len64(v)-subBits-1, 0), maxShift)
	return shift*subBuckets + int(min(v>>shift, 2*subBuckets-1))
}

// bucketValue returns the middle of bucket i.
func bucketValue(i int) time.Duration {
	if i < 2*subBuckets {
		return time.Duration(i)
	}
	shift := i/subBuckets - 1
	low := uint64(i-shift*subBuckets) << shift
	return time.Duration(low + 1<<shift/2)
}

// quantile returns the duration that a fraction q of all durations does not exceed; 0 if there are
// none.
func (h *histogram) quantile(q float64) time.Duration {
	rank := uint64(q * float64(h.n))
	for i, c := range h.counts {
		if c > rank {
			return min(bucketValue(i), h.max)
		}
		rank -= c
	}
	return h.max
}

// Percentiles summarize durations, in milliseconds.
type Percentiles struct {
	Count uint64  `json:"count"`
	P50   float64 `json:"p50"`
	P90   float64 `json:"p90"`
	P99   float64 `json:"p99"`
	P999  float64 `json:"p999"`
	Max   float64 `json:"max"`
}

func (h *histogram) percentiles() Percentiles {
	ms := func(d time.Duration) float64 { return float64(d.Round(time.Microsecond)) / float64(time.Millisecond) }
	return Percentiles{
		Count: h.n,
		P50:   ms(h.quantile(.5)), P90: ms(h.quantile(.9)), P99: ms(h.quantile(.99)), P999: ms(h.quantile(.999)),
		Max: ms(h.max),
	}
}
