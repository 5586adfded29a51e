// Package scenes plays what goes wrong between an encoder and its viewers, before viewers of every protocol at once, and holds the server
// to an unbroken picture at a bounded delay: connections stay, time goes on, and what each viewer received decodes without an error.
//
// Its encoder and its viewers are made by hand, so that a scene has the time stamps, the silence and the resets that it needs; what they
// carry is what a real encoder made, and a real decoder judges it. Real encoders have scenes of their own.
package scenes

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"slices"
	"sync"
	"testing"
	"time"

	"livego/e2e/essence"
	"livego/e2e/rig"
	"livego/e2e/sample"
)

func TestMain(m *testing.M) {
	// Scenes wait most of the time. The command line still wins.
	flag.Set("test.parallel", "16")
	os.Exit(rig.Main(m))
}

// patience is how long something may take that has to happen.
const patience = 30 * time.Second

// flags shorten what a scene has to wait for. A time-out that ends or moves a client is still long enough for a client that the test
// wants to be well: on a busy machine the test's own process gets no processor for two or three seconds at a time.
func flags(more ...string) []string {
	return append([]string{
		"--publish_hold=12s", "--read_timeout=8s", "--publish_idle=5s", "--backup_return=2s", "--track_wait=5s", "--rap_wait=2s", "--ring_time=8s",
		"--max_latency=8s", "--write_timeout=8s", "--play_wait=15s", "--hls_segment=500ms", "--hls_session_timeout=8s",
	}, more...)
}

// A scene is a room with encoders and viewers.
type scene struct {
	t         *testing.T
	s         *rig.Server
	room, key string

	// What its viewers may see, where that is not an unbroken picture from the first frame to the last.
	gap       time.Duration // longest step of a track's time; 250 ms where it is 0
	lasts     time.Duration // how long the recording of who was there from the start is at least
	missing   int           // how many frames of a track a viewer may miss after his first
	joins     int           // discontinuities in HLS, for who was there from the start
	mostJoins int           // the same, where there may be more
	headers   int           // different codec headers in a row, for the same; 2 where it is 0
	only      essence.Kind  // what is seen where not both are sent, or not in a form that can be shown
	rough     bool          // segments may begin in mid-GOP, where the encoder's clock makes no sense
	arrivals  bool          // the server counts from when frames come: a step may be longer by the longest pause between two
	switches  int           // how often viewers are switched from one of two encoders to the other
	comeBack  bool          // viewers of FLV are ended, to come back

	forgetful bool // keeps nothing of what is sent

	mu      sync.Mutex
	log     []sent
	viewers []*viewer
	decoded map[string]error
}

// sent is a frame that an encoder sent.
type sent struct {
	item
	by *encoder
	at time.Time
}

// A row is one line of the table.
type row struct {
	name string
	play func(*scene)
}

// TestScenes plays the table on one server.
func TestScenes(t *testing.T) {
	rig.Need(t, "ffmpeg")
	rig.NeedNewer(t)
	t.Parallel()
	playRows(t, flags(), slices.Concat(comebackRows(), parameterRows(), clockRows(), trackRows(), viewerRows()))
}

// TestSlow plays the rows in which viewers are moved on, on a server that does so earlier.
func TestSlow(t *testing.T) {
	rig.Need(t, "ffmpeg")
	t.Parallel()
	playRows(t, flags("--max_latency=5s"), slowRows())
}

// playRows plays rows on a server with these flags, and looks at what is left of them at the end.
func playRows(t *testing.T, flags []string, rows []row) {
	server := rig.Start(t, rig.Options{Plain: true, Flags: flags})
	warmUp(t, server)
	left := leftovers(server)
	t.Run("group", func(t *testing.T) {
		for _, r := range rows {
			t.Run(r.name, func(t *testing.T) {
				t.Parallel()
				sc := newScene(t, server, r.name)
				r.play(sc)
				sc.judge()
			})
		}
	})
	left.check(t)
}

func newScene(t *testing.T, server *rig.Server, name string) *scene {
	s := server.In(t)
	room := slices.DeleteFunc([]byte(name), func(c byte) bool { return c == ' ' || c == ',' || c == '\'' })
	return &scene{t: t, s: s, room: string(room), key: s.Key(string(room)), decoded: map[string]error{}}
}

// warmUp has one stream come and go, so that what is opened once is open.
func warmUp(t *testing.T, server *rig.Server) {
	t.Helper()
	sc := newScene(t, server, "warm-up")
	sc.early()
	e := sc.encode(load(t, sample.Small))
	sc.flows(time.Second)
	e.goodbye()
	sc.judge()
}

// A leftover is what a server held before.
type leftover struct {
	s                     *rig.Server
	fds, goroutines, heap int
}

func leftovers(s *rig.Server) leftover { return leftover{s, s.FDs(), s.Goroutines(), s.Heap()} }

// check waits until goroutines, descriptors and what is live of the heap are as before.
func (l leftover) check(t *testing.T) {
	t.Helper()
	const more = 4 << 20 // bytes
	s := l.s.In(t)
	rig.Eventually(t, time.Minute, "goroutines, file descriptors and heap as before", func() error {
		if n := s.Goroutines(); n > l.goroutines+5 {
			return fmt.Errorf("%d goroutines, there were %d", n, l.goroutines)
		}
		if n := s.FDs(); n > l.fds+5 {
			return fmt.Errorf("%d file descriptors, there were %d", n, l.fds)
		}
		if n := s.Heap(); n > l.heap+l.heap/10+more {
			return fmt.Errorf("%d bytes live, there were %d", n, l.heap)
		}
		return nil
	})
	t.Logf("live: %d bytes before, %d after; resident: %d MiB at most", l.heap, s.Heap(), s.Memory("VmHWM"))
}

// all lists the protocols that play.
func all() []string { return []string{"rtmp", "flv", "ws", "hls", "ts"} }

// early adds a viewer of each protocol who is there before the encoder.
func (sc *scene) early() { sc.audience("early", all()...) }

// late adds a viewer of each protocol in the middle of a GOP, and waits until each sees something of all that there is.
func (sc *scene) late() {
	sc.t.Helper()
	sc.audience("late", all()...)
	sc.flows(0)
	for _, v := range sc.viewers {
		if !v.segmented() {
			v.flows(sc.t, 200*time.Millisecond)
		}
	}
}

func (sc *scene) audience(when string, protos ...string) {
	for _, proto := range protos {
		sc.add(newViewer(proto, when))
	}
}

func (sc *scene) add(v *viewer) {
	sc.viewers = append(sc.viewers, v)
	v.start(sc.t, sc.s, sc.room)
}

// flows waits until every viewer has received so much more of the stream.
func (sc *scene) flows(d time.Duration) {
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
func (sc *scene) awaitEncoder(e *encoder) {
	sc.t.Helper()
	for _, v := range sc.viewers {
		if !v.segmented() {
			v.await(sc.t, func() bool { return sc.sentBy(e, v.newest()) })
		}
	}
}

// sentBy reports whether e sent a tag.
func (sc *scene) sentBy(e *encoder, t essence.FLVTag) bool {
	sc.mu.Lock()
	defer sc.mu.Unlock()
	return slices.ContainsFunc(sc.log, func(s sent) bool { return s.by == e && bytes.Equal(s.tag.Body, t.Body) })
}

// judge waits until every viewer has been ended properly, and looks at what he received.
func (sc *scene) judge() {
	sc.t.Helper()
	for _, v := range sc.viewers {
		v.wait(sc.t)
		sc.judgeViewer(v)
	}
}
