package app

import (
	"context"
	"io/fs"
	"log/slog"
	"math"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"livego/internal/domain"
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

// An admissionLevel says which new clients are refused.
type admissionLevel int32

const (
	admitAll admissionLevel = iota
	refuseNewPublishers
	refuseEveryone
)

// An admission measures how much of the memory limit is in use, and refuses new clients near the
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
// memory limit no client is refused. An admission is safe for concurrent use.
type admission struct {
	read    func() usage
	collect func()
	isLive  func(domain.Name) bool // reports whether a stream exists: the return of its publisher needs no more memory
	log     *slog.Logger

	current   atomic.Int32 // an admissionLevel
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

// endedStreamsPercent is how much of the memory limit ended streams may keep for late viewers. They
// do not count for admission.
const endedStreamsPercent = 10

// endedStreamsLimit returns that in bytes, 0 if there is no memory limit.
func endedStreamsLimit(g cgroup) int {
	limit := min(g.limit, debug.SetMemoryLimit(-1))
	if limit == math.MaxInt64 {
		return 0
	}
	return int(min(limit/100*endedStreamsPercent, 256<<20)) // the default without a memory limit
}

func newAdmission(g cgroup, known func(domain.Name) bool, log *slog.Logger) *admission {
	return &admission{read: func() usage { return readUsage(g) }, collect: runtime.GC, isLive: known, log: log}
}

// wrap returns an authorization step that calls next and then checks the memory. A publisher that
// returns to its stream is always admitted. next may grant another room than requested.
func (m *admission) wrap(next func(context.Context, domain.AuthRequest, domain.Grant) (domain.Grant,
	error)) func(context.Context, domain.AuthRequest, domain.Grant) (domain.Grant, error) {
	return func(ctx context.Context, r domain.AuthRequest, grant domain.Grant) (domain.Grant, error) {
		grant, err := next(ctx, r, grant)
		if err != nil {
			return grant, err
		}
		if r.Action == domain.Publish {
			err = m.checkPublisher(grant.Name)
		} else if m.level(time.Now()) >= refuseEveryone {
			err = domain.Errorf(domain.Unavailable, "server is short of memory: new viewers are refused")
		}
		if err != nil {
			return domain.Grant{}, err
		}
		return grant, nil
	}
}

// checkPublisher returns an error if name may not be published because memory is short.
func (m *admission) checkPublisher(name domain.Name) error {
	if m.level(time.Now()) >= refuseNewPublishers && !m.isLive(name) {
		return domain.Errorf(domain.Unavailable, "server is short of memory: new publishers are refused")
	}
	return nil
}

// level returns which new clients are refused now.
func (m *admission) level(now time.Time) admissionLevel {
	if m.mu.TryLock() {
		defer m.mu.Unlock()
		if m.checkedAt.IsZero() || now.Sub(m.checkedAt) >= memoryCheckInterval {
			m.update(now)
			m.checkedAt = now
		}
	}
	return admissionLevel(m.current.Load())
}

// update measures the memory use and sets the level. The caller holds m.mu.
func (m *admission) update(now time.Time) {
	was := admissionLevel(m.current.Load())
	u := m.read()
	short := was.next(u.share(u.inUse))
	if short > admitAll && now.Sub(u.lastGC) >= maxGCAge {
		m.collect()
		u = m.read()
	}
	if short > admitAll { // otherwise there is enough memory even with the garbage
		short = was.next(u.share(min(u.live, u.inUse)))
	}
	m.current.Store(int32(short))
	if short == was {
		return
	}
	attrs := []any{"percent", int(u.share(min(u.live, u.inUse))), "in_use", u.inUse, "limit",
		min(u.softLimit, u.cgroupLimit)}
	switch short {
	case admitAll:
		m.log.Info("memory is sufficient again", attrs...)
	case refuseNewPublishers:
		m.log.Warn("memory is short: new publishers are refused", attrs...)
	case refuseEveryone:
		m.log.Warn("memory is short: new publishers and viewers are refused", attrs...)
	}
}

// next returns the level for a use in percent, after the level was.
func (was admissionLevel) next(percent float64) admissionLevel {
	from := func(refuse float64, s admissionLevel) bool {
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
func readUsage(g cgroup) usage {
	u := usage{softLimit: debug.SetMemoryLimit(-1), cgroupLimit: g.limit}
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
	u.kernel = g.kernel()
	return u
}

// kernelStats are the lines of memory.stat for kernel memory that cannot be reclaimed (cgroup
// version 2).
var kernelStats = [...]string{"sock", "kernel_stack", "pagetables", "sec_pagetables", "percpu", "slab_unreclaimable"}

// kernel returns the kernel's memory for the processes of g, in bytes.
func (g cgroup) kernel() uint64 {
	if g.stat == nil {
		return 0
	}
	total := uint64(0)
	for line := range strings.Lines(string(g.stat())) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), " ")
		for _, s := range kernelStats {
			if name == s {
				n, _ := strconv.ParseUint(value, 10, 63)
				total += n
			}
		}
	}
	return total
}

// memoryStat returns a function that reads memory.stat at path, nil if the file does not exist.
func memoryStat(root fs.FS, path string) func() []byte {
	if _, err := fs.Stat(root, path); err != nil {
		return nil
	}
	return func() []byte {
		text, _ := fs.ReadFile(root, path)
		return text
	}
}
