package webhook

import (
	"sync/atomic"
	"time"

	"livego/internal/ops/histogram"
)

// durationBounds are of the time until a response: hook.timeout is 3 s by default.
var durationBounds = []time.Duration{
	5 * time.Millisecond, 10 * time.Millisecond, 25 * time.Millisecond, 50 * time.Millisecond, 100 * time.Millisecond,
	250 * time.Millisecond, 500 * time.Millisecond, time.Second, 2500 * time.Millisecond, 5 * time.Second,
	10 * time.Second, 30 * time.Second,
}

// RequestStatistics are counts of requests since the start of the server.
type RequestStatistics struct {
	Duration histogram.Snapshot // until the response, or the failure
	Failed   uint64             // without a valid response
}

// A requestCounter counts requests for RequestStatistics.
type requestCounter struct {
	duration *histogram.Histogram
	failed   atomic.Uint64
}

func newRequestCounter() *requestCounter {
	return &requestCounter{duration: histogram.New(durationBounds)}
}

// observe counts a request that started at a time. ok reports whether its response is valid.
func (c *requestCounter) observe(start time.Time, ok bool) {
	c.duration.Observe(time.Since(start))
	if !ok {
		c.failed.Add(1)
	}
}

func (c *requestCounter) statistics() RequestStatistics {
	return RequestStatistics{c.duration.Snapshot(), c.failed.Load()}
}
