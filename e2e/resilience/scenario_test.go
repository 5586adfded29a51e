// Package resilience tests failures between an encoder and its viewers with viewers of every
// protocol at once. It requires uninterrupted video at a bounded delay: connections stay open, time
// moves forward, and what each viewer received decodes without an error.
//
// Its encoder and viewers are test code, so that a scenario has the timestamps, the silence and the
// resets that it needs. The media come from a real encoder, and a real decoder checks them. Real
// encoders have scenarios of their own.
package resilience

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"slices"
	"sync"
	"testing"
	"time"

	"livego/e2e/harness"
	"livego/e2e/mediacompare"
	"livego/e2e/sample"
)

func TestMain(m *testing.M) {
	// Scenarios wait most of the time. The command line has priority.
	flag.Set("test.parallel", "16")
	os.Exit(harness.Main(m))
}

// maxWait is how long anything that must happen may take.
const maxWait = 30 * time.Second

// flags are settings that shorten what a scenario has to wait for. Timeouts that end or skip a
// client are still long enough for the clients that must not be affected: on a busy machine, the
// test's own process gets no processor for two or three seconds at a time.
func flags(more ...string) []string {
	return append([]string{
		"--publish_hold=12s", "--read_timeout=8s", "--publish_idle=5s", "--backup_return=2s", "--track_wait=5s",
		"--rap_wait=2s", "--ring_time=8s",
		"--max_latency=8s", "--write_timeout=8s", "--play_wait=15s", "--hls_segment=500ms", "--hls_session_timeout=8s",
	}, more...)
}

// A scenario is a room with encoders and viewers.
type scenario struct {
	t         *testing.T
	s         *harness.Server
	viewersAt *harness.Server // where viewers connect: s, or another node of its cluster
	room, key string

	// What its viewers may see, if that is not uninterrupted video from the first frame to the
	// last.
	maxStep            time.Duration     // longest step of a track's time; 0: 250 ms
	minDuration        time.Duration     // minimum duration of an early viewer's recording
	maxMissing         int               // number of frames of a track that a viewer may miss after its first
	discontinuities    int               // expected by early HLS viewers
	maxDiscontinuities int               // the same, if there may be more
	headers            int               // expected changes of codec headers for early viewers; 0: 2
	onlyKind           mediacompare.Kind // the only kind that viewers receive; "": both
	// unaligned: segments may start in the middle of a GOP, because the encoder's clock is
	// unreliable.
	unaligned bool
	// timedByArrival: stream time follows the arrival of frames, so a step may be longer by the
	// longest pause.
	timedByArrival bool
	switches       int  // how often viewers are switched from one encoder to the other
	flvReconnects  bool // the server ends FLV viewers, which must reconnect

	discard bool // keep nothing of what is sent

	mu      sync.Mutex
	log     []sentFrame
	viewers []*viewer
	decoded map[string]error
}

// A sentFrame is a frame that an encoder sent.
type sentFrame struct {
	item
	by *encoder
	at time.Time
}

// A testCase is one line of the table.
type testCase struct {
	name string
	run  func(*scenario)
}

// TestResilience runs the table on one server.
func TestResilience(t *testing.T) {
	harness.Need(t, "ffmpeg")
	harness.NeedNewerFFmpeg(t)
	t.Parallel()
	runCases(t, flags(), slices.Concat(reconnectCases(), parameterCases(), clockCases(), trackCases(), viewerCases()))
}

// TestSlowViewers runs the cases in which viewers skip, on a server with a lower max_latency.
func TestSlowViewers(t *testing.T) {
	harness.Need(t, "ffmpeg")
	t.Parallel()
	runCases(t, flags("--max_latency=5s"), slowViewerCases())
}

// TestResilienceOfReplicas runs the table with the viewers on another node than the encoder. Without
// TEST_LONG, it runs some cases of each kind.
func TestResilienceOfReplicas(t *testing.T) {
	harness.Need(t, "ffmpeg")
	harness.NeedNewerFFmpeg(t)
	t.Parallel()
	nodes := harness.StartCluster(t, 2, harness.Options{NoRace: true, Flags: flags("--cluster_idle=1s")})
	cases := slices.Concat(reconnectCases(), parameterCases(), clockCases(), trackCases(), viewerCases())
	if !harness.Long() {
		some := []string{"reconnect after RST", "encoder does not return", "backup with another resolution",
			"resolution and sample rate change", "codec changes", "clock jumps 1 h back", "audio starts late"}
		cases = slices.DeleteFunc(cases, func(c testCase) bool { return !slices.Contains(some, c.name) })
	}
	runCasesOn(t, nodes[0], nodes[1], cases)
}

// runCases runs cases on a server with these flags, and checks that it releases all resources.
func runCases(t *testing.T, flags []string, cases []testCase) {
	server := harness.Start(t, harness.Options{NoRace: true, Flags: flags})
	runCasesOn(t, server, server, cases)
}

// runCasesOn is runCases with encoders on server, and viewers on viewersAt.
func runCasesOn(t *testing.T, server, viewersAt *harness.Server, cases []testCase) {
	warmUp(t, server, viewersAt)
	before := []baseline{measureBaseline(server)}
	if viewersAt != server {
		before = append(before, measureBaseline(viewersAt))
	}
	t.Run("group", func(t *testing.T) {
		for _, c := range cases {
			t.Run(c.name, func(t *testing.T) {
				t.Parallel()
				sc := newScenario(t, server, c.name)
				sc.viewersAt = viewersAt
				c.run(sc)
				sc.checkViewers()
			})
		}
	})
	for _, b := range before {
		b.check(t)
	}
}

func newScenario(t *testing.T, server *harness.Server, name string) *scenario {
	s := server.WithT(t)
	room := slices.DeleteFunc([]byte(name), func(c byte) bool { return c == ' ' || c == ',' || c == '\'' })
	return &scenario{t: t, s: s, viewersAt: s, room: string(room), key: s.Key(string(room)), decoded: map[string]error{}}
}

// warmUp publishes one stream, so that what is opened once is open.
func warmUp(t *testing.T, server, viewersAt *harness.Server) {
	t.Helper()
	sc := newScenario(t, server, "warm-up")
	sc.viewersAt = viewersAt
	sc.addEarlyViewers()
	e := sc.startEncoder(loadClip(t, sample.Small))
	sc.awaitProgress(time.Second)
	e.unpublish()
	sc.checkViewers()
}

// A baseline is the resource use of a server before the tests.
type baseline struct {
	s                     *harness.Server
	fds, goroutines, heap int
}

func measureBaseline(s *harness.Server) baseline {
	return baseline{s, s.OpenFiles(), s.Goroutines(), s.HeapBytes()}
}

// check waits until goroutines, file descriptors and live heap are back to the baseline.
func (l baseline) check(t *testing.T) {
	t.Helper()
	const more = 4 << 20 // bytes
	s := l.s.WithT(t)
	harness.Eventually(t, time.Minute, "goroutines, file descriptors and heap are back to the baseline", func() error {
		if n := s.Goroutines(); n > l.goroutines+5 {
			return fmt.Errorf("%d goroutines, there were %d", n, l.goroutines)
		}
		if n := s.OpenFiles(); n > l.fds+5 {
			return fmt.Errorf("%d file descriptors, there were %d", n, l.fds)
		}
		if n := s.HeapBytes(); n > l.heap+l.heap/10+more {
			return fmt.Errorf("%d bytes live, there were %d", n, l.heap)
		}
		return nil
	})
	t.Logf("live: %d bytes before, %d after; resident: %d MiB at most", l.heap, s.HeapBytes(), s.MemoryMiB("VmHWM"))
}

// allProtocols lists the protocols that play.
func allProtocols() []string { return []string{"rtmp", "flv", "ws", "hls", "ts"} }

// addEarlyViewers adds a viewer of each protocol, which waits for the encoder.
func (sc *scenario) addEarlyViewers() { sc.addViewers("early", allProtocols()...) }

// addLateViewers adds a viewer of each protocol in the middle of a GOP, and waits until each has
// received part of every track.
func (sc *scenario) addLateViewers() {
	sc.t.Helper()
	sc.addViewers("late", allProtocols()...)
	sc.awaitProgress(0)
	for _, v := range sc.viewers {
		if !v.segmented() {
			v.awaitProgress(sc.t, 200*time.Millisecond)
		}
	}
}

func (sc *scenario) addViewers(when string, protos ...string) {
	for _, proto := range protos {
		sc.addViewer(newViewer(proto, when))
	}
}

func (sc *scenario) addViewer(v *viewer) {
	sc.viewers = append(sc.viewers, v)
	v.start(sc.t, sc.viewersAt, sc.room)
}

// awaitProgress waits until every viewer has received d more of the stream.
func (sc *scenario) awaitProgress(d time.Duration) {
	sc.t.Helper()
	var all sync.WaitGroup
	defer func() {
		all.Wait()
		if sc.t.Failed() {
			sc.t.FailNow()
		}
	}()
	for _, v := range sc.viewers {
		at, ok := v.progress()
		all.Go(func() {
			if !ok { // has received nothing yet
				v.await(sc.t, func() bool { at, ok = v.progress(); return ok })
			}
			v.await(sc.t, func() bool { now, _ := v.progress(); return now >= at+d })
		})
	}
}

// awaitEncoder waits until every viewer by RTMP, HTTP-FLV and WebSocket has received something of
// e.
func (sc *scenario) awaitEncoder(e *encoder) {
	sc.t.Helper()
	for _, v := range sc.viewers {
		if !v.segmented() {
			v.await(sc.t, func() bool { return sc.sentBy(e, v.lastTag()) })
		}
	}
}

// sentBy reports whether e sent a tag.
func (sc *scenario) sentBy(e *encoder, t mediacompare.FLVTag) bool {
	sc.mu.Lock()
	defer sc.mu.Unlock()
	return slices.ContainsFunc(sc.log, func(s sentFrame) bool { return s.by == e && bytes.Equal(s.tag.Body, t.Body) })
}

// checkViewers waits until the stream of every viewer has ended cleanly, and checks what it
// received.
func (sc *scenario) checkViewers() {
	sc.t.Helper()
	for _, v := range sc.viewers {
		v.awaitEnd(sc.t)
		sc.checkViewer(v)
	}
}
