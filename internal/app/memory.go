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

	"livego/internal/live"
)

// From which share of the memory that there may be nobody new is let in, in percent, and below which he is again. Who publishes holds
// up to ring_size and as much of HLS, a viewer some kilobytes: so publishers are refused first. A stream comes and goes by some
// percent, hence the distance between the two.
const (
	refusePublishers = 85
	refuseViewers    = 90
	memoryHysteresis = 5
)

const (
	// memoryLook is how old what is known of the memory may be. To look takes some ten microseconds, and is done only when somebody asks.
	memoryLook = 250 * time.Millisecond
	// memoryFresh is how old the last collection of garbage may be where it matters what of the heap lives.
	memoryFresh = 5 * time.Second
)

// A shortage says who is refused.
type shortage int32

const (
	shortOfNothing shortage = iota
	noPublishers
	nobody
)

// A memory knows how much of the memory that there may be is in use, and refuses who would take more. What counts is what no
// collection gives back: the heap that lived at the last one, stacks and what the runtime needs for itself, against its soft limit;
// and with the kernel's memory for sockets, against the control group's. What the process has from the system would be the wrong
// measure: the runtime lets garbage grow up to the soft limit before it collects, so a server with little to do stands near it for
// minutes. And what lived at the last collection may be long gone, or be half of what lives now: where the answer depends on it, and
// that collection is not of late, one is made.
//
// Nothing is looked at unless somebody asks to be let in, or whether the server is ready. Without a limit nobody is refused. It is safe
// for concurrent use.
type memory struct {
	read    func() usage
	collect func()
	known   func(live.Name) bool // a stream that is there: it takes no more when its encoder is back
	log     *slog.Logger

	state atomic.Int32 // a shortage
	mu    sync.Mutex   // of who looks; who finds it taken goes by what is known
	at    time.Time    // of the last look
}

// usage is how much memory is in use, in bytes.
type usage struct {
	soft      int64     // limit of the runtime, math.MaxInt64 for none
	group     int64     // limit of the control group, math.MaxInt64 for none
	inUse     uint64    // by the runtime, with the garbage that is not collected yet
	lives     uint64    // of that, by the last collection
	collected time.Time // when that was
	kernel    uint64    // for the sockets and the like of the control group, 0 when it does not say
}

// share returns how much of what there may be is taken in percent, where the runtime needs so much.
func (u usage) share(runtime uint64) float64 {
	return 100 * max(float64(runtime)/float64(u.soft), float64(runtime+u.kernel)/float64(u.group))
}

// keptShare is how much of the memory streams that have ended may hold, in percent. Nobody is refused for those.
const keptShare = 10

// kept returns how many bytes that is, 0 where there is no limit.
func kept(g group) int {
	limit := min(g.limit, debug.SetMemoryLimit(-1))
	if limit == math.MaxInt64 {
		return 0
	}
	return int(min(limit/100*keptShare, 256<<20)) // which is what they have without a limit
}

func newMemory(g group, known func(live.Name) bool, log *slog.Logger) *memory {
	return &memory{read: func() usage { return readUsage(g) }, collect: runtime.GC, known: known, log: log}
}

// ask returns a check that comes after next, which may grant another room: a publisher who comes back to his stream is let in.
func (m *memory) ask(next func(context.Context, live.Request, live.Grant) (live.Grant, error)) func(context.Context, live.Request, live.Grant) (live.Grant, error) {
	return func(ctx context.Context, r live.Request, grant live.Grant) (live.Grant, error) {
		grant, err := next(ctx, r, grant)
		if err != nil {
			return grant, err
		}
		if r.Action == live.Publish {
			err = m.publisher(grant.Name)
		} else if m.shortage(time.Now()) >= nobody {
			err = live.Errorf(live.Unavailable, "the server is short of memory: new viewers are refused for now")
		}
		if err != nil {
			return live.Grant{}, err
		}
		return grant, nil
	}
}

// publisher returns why name may not be published at present, nil where it may.
func (m *memory) publisher(name live.Name) error {
	if m.shortage(time.Now()) >= noPublishers && !m.known(name) {
		return live.Errorf(live.Unavailable, "the server is short of memory: new publishers are refused for now")
	}
	return nil
}

// shortage returns who is refused at present.
func (m *memory) shortage(now time.Time) shortage {
	if m.mu.TryLock() {
		defer m.mu.Unlock()
		if m.at.IsZero() || now.Sub(m.at) >= memoryLook {
			m.look(now)
			m.at = now
		}
	}
	return shortage(m.state.Load())
}

// look finds out anew. Caller holds m.mu.
func (m *memory) look(now time.Time) {
	was := shortage(m.state.Load())
	u := m.read()
	short := was.next(u.share(u.inUse))
	if short > shortOfNothing && now.Sub(u.collected) >= memoryFresh {
		m.collect()
		u = m.read()
	}
	if short > shortOfNothing { // else all that is in use, alive or not, leaves enough
		short = was.next(u.share(min(u.lives, u.inUse)))
	}
	m.state.Store(int32(short))
	if short == was {
		return
	}
	attrs := []any{"percent", int(u.share(min(u.lives, u.inUse))), "in_use", u.inUse, "limit", min(u.soft, u.group)}
	switch short {
	case shortOfNothing:
		m.log.Info("there is enough memory again", attrs...)
	case noPublishers:
		m.log.Warn("memory is short: new publishers are refused", attrs...)
	case nobody:
		m.log.Warn("memory is short: new publishers and viewers are refused", attrs...)
	}
}

// next returns who is refused at so many percent, after was.
func (was shortage) next(percent float64) shortage {
	from := func(refuse float64, s shortage) bool {
		if was >= s {
			refuse -= memoryHysteresis
		}
		return percent >= refuse
	}
	switch {
	case from(refuseViewers, nobody):
		return nobody
	case from(refusePublishers, noPublishers):
		return noPublishers
	}
	return shortOfNothing
}

// What the runtime has besides the heap's objects and gives back to nobody.
var overheads = [...]string{
	"/memory/classes/heap/stacks:bytes", "/memory/classes/os-stacks:bytes", "/memory/classes/metadata/mcache/inuse:bytes",
	"/memory/classes/metadata/mspan/inuse:bytes", "/memory/classes/metadata/other:bytes", "/memory/classes/profiling/buckets:bytes",
	"/memory/classes/other:bytes",
}

// readUsage looks at the runtime and at g.
func readUsage(g group) usage {
	u := usage{soft: debug.SetMemoryLimit(-1), group: g.limit}
	if u.soft == math.MaxInt64 && u.group == math.MaxInt64 {
		return u
	}
	samples := make([]metrics.Sample, len(overheads), len(overheads)+2)
	for i, name := range overheads {
		samples[i].Name = name
	}
	samples = append(samples, metrics.Sample{Name: "/memory/classes/heap/objects:bytes"}, metrics.Sample{Name: "/gc/heap/live:bytes"})
	metrics.Read(samples)
	for _, s := range samples[:len(overheads)] {
		u.inUse += s.Value.Uint64()
	}
	u.lives = u.inUse + samples[len(overheads)+1].Value.Uint64()
	u.inUse += samples[len(overheads)].Value.Uint64()
	var gc debug.GCStats
	debug.ReadGCStats(&gc)
	u.collected = gc.LastGC
	u.kernel = g.kernel()
	return u
}

// kernelStats are the lines of memory.stat for what the kernel holds and can't give up. (cgroup v2: there is more, which it can.)
var kernelStats = [...]string{"sock", "kernel_stack", "pagetables", "sec_pagetables", "percpu", "slab_unreclaimable"}

// kernel returns how much the kernel holds for the processes of g.
func (g group) kernel() uint64 {
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

// statOf returns how to read memory.stat at path, nil where there is none of version 2.
func statOf(root fs.FS, path string) func() []byte {
	if _, err := fs.Stat(root, path); err != nil {
		return nil
	}
	return func() []byte {
		text, _ := fs.ReadFile(root, path)
		return text
	}
}
