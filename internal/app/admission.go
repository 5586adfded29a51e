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

// From which share of the memory that there may be nobody new is let in, in percent, and below
// which he is again. Who publishes holds up to ring_size and as much of HLS, a viewer some
// kilobytes: so publishers are refused first. A stream comes and goes by some percent, hence the
// distance between the two.
const (
	publisherLimitPercent = 85
	viewerLimitPercent    = 90
	hysteresisPercent     = 5
)

const (
	// memoryCheckInterval is how old what is known of the memory may be. To look takes some ten
	// microseconds, and is done only when somebody asks.
	memoryCheckInterval = 250 * time.Millisecond
	// maxGCAge is how old the last collection of garbage may be where it matters what of the heap lives.
	maxGCAge = 5 * time.Second
)

// A admissionLevel says who is refused.
type admissionLevel int32

const (
	admitAll admissionLevel = iota
	refuseNewPublishers
	refuseEveryone
)

// A admission knows how much of the admission that there may be is in use, and refuses who would
// take more. What counts is what no collection gives back: the heap that lived at the last one,
// stacks and what the runtime needs for itself, against its soft limit; and with the kernel's
// admission for sockets, against the control group's. What the process has from the system would be
// the wrong measure: the runtime lets garbage grow up to the soft limit before it collects, so a
// server with little to do stands near it for minutes. And what lived at the last collection may be
// long gone, or be half of what lives now: where the answer depends on it, and that collection is
// not of late, one is made.
//
// Nothing is looked at unless somebody asks to be let in, or whether the server is ready. Without a
// limit nobody is refused. It is safe for concurrent use.
type admission struct {
	read    func() usage
	collect func()
	isLive  func(domain.Name) bool // a stream that is there: it takes no more when its encoder is back
	log     *slog.Logger

	current   atomic.Int32 // a shortage
	mu        sync.Mutex   // of who looks; who finds it taken goes by what is known
	checkedAt time.Time    // of the last look
}

// usage is how much memory is in use, in bytes.
type usage struct {
	softLimit   int64     // limit of the runtime, math.MaxInt64 for none
	cgroupLimit int64     // limit of the control cgroupLimit, math.MaxInt64 for none
	inUse       uint64    // by the runtime, with the garbage that is not collected yet
	live        uint64    // of that, by the last collection
	lastGC      time.Time // when that was
	kernel      uint64    // for the sockets and the like of the control group, 0 when it does not say
}

// share returns how much of what there may be is taken in percent, where the runtime needs so much.
func (u usage) share(runtime uint64) float64 {
	return 100 * max(float64(runtime)/float64(u.softLimit), float64(runtime+u.kernel)/float64(u.cgroupLimit))
}

// endedStreamsPercent is how much of the memory streams that have ended may hold, in percent.
// Nobody is refused for those.
const endedStreamsPercent = 10

// endedStreamsLimit returns how many bytes that is, 0 where there is no limit.
func endedStreamsLimit(g cgroup) int {
	limit := min(g.limit, debug.SetMemoryLimit(-1))
	if limit == math.MaxInt64 {
		return 0
	}
	return int(min(limit/100*endedStreamsPercent, 256<<20)) // which is what they have without a limit
}

func newAdmission(g cgroup, known func(domain.Name) bool, log *slog.Logger) *admission {
	return &admission{read: func() usage { return readUsage(g) }, collect: runtime.GC, isLive: known, log: log}
}

// wrap returns a check that comes after next, which may grant another room: a publisher who comes
// back to his stream is let in.
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
			err = domain.Errorf(domain.Unavailable, "the server is short of memory: new viewers are refused for now")
		}
		if err != nil {
			return domain.Grant{}, err
		}
		return grant, nil
	}
}

// checkPublisher returns why name may not be published at present, nil where it may.
func (m *admission) checkPublisher(name domain.Name) error {
	if m.level(time.Now()) >= refuseNewPublishers && !m.isLive(name) {
		return domain.Errorf(domain.Unavailable, "the server is short of memory: new publishers are refused for now")
	}
	return nil
}

// level returns who is refused at present.
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

// update finds out anew. Caller holds m.mu.
func (m *admission) update(now time.Time) {
	was := admissionLevel(m.current.Load())
	u := m.read()
	short := was.next(u.share(u.inUse))
	if short > admitAll && now.Sub(u.lastGC) >= maxGCAge {
		m.collect()
		u = m.read()
	}
	if short > admitAll { // else all that is in use, alive or not, leaves enough
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
		m.log.Info("there is enough memory again", attrs...)
	case refuseNewPublishers:
		m.log.Warn("memory is short: new publishers are refused", attrs...)
	case refuseEveryone:
		m.log.Warn("memory is short: new publishers and viewers are refused", attrs...)
	}
}

// next returns who is refused at so many percent, after was.
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

// What the runtime has besides the heap's objects and gives back to nobody.
var runtimeOverhead = [...]string{
	"/memory/classes/heap/stacks:bytes", "/memory/classes/os-stacks:bytes", "/memory/classes/metadata/mcache/inuse:bytes",
	"/memory/classes/metadata/mspan/inuse:bytes", "/memory/classes/metadata/other:bytes",
	"/memory/classes/profiling/buckets:bytes",
	"/memory/classes/other:bytes",
}

// readUsage looks at the runtime and at g.
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

// kernelStats are the lines of memory.stat for what the kernel holds and can't give up. (cgroup v2:
// there is more, which it can.)
var kernelStats = [...]string{"sock", "kernel_stack", "pagetables", "sec_pagetables", "percpu", "slab_unreclaimable"}

// kernel returns how much the kernel holds for the processes of g.
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

// memoryStat returns how to read memory.stat at path, nil where there is none of version 2.
func memoryStat(root fs.FS, path string) func() []byte {
	if _, err := fs.Stat(root, path); err != nil {
		return nil
	}
	return func() []byte {
		text, _ := fs.ReadFile(root, path)
		return text
	}
}
