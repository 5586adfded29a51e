package segment

import (
	"testing"
	"time"

	"livego/internal/media"
)

// TestSegmentsHaveAudioAndVideo continues a stream with video and audio after a discontinuity at
// which one of them starts a little later, also in another time slot. No segment or part may have
// only one of them: players that have created buffers for both stop at such a segment. A track that
// does not come within TrackWait is missing.
func TestSegmentsHaveAudioAndVideo(t *testing.T) {
	before := interleave(video(0, 3500*ms, 40*ms, time.Second), audio(0, 3500*ms))
	next := func(f *media.Frame) { setDiscontinuity(f, 1); changeBoth(f) }
	for _, c := range []struct {
		name  string
		after []*media.Frame
		want  string
		alone bool
	}{
		{"audio first, in an earlier time slot",
			interleave(video(4*time.Second, 8*time.Second, 40*ms, time.Second), audio(3960*ms, 8*time.Second)),
			"1 1 1.52 |1.04 1 2", false},
		{"audio first, for longer than a part",
			interleave(video(4800*ms, 8*time.Second, 40*ms, time.Second), audio(4100*ms, 8*time.Second)), "1 1 1.52 |1.7 1 1.2",
			false},
		{"video first, for two keyframes",
			interleave(video(3900*ms, 8*time.Second, 40*ms, time.Second), audio(5*time.Second, 8*time.Second)),
			"1 1 1.52 |2 1 1.12", false},
		{"audio only", audio(4*time.Second, 8*time.Second), "1 1 1.52 |2 2", true},
		{"audio only, as announced",
			modify(audio(3960*ms, 8*time.Second), func(f *media.Frame) { f.Meta = &media.Meta{HasAudio: true} }), "", true},
	} {
		t.Run(c.name, func(t *testing.T) {
			frames := append(append([]*media.Frame(nil), before...), modify(c.after, next)...)
			all := writeAll(t, New(7, Options{Part: 200 * ms}), frames)
			switch got := formatDurations(all); {
			case c.want == "" && all[3].Duration > time.Second: // in the next time slot: not waited for
				t.Errorf("segments %s", got)
			case c.want != "" && got != c.want:
				t.Errorf("segments %s, want %s", got, c.want)
			}
			for _, s := range all {
				if alone := !hasBoth(s); alone && !c.alone {
					t.Errorf("segment %s has only one of video and audio", s.Name)
				}
			}
		})
	}
}

// hasBoth reports whether s has video and audio.
func hasBoth(s *Segment) bool {
	t := s.trackSet.tracks[FMP4]
	return t.video != nil && t.audio != nil
}

// TestFirstSegmentWaitsForAnnouncedAudio delays audio that the encoder has announced.
func TestFirstSegmentWaitsForAnnouncedAudio(t *testing.T) {
	for sound, want := range map[time.Duration]string{1500 * ms: "2 2 2", 2500 * ms: "2 1 |1 2"} {
		frames := modify(interleave(video(0, 6*time.Second, 40*ms, time.Second), audio(sound, 6*time.Second)),
			func(f *media.Frame) {
				f.Meta = &media.Meta{HasVideo: true, HasAudio: true}
			})
		if got := formatDurations(writeAll(t, New(7, Options{Part: 200 * ms}), frames)); got != want {
			t.Errorf("audio after %v: segments %s, want %s", sound, got, want)
		}
	}
}

// TestSuccessorWaitsForAudioAndVideo does the same at the start of another stream session.
func TestSuccessorWaitsForAudioAndVideo(t *testing.T) {
	first := New(7, Options{Part: 200 * ms})
	writeAll(t, first, interleave(video(0, 4*time.Second, 40*ms, time.Second), audio(0, 4*time.Second)))
	second, program := first.Successor(8), media.NewProgram(h264, aac)
	for _, f := range interleave(video(2010*ms, 6*time.Second, 40*ms, time.Second), audio(1980*ms, 6*time.Second)) {
		f.Program = program
		second.Write(f)
		second.Flush()
	}
	second.End()
	for _, s := range second.List().segments {
		if !hasBoth(s) {
			t.Errorf("segment %s has only one of video and audio", s.Name)
		}
	}
}
