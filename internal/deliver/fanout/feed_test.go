//go:build linux

package fanout

import (
	"testing"
	"time"

	"livego/internal/media"
	"livego/internal/stream"
)

// TestOtherTracksStartAtTheirKeyframes has a second video track whose keyframes come later than
// those of the default: a viewer of all tracks gets the second track from its next keyframe on, and
// one that has had a keyframe of it gets all of it.
func TestOtherTracksStartAtTheirKeyframes(t *testing.T) {
	overTransports(t, func(t *testing.T, newHarness func(*testing.T, Options) *harness) {
		r := newHarness(t, Options{})
		second := &media.Track{ID: 1, Kind: media.Video, Codec: media.H264, Timescale: 90000}
		other := func(payload string, key bool) {
			t.Helper()
			f := &media.Frame{Track: second, Meta: videoOnly, DTS: r.at, PTS: r.at, Payload: []byte(payload),
				Arrived: time.Now()}
			if key {
				f.RAP = media.Keyframe
			}
			if err := r.pub.Write(f); err != nil {
				t.Fatal(err)
			}
		}
		r.frame("k1", true)
		early := r.viewer(conn{all: true})
		early.want("S 0s", "F k1")
		other("K1", true)
		early.want("F K1")
		r.frame("k2", true)
		other("I1", false)
		early.want("F k2", "F I1")
		late := r.viewer(conn{all: true})
		r.frame("i2", false)
		other("I2", false)
		other("K2", true)
		other("I3", false)
		early.want("F i2", "F I2", "F K2", "F I3")
		late.want("S 40ms", "F k2", "F i2", "F K2", "F I3")
		r.viewer(conn{}).want("S 40ms", "F k2", "F i2")
	})
}

// stillTransport is a transport that holds nothing.
type stillTransport struct{}

func (stillTransport) queued() int        { return 0 }
func (stillTransport) setUnsentLimit(int) {}
func (stillTransport) resumeReading()     {}

// TestViewerAllocatesNothing moves a viewer along the nodes of its feed, one batch after another: it
// takes no memory.
func TestViewerAllocatesNothing(t *testing.T) {
	r := newHarness(t, 0, Options{})
	r.frame("k", true)
	stats, err := r.hub.Join(movie, stream.ViewerOptions{Proto: "test"})
	if err != nil {
		t.Fatal(err)
	}
	defer stats.Leave()
	fd := newFeed(r.broadcaster, feedKey{movie, recordFormat{}}, func() {})
	const nodes = 300
	for i := range nodes {
		nd := &node{parts: [][]byte{make([]byte, 100), make([]byte, 1000)}, size: 1100, video: 1000, forGOPs: anyGOP,
			dts: time.Duration(i) * time.Second}
		if i == 0 {
			nd.start = []byte("header")
		}
		fd.append(nd)
	}
	v := newViewer(fd, Viewer{Stats: stats, Protocol: conn{}, Waited: true})
	v.transport = stillTransport{}
	b := batch{most: 1100}
	now := time.Now()
	step := func() {
		if v.fill(&b, &coalescedBatch{}); b.size == 0 {
			t.Fatal("nothing to send")
		}
		v.advance(b.size, now)
	}
	step() // its start
	if got := testing.AllocsPerRun(nodes-10, step); got > 0 {
		t.Errorf("%v allocations for each batch", got)
	}
}
