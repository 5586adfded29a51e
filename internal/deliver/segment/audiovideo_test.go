package segment

import (
	"testing"
	"time"

	"livego/internal/media"
)

// TestSegmentsHaveAudioAndVideo: where a stream with picture and sound goes on after a joint, no
// segment or part has one of them alone because the other comes a little later, be it across a slot
// of time. Players that have laid out their buffers for both end at such a segment. One that really
// is alone is one after TrackWait.
func TestSegmentsHaveAudioAndVideo(t *testing.T) {
	before := interleave(video(0, 3500*ms, 40*ms, time.Second), audio(0, 3500*ms))
	next := func(f *media.Frame) { f.Discontinuity = 1; changeBoth(f) }
	for _, c := range []struct {
		name  string
		after []*media.Frame
		want  string
		alone bool
	}{
		{"sound first, across a slot",
			interleave(video(4*time.Second, 8*time.Second, 40*ms, time.Second), audio(3960*ms, 8*time.Second)),
			"1 1 1.52 |1.04 1 2", false},
		{"sound first, for longer than a part",
			interleave(video(4800*ms, 8*time.Second, 40*ms, time.Second), audio(4100*ms, 8*time.Second)), "1 1 1.52 |1.7 1 1.2",
			false},
		{"picture first, across two keyframes",
			interleave(video(3900*ms, 8*time.Second, 40*ms, time.Second), audio(5*time.Second, 8*time.Second)),
			"1 1 1.52 |2 1 1.12", false},
		{"sound alone", audio(4*time.Second, 8*time.Second), "1 1 1.52 |2 2", true},
		{"sound alone, as the encoder says",
			modify(audio(3960*ms, 8*time.Second), func(f *media.Frame) { f.Meta = &media.Meta{HasAudio: true} }), "", true},
	} {
		t.Run(c.name, func(t *testing.T) {
			frames := append(append([]*media.Frame(nil), before...), modify(c.after, next)...)
			all := writeAll(t, New(7, Options{Part: 200 * ms}), frames)
			switch got := formatDurations(all); {
			case c.want == "" && all[3].Duration > time.Second: // across a slot, and not waited for
				t.Errorf("segments %s", got)
			case c.want != "" && got != c.want:
				t.Errorf("segments %s, want %s", got, c.want)
			}
			for _, s := range all {
				if alone := !s.trackSet.hasBoth(); alone && !c.alone {
					t.Errorf("segment %s has picture or sound alone", s.Name)
				}
			}
		})
	}
}

// TestFirstSegmentWaitsForAnnouncedAudio: the first segment of all waits for what the encoder has announced.
func TestFirstSegmentWaitsForAnnouncedAudio(t *testing.T) {
	for sound, want := range map[time.Duration]string{1500 * ms: "2 2 2", 2500 * ms: "2 1 |1 2"} {
		frames := modify(interleave(video(0, 6*time.Second, 40*ms, time.Second), audio(sound, 6*time.Second)),
			func(f *media.Frame) {
				f.Meta = &media.Meta{HasVideo: true, HasAudio: true}
			})
		if got := formatDurations(writeAll(t, New(7, Options{Part: 200 * ms}), frames)); got != want {
			t.Errorf("sound after %v: segments %s, want %s", sound, got, want)
		}
	}
}

// TestSuccessorWaitsForAudioAndVideo: the same where another session goes on with the playlist.
func TestSuccessorWaitsForAudioAndVideo(t *testing.T) {
	first := New(7, Options{Part: 200 * ms})
	writeAll(t, first, interleave(video(0, 4*time.Second, 40*ms, time.Second), audio(0, 4*time.Second)))
	second := first.Successor(8)
	for _, f := range interleave(video(2010*ms, 6*time.Second, 40*ms, time.Second), audio(1980*ms, 6*time.Second)) {
		second.Write(f)
		second.Flush()
	}
	second.End()
	for _, s := range second.List().segments {
		if !s.trackSet.hasBoth() {
			t.Errorf("segment %s has picture or sound alone", s.Name)
		}
	}
}
