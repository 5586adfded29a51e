package segment

import (
	"bytes"
	"slices"
	"strings"
	"testing"
	"time"

	"livego/internal/media"
)

func TestSuccessorContinuesPlaylist(t *testing.T) {
	var raised uint64
	first := New(10, Options{MarkUsed: func(n uint64) { raised = n }})
	writeAll(t, first, video(0, 6*time.Second, 40*ms, 2*time.Second))
	if raised != 12 {
		t.Errorf("last number marked as used is %d, want 12", raised)
	}
	second := first.Successor(20)
	if l := second.List(); l.Ready || l.segment("10-2000") == nil {
		t.Errorf("before its first segment the next session has playlist %q, old segment %v", tsPlaylistText(t, l),
			l.segment("10-2000"))
	}
	writeAll(t, second, video(0, 8*time.Second, 40*ms, 4*time.Second))
	l := second.List()
	if got, want := formatDurations(l.current()), "2 2 2 |4 4"; got != want {
		t.Errorf("playlist of %s, want %s", got, want)
	}
	if l.Target != 4*time.Second || l.current()[3].sequence != 13 || l.current()[3].discontinuitySequence != 11 ||
		l.current()[3].name != "20-0" {
		t.Errorf("target %v, first new segment %+v", l.Target, l.current()[3])
	}
	select {
	case <-second.Ready():
	default:
		t.Error("not ready")
	}

	empty := New(30, Options{})
	writeAll(t, empty, nil)
	<-empty.Ready()
	third := empty.Successor(31)
	writeAll(t, third, audio(0, time.Second))
	if got := third.List().current()[0]; got.sequence != 31 || got.discontinuity {
		t.Errorf("after a session without segments: %+v", got)
	}
}

// TestSuccessorAfterPanic continues in the middle of a stream session after a panic, with frames
// that may be known: no name is used twice, and no sequence number is left out.
func TestSuccessorAfterPanic(t *testing.T) {
	broken := false
	s := New(7, Options{MarkUsed: func(uint64) {
		if broken {
			panic("segmenting fails")
		}
	}})
	write := func(s *Segmenter, fs []*media.Frame) {
		for _, f := range fs {
			s.Write(f)
		}
	}
	write(s, video(0, 5*time.Second, 40*ms, 2*time.Second))
	func() {
		defer func() { recover() }()
		broken = true
		write(s, video(5*time.Second, 9*time.Second, 40*ms, 2*time.Second))
	}()
	broken = false
	n := s.Successor(7)
	write(n, video(2*time.Second, 7*time.Second, 40*ms, 2*time.Second))
	n.End()
	l := n.List()
	checkPlaylist(t, l)
	names := map[string]bool{}
	for i, seg := range l.current() {
		if names[seg.name] || seg.sequence != 7+uint64(i) {
			t.Errorf("segment %s has number %d:\n%s", seg.name, seg.sequence, tsPlaylistText(t, l))
		}
		names[seg.name] = true
	}
	if got := formatDurations(l.current()); !strings.HasPrefix(got, "2 2 |") || strings.Count(got, "|") != 1 {
		t.Errorf("segments %s", got)
	}
}

// TestSuccessorWithoutMedia ends a stream session without media: the playlist of the session before
// stays, with its end.
func TestSuccessorWithoutMedia(t *testing.T) {
	first := New(7, Options{Part: 200 * ms})
	writeAll(t, first, video(0, 5*time.Second, 40*ms, 2*time.Second)) // ends it
	s := first.Successor(100)
	if l := s.List(); l.Ready {
		t.Error("ready before the first segment")
	}
	s.End()
	<-s.Ready()
	for f := range formats {
		want, got := playlistText(t, first.List(), f), playlistText(t, s.List(), f)
		if got != want || !strings.Contains(got, "#EXT-X-ENDLIST") {
			t.Errorf("playlist\n%s\nwant\n%s", got, want)
		}
	}
	if none := New(7, Options{}).Successor(100); none.List().Ready {
		t.Error("ready without a segment")
	}
}

// TestSegmenterFromStateIsIdentical gives one Segmenter all frames, and others its state at the start
// of a segment and the frames since then.
func TestSegmenterFromStateIsIdentical(t *testing.T) {
	frames := interleave(videoFPS(30000.0/1001, 30*time.Second, 2*time.Second, 2*ms), audio(0, 30*time.Second))
	frames = slices.Concat(frames,
		modify(interleave(video(30*time.Second, 40*time.Second, 40*ms, 1200*ms), audio(30*time.Second, 40*time.Second)),
			markDiscontinuous))
	var first *Segmenter
	var starts []state
	first = New(7, Options{Part: 200 * ms, MarkUsed: func(sequence uint64) {
		if sequence > 7 && sequence%4 == 3 {
			starts = append(starts, first.state)
		}
	}})
	var late []*Segmenter
	all := func(s *Segmenter, seen []*segment) []*segment {
		for _, seg := range s.List().segments {
			if len(seen) == 0 || seg.sequence > seen[len(seen)-1].sequence {
				seen = append(seen, seg)
			}
		}
		return seen
	}
	var want []*segment
	var got [][]*segment
	for _, f := range frames {
		first.Write(f)
		first.Flush()
		for _, s := range late {
			s.Write(f)
			s.Flush()
		}
		want = all(first, want)
		for n, s := range late {
			got[n] = all(s, got[n])
		}
		if len(starts) > len(late) {
			late, got = append(late, newAtStart(starts[len(late)], Options{Part: 200 * ms}, first.frames)), append(got, nil)
		}
	}
	if len(late) < 4 {
		t.Fatalf("%d segmenters from a state", len(late))
	}
	for n, segs := range got {
		if len(segs) == 0 {
			t.Fatalf("segmenter %d from a state has no segments", n)
		}
		same := want[len(want)-len(segs):]
		for i, s := range segs {
			w := same[i]
			if s.name != w.name || s.sequence != w.sequence || s.discontinuitySequence != w.discontinuitySequence ||
				s.discontinuity != w.discontinuity || s.duration != w.duration || !s.date.Equal(w.date) ||
				s.trackSet.initName != w.trackSet.initName {
				t.Fatalf("segmenter %d from a state: %+v, want %+v", n, s, w)
			}
			if !bytes.Equal(s.data(TS), w.data(TS)) || !bytes.Equal(s.data(FMP4), w.data(FMP4)) || len(s.parts) != len(w.parts) {
				t.Fatalf("segmenter %d from a state: %s has other bytes", n, s.name)
			}
			for j, p := range s.parts {
				if q := w.parts[j]; p.name != q.name || p.duration != q.duration || p.independent != q.independent ||
					!bytes.Equal(p.data(), q.data()) {
					t.Fatalf("segmenter %d from a state: part %s differs", n, p.name)
				}
			}
		}
	}
}

// newAtStart returns a Segmenter that starts with the segment of a state, and has got the frames of
// that segment.
func newAtStart(a state, o Options, frames []*media.Frame) *Segmenter {
	s := New(a.epoch, o)
	s.state = a
	s.nextSequence--
	if a.discontinuous {
		s.discontinuitySequence--
	}
	s.openSegment(frames[0], a.start, a.discontinuous)
	s.state = a
	for i, f := range frames {
		if i == 0 {
			s.add(f)
		} else {
			s.Write(f)
		}
	}
	return s
}
