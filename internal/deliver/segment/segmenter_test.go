package segment

import (
	"bytes"
	"slices"
	"testing"
	"time"

	"livego/internal/media"
)

func TestSegmentDurations(t *testing.T) {
	for _, tt := range segmentationCases {
		t.Run(tt.name, func(t *testing.T) {
			s := New(7, Options{})
			all := writeAll(t, s, tt.frames)
			if got := formatDurations(all); got != tt.want {
				t.Errorf("segments %s, want %s", got, tt.want)
			}
			if got := int(s.List().Target / time.Second); got != tt.target {
				t.Errorf("target %d s, want %d s", got, tt.target)
			}
			checkSegments(t, all, tt.frames)
		})
	}
}

// TestPauseKeepsSegments checks that a hold changes only when segments are published, not which.
func TestPauseKeepsSegments(t *testing.T) {
	for _, tt := range segmentationCases {
		t.Run(tt.name, func(t *testing.T) {
			var joins []*media.Frame
			for i, f := range tt.frames {
				// As after every pause.
				if i > 0 && f.Program.Discontinuity != tt.frames[i-1].Program.Discontinuity && f.RAP != media.NoRandomAccess {
					joins = append(joins, f)
				}
			}
			s := New(7, Options{})
			all := writeAll(t, s, tt.frames, joins...)
			if got := formatDurations(all); got != tt.want {
				t.Errorf("segments %s, want %s", got, tt.want)
			}
			checkSegments(t, all, tt.frames)
		})
	}

	t.Run("then end", func(t *testing.T) {
		s := New(7, Options{})
		for _, f := range video(0, 3*time.Second, 40*ms, 2*time.Second) {
			s.Write(f)
		}
		for range 2 {
			s.Pause()
			if l := s.List(); formatDurations(l.current()) != "2 1" || l.Ended {
				t.Errorf("while paused: %s", tsPlaylistText(t, l))
			}
		}
		paused := s.List()
		s.End()
		l := s.List()
		checkPlaylist(t, l)
		if want := tsPlaylistText(t, paused) + "#EXT-X-ENDLIST\n"; tsPlaylistText(t, l) != want || !l.Ended ||
			l.etag(TS, false) == paused.etag(TS, false) || paused.Ended {
			t.Errorf("after the end, tag %q:\n%s", l.etag(TS, false), tsPlaylistText(t, l))
		}
	})
	t.Run("with parts", func(t *testing.T) { // hls.js needs a line after the last segment
		s := New(7, Options{Part: 200 * ms})
		for _, f := range video(0, 3*time.Second, 40*ms, 2*time.Second) {
			s.Write(f)
		}
		s.Pause()
		p, err := s.List().Playlist(FMP4, false)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.HasSuffix(p.Body, []byte(".m4s\n#EXT-X-DISCONTINUITY\n")) {
			t.Errorf("while paused:\n%s", p.Body)
		}
	})
	t.Run("before the first frame", func(t *testing.T) {
		s := New(7, Options{})
		s.Pause()
		s.End()
		if l := s.List(); l.Ready || tsPlaylistText(t, l) != "" {
			t.Errorf("playlist %q", tsPlaylistText(t, l))
		}
	})
}

func TestLongKeyframeInterval(t *testing.T) {
	for _, tt := range []struct {
		name   string
		frames []*media.Frame
		want   time.Duration
	}{
		{"2s", video(0, 20*time.Second, 40*ms, 2*time.Second), 0},
		{"6s", video(0, 20*time.Second, 40*ms, 6*time.Second), 0},
		{"10s", video(0, 25*time.Second, 40*ms, 10*time.Second), 10 * time.Second},
		{"5s after 2s", slices.Concat(video(0, 4*time.Second, 40*ms, 2*time.Second),
			video(4*time.Second, 16*time.Second, 40*ms, 5*time.Second)), 5 * time.Second},
		{"once", slices.Concat(video(0, 4*time.Second, 40*ms, 2*time.Second),
			video(12*time.Second, 20*time.Second, 40*ms, 2*time.Second)), 0},
		{"one keyframe", video(0, 31*time.Second, 40*ms, time.Hour), 30960 * ms},
		{"video stops", interleave(video(0, 4*time.Second, 40*ms, 2*time.Second), audio(0, 60*time.Second)), 0},
		{"audio", audio(0, 60*time.Second), 0},
		{"nothing", nil, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := New(7, Options{})
			writeAll(t, s, tt.frames)
			if got := s.LongKeyframeInterval(); got != tt.want {
				t.Errorf("LongKeyframeInterval is %v, want %v", got, tt.want)
			}
		})
	}
}

// TestFirstPlaylistDelay checks how long the first viewer waits: a GOP, or 400 ms if that is
// longer; with audio only half a segment.
func TestFirstPlaylistDelay(t *testing.T) {
	const long = 20 * time.Second
	for _, tt := range []struct {
		name   string
		frames []*media.Frame
		most   time.Duration
	}{
		{"all keyframes", interleave(video(0, long, 40*ms, 40*ms), audio(0, long)), 400 * ms},
		{"GOP 250ms", interleave(video(0, long, 25*ms, 250*ms), audio(0, long)), 500 * ms},
		{"GOP 500ms", interleave(video(0, long, 25*ms, 500*ms), audio(0, long)), 500 * ms},
		{"GOP 1s", interleave(video(0, long, 40*ms, time.Second), audio(0, long)), time.Second},
		{"GOP 1.5s", interleave(video(0, long, 50*ms, 1500*ms), audio(0, long)), 1500 * ms},
		{"GOP 2s", interleave(video(0, long, 40*ms, 2*time.Second), audio(0, long)), 2 * time.Second},
		{"GOP 4s", video(0, long, 40*ms, 4*time.Second), 4 * time.Second},
		{"GOP 10s", video(0, long, 40*ms, 10*time.Second), 6500 * ms},
		{"audio", audio(0, long), time.Second},
	} {
		for _, part := range []time.Duration{0, 200 * ms} {
			s := New(1, Options{Part: part})
			i := slices.IndexFunc(tt.frames, func(f *media.Frame) bool {
				s.Write(f)
				return s.List().Ready
			})
			if i < 0 || tt.frames[i].DTS > tt.most {
				t.Errorf("%s, parts of %v: frame %d completes the first playlist, want a frame at %v or before", tt.name, part, i,
					tt.most)
			}
		}
	}
}

// TestDateNeverGoesBack continues a stream at a time of arrival before the end of the last segment, as
// after an encoder that sent faster than in real time: in the same session, after a pause, and in the
// session after it.
func TestDateNeverGoesBack(t *testing.T) {
	early := func(f *media.Frame) { f.Arrived = epochTime.Add(f.DTS / 10) }
	later := modify(video(4*time.Second, 8*time.Second, 40*ms, 2*time.Second), early)
	for _, tt := range []struct {
		name string
		next func(s *Segmenter) (*Segmenter, []*media.Frame)
	}{
		{"discontinuity", func(s *Segmenter) (*Segmenter, []*media.Frame) {
			return s, modify(later, markDiscontinuous)
		}},
		{"pause", func(s *Segmenter) (*Segmenter, []*media.Frame) {
			s.Pause()
			return s, later
		}},
		{"session", func(s *Segmenter) (*Segmenter, []*media.Frame) {
			s.End()
			return s.Successor(20), later
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := New(7, Options{})
			for _, f := range modify(video(0, 4*time.Second, 40*ms, 2*time.Second), early) {
				s.Write(f)
			}
			s, frames := tt.next(s)
			for _, f := range frames {
				s.Write(f)
			}
			s.End()
			segs := s.List().current()
			for i := 1; i < len(segs); i++ {
				if end := segs[i-1].date.Add(segs[i-1].duration); segs[i].date.Before(end) {
					t.Errorf("segment %s starts at %v, the one before ends at %v", segs[i].name, segs[i].date, end)
				}
			}
			if len(segs) != 4 || !segs[2].discontinuity {
				t.Errorf("segments %s", formatDurations(segs))
			}
		})
	}
}
