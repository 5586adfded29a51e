package segment

import (
	"bytes"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"livego/internal/media"
)

// writeAll writes frames to a Segmenter, with a pause before each of pauses, and returns all
// segments.
func writeAll(t testing.TB, s *Segmenter, frames []*media.Frame, pauses ...*media.Frame) []*segment {
	t.Helper()
	programs := programmer{trackWait: s.opt.TrackWait}
	var all []*segment
	var seen *List
	changes := 0                // since a playlist was checked
	lines := lastLine(s.List()) // the highest media sequence number that has had its line
	look := func() {
		t.Helper()
		if s.List() == seen {
			return
		}
		seen = s.List()
		if last := lastLine(seen); last < lines {
			t.Fatalf("the playlist ends with segment %d, and ended with %d before", last, lines)
		} else {
			lines = last
		}
		fresh := len(seen.segments)
		for fresh > 0 && (len(all) == 0 || seen.segments[fresh-1].sequence > all[len(all)-1].sequence) {
			fresh--
		}
		all = append(all, seen.segments[fresh:]...)
		// Long lists, as only the fuzzer makes them, are not checked at every change: all checks
		// together take time in proportion to the number of frames.
		const often = 32
		if changes++; changes*often >= len(seen.segments) || seen.Ended {
			checkPlaylist(t, seen)
			changes = 0
		}
	}
	for _, f := range frames {
		if len(pauses) > 0 && pauses[0] == f { // pauses are in order
			pauses = pauses[1:]
			s.Finish()
			look()
			s.Pause()
			look()
		}
		programs.set(f)
		s.Write(f)
		s.Flush()
		look()
	}
	s.Finish()
	look()
	s.End()
	look()
	return all
}

// lastLine returns the media sequence number of the last segment that has a line in the playlist of
// fragmented MP4, 0 when none has.
func lastLine(l *List) uint64 {
	switch {
	case !l.Ready:
		return 0
	case l.newestByPartsOnly(FMP4):
		return l.newest().sequence - 1
	}
	return l.newest().sequence
}

// checkSegments checks what holds for all segments: every frame is in one of them, in order,
// numbers have no gaps, and times add up.
func checkSegments(t testing.TB, segs []*segment, frames []*media.Frame) {
	t.Helper()
	names := map[string]bool{}
	var got []*media.Frame
	for i, s := range segs {
		got = append(got, s.frames...)
		if names[s.name] {
			t.Errorf("name %s was used twice", s.name)
		}
		names[s.name] = true
		if s.duration <= 0 {
			t.Errorf("segment %s lasts %v", s.name, s.duration)
		}
		if len(s.frames) == 0 {
			t.Errorf("segment %s is empty", s.name)
		}
		checkParts(t, s)
		if i == 0 {
			continue
		}
		last := segs[i-1]
		if s.sequence != last.sequence+1 {
			t.Errorf("sequence number %d follows %d", s.sequence, last.sequence)
		}
		if discs := last.discontinuitySequence; s.discontinuity && s.discontinuitySequence != discs+1 || !s.discontinuity &&
			s.discontinuitySequence != discs {
			t.Errorf("discontinuity sequence number %d follows %d, discontinuity %v", s.discontinuitySequence, discs,
				s.discontinuity)
		}
		if want := last.date.Add(last.duration); !s.discontinuity && !s.date.Equal(want) {
			t.Errorf("segment %s starts at %v, the one before ends at %v", s.name, s.date, want)
		}
	}
	if err := checkFrames(got, frames); err != nil {
		t.Error(err)
	}
}

// checkFrames checks that segments have all written frames in order, except audio of a track that
// has not started yet.
func checkFrames(got, frames []*media.Frame) error {
	var sound *media.Track // the last one in a segment
	n := 0
	for i, f := range frames {
		if i > 0 && f.Program.Discontinuity != frames[i-1].Program.Discontinuity {
			sound = nil
		}
		switch {
		case n < len(got) && got[n] == f:
			if n++; f.Track.Kind == media.Audio {
				sound = f.Track
			}
		case f.Track.Kind != media.Audio || f.Track == sound:
			return fmt.Errorf("frame %d of %d at %v is in no segment or out of order", i, len(frames), f.DTS)
		}
	}
	if n < len(got) {
		return fmt.Errorf("%d frames in segments, only %d of them in the order written", len(got), n)
	}
	return nil
}

// checkParts checks what holds for every segment: its parts have its frames in order and its
// duration, and are named and flagged correctly.
func checkParts(t testing.TB, s *segment) {
	t.Helper()
	var frames []*media.Frame
	var lasts time.Duration
	for i, p := range s.parts {
		frames = append(frames, p.frames...)
		lasts += p.duration
		if p.name != fmt.Sprintf("%s.%d", s.name, i) || len(p.frames) == 0 || p.duration <= 0 {
			t.Errorf("part %d of %s is named %s, has %d frames and lasts %v", i, s.name, p.name, len(p.frames), p.duration)
		}
		var pictures []*media.Frame
		for _, f := range p.frames {
			if f.Track.Kind == media.Video {
				pictures = append(pictures, f)
			}
		}
		if len(pictures) > 0 && p.independent != (pictures[0].RAP == media.Keyframe) {
			t.Errorf("part %s: independent is %v, its first picture has RAP %v", p.name, p.independent, pictures[0].RAP)
		}
	}
	if !slices.Equal(frames, s.frames) || lasts != s.duration {
		t.Errorf("the parts of %s have %d frames and last %v, the segment has %d and lasts %v", s.name, len(frames), lasts,
			len(s.frames), s.duration)
	}
}

// checkPlaylist checks the rules of RFC 8216 that apply to a single playlist.
func checkPlaylist(t testing.TB, l *List) {
	t.Helper()
	if !l.Ready {
		return
	}
	for _, s := range l.current() {
		if s.duration.Round(time.Second) > l.Target {
			t.Fatalf("segment %s lasts %v, the target duration is %v", s.name, s.duration, l.Target)
		}
	}
	for f := range formats {
		p, err := l.Playlist(f, false)
		if err != nil {
			t.Fatal(err)
		}
		if l.Ended != bytes.Contains(p.Body, []byte("#EXT-X-ENDLIST")) {
			t.Fatalf("Ended is %v, playlist\n%s", l.Ended, p.Body)
		}
	}
}

func formatDurations(segs []*segment) string {
	var out []string
	for _, s := range segs {
		mark := ""
		if s.discontinuity {
			mark = "|"
		}
		out = append(out, mark+strconv.FormatFloat(s.duration.Round(ms).Seconds(), 'g', -1, 64))
	}
	return strings.Join(out, " ")
}

// tsPlaylistText returns the media playlist of MPEG-TS.
func tsPlaylistText(t testing.TB, l *List) string {
	t.Helper()
	p, err := l.Playlist(TS, false)
	if err != nil {
		t.Fatal(err)
	}
	if p == nil {
		return ""
	}
	return string(p.Body)
}

func playlistText(t *testing.T, l *List, f Format) string {
	t.Helper()
	p, err := l.Playlist(f, false)
	if err != nil {
		t.Fatal(err)
	}
	return string(p.Body)
}
