package stream

import (
	"testing"
	"time"

	"livego/internal/media"
)

func TestLateViewerStartsAtNewestKeyframe(t *testing.T) {
	h := NewHub(Options{})
	p := mustPublish(t, h, PublishOptions{})
	gop(t, p, 5*time.Hour, 3)
	for _, tt := range []struct {
		gops int
		want time.Duration
	}{{1, 2 * time.Second}, {2, 1 * time.Second}, {100, 0}} {
		s := mustSubscribe(t, h, SubscribeOptions{GOPs: tt.gops})
		got := readAll(t, s)
		if len(got) == 0 || got[0].RAP != media.Keyframe || got[0].Track != h264 || got[0].DTS != tt.want {
			t.Errorf("GOPs %d: first frame %+v, want a keyframe at %v", tt.gops, got[0], tt.want)
		}
		checkMonotonic(t, got)
		s.Leave()
	}
	live := mustSubscribe(t, h, SubscribeOptions{})
	if got := readAll(t, live); len(got) != 0 {
		t.Errorf("live edge: %d frames at once, want none", len(got))
	}
	write(t, p, video(5*time.Hour+3*time.Second-ms, false), audio(5*time.Hour+3*time.Second),
		video(5*time.Hour+3*time.Second, true))
	got := readAll(t, live)
	if len(got) != 2 || got[0].Track != aac || got[1].RAP != media.Keyframe {
		t.Errorf("live edge: got %d frames, want audio, then video from the keyframe", len(got))
	}
}

func TestViewerBehindRingWaitsForKeyframe(t *testing.T) {
	h := NewHub(Options{RingBytes: 5000})
	p := mustPublish(t, h, PublishOptions{})
	write(t, p, video(0, true), audio(0))
	s := mustSubscribe(t, h, SubscribeOptions{GOPs: 1})
	readAll(t, s)
	for i := range 100 {
		write(t, p, video(time.Duration(i+1)*ms, false), audio(time.Duration(i+1)*ms))
	}
	for _, f := range readAll(t, s) {
		if f.Track == h264 {
			t.Fatal("video without its keyframe")
		}
	}
	write(t, p, video(200*ms, true))
	if got := readAll(t, s); len(got) != 1 || got[0].RAP != media.Keyframe {
		t.Errorf("video does not come back at the keyframe: %d frames", len(got))
	}
}

func TestAudioOnly(t *testing.T) {
	h := NewHub(Options{})
	p := mustPublish(t, h, PublishOptions{})
	for i := range 1000 {
		f := audio(time.Duration(i) * 23 * ms)
		f.Meta = &media.Meta{HasAudio: true}
		write(t, p, f)
	}
	s := mustSubscribe(t, h, SubscribeOptions{GOPs: 1})
	if got := readAll(t, s); len(got) < 43 || len(got) > 45 {
		t.Errorf("starts with %d frames, want a second of them", len(got))
	}
}

// TestLeadingPictures checks that leading pictures go to viewers that have received what was before
// the keyframe, and not to viewers that start with it.
func TestLeadingPictures(t *testing.T) {
	h := NewHub(Options{})
	p := mustPublish(t, h, PublishOptions{})
	leading := func(at time.Duration) *media.Frame {
		f := video(at, false)
		f.Leading = true
		return f
	}
	write(t, p, audio(0), video(0, true), leading(40*ms), video(80*ms, false))
	early := mustSubscribe(t, h, SubscribeOptions{GOPs: 1})
	if got := readAll(t, early); len(got) != 2 || got[1].DTS != 80*ms {
		t.Errorf("a viewer that starts gets %d frames of 3", len(got))
	}
	write(t, p, video(120*ms, true), leading(160*ms), audio(160*ms), video(200*ms, false))
	if got := readAll(t, early); len(got) != 4 {
		t.Errorf("a viewer from before gets %d frames of 4", len(got))
	}
	if got := readAll(t, mustSubscribe(t, h, SubscribeOptions{GOPs: 1})); len(got) != 3 || got[1].DTS != 160*ms ||
		got[1].Track != aac {
		t.Errorf("a viewer that starts later gets %d frames, want 3", len(got))
	}
}
