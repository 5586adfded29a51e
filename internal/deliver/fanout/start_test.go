//go:build linux

package fanout

import (
	"fmt"
	"io"
	"testing"
	"time"

	"livego/internal/media"
	"livego/internal/stream"
)

func TestViewersGetTheSame(t *testing.T) {
	overTransports(t, func(t *testing.T, newHarness func(*testing.T, Options) *harness) {
		r := newHarness(t, Options{})
		r.frame("k1", true)
		r.frame("i2", false)
		first := r.viewer(conn{prefix: record('H', []byte("hello"))})
		first.want("H hello", "S 0s", "F k1", "F i2")
		r.frame("i3", false)
		second := r.viewer(conn{})
		second.want("S 0s", "F k1", "F i2", "F i3")
		r.frame("k4", true)
		first.want("F i3", "F k4") // so a viewer may start at k4
		second.want("F k4")
		third := r.viewer(conn{})
		third.want("S 120ms", "F k4")
		r.waitSent(first, 8)
		if n := r.hub.Viewers(movie, 0, make([]stream.ConnInfo, 4)); n != 3 {
			t.Errorf("%d viewers, want three", n)
		}
		r.pub.End(stream.Clean)
		for _, v := range []*client{first, second, third} {
			v.want("E EOF", "EOF")
			v.nc.Close()
			v.wantClosed(io.EOF)
		}
	})
}

func TestViewerStartsGOPsBack(t *testing.T) {
	overTransports(t, func(t *testing.T, newHarness func(*testing.T, Options) *harness) {
		r := newHarness(t, Options{GOPs: 2})
		warm := func() *client { return r.viewer(conn{}) }
		r.frame("k1", true)
		keep := warm() // keeps the feed
		keep.want("S 0s", "F k1")
		r.frame("k2", true)
		r.frame("k3", true)
		keep.want("F k2", "F k3")
		warm().want("S 40ms", "F k2", "F k3")
	})
}

// TestWaitingViewerStartsAtBeginning checks that a viewer that joined before the stream gets all of
// it, however late it wakes. Others start at the newest keyframe.
func TestWaitingViewerStartsAtBeginning(t *testing.T) {
	overTransports(t, func(t *testing.T, newHarness func(*testing.T, Options) *harness) {
		r := newHarness(t, Options{MaxLatency: 100 * time.Millisecond})
		r.frame("k1", true)
		r.frame("k2", true)
		r.frame("k3", true)
		v := r.viewer(conn{waited: true})
		v.want("S 0s", "F k1", "F k2", "F k3")
		r.viewer(conn{}).want("S 80ms", "F k3")
		r.viewer(conn{waited: true}).want("S 0s", "F k1", "F k2", "F k3")
		r.frame("k4", true) // and k1 is too old
		v.want("F k4")
		r.viewer(conn{waited: true}).want("S 40ms", "F k2", "F k3", "F k4")
	})
}

// TestLeadingPictures checks that leading pictures go to viewers that have received what was before
// the keyframe, and not to viewers that start with it.
func TestLeadingPictures(t *testing.T) {
	overTransports(t, func(t *testing.T, newHarness func(*testing.T, Options) *harness) {
		r := newHarness(t, Options{GOPs: 1})
		leading := r.leadingPicture
		r.frame("k0", true)
		r.frame("a0", false)
		first := r.viewer(conn{})
		first.want("S 0s", "F k0", "F a0")
		r.frame("k1", true)
		leading("l1")
		leading("l1b")
		r.frame("a1", false)
		first.want("F k1", "F l1", "F l1b", "F a1")
		second := r.viewer(conn{})
		second.want("S 80ms", "F k1", "F a1")
		r.frame("k2", true)
		leading("l2")
		r.frame("a2", false)
		for _, f := range []*client{first, second} {
			f.want("F k2", "F l2", "F a2")
		}
		leading("the last, for now")
		third := r.viewer(conn{})
		third.want("S 240ms", "F k2", "F a2")
		r.frame("b2", false)
		third.want("F b2")
	})
}

// leadingPicture publishes a leading picture 40 ms after the last frame.
func (r *harness) leadingPicture(payload string) {
	r.t.Helper()
	f := &media.Frame{Track: videoTrack, Meta: videoOnly, DTS: r.at, PTS: r.at, Payload: []byte(payload),
		Arrived: time.Now(), Leading: true}
	if err := r.pub.Write(f); err != nil {
		r.t.Fatal(err)
	}
	r.at += 40 * time.Millisecond
}

// TestLeadingPicturesAfterAudioOnly has a stream begin with audio alone: viewers from then on get the
// leading pictures that they can decode, whether they have started with audio or with a keyframe.
func TestLeadingPicturesAfterAudioOnly(t *testing.T) {
	r := newHarness(t, 1, Options{})
	v := r.viewer(conn{})
	for i := range 5 {
		if err := r.pub.Write(&media.Frame{Track: audioTrack, Meta: audioOnly, DTS: r.at, RAP: media.Keyframe,
			Payload: fmt.Append(nil, i), Arrived: time.Now()}); err != nil {
			t.Fatal(err)
		}
		if i == 0 {
			v.want("S 0s")
		}
		v.want(fmt.Sprint("F ", i))
		r.at += 40 * time.Millisecond
	}
	r.frame("k1", true)
	r.leadingPicture("l1")
	v.want("F k1")
	r.frame("k2", true)
	r.leadingPicture("l2")
	r.frame("i2", false)
	v.want("F k2", "F l2", "F i2") // the feed has encoded them
	late := r.viewer(conn{})
	late.want("S 280ms", "F k2", "F i2")
	r.frame("k3", true)
	r.leadingPicture("l3")
	for _, far := range []*client{v, late} {
		far.want("F k3", "F l3")
	}
}

// TestNoStartWithAnotherDefault has another video track become the default: viewers that join then do
// not start with the one before.
func TestNoStartWithAnotherDefault(t *testing.T) {
	r := newHarness(t, 1, Options{GOPs: 2})
	fd := newFeed(r.broadcaster, feedKey{movie, recordFormat{}}, func() {})
	v0, v1 := &media.Track{Kind: media.Video}, &media.Track{Kind: media.Video, ID: 1}
	write := func(track *media.Track, program *media.Program) {
		f := &media.Frame{Track: track, Program: program, RAP: media.Keyframe, Arrived: time.Now(), Payload: []byte("f")}
		fd.observe([]*media.Frame{f}, program)
		if err := fd.encodeAll([]*media.Frame{f}); err != nil {
			t.Fatal(err)
		}
	}
	one := media.NewProgram(v1)
	write(v1, one)
	if fd.startNode(false) != fd.last {
		t.Fatal("no start at the keyframe")
	}
	pending := one.WithDefault(v0)
	fd.observe([]*media.Frame{{Track: v1, Program: pending}}, pending)
	if fd.startNode(false) != nil {
		t.Error("a viewer starts with the track that was the default before")
	}
	write(v0, pending.With(v0))
	write(v0, pending.With(v0).WithDiscontinuity(1))
	write(v1, one.WithDiscontinuity(2))
	if len(fd.starts) != 3 {
		t.Errorf("%d starts, want those of all discontinuities", len(fd.starts))
	}
}

func TestAudioOnlyStartsOneSecondBack(t *testing.T) {
	overTransports(t, func(t *testing.T, newHarness func(*testing.T, Options) *harness) {
		r := newHarness(t, Options{})
		put := func(i int) {
			r.pub.Write(&media.Frame{Track: audioTrack, Meta: audioOnly, DTS: r.at, RAP: media.Keyframe,
				Payload: fmt.Append(nil, i), Arrived: time.Now()})
			r.at += 100 * time.Millisecond
		}
		put(0)
		keep := r.viewer(conn{})
		keep.want("S 0s", "F 0")
		for i := range 30 {
			put(i + 1)
			keep.want(fmt.Sprint("F ", i+1))
		}
		r.viewer(conn{}).want("S 2s", "F 20", "F 21")
	})
}

// TestLiveEdge has viewers start at the live edge, of a new feed and of one that exists: they get
// audio at once, and video from the next keyframe on.
func TestLiveEdge(t *testing.T) {
	overTransports(t, func(t *testing.T, newHarness func(*testing.T, Options) *harness) {
		r := newHarness(t, Options{GOPs: liveEdge})
		audio := func(payload string) {
			t.Helper()
			if err := r.pub.Write(&media.Frame{Track: audioTrack, Meta: videoOnly, DTS: r.at, RAP: media.Keyframe,
				Payload: []byte(payload), Arrived: time.Now()}); err != nil {
				t.Fatal(err)
			}
		}
		// start has v start at a frame of audio.
		start := func(v *client) {
			t.Helper()
			for {
				v.nc.SetReadDeadline(time.Now().Add(10 * time.Millisecond))
				if _, err := v.br.Peek(1); err == nil {
					break
				}
				audio("tick")
			}
			if got := v.read(); got[0] != 'S' {
				t.Fatalf("starts with %q", got)
			}
		}
		// wantNext checks the next record that is no tick.
		wantNext := func(v *client, want string) {
			t.Helper()
			got := "F tick"
			for got == "F tick" {
				got = v.read()
			}
			if got != want {
				t.Fatalf("%q, want %q", got, want)
			}
		}
		r.frame("k1", true)
		audio("before")
		first := r.viewer(conn{})
		start(first)
		r.frame("i2", false)
		audio("a2")
		wantNext(first, "F a2")
		r.frame("k3", true)
		wantNext(first, "F k3")
		second := r.viewer(conn{})
		start(second)
		r.frame("i4", false)
		audio("a4")
		wantNext(second, "F a4")
		wantNext(first, "F i4")
		wantNext(first, "F a4")
		r.frame("k5", true)
		audio("a5")
		for _, v := range []*client{first, second} {
			v.want("F k5", "F a5")
		}
	})
}
