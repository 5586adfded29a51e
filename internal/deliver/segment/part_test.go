package segment

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"livego/internal/media"
)

// TestPartDurationsMatchTarget checks RFC 8216bis section 4.4.3.7: each part but the last of its
// segment lasts 85 to 100 % of the part target.
func TestPartDurationsMatchTarget(t *testing.T) {
	aacFrames := func() (fs []*media.Frame) {
		for i := range 800 {
			when := time.Duration(i) * 1024 * time.Second / 44100
			f := frame(aac, when.Round(ms), 1024*time.Second/44100, true)
			f.Ticks = int64(i) * 1024
			fs = append(fs, f)
		}
		return fs
	}()
	for _, tt := range []struct {
		name       string
		frames     []*media.Frame
		partTarget time.Duration
		want       time.Duration
		audio      bool // with audio whose frames are not aligned
	}{
		{"12.5 fps", videoFPS(12.5, 20*time.Second, 2*time.Second, 0), 200 * ms, 240 * ms, true},
		{"23.976 fps", videoFPS(24000.0/1001, 20*time.Second, 2*time.Second, 0), 200 * ms, 209 * ms, true},
		{"24 fps", videoFPS(24, 20*time.Second, 2*time.Second, 0), 200 * ms, 209 * ms, true},
		{"25 fps", videoFPS(25, 20*time.Second, 2*time.Second, 0), 200 * ms, 200 * ms, true},
		{"29.97 fps", videoFPS(30000.0/1001, 20*time.Second, 2*time.Second, 0), 200 * ms, 201 * ms, true},
		{"30 fps", videoFPS(30, 20*time.Second, 2*time.Second, 0), 200 * ms, 201 * ms, true},
		{"50 fps", videoFPS(50, 20*time.Second, 2*time.Second, 0), 200 * ms, 200 * ms, true},
		{"59.94 fps", videoFPS(60000.0/1001, 20*time.Second, 2*time.Second, 0), 200 * ms, 201 * ms, true},
		{"60 fps", videoFPS(60, 20*time.Second, 2*time.Second, 0), 200 * ms, 200 * ms, true},
		{"25 fps, GOP 1.92s", videoFPS(25, 20*time.Second, 1920*ms, 0), 200 * ms, 200 * ms, true},
		{"30 fps, jitter", videoFPS(30, 20*time.Second, 2*time.Second, 3*ms), 200 * ms, 206 * ms, true},
		{"30 fps, GOP 500ms", videoFPS(30, 20*time.Second, 500*ms, 0), 200 * ms, 201 * ms, true},
		{"30 fps, GOP 500ms, jitter", videoFPS(30, 20*time.Second, 500*ms, 3*ms), 200 * ms, 207 * ms, true},
		{"25 fps, GOP 400ms", videoFPS(25, 20*time.Second, 400*ms, 0), 200 * ms, 200 * ms, true},
		{"12.5 fps, GOP 480ms", videoFPS(12.5, 20*time.Second, 480*ms, 0), 200 * ms, 240 * ms, true},
		{"2 fps, GOP 500ms", videoFPS(2, 20*time.Second, 500*ms, 0), 200 * ms, 500 * ms, true},
		{"2 fps", videoFPS(2, 20*time.Second, 2*time.Second, 0), 200 * ms, 500 * ms, true},
		{"25 fps, parts of 1s", videoFPS(25, 20*time.Second, 2*time.Second, 0), time.Second, time.Second, true},
		{"audio only", aacFrames, 200 * ms, 209 * ms, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			frames := tt.frames
			if tt.audio { // ends later than the video
				frames = interleave(frames, audio(0, 20*time.Second+20*ms))
			}
			s := New(7, Options{Part: tt.partTarget})
			all := writeAll(t, s, frames)
			target := s.List().PartTarget
			if target != tt.want {
				t.Errorf("part target %v, want %v", target, tt.want)
			}
			if len(all) < 9 {
				t.Fatalf("%d segments", len(all))
			}
			for _, seg := range all {
				for i, p := range seg.parts {
					if p.duration > target || i < len(seg.parts)-1 && p.duration < target*85/100 {
						t.Errorf("part %s lasts %v, the part target is %v", p.name, p.duration, target)
					}
				}
			}
			checkSegments(t, all, frames)
		})
	}
}

// TestTrailingAudioJoinsLastPart ends streams whose audio is longer than the video: the last part
// has the rest of the audio and the last pictures.
func TestTrailingAudioJoinsLastPart(t *testing.T) {
	for longer := time.Duration(0); longer <= 300*ms; longer += 20 * ms {
		s := New(7, Options{Part: 200 * ms})
		writeAll(t, s, interleave(video(0, 2880*ms, 40*ms, 2*time.Second), audio(0, 2880*ms+longer)))
		last := s.List().newest()
		checkParts(t, last)
		end := last.parts[len(last.parts)-1]
		if !slices.ContainsFunc(end.frames, func(f *media.Frame) bool { return f.Track.Kind == media.Video }) {
			t.Errorf("audio longer by %v: the last part is audio only, of %v", longer, end.duration)
		}
		said := time.Duration(0)
		for _, entry := range s.List().partEntries(last.parts) {
			if said += entry.Duration; entry.Duration > s.List().PartTarget {
				t.Errorf("audio longer by %v: a part is listed with %v", longer, entry.Duration)
			}
		}
		if said != last.duration {
			t.Errorf("audio longer by %v: the last segment is listed with %v, its parts with %v", longer, last.duration, said)
		}
	}
}

// TestPartsOfIrregularStreams checks that only parts of a single picture are longer than the
// target.
func TestPartsOfIrregularStreams(t *testing.T) {
	for _, tt := range segmentationCases {
		t.Run(tt.name, func(t *testing.T) {
			s := New(7, Options{Part: 200 * ms})
			all := writeAll(t, s, tt.frames)
			checkSegments(t, all, tt.frames)
			for _, seg := range all {
				for _, p := range seg.parts {
					pictures := 0
					for _, f := range p.frames {
						if f.Track.Kind == media.Video {
							pictures++
						}
					}
					if p.duration > s.List().PartTarget && pictures > 1 {
						t.Errorf("part %s of %d pictures lasts %v", p.name, pictures, p.duration)
					}
				}
			}
		})
	}
}

// TestLongGOPsAreCutAtParts cuts long GOPs: a segment that does not end at a keyframe ends at the
// end of a part, which has video and audio like every other, and no part exceeds the target.
func TestLongGOPsAreCutAtParts(t *testing.T) {
	const long = 60 * time.Second
	hasKind := func(frames []*media.Frame, k media.Kind) bool {
		return slices.ContainsFunc(frames, func(f *media.Frame) bool { return f.Track.Kind == k })
	}
	for _, gop := range []time.Duration{2 * time.Second, 5 * time.Second, 10 * time.Second, 17 * time.Second,
		600 * time.Second} {
		for _, partTarget := range []time.Duration{100 * ms, 200 * ms, 330 * ms, time.Second} {
			for _, fps := range []float64{25, 30000.0 / 1001, 30} {
				for _, withAudio := range []bool{true, false} {
					t.Run(fmt.Sprintf("%v/%v/%.2f fps/audio %v", gop, partTarget, fps, withAudio), func(t *testing.T) {
						frames := videoFPS(fps, long, gop, 0)
						if withAudio {
							frames = interleave(frames, aacAt(long))
						}
						s := New(7, Options{Part: partTarget})
						all := writeAll(t, s, frames)
						target := s.List().PartTarget
						if len(all) < 9 {
							t.Fatalf("%d segments", len(all))
						}
						for n, seg := range all[:len(all)-1] {
							// A segment that is not cut by time is followed by a keyframe or its audio.
							byTime := !isRAP(all[n+1].frames[0])
							if byTime && withAudio {
								byTime = !slices.ContainsFunc(all[n+1].parts[0].frames[:3], isRAP)
							}
							for i, p := range seg.parts {
								least := target * 85 / 100
								if i == len(seg.parts)-1 && !byTime {
									least = 0
								}
								if p.duration > target || p.duration < least {
									t.Errorf("part %s of %s lasts %v, the part target is %v, cut by time: %v", p.name, seg.name, p.duration,
										target,
										byTime)
								}
								if least > 0 && (!hasKind(p.frames, media.Video) || withAudio && !hasKind(p.frames, media.Audio)) {
									t.Errorf("part %s has only one of video and audio", p.name)
								}
							}
						}
						checkSegments(t, all, frames)
					})
				}
			}
		}
	}
	t.Run("audio only", func(t *testing.T) {
		s, frames := New(7, Options{Part: 200 * ms}), aacAt(long)
		all := writeAll(t, s, frames)
		for _, seg := range all[:len(all)-1] {
			for _, p := range seg.parts {
				if target := s.List().PartTarget; p.duration > target || p.duration < target*85/100 {
					t.Errorf("part %s lasts %v, the part target is %v", p.name, p.duration, target)
				}
			}
			if seg.sequence > 8 && seg.duration < 1800*ms { // 2 s, up to the end of a part
				t.Errorf("segment %s lasts %v", seg.name, seg.duration)
			}
		}
		checkSegments(t, all, frames)
	})
}

// TestLowFrameRateHasNoParts writes pictures seconds apart: playlists announce nothing about parts
// that is not true.
func TestLowFrameRateHasNoParts(t *testing.T) {
	const long = 60 * time.Second
	slow := func(from, every time.Duration) []*media.Frame { return video(from, from+long, every, every) }
	for _, tt := range []struct {
		name   string
		frames []*media.Frame
		want   []time.Duration // part targets in order
	}{
		{"a keyframe every 4 s", slow(0, 4*time.Second), []time.Duration{0}},
		{"a keyframe every 4 s, of unknown duration", modify(slow(0, 4*time.Second), func(f *media.Frame) { f.Duration = 0 }),
			[]time.Duration{0}},
		{"a keyframe every 4 s, with a duration of 40 ms",
			modify(slow(0, 4*time.Second), func(f *media.Frame) { f.Duration = 40 * ms }), []time.Duration{0}},
		{"a keyframe every 4 s, with audio", interleave(slow(0, 4*time.Second), audio(0, long)), []time.Duration{0}},
		{"a keyframe every 20 s", slow(0, 20*time.Second), []time.Duration{0}},
		{"a frame every second, a keyframe every 4 s", video(0, long, time.Second, 4*time.Second), []time.Duration{0}},
		{"2 fps", video(0, long, 500*ms, 2*time.Second), []time.Duration{500 * ms}},
		{"25 fps, then a keyframe every 4 s",
			slices.Concat(video(0, 6*time.Second, 40*ms, 2*time.Second), slow(6*time.Second, 4*time.Second)),
			[]time.Duration{200 * ms, 0}},
		{"a keyframe every 4 s, then 25 fps",
			slices.Concat(slow(0, 4*time.Second), video(long, long+20*time.Second, 40*ms, 2*time.Second)),
			[]time.Duration{0, 200 * ms}},
		{"25 fps, then a keyframe every 4 s, then 25 fps", slices.Concat(video(0, 6*time.Second, 40*ms, 2*time.Second),
			slow(6*time.Second, 4*time.Second),
			video(6*time.Second+long, 20*time.Second+long, 40*ms, 2*time.Second)), []time.Duration{200 * ms, 0, 200 * ms}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := New(7, Options{Part: 200 * ms})
			var targets []time.Duration
			var wrong int
			for _, f := range tt.frames {
				s.Write(f)
				s.Flush()
				l := s.List()
				if !l.Ready {
					continue
				}
				if n := len(targets); n == 0 || targets[n-1] != l.PartTarget {
					targets = append(targets, l.PartTarget)
				}
				text := playlistText(t, l, FMP4)
				if l.PartTarget == 0 && (strings.Contains(text, "PART") || strings.Contains(text, "CAN-BLOCK")) {
					t.Fatalf("playlist without a part target has low-latency tags\n%s", text)
				}
				if l.PartTarget > 0 {
					for _, p := range l.newest().parts {
						if p.duration > l.PartTarget {
							wrong++
						}
					}
				}
			}
			if !slices.Equal(targets, tt.want) || wrong > 0 {
				t.Errorf("part targets %v, want %v; %d parts exceed the target", targets, tt.want, wrong)
			}
		})
	}
}

// TestPartsHaveChangedTracks changes both tracks where the first new picture comes later than a part
// after the first new audio: the parts of the segment that starts there have the new pictures.
func TestPartsHaveChangedTracks(t *testing.T) {
	frames := slices.Concat(
		interleave(video(0, 3*time.Second, 40*ms, 2*time.Second), audio(0, 3*time.Second)),
		modify(audio(3*time.Second, 3020*ms), changeAudio),
		modify(video(3600*ms, 6*time.Second, 40*ms, 2*time.Second), changeVideo))
	for _, seg := range writeAll(t, New(7, Options{Part: 200 * ms}), frames) {
		for _, p := range seg.parts {
			if len(p.data()) == 0 {
				t.Errorf("part %s with %d frames from %v on is empty", p.name, len(p.frames), p.frames[0].DTS)
			}
		}
	}
}

// TestSegmentsHaveChangedTracks is the same where the first new picture starts a segment, and nothing of
// the segment before, which has audio only, was complete.
func TestSegmentsHaveChangedTracks(t *testing.T) {
	changed := modify(audio(3*time.Second, 8*time.Second), changeAudio)
	frames := slices.Concat(
		interleave(video(0, 3*time.Second, 40*ms, 2*time.Second), audio(0, 3*time.Second)),
		interleave(changed, modify(video(4500*ms, 8*time.Second, 40*ms, 2*time.Second), changeVideo)))
	for _, part := range []time.Duration{0, 200 * ms} {
		for _, seg := range writeAll(t, New(7, Options{Part: part}), frames) {
			if len(seg.data(FMP4)) == 0 || len(seg.data(TS)) == 0 {
				t.Errorf("segment %s with %d frames is empty", seg.name, len(seg.frames))
			}
			for _, f := range seg.frames {
				if !seg.trackSet.tracks[FMP4].contains(f) {
					t.Errorf("segment %s has a frame at %v of another track", seg.name, f.DTS)
					break
				}
			}
		}
	}
}
