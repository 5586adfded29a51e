package stream

import (
	"math"
	"testing"
	"time"

	"livego/internal/domain"
	"livego/internal/media"
)

// TestMeasure measures a stream of 25 pictures a second with a keyframe each second, and an audio
// track.
func TestMeasure(t *testing.T) {
	h := NewHub(Options{})
	t.Cleanup(h.Close)
	p, err := h.Publish(t.Context(), movie, PublishOptions{})
	if err != nil {
		t.Fatal(err)
	}
	video := &media.Track{Kind: media.Video, Codec: media.H264, Timescale: 90000}
	audio := &media.Track{Kind: media.Audio, Codec: media.AAC, Timescale: 48000}
	meta := &media.Meta{HasVideo: true, HasAudio: true}
	for i := range 100 {
		at := time.Duration(i) * 40 * time.Millisecond
		f := &media.Frame{Track: video, Meta: meta, DTS: at, PTS: at, Arrived: time.Unix(1e9, 0).Add(at),
			Payload: make([]byte, 5000)}
		if i%25 == 0 {
			f.RAP = media.Keyframe
		}
		for _, f := range []*media.Frame{f,
			{Track: audio, Meta: meta, DTS: at, PTS: at, Arrived: f.Arrived, Payload: make([]byte, 500)}} {
			if err := p.Write(f); err != nil {
				t.Fatal(err)
			}
		}
	}
	m, ok := h.Measure(movie)
	if !ok || len(m.Tracks) != 2 || m.GOP != time.Second {
		t.Fatalf("measured %+v, %v", m, ok)
	}
	for i, kbps := range []float64{1000, 100} {
		if r := m.Tracks[i]; math.Abs(r.FrameRate-25) > 0.01 || math.Abs(r.Kbps-kbps) > 1 {
			t.Errorf("%v: %.3f frames a second, %.1f kbit/s", r.Track.Kind, r.FrameRate, r.Kbps)
		}
	}
	if _, ok := h.Measure(domain.Name{App: "live", Room: "nobody"}); ok {
		t.Error("a stream that is not live is measured")
	}
}
