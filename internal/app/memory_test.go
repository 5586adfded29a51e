package app

import (
	"context"
	"log/slog"
	"math"
	"runtime"
	"runtime/debug"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"livego/internal/live"
)

// bed is a memory of 1000 bytes, in which what is read is set by a test.
type bed struct {
	*memory
	usage     usage
	collected int    // times
	alive     uint64 // what a collection finds
	now       time.Time
}

func newBed() *bed {
	b := &bed{now: time.Unix(1_900_000_000, 0), usage: usage{soft: 1000, group: math.MaxInt64}}
	b.memory = &memory{
		read: func() usage { return b.usage },
		collect: func() {
			b.collected++
			b.usage.inUse, b.usage.lives, b.usage.collected = b.alive, b.alive, b.now
		},
		known: func(name live.Name) bool { return name.Room == "there" },
		log:   slog.New(slog.DiscardHandler),
	}
	return b
}

// asks returns who is refused, a second later.
func (b *bed) asks() shortage {
	b.now = b.now.Add(time.Second)
	return b.shortage(b.now)
}

// TestShortage goes up and down with what lives: each border has a distance between refusing and not.
func TestShortage(t *testing.T) {
	b := newBed()
	for _, step := range []struct {
		alive uint64
		want  shortage
	}{
		{500, shortOfNothing}, {849, shortOfNothing}, {850, noPublishers}, {801, noPublishers}, {799, shortOfNothing}, {849, shortOfNothing},
		{899, noPublishers}, {900, nobody}, {851, nobody}, {849, noPublishers}, {899, noPublishers}, {950, nobody}, {100, shortOfNothing},
	} {
		b.usage.inUse, b.usage.lives, b.usage.collected = step.alive, step.alive, b.now
		if got := b.asks(); got != step.want {
			t.Errorf("at %d: %d, want %d", step.alive, got, step.want)
		}
	}
	if b.collected != 0 {
		t.Errorf("%d collections while each figure was fresh", b.collected)
	}
}

// TestShortageOfGarbage has a heap that is full of what nobody needs: nobody is refused for that, nor let in for what was known before
// the heap grew, and collections are far between.
func TestShortageOfGarbage(t *testing.T) {
	b := newBed()
	b.usage.inUse, b.usage.lives, b.alive = 980, 400, 400
	if got := b.asks(); got != shortOfNothing || b.collected != 1 {
		t.Errorf("with 400 of 980 alive: %d after %d collections", got, b.collected)
	}
	for range 3 { // it grows again at once
		b.usage.inUse = 980
		if got := b.asks(); got != shortOfNothing || b.collected != 1 {
			t.Errorf("with 400 of 980 alive, a moment later: %d after %d collections", got, b.collected)
		}
	}
	b.now = b.now.Add(memoryFresh)
	b.usage.inUse, b.alive = 980, 920
	if got := b.asks(); got != nobody || b.collected != 2 {
		t.Errorf("with 920 of 980 alive, and 400 before: %d after %d collections", got, b.collected)
	}
	b.now = b.now.Add(memoryFresh)
	b.alive = 100 // they have gone, and nothing is collected by itself
	if got := b.asks(); got != shortOfNothing || b.collected != 3 {
		t.Errorf("when they have gone: %d after %d collections", got, b.collected)
	}
}

// TestShortageIsCheap does not look again within a moment, and not at all while somebody else does.
func TestShortageIsCheap(t *testing.T) {
	b := newBed()
	if got := b.shortage(b.now); got != shortOfNothing {
		t.Error(got)
	}
	b.usage.inUse, b.usage.lives, b.usage.collected = 990, 990, b.now
	if got := b.shortage(b.now.Add(memoryLook - 1)); got != shortOfNothing {
		t.Error("it looks all the time")
	}
	if got := b.shortage(b.now.Add(memoryLook)); got != nobody {
		t.Error("it does not look any more")
	}
	b.mu.Lock()
	b.usage.inUse, b.usage.lives = 1, 1
	if got := b.shortage(b.now.Add(time.Hour)); got != nobody {
		t.Error("two look at once")
	}
	b.mu.Unlock()
}

// TestShareOfGroup counts what the kernel holds against the control group, and only there.
func TestShareOfGroup(t *testing.T) {
	for name, c := range map[string]struct {
		u    usage
		want float64
	}{
		"no limit":     {usage{soft: math.MaxInt64, group: math.MaxInt64, kernel: 500}, 0},
		"soft":         {usage{soft: 1000, group: math.MaxInt64, kernel: 500}, 40},
		"group":        {usage{soft: math.MaxInt64, group: 1000, kernel: 500}, 90},
		"both, soft":   {usage{soft: 850, group: 1000, kernel: 10}, 100 * 400. / 850},
		"both, kernel": {usage{soft: 850, group: 1000, kernel: 200}, 60},
	} {
		if got := c.u.share(400); math.Abs(got-c.want) > 1e-9 {
			t.Errorf("%s: %v, want %v", name, got, c.want)
		}
	}
	root := fstest.MapFS{
		"proc/self/cgroup":                 {Data: []byte("0::/slice/app\n")},
		"sys/fs/cgroup/slice/app/cpu.max":  {},
		"sys/fs/cgroup/slice/memory.max":   {Data: []byte("1000\n")},
		"sys/fs/cgroup/slice/memory.stat":  {Data: []byte("anon 7000\nfile 9\nsock 100\nkernel_stack 20\nslab_unreclaimable 3\nsock_x 5\nslab 77\ngarbage\npagetables -4\n")},
		"sys/fs/cgroup/memory.max":         {Data: []byte("5000\n")},
		"sys/fs/cgroup/memory.stat":        {Data: []byte("sock 4000\n")},
		"sys/fs/cgroup/slice/app/whatever": {},
	}
	if g := controlGroup(root); g.limit != 1000 || g.kernel() != 123 {
		t.Errorf("limit %d, kernel %d", g.limit, g.kernel())
	}
	if g := controlGroup(fstest.MapFS{}); g.kernel() != 0 {
		t.Errorf("no group: kernel %d", g.kernel())
	}
}

// TestReadUsage reads the runtime of this process: what lives is found, and gone when it is.
func TestReadUsage(t *testing.T) {
	defer debug.SetMemoryLimit(debug.SetMemoryLimit(1 << 40))
	g := group{limit: math.MaxInt64}
	runtime.GC()
	before := readUsage(g)
	held := make([]byte, 64<<20)
	runtime.GC()
	during := readUsage(g)
	runtime.KeepAlive(held)
	runtime.GC()
	after := readUsage(g)
	if grown := int64(during.lives - before.lives); grown < 60<<20 || int64(during.inUse-before.inUse) < 60<<20 || int64(during.lives-after.lives) < 60<<20 {
		t.Errorf("with 64 MiB more it grew by %d: %+v, %+v, %+v", grown, before, during, after)
	}
	if during.soft != 1<<40 || time.Since(during.collected) > time.Minute {
		t.Errorf("%+v", during)
	}
	debug.SetMemoryLimit(math.MaxInt64)
	if u := readUsage(g); u.share(u.inUse) != 0 || u.inUse != 0 {
		t.Errorf("without a limit: %+v", u)
	}
}

// TestMemoryAsk refuses publishers and viewers in so many words, but not who comes back to his stream, and leaves alone who was refused
// before.
func TestMemoryAsk(t *testing.T) {
	yes := func(_ context.Context, _ live.Request, g live.Grant) (live.Grant, error) { return g, nil }
	for _, c := range []struct {
		alive  uint64
		action live.Action
		room   string
		want   string // in the refusal, "" for none
	}{
		{800, live.Publish, "movie", ""}, {860, live.Publish, "movie", "new publishers"}, {860, live.Publish, "there", ""}, {860, live.Play, "movie", ""},
		{950, live.Publish, "movie", "new publishers"}, {950, live.Publish, "there", ""}, {950, live.Play, "there", "new viewers"},
	} {
		b := newBed()
		b.usage.inUse, b.usage.lives, b.usage.collected = c.alive, c.alive, time.Now()
		_, err := b.ask(yes)(t.Context(), live.Request{Action: c.action}, live.Grant{Name: live.Name{App: "live", Room: c.room}})
		if c.want == "" && err != nil || c.want != "" && (live.KindOf(err) != live.Unavailable || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%+v: %v", c, err)
		}
	}
	no := func(_ context.Context, _ live.Request, g live.Grant) (live.Grant, error) {
		return g, live.Errorf(live.Denied, "no")
	}
	if _, err := newBed().ask(no)(t.Context(), live.Request{}, live.Grant{}); live.KindOf(err) != live.Denied {
		t.Errorf("who was refused before: %v", err)
	}
}
