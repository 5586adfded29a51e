//go:build linux

package fanout

import (
	"testing"
	"time"

	"livego/internal/media"
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
