// Package resilience plays what goes wrong between an encoder and its viewers, before viewers of
// every protocol at once, and holds the server to an unbroken picture at a bounded delay:
// connections stay, time goes on, and what each viewer received decodes without an error.
//
// Its encoder and its viewers are made by hand, so that a scene has the time stamps, the silence
// and the resets that it needs; what they carry is what a real encoder made, and a real decoder
// judges it. Real encoders have scenes of their own.
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
	// Scenes wait most of the time. The command line still wins.
	flag.Set("test.parallel", "16")
	os.Exit(harness.Main(m))
}

// maxWait is how long something may take that has to happen.
const maxWait = 30 * time.Second

// flags shorten what a scene has to wait for. A time-out that ends or moves a client is still long
// enough for a client that the test wants to be well: on a busy machine the test's own process gets
// no processor for two or three seconds at a time.
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
	room, key string

	// What its viewers may see, where that is not an unbroken picture from the first frame to the last.
	maxStep            time.Duration     // longest step of a track's time; 250 ms where it is 0
	minDuration        time.Duration     // how long the recording of who was there from the start is at least
	maxMissing         int               // how many frames of a track a viewer may miss after his first
	discontinuities    int               // discontinuities in HLS, for who was there from the start
	maxDiscontinuities int               // the same, where there may be more
	headers            int               // different codec headers in a row, for the same; 2 where it is 0
	onlyKind           mediacompare.Kind // what is seen where not both are sent, or not in a form that can be shown
	unaligned          bool              // segments may begin in mid-GOP, where the encoder's clock makes no sense
	// the server counts from when frames come: a step may be longer by the longest pause between two
	timedByArrival bool
	switches       int  // how often viewers are switched from one of two encoders to the other
	flvReconnects  bool // viewers of FLV are ended, to come back

	discard bool // keeps nothing of what is sent

	mu      sync.Mutex
	log     []sentFrame
	viewers []*viewer
	decoded map[string]error
}

// sentFrame is a frame that an encoder sentFrame.
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

// TestResilience plays the table on one server.
func TestResilience(t *testing.T) {
	harness.Need(t, "ffmpeg")
	harness.NeedNewerFFmpeg(t)
	t.Parallel()
	runCases(t, flags(), slices.Concat(reconnectCases(), parameterCases(), clockCases(), trackCases(), viewerCases()))
}

// TestSlowViewers plays the rows in which viewers are moved on, on a server that does so earlier.
func TestSlowViewers(t *testing.T) {
	harness.Need(t, "ffmpeg")
	t.Parallel()
	runCases(t, flags("--max_latency=5s"), slowViewerCases())
}

// runCases plays rows on a server with these flags, and looks at what is left of them at the end.
func runCases(t *testing.T, flags []string, rows []testCase) {
	server := harness.Start(t, harness.Options{NoRace: true, Flags: flags})
	warmUp(t, server)
	left := measureBaseline(server)
	t.Run("group", func(t *testing.T) {
		for _, r := range rows {
			t.Run(r.name, func(t *testing.T) {
				t.Parallel()
				sc := newScenario(t, server, r.name)
				r.run(sc)
				sc.checkViewers()
			})
		}
	})
	left.check(t)
}

func newScenario(t *testing.T, server *harness.Server, name string) *scenario {
	s := server.WithT(t)
	room := slices.DeleteFunc([]byte(name), func(c byte) bool { return c == ' ' || c == ',' || c == '\'' })
	return &scenario{t: t, s: s, room: string(room), key: s.Key(string(room)), decoded: map[string]error{}}
}

// warmUp has one stream come and go, so that what is opened once is open.
func warmUp(t *testing.T, server *harness.Server) {
	t.Helper()
	sc := newScenario(t, server, "warm-up")
	sc.addEarlyViewers()
	e := sc.startEncoder(loadClip(t, sample.Small))
	sc.awaitProgress(time.Second)
	e.unpublish()
	sc.checkViewers()
}

// A baseline is what a server held before.
type baseline struct {
	s                     *harness.Server
	fds, goroutines, heap int
}

func measureBaseline(s *harness.Server) baseline {
	return baseline{s, s.OpenFiles(), s.Goroutines(), s.HeapBytes()}
}

// check waits until goroutines, descriptors and what is live of the heap are as before.
func (l baseline) check(t *testing.T) {
	t.Helper()
	const more = 4 << 20 // bytes
	s := l.s.WithT(t)
	harness.Eventually(t, time.Minute, "goroutines, file descriptors and heap as before", func() error {
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

// addEarlyViewers adds a viewer of each protocol who is there before the encoder.
func (sc *scenario) addEarlyViewers() { sc.addViewers("early", allProtocols()...) }

// addLateViewers adds a viewer of each protocol in the middle of a GOP, and waits until each sees
// something of all that there is.
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
	v.start(sc.t, sc.s, sc.room)
}

// awaitProgress waits until every viewer has received so much more of the stream.
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
			if !ok { // has seen nothing yet
				v.await(sc.t, func() bool { at, ok = v.progress(); return ok })
			}
			v.await(sc.t, func() bool { now, _ := v.progress(); return now >= at+d })
		})
	}
}

// awaitEncoder waits until every viewer by RTMP, HTTP-FLV and WebSocket has seen something of e.
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

// checkViewers waits until every viewer has been ended properly, and looks at what he received.
func (sc *scenario) checkViewers() {
	sc.t.Helper()
	for _, v := range sc.viewers {
		v.awaitEnd(sc.t)
		sc.checkViewer(v)
	}
}
