package segment

import (
	"slices"
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
			case c.want == "" && all[3].duration > time.Second: // in the next time slot: not waited for
				t.Errorf("segments %s", got)
			case c.want != "" && got != c.want:
				t.Errorf("segments %s, want %s", got, c.want)
			}
			for _, s := range all {
				if alone := !hasBoth(s); alone && !c.alone {
					t.Errorf("segment %s has only one of video and audio", s.name)
				}
			}
		})
	}
}

// hasBoth reports whether s has video and audio.
func hasBoth(s *segment) bool {
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
			t.Errorf("segment %s has only one of video and audio", s.name)
		}
	}
}

// TestAudioBeforeVideoOfNextFile writes audio of the next file before its first picture: one
// segment has both.
func TestAudioBeforeVideoOfNextFile(t *testing.T) {
	before := interleave(video(0, 4*time.Second, 40*ms, 2*time.Second), audio(0, 4*time.Second))
	after := interleave(audio(4*time.Second, 8*time.Second), video(4100*ms, 8*time.Second, 40*ms, 2*time.Second))
	for name, change := range map[string]func(*media.Frame){"both tracks change": changeBoth,
		"audio changes": changeAudio} {
		frames := slices.Concat(before, modify(after, change))
		n := 0
		for _, s := range writeAll(t, New(7, Options{Part: 200 * ms}), frames) {
			n += len(s.frames)
		}
		if n != len(frames) {
			t.Errorf("%s: %d frames in segments, %d were written", name, n, len(frames))
		}
	}
}

// TestLateAudioWaitsForKeyframe counts the audio frames that are dropped when audio starts in the
// middle of a GOP: none if it starts with a keyframe, or if nothing since the keyframe is
// published.
func TestLateAudioWaitsForKeyframe(t *testing.T) {
	for _, tt := range []struct {
		name      string
		gop, from time.Duration
		part      time.Duration
		want      int
	}{
		{"in the middle of a GOP", 2 * time.Second, 5 * time.Second, 200 * ms, 50},
		{"without parts", 2 * time.Second, 5 * time.Second, 0, 0},
		{"with a keyframe", 2 * time.Second, 4 * time.Second, 200 * ms, 0},
		{"soon after a keyframe", 2 * time.Second, 4100 * ms, 200 * ms, 0},
		{"after a part was published", 2 * time.Second, 4300 * ms, 200 * ms, 85},
		{"soon after a keyframe between parts", time.Second, 5100 * ms, 200 * ms, 0},
		{"soon after a keyframe in a part", 1120 * ms, 5620 * ms, 200 * ms, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			frames := interleave(video(0, 8*time.Second, 40*ms, tt.gop), audio(tt.from, 8*time.Second))
			n := 0
			for _, s := range writeAll(t, New(7, Options{Part: tt.part}), frames) {
				n += len(s.frames)
				if s.discontinuity && !s.parts[0].independent {
					t.Errorf("segment %s is discontinuous and starts in the middle of a GOP", s.name)
				}
			}
			if left := len(frames) - n; left != tt.want {
				t.Errorf("%d frames are in no segment, want %d", left, tt.want)
			}
		})
	}
}

// TestFirstTrackComesLast starts with a track that turns out not to be the first of its kind:
// nothing of it is left.
func TestFirstTrackComesLast(t *testing.T) {
	other := *h264
	other.ID = 1
	early := modify(video(0, 80*ms, 40*ms, 2*time.Second), func(f *media.Frame) { f.Track = &other })
	rest := interleave(video(80*ms, 4080*ms, 40*ms, 2*time.Second), audio(80*ms, 4080*ms))
	s := New(7, Options{Part: 200 * ms})
	segs := writeAll(t, s, append(early, rest...))
	if got := formatDurations(segs); got != "2 2" {
		t.Errorf("segments %q", got)
	}
	if segs[0].sequence != 7 || segs[0].name != "7-80" {
		t.Errorf("the first segment is %s, number %d", segs[0].name, segs[0].sequence)
	}
	for _, f := range segs[0].frames {
		if f.Track == &other {
			t.Errorf("the first segment has the frame at %v of the other track", f.DTS)
		}
	}
}

// TestFirstSoundComesLast starts with audio that turns out not to be the first: the pictures so far
// are kept.
func TestFirstSoundComesLast(t *testing.T) {
	second, third := *aac, *aac
	second.ID, third.ID = 1, 1
	for _, tt := range []struct {
		name  string
		early []*media.Frame
	}{
		{"one track", modify(audio(0, 1500*ms), func(f *media.Frame) { f.Track = &second })},
		{"one track that changes", modifyAfter(1400*ms, modify(audio(0, 1500*ms), func(f *media.Frame) { f.Track = &second }),
			func(f *media.Frame) { f.Track = &third })},
	} {
		t.Run(tt.name, func(t *testing.T) {
			frames := interleave(video(0, 4*time.Second, 40*ms, 2*time.Second), tt.early, audio(1500*ms, 4*time.Second))
			segs := writeAll(t, New(7, Options{Part: 200 * ms}), frames)
			if got := formatDurations(segs); got != "2 2" {
				t.Errorf("segments %q", got)
			}
			checkSegments(t, segs, slices.DeleteFunc(frames,
				func(f *media.Frame) bool { return f.Track == &second || f.Track == &third }))
		})
	}
}

// TestFirstPictureComesLast starts the first video track while other audio is pending: both are
// dropped.
func TestFirstPictureComesLast(t *testing.T) {
	other := *h264
	other.ID = 1
	early := interleave(modify(video(0, 80*ms, 40*ms, 2*time.Second), func(f *media.Frame) { f.Track = &other }),
		audio(0, 80*ms))
	held := modify(audio(60*ms, 80*ms), changeAudio)
	rest := interleave(video(80*ms, 4080*ms, 40*ms, 2*time.Second), modify(audio(80*ms, 4080*ms), changeAudio))
	segs := writeAll(t, New(7, Options{Part: 200 * ms}), slices.Concat(early, held, rest))
	if got := formatDurations(segs); got != "2 2" {
		t.Errorf("segments %q", got)
	}
	checkSegments(t, segs, rest)
}
