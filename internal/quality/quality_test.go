package quality

import (
	"context"
	"fmt"
	"math"
	"reflect"
	"testing"
	"testing/synctest"
	"time"

	"livego/internal/domain"
	"livego/internal/proto/cmcd"
)

var (
	movie = domain.Name{App: "live", Room: "movie"}
	other = domain.Name{App: "live", Room: "other"}
)

const (
	chrome  = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 Safari/537.36"
	edge    = chrome + " Edg/140.0.0.0"
	firefox = "Mozilla/5.0 (X11; Linux x86_64; rv:153.0) Gecko/20100101 Firefox/153.0"
	safari  = "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/19.0 " +
		"Safari/605.1.15"
	iPhoneChrome = "Mozilla/5.0 (iPhone; CPU iPhone OS 19_0 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) " +
		"CriOS/140.0 Mobile/15E148 Safari/604.1"
)

// reportOf returns a report of a session with changes.
func reportOf(session string, change func(*cmcd.Data)) *cmcd.Data {
	d := cmcd.New()
	d.Session = session
	if change != nil {
		change(&d)
	}
	return &d
}

// simulate runs a test in simulated time with a Collector that runs.
func simulate(t *testing.T, test func(c *Collector)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		c := New()
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() {
			defer close(done)
			c.Run(ctx)
		}()
		test(c)
		stop()
		<-done
	})
}

// kept returns how many sessions and streams are stored.
func (c *Collector) kept() (sessions, streams int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.sessions), len(c.streams)
}

// leftSample reports whether a session that is stored is not in the sample.
func (c *Collector) leftSample(id ID) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.sessions[id]
	return s != nil && !s.sampled()
}

// TestFigures plays with three players and compares the figures.
func TestFigures(t *testing.T) {
	simulate(t, func(c *Collector) {
		if f := c.Figures(movie); !reflect.DeepEqual(f, Figures{}) {
			t.Errorf("figures without a player: %+v", f)
		}
		c.Join(c.ID("silent"), movie, "ws", chrome)
		c.Join(c.ID("a"), movie, "ws", chrome)
		c.Join(c.ID("b"), movie, "hls", safari)
		c.Join(c.ID("c"), movie, "hls", safari)
		for _, at := range []int{0, 30} { // seconds
			for i, session := range []string{"a", "b", "c"} {
				d := reportOf(session, func(d *cmcd.Data) {
					d.Stalls, d.StallTime, d.Switches, d.Frames, d.Dropped = 0, 0, 0, 30*at, at
					d.StartDelay, d.Latency = 500*(i+1), 1000*(i+1)
				})
				if session == "c" && at > 0 {
					d.Stalls, d.StallTime, d.Switches, d.Errors = 2, 4500, 1, []string{"network"}
					d.Throughput, d.Bitrate = 900, 1200
				}
				if got := c.Report(d); got != Used {
					t.Errorf("the report of %s is %v", session, got)
				}
			}
			time.Sleep(30 * time.Second)
		}
		want := Figures{
			Players: 3, Share: 1, Stalled: 1, Slow: 1, Switched: 1, Failed: map[string]int{"network": 1},
			StallRatio: 0.05, DroppedRatio: 1.0 / 30,
			Start: Spread{time.Second, 1500 * time.Millisecond}, Latency: Spread{2 * time.Second, 3 * time.Second},
			Groups: []Group{{"hls", "safari", 2, 1}, {"ws", "chrome", 1, 0}},
		}
		if f := c.Figures(movie); !reflect.DeepEqual(f, want) {
			t.Errorf("figures %+v\nwant    %+v", f, want)
		}
		time.Sleep(40 * time.Second)
		if f := c.Figures(movie); f.Players != 3 || f.Stalled != 0 || f.Failed != nil || f.Switched != 0 {
			t.Errorf("more than a minute after the stall: %+v", f)
		}
		time.Sleep(10 * time.Second)
		if f := c.Figures(movie); f.Players != 0 {
			t.Errorf("players that do not report any more: %+v", f)
		}
		totals, reports := c.Statistics()
		hls := totals["hls"]
		if hls.Players != 2 || hls.Stalls != 2 || hls.StallTime != 4500*time.Millisecond || hls.Switches != 1 ||
			hls.Played != time.Minute || hls.Frames != 1800 || hls.Dropped != 60 || hls.Errors["network"] != 1 ||
			hls.Start.Snapshot().Count() != 2 || hls.Latency.Snapshot().Count() != 4 || reports["used"] != 6 {
			t.Errorf("totals %+v, reports %v", hls, reports)
		}
	})
}

// TestBinding checks whose reports count.
func TestBinding(t *testing.T) {
	simulate(t, func(c *Collector) {
		report := func(session string, want Result) {
			t.Helper()
			if got := c.Report(reportOf(session, nil)); got != want {
				t.Errorf("report of %q: %v, want %v", session, got, want)
			}
			time.Sleep(2 * minInterval)
		}
		report("a", Refused)
		report("", Refused)
		v := c.Join(c.ID("a"), movie, "ws", "")
		report("a", Used)
		if stolen := c.Join(c.ID("a"), other, "ws", ""); stolen != nil {
			t.Error("another stream has the session of a viewer that is connected")
		}
		report("a", Used)
		if f := c.Figures(other); f.Players != 0 {
			t.Errorf("figures of another stream: %+v", f)
		}
		again := c.Join(c.ID("a"), movie, "hls", "") // before the first connection is closed
		v.Leave()
		v.Leave()
		report("a", Used)
		if f := c.Figures(movie); f.Players != 1 || f.Groups[0].Proto != "hls" {
			t.Errorf("a player that has changed the protocol: %+v", f)
		}
		again.Leave()
		report("a", Used) // its last report
		if f := c.Figures(movie); f.Players != 1 {
			t.Errorf("figures of the last minute: %+v", f)
		}
		time.Sleep(keepEnded + sweepInterval)
		report("a", Refused)
		if sessions, streams := c.kept(); sessions != 0 || streams != 0 {
			t.Errorf("%d sessions and %d streams are kept", sessions, streams)
		}
		moved := c.Join(c.ID("a"), other, "ws", "")
		moved.Leave()
		moved = c.Join(c.ID("a"), movie, "ws", "")
		report("a", Used)
		if f := c.Figures(movie); f.Players != 1 {
			t.Errorf("a player that has changed the stream: %+v", f)
		}
		c.SetOn(false)
		report("a", Refused)
		if v := c.Join(c.ID("b"), movie, "ws", ""); v != nil {
			t.Error("a session starts while reports are off")
		}
		moved.Leave()
	})
}

// TestTotalsFromBefore: a player that this server does not know has played from it before a restart, or from another
// one. What it counted before it connected here does not count, and nothing after that is lost.
func TestTotalsFromBefore(t *testing.T) {
	hls := func(c *Collector) Totals {
		totals, _ := c.Statistics()
		return totals["hls"]
	}
	for _, tt := range []struct {
		name   string
		report func(c *Collector, v *Viewer, d *cmcd.Data)
	}{
		{"reports", func(c *Collector, _ *Viewer, d *cmcd.Data) { c.Report(d) }},
		{"requests", func(c *Collector, v *Viewer, d *cmcd.Data) { d.Before = nil; c.ObserveRequest(v, movie, d) }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			simulate(t, func(c *Collector) {
				before := cmcd.Counts{Stalls: 9, StallTime: 20_000, Dropped: 50, Frames: 5000, Switches: 3}
				report := func(v *Viewer, seconds, stalls int) {
					time.Sleep(time.Duration(seconds) * time.Second)
					tt.report(c, v, reportOf("a", func(d *cmcd.Data) {
						d.Stalls, d.StallTime = before.Stalls+stalls, before.StallTime+500*stalls
						d.Dropped, d.Frames, d.Switches = before.Dropped+stalls, before.Frames+100*stalls, before.Switches
						d.StartDelay, d.Before = 700, &before
					}))
				}
				v := c.Join(c.ID("a"), movie, "hls", firefox)
				report(v, 30, 0)
				if got, f := hls(c), c.Figures(movie); got.Stalls != 0 || got.StallTime != 0 || got.Frames != 0 ||
					got.Switches != 0 || got.Start.Snapshot().Count() != 0 || got.Players != 1 || f.Stalled != 0 ||
					f.Switched != 0 || f.Start.Median != 700*time.Millisecond {
					t.Errorf("from before: %+v, %+v", got, f)
				}
				report(v, 30, 2)
				v.Leave()
				before.Stalls++ // a stall that was not reported before it connected again, to the same server
				v = c.Join(c.ID("a"), movie, "hls", firefox)
				report(v, 5, 2)
				if got, f := hls(c), c.Figures(movie); got.Stalls != 3 || got.StallTime != time.Second ||
					got.Frames != 200 || got.Dropped != 2 || got.Players != 1 || got.Start.Snapshot().Count() != 0 ||
					f.Stalled != 1 {
					t.Errorf("since it has connected: %+v, %+v", got, f)
				}
				v.Leave()
			})
		})
	}
}

// TestHostileReports checks that totals grow by no more than is possible.
func TestHostileReports(t *testing.T) {
	simulate(t, func(c *Collector) {
		v := c.Join(c.ID("a"), movie, "ws", "")
		lie := reportOf("a", func(d *cmcd.Data) {
			d.Stalls, d.StallTime, d.Frames, d.Dropped, d.Switches = 1e9, 1e9, 1e9, 1e9, 1e9
			d.Latency, d.StartDelay, d.Errors = 1e9, 1e9, []string{"x", "<script>"}
		})
		for range 1000 {
			c.Report(lie)
			lie.Stalls, lie.StallTime = 1e9-lie.Stalls, 1e9-lie.StallTime
			lie.Frames, lie.Dropped = 1e9-lie.Frames, 1e9-lie.Dropped
			time.Sleep(time.Millisecond)
		}
		totals, reports := c.Statistics()
		if got := totals["ws"]; got.Stalls > 80 || got.StallTime > 80*time.Second || got.Frames > 80*maxFrameRate ||
			got.Switches > 80 || len(got.Errors) != 1 || got.Latency.Snapshot().Count() > 0 ||
			got.Start.Snapshot().Count() > 0 {
			t.Errorf("%+v", got)
		}
		if reports["used"] > 2 || reports["early"] < 998 {
			t.Errorf("%v", reports)
		}
		v.Leave()
	})
}

// TestHostileRequests checks that requests count once a second, however many there are.
func TestHostileRequests(t *testing.T) {
	simulate(t, func(c *Collector) {
		v := c.Join(c.ID("a"), movie, "hls", "")
		c.ObserveRequest(v, movie, reportOf("", nil))
		time.Sleep(minInterval)
		for i := range 1000 {
			c.ObserveRequest(v, movie, reportOf("", func(d *cmcd.Data) {
				d.Starved, d.StallTime, d.Frames, d.Latency = true, i*1000, i*maxFrameRate, 60_000
			}))
			time.Sleep(time.Millisecond)
		}
		c.ObserveRequest(v, movie, reportOf("", nil)) // the picture had stopped since the second before
		totals, _ := c.Statistics()
		if got := totals["hls"]; got.Stalls != 2 || got.StallTime > 80*time.Second || got.Frames > 80*maxFrameRate ||
			got.Latency.Snapshot().Count() != 1 {
			t.Errorf("%+v", got)
		}
		v.Leave()
	})
}

// TestPassingViewers: viewers that connect and leave do not keep others out of the sample.
func TestPassingViewers(t *testing.T) {
	simulate(t, func(c *Collector) {
		first := c.Join(c.ID("first"), movie, "ws", chrome)
		for i := range 2 * maxStored {
			session := fmt.Sprint(i)
			v := c.Join(c.ID(session), movie, "ws", chrome)
			c.Report(reportOf(session, nil))
			v.Leave()
		}
		last := c.Join(c.ID("last"), movie, "ws", chrome)
		for _, session := range []string{"first", "last"} {
			if got := c.Report(reportOf(session, nil)); got != Used {
				t.Errorf("the report of the %s viewer: %v", session, got)
			}
		}
		if n, _ := c.kept(); n > maxStored {
			t.Errorf("%d sessions are stored", n)
		}
		first.Leave()
		last.Leave()
	})
}

// TestCMCD observes requests of a player: with a session, and without one.
func TestCMCD(t *testing.T) {
	simulate(t, func(c *Collector) {
		a, b := c.Join(c.ID("a"), movie, "hls", firefox), c.Join(c.ID("token"), movie, "hls", firefox)
		request := func(session string, starved bool) *cmcd.Data {
			return reportOf(session, func(d *cmcd.Data) { d.Starved, d.Throughput, d.Bitrate = starved, 2000, 1000 })
		}
		c.ObserveRequest(nil, movie, request("a", false))
		c.ObserveRequest(b, movie, request("", false))
		c.ObserveRequest(nil, movie, request("unknown", true))
		c.ObserveRequest(nil, movie, request("", true))
		c.ObserveRequest(nil, other, request("a", true)) // of another stream
		if f := c.Figures(movie); f.Players != 2 || f.Stalled != 0 || f.Slow != 0 || !math.IsNaN(f.StallRatio) {
			t.Errorf("%+v", f)
		}
		for range 3 {
			time.Sleep(2 * time.Second)
			c.ObserveRequest(nil, movie, request("a", true))
		}
		if f := c.Figures(movie); f.Players != 2 || f.Stalled != 1 {
			t.Errorf("%+v", f)
		}
		if totals, _ := c.Statistics(); totals["hls"].Stalls != 3 || totals["hls"].Players != 2 {
			t.Errorf("%+v", totals)
		}
		// A player that reports is one player, and its requests do not count too.
		c.Report(reportOf("token", func(d *cmcd.Data) { d.Stalls = 0 }))
		c.ObserveRequest(b, movie, request("", true))
		if f := c.Figures(movie); f.Players != 2 || f.Stalled != 1 {
			t.Errorf("%+v", f)
		}
		a.Leave()
		b.Leave()
	})
}

// TestSample checks that a fixed share of the players of a large stream reports, whichever IDs they choose, that their
// share of stalls is that of all players, and that the memory is bounded.
func TestSample(t *testing.T) {
	simulate(t, func(c *Collector) {
		const players = 50_000
		var viewers []*Viewer
		for i := range players {
			viewers = append(viewers, c.Join(c.ID(fmt.Sprint(i)), movie, "ws", chrome))
		}
		small := c.Join(c.ID("small"), other, "ws", chrome)
		used, refused := 0, 0
		for i := range players {
			session := fmt.Sprint(i)
			if c.leftSample(c.ID(session)) {
				refused = i // it was in the larger sample of fewer players
			}
			if c.Report(reportOf(session, func(d *cmcd.Data) { d.Stalls = min(1, i%10/9) })) == Used {
				used++
			}
		}
		f := c.Figures(movie)
		if used != f.Players || used < maxSampled*3/4 || used > maxSampled*5/4 ||
			math.Abs(f.Share-float64(used)/players) > 1e-9 {
			t.Errorf("%d of %d players report, %+v", used, players, f)
		}
		if share := float64(f.Stalled) / float64(f.Players); share < 0.05 || share > 0.15 {
			t.Errorf("%v of the sample has stalled, 0.1 of all", share)
		}
		if n, _ := c.kept(); n > maxStored+1 {
			t.Errorf("%d sessions are stored", n)
		}
		if c.Report(reportOf("small", nil)) != Used || c.Figures(other).Share != 1 {
			t.Error("a large stream keeps the players of a small one from reporting")
		}
		for i, v := range viewers {
			if i != refused {
				v.Leave()
			}
		}
		last := fmt.Sprint(refused)
		if got := c.Report(reportOf(last, nil)); got != Refused || c.Figures(movie).Share != 0 {
			t.Errorf("the last viewer, whose player was told to stop: %v, %+v", got, c.Figures(movie))
		}
		c.Join(c.ID(last), movie, "ws", chrome).Leave()
		if got := c.Report(reportOf(last, nil)); got != Used || c.Figures(movie).Share != 1 {
			t.Errorf("the last viewer, when its player has connected again: %v", got)
		}
		viewers[refused].Leave()
		small.Leave()
		time.Sleep(keepEnded + 2*sweepInterval)
		if sessions, streams := c.kept(); sessions != 0 || streams != 0 {
			t.Errorf("%d sessions and %d streams are kept", sessions, streams)
		}
	})
}

// TestMost checks what the stalled players have in common.
func TestMost(t *testing.T) {
	for _, tt := range []struct {
		name   string
		groups []Group
		want   string
	}{
		{"nothing", []Group{{"ws", "chrome", 50, 5}, {"hls", "safari", 50, 5}}, ""},
		{"all are alike", []Group{{"ws", "chrome", 100, 10}}, ""},
		{"a browser", []Group{{"ws", "firefox", 20, 4}, {"hls", "firefox", 20, 5}, {"ws", "chrome", 60, 1}}, "in Firefox"},
		{"a protocol", []Group{{"hls", "safari", 20, 5}, {"hls", "chrome", 20, 5}, {"ws", "chrome", 60, 1}}, "HLS"},
		{"both", []Group{{"hls", "chrome", 10, 9}, {"hls", "safari", 40, 0}, {"ws", "chrome", 50, 1}}, "HLS in Chrome"},
		{"no browser", []Group{{"hls", "other", 10, 9}, {"ws", "chrome", 90, 1}}, "HLS"},
		{"none stalled", []Group{{"hls", "safari", 10, 0}, {"ws", "chrome", 90, 0}}, ""},
	} {
		f := Figures{Groups: tt.groups}
		for _, g := range tt.groups {
			f.Players += g.Players
			f.Stalled += g.Stalled
		}
		if got := f.Most(); got != tt.want {
			t.Errorf("%s: %q, want %q", tt.name, got, tt.want)
		}
	}
}

func TestBrowserOf(t *testing.T) {
	for agent, want := range map[string]string{
		chrome: "chrome", edge: "edge", firefox: "firefox", safari: "safari", iPhoneChrome: "safari",
		"AppleCoreMedia/1.0.0.19A (Apple TV)": "safari", "": "other", "Lavf/60": "other",
	} {
		if got := browserOf(agent); got != want {
			t.Errorf("%s: %s, want %s", agent, got, want)
		}
	}
}

// TestReportDoesNotAllocate checks what a flood of reports costs.
func TestReportDoesNotAllocate(t *testing.T) {
	c := New()
	defer c.Join(c.ID("a"), movie, "ws", chrome).Leave()
	d := reportOf("a", func(d *cmcd.Data) { d.Stalls, d.Latency = 1, 1000 })
	early, unknown := reportOf("a", nil), reportOf("b", nil)
	c.Report(d)
	if n := testing.AllocsPerRun(100, func() { c.Report(early); c.Report(unknown) }); n > 0 {
		t.Errorf("%v allocations", n)
	}
}

// BenchmarkFigures computes the figures of a stream whose sample is full, as the API and the doctor do.
func BenchmarkFigures(b *testing.B) {
	c := New()
	for i := range maxSampled {
		defer c.Join(c.ID(fmt.Sprint(i)), movie, "ws", chrome).Leave()
		c.Report(reportOf(fmt.Sprint(i), func(d *cmcd.Data) { d.Stalls, d.Latency, d.StartDelay = 0, i*7%1000, i*3%1000 }))
	}
	b.ReportAllocs()
	for b.Loop() {
		if f := c.Figures(movie); f.Players != maxSampled {
			b.Fatal(f.Players)
		}
	}
}
