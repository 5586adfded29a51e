package admission

import (
	"log/slog"
	"math"
	"runtime"
	"runtime/debug"
	"strings"
	"testing"
	"time"

	"livego/internal/domain"
	"livego/internal/ops/memlimit"
)

// fixture is a Controller with a memory limit of 1000 bytes and a memory use that the test
// sets.
type fixture struct {
	*Controller
	usage       usage
	collections int    // number of garbage collections
	liveAfterGC uint64 // live heap after a garbage collection
	now         time.Time
}

func newFixture() *fixture {
	b := &fixture{now: time.Unix(1_900_000_000, 0), usage: usage{softLimit: 1000, cgroupLimit: math.MaxInt64}}
	b.Controller = &Controller{
		read: func() usage { return b.usage },
		collect: func() {
			b.collections++
			b.usage.inUse, b.usage.live, b.usage.lastGC = b.liveAfterGC, b.liveAfterGC, b.now
		},
		isLive: func(name domain.Name) bool { return name.Room == "there" },
		log:    slog.New(slog.DiscardHandler),
	}
	return b
}

// nextLevel returns the level one second later.
func (b *fixture) nextLevel() level {
	b.now = b.now.Add(time.Second)
	return b.measured(b.now)
}

// TestLevels raises and lowers the memory use: each level has a hysteresis.
func TestLevels(t *testing.T) {
	b := newFixture()
	for _, step := range []struct {
		alive uint64
		want  level
	}{
		{500, admitAll}, {849, admitAll}, {850, refuseNewPublishers}, {801, refuseNewPublishers}, {799, admitAll},
		{849, admitAll},
		{899, refuseNewPublishers}, {900, refuseEveryone}, {851, refuseEveryone}, {849, refuseNewPublishers},
		{899, refuseNewPublishers}, {950, refuseEveryone}, {100, admitAll},
	} {
		b.usage.inUse, b.usage.live, b.usage.lastGC = step.alive, step.alive, b.now
		if got := b.nextLevel(); got != step.want {
			t.Errorf("at %d: %d, want %d", step.alive, got, step.want)
		}
	}
	if b.collections != 0 {
		t.Errorf("%d collections while each figure was fresh", b.collections)
	}
}

// TestGarbageRefusesNobody fills the heap with garbage: no client is refused because of it, none is
// admitted because of an outdated measurement, and collections are rare.
func TestGarbageRefusesNobody(t *testing.T) {
	b := newFixture()
	b.usage.inUse, b.usage.live, b.liveAfterGC = 980, 400, 400
	if got := b.nextLevel(); got != admitAll || b.collections != 1 {
		t.Errorf("with 400 of 980 alive: %d after %d collections", got, b.collections)
	}
	for range 3 { // garbage accumulates again
		b.usage.inUse = 980
		if got := b.nextLevel(); got != admitAll || b.collections != 1 {
			t.Errorf("with 400 of 980 alive, a moment later: %d after %d collections", got, b.collections)
		}
	}
	b.now = b.now.Add(maxGCAge)
	b.usage.inUse, b.liveAfterGC = 980, 920
	if got := b.nextLevel(); got != refuseEveryone || b.collections != 2 {
		t.Errorf("with 920 of 980 alive, and 400 before: %d after %d collections", got, b.collections)
	}
	b.now = b.now.Add(maxGCAge)
	b.liveAfterGC = 100 // the clients are gone, but no collection has run
	if got := b.nextLevel(); got != admitAll || b.collections != 3 {
		t.Errorf("when they have gone: %d after %d collections", got, b.collections)
	}
}

// TestLevelIsCached checks that measurements have a minimum distance, and that one runs at a time.
func TestLevelIsCached(t *testing.T) {
	b := newFixture()
	if got := b.measured(b.now); got != admitAll {
		t.Error(got)
	}
	b.usage.inUse, b.usage.live, b.usage.lastGC = 990, 990, b.now
	if got := b.measured(b.now.Add(memoryCheckInterval - 1)); got != admitAll {
		t.Error("measured before the interval")
	}
	if got := b.measured(b.now.Add(memoryCheckInterval)); got != refuseEveryone {
		t.Error("not measured after the interval")
	}
	b.mu.Lock()
	b.usage.inUse, b.usage.live = 1, 1
	if got := b.measured(b.now.Add(time.Hour)); got != refuseEveryone {
		t.Error("measured while another goroutine measures")
	}
	b.mu.Unlock()
}

// TestUsageShare checks that kernel memory counts against the control group only.
func TestUsageShare(t *testing.T) {
	for name, c := range map[string]struct {
		u    usage
		want float64
	}{
		"no limit":     {usage{softLimit: math.MaxInt64, cgroupLimit: math.MaxInt64, kernel: 500}, 0},
		"soft":         {usage{softLimit: 1000, cgroupLimit: math.MaxInt64, kernel: 500}, 40},
		"group":        {usage{softLimit: math.MaxInt64, cgroupLimit: 1000, kernel: 500}, 90},
		"both, soft":   {usage{softLimit: 850, cgroupLimit: 1000, kernel: 10}, 100 * 400. / 850},
		"both, kernel": {usage{softLimit: 850, cgroupLimit: 1000, kernel: 200}, 60},
	} {
		if got := c.u.share(400); math.Abs(got-c.want) > 1e-9 {
			t.Errorf("%s: %v, want %v", name, got, c.want)
		}
	}
}

// TestReadUsage measures the memory of this process before, during and after a large allocation.
func TestReadUsage(t *testing.T) {
	defer debug.SetMemoryLimit(debug.SetMemoryLimit(1 << 40))
	g := memlimit.Group{Limit: math.MaxInt64}
	runtime.GC()
	before := readUsage(g)
	held := make([]byte, 64<<20)
	runtime.GC()
	during := readUsage(g)
	runtime.KeepAlive(held)
	runtime.GC()
	after := readUsage(g)
	if grown := int64(during.live - before.live); grown < 60<<20 || int64(during.inUse-before.inUse) < 60<<20 ||
		int64(during.live-after.live) < 60<<20 {
		t.Errorf("with 64 MiB more it grew by %d: %+v, %+v, %+v", grown, before, during, after)
	}
	if during.softLimit != 1<<40 || time.Since(during.lastGC) > time.Minute {
		t.Errorf("%+v", during)
	}
	debug.SetMemoryLimit(math.MaxInt64)
	if u := readUsage(g); u.share(u.inUse) != 0 || u.inUse != 0 {
		t.Errorf("without a limit: %+v", u)
	}
}

// TestAdmit refuses new publishers and viewers, but not a publisher that returns to its stream.
func TestAdmit(t *testing.T) {
	for _, c := range []struct {
		alive  uint64
		action domain.Action
		room   string
		want   string // part of the error, "" for none
		ready  bool
	}{
		{800, domain.Publish, "movie", "", true}, {860, domain.Publish, "movie", "new publishers", true},
		{860, domain.Publish, "there", "", true}, {860, domain.Play, "movie", "", true},
		{950, domain.Publish, "movie", "new publishers", false}, {950, domain.Publish, "there", "", false},
		{950, domain.Play, "there", "new viewers", false},
	} {
		b := newFixture()
		b.usage.inUse, b.usage.live, b.usage.lastGC = c.alive, c.alive, time.Now()
		err := b.Admit(c.action, domain.Name{App: "live", Room: c.room})
		if c.want == "" && err != nil || c.want != "" &&
			(domain.KindOf(err) != domain.Unavailable || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%+v: %v", c, err)
		}
		if ready := b.Ready() == nil; ready != c.ready {
			t.Errorf("%+v: ready is %v", c, ready)
		}
	}
}
