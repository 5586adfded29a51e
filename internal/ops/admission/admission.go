// Package admission refuses new publishers and viewers while memory is short. It knows no protocol
// and no credentials.
package admission

import (
	"errors"
	"log/slog"
	"math"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"sync"
	"sync/atomic"
	"time"

	"livego/internal/domain"
	"livego/internal/ops/memlimit"
)

// Admission control by memory: from which use of the memory limit new publishers and new viewers
// are refused, in percent. A publisher needs up to ring_size and as much for HLS, a viewer only
// some kilobytes, so publishers are refused first. Below the limit minus hysteresisPercent they are
// admitted again; the start and end of a stream change the use by some percent.
const (
	publisherLimitPercent = 85
	viewerLimitPercent    = 90
	hysteresisPercent     = 5
)

const (
	// memoryCheckInterval is the maximum age of the known memory use. A check takes some ten
	// microseconds, and happens only on demand.
	memoryCheckInterval = 250 * time.Millisecond
	// maxGCAge is the maximum age of the last garbage collection if the decision depends on the
	// live heap.
	maxGCAge = 5 * time.Second
)

// A level says which new clients are refused.
type level int32

const (
	admitAll level = iota
	refuseNewPublishers
	refuseEveryone
)

// A Controller measures how much of the memory limit is in use, and refuses new clients near the
// limit.
//
// It counts memory that no garbage collection frees: the live heap of the last collection, stacks
// and the runtime's own memory, against the soft limit of the runtime; together with the kernel's
// memory for sockets, against the limit of the control group. The resident memory would be
// misleading: the runtime lets garbage grow up to the soft limit before it collects, so a server
// with little to do stays near the limit for minutes. The live heap of an old collection may be
// wrong in both directions. If the decision depends on it and the collection is older than
// maxGCAge, a new one is made.
//
// The memory is measured only when a client wants to publish or play, or for /readyz. Without a
// memory limit no client is refused. A Controller is safe for concurrent use.
type Controller struct {
	read    func() usage
	collect func()
	isLive  func(domain.Name) bool // reports whether a stream exists: the return of its publisher needs no more memory
	log     *slog.Logger

	current   atomic.Int32 // a level
	mu        sync.Mutex   // held by the goroutine that measures; others use the last result
	checkedAt time.Time    // time of the last measurement
}

// usage is the memory in use, in bytes.
type usage struct {
	softLimit   int64     // of the runtime; math.MaxInt64 for none
	cgroupLimit int64     // of the control group; math.MaxInt64 for none
	inUse       uint64    // by the runtime, including garbage
	live        uint64    // by the runtime, without garbage, as of lastGC
	lastGC      time.Time // time of the last garbage collection
	kernel      uint64    // of the control group for sockets and the like; 0 if unknown
}

// share returns the use of the memory limit in percent if the runtime needs that many bytes.
func (u usage) share(runtime uint64) float64 {
	return 100 * max(float64(runtime)/float64(u.softLimit), float64(runtime+u.kernel)/float64(u.cgroupLimit))
}

// New returns a Controller for the memory limit of g.
func New(g memlimit.Group, isLive func(domain.Name) bool, log *slog.Logger) *Controller {
	return &Controller{read: func() usage { return readUsage(g) }, collect: runtime.GC, isLive: isLive, log: log}
}

// Admit returns an error of kind Unavailable if memory is too short for a new publisher or viewer of
// name. A publisher that returns to its stream is always admitted.
func (c *Controller) Admit(action domain.Action, name domain.Name) error {
	now := c.measured(time.Now())
	switch {
	case action == domain.Publish && now >= refuseNewPublishers && !c.isLive(name):
		return domain.Errorf(domain.Unavailable, "server is short of memory: new publishers are refused")
	case action == domain.Play && now >= refuseEveryone:
		return domain.Errorf(domain.Unavailable, "server is short of memory: new viewers are refused")
	}
	return nil
}

var errMemory = errors.New("memory is short")

// Ready returns an error while new publishers and viewers are refused.
func (c *Controller) Ready() error {
	if c.measured(time.Now()) >= refuseEveryone {
		return errMemory
	}
	return nil
}

// measured returns which new clients are refused now.
func (c *Controller) measured(now time.Time) level {
	if c.mu.TryLock() {
		defer c.mu.Unlock()
		if c.checkedAt.IsZero() || now.Sub(c.checkedAt) >= memoryCheckInterval {
			c.update(now)
			c.checkedAt = now
		}
	}
	return level(c.current.Load())
}

// update measures the memory use and sets the level. The caller holds c.mu.
func (c *Controller) update(now time.Time) {
	was := level(c.current.Load())
	u := c.read()
	short := was.next(u.share(u.inUse))
	if short > admitAll && now.Sub(u.lastGC) >= maxGCAge {
		c.collect()
		u = c.read()
	}
	if short > admitAll { // otherwise there is enough memory even with the garbage
		short = was.next(u.share(min(u.live, u.inUse)))
	}
	c.current.Store(int32(short))
	if short == was {
		return
	}
	attrs := []any{"percent", int(u.share(min(u.live, u.inUse))), "in_use", u.inUse, "limit",
		min(u.softLimit, u.cgroupLimit)}
	switch short {
	case admitAll:
		c.log.Info("memory is sufficient again", attrs...)
	case refuseNewPublishers:
		c.log.Warn("memory is short: new publishers are refused", attrs...)
	case refuseEveryone:
		c.log.Warn("memory is short: new publishers and viewers are refused", attrs...)
	}
}

// next returns the level for a use in percent, after the level was.
func (was level) next(percent float64) level {
	from := func(refuse float64, s level) bool {
		if was >= s {
			refuse -= hysteresisPercent
		}
		return percent >= refuse
	}
	switch {
	case from(viewerLimitPercent, refuseEveryone):
		return refuseEveryone
	case from(publisherLimitPercent, refuseNewPublishers):
		return refuseNewPublishers
	}
	return admitAll
}

// runtimeOverhead lists the runtime's memory besides heap objects, which no collection frees.
var runtimeOverhead = [...]string{
	"/memory/classes/heap/stacks:bytes", "/memory/classes/os-stacks:bytes", "/memory/classes/metadata/mcache/inuse:bytes",
	"/memory/classes/metadata/mspan/inuse:bytes", "/memory/classes/metadata/other:bytes",
	"/memory/classes/profiling/buckets:bytes",
	"/memory/classes/other:bytes",
}

// readUsage measures the memory of the runtime and of g.
func readUsage(g memlimit.Group) usage {
	u := usage{softLimit: debug.SetMemoryLimit(-1), cgroupLimit: g.Limit}
	if u.softLimit == math.MaxInt64 && u.cgroupLimit == math.MaxInt64 {
		return u
	}
	samples := make([]metrics.Sample, len(runtimeOverhead), len(runtimeOverhead)+2)
	for i, name := range runtimeOverhead {
		samples[i].Name = name
	}
	samples = append(samples, metrics.Sample{Name: "/memory/classes/heap/objects:bytes"},
		metrics.Sample{Name: "/gc/heap/live:bytes"})
	metrics.Read(samples)
	for _, s := range samples[:len(runtimeOverhead)] {
		u.inUse += s.Value.Uint64()
	}
	u.live = u.inUse + samples[len(runtimeOverhead)+1].Value.Uint64()
	u.inUse += samples[len(runtimeOverhead)].Value.Uint64()
	var gc debug.GCStats
	debug.ReadGCStats(&gc)
	u.lastGC = gc.LastGC
	u.kernel = g.Kernel()
	return u
}
