package segment

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"
)

// TestLowLatencyPlaylist checks the playlists of a stream after every frame.
func TestLowLatencyPlaylist(t *testing.T) {
	s := New(40, Options{Part: 200 * ms})
	frames := interleave(video(0, 5*time.Second, 40*ms, 2*time.Second), audio(0, 5*time.Second))
	var hint string
	for _, f := range frames {
		s.Write(f)
		s.Flush()
		l := s.List()
		if !l.Ready {
			continue
		}
		if hint != "" && !l.IsPreloadHint(hint) {
			if f := l.File(hint); f.Data() == nil {
				t.Fatalf("preload hint %s never became a part", hint)
			}
		}
		p, err := l.Playlist(FMP4, false)
		if err != nil {
			t.Fatal(err)
		}
		_, after, ok := strings.Cut(string(p.Body), `#EXT-X-PRELOAD-HINT:TYPE=PART,URI="`)
		hint, _, _ = strings.Cut(after, `"`)
		if !ok || !l.IsPreloadHint(hint) {
			t.Fatalf("no preload hint in\n%s", p.Body)
		}
	}
	l := s.List()
	p, err := l.Playlist(FMP4, false)
	if err != nil {
		t.Fatal(err)
	}
	init := l.newest().trackSet.initName
	want := `#EXTM3U
#EXT-X-VERSION:9
#EXT-X-INDEPENDENT-SEGMENTS
#EXT-X-TARGETDURATION:2
#EXT-X-SERVER-CONTROL:CAN-BLOCK-RELOAD=YES,PART-HOLD-BACK=0.60000,CAN-SKIP-UNTIL=12.00000
#EXT-X-PART-INF:PART-TARGET=0.20000
#EXT-X-MEDIA-SEQUENCE:40
#EXT-X-DISCONTINUITY-SEQUENCE:40
#EXT-X-MAP:URI="` + init + `.mp4"
#EXT-X-PROGRAM-DATE-TIME:2026-01-02T03:04:05.000Z
#EXT-X-PART:DURATION=0.20000,URI="40-0.0.m4s",INDEPENDENT=YES
#EXT-X-PART:DURATION=0.20000,URI="40-0.1.m4s"
#EXT-X-PART:DURATION=0.20000,URI="40-0.2.m4s"
#EXT-X-PART:DURATION=0.20000,URI="40-0.3.m4s"
#EXT-X-PART:DURATION=0.20000,URI="40-0.4.m4s"
#EXT-X-PART:DURATION=0.20000,URI="40-0.5.m4s"
#EXT-X-PART:DURATION=0.20000,URI="40-0.6.m4s"
#EXT-X-PART:DURATION=0.20000,URI="40-0.7.m4s"
#EXT-X-PART:DURATION=0.20000,URI="40-0.8.m4s"
#EXT-X-PART:DURATION=0.20000,URI="40-0.9.m4s"
#EXTINF:2.00000,
40-0.m4s
`
	if got := string(p.Body); !strings.HasPrefix(got, want) || !strings.HasSuffix(got, `
40-2000.m4s
#EXT-X-PROGRAM-DATE-TIME:2026-01-02T03:04:09.000Z
#EXT-X-PART:DURATION=0.20000,URI="40-4000.0.m4s",INDEPENDENT=YES
#EXT-X-PART:DURATION=0.20000,URI="40-4000.1.m4s"
#EXT-X-PART:DURATION=0.20000,URI="40-4000.2.m4s"
#EXT-X-PART:DURATION=0.20000,URI="40-4000.3.m4s"
#EXT-X-PRELOAD-HINT:TYPE=PART,URI="40-4000.4.m4s"
`) {
		t.Errorf("playlist\n%s", got)
	}
	z, err := gzip.NewReader(bytes.NewReader(p.Gzip()))
	if err != nil {
		t.Fatal(err)
	}
	if b, err := io.ReadAll(z); err != nil || !bytes.Equal(b, p.Body) {
		t.Errorf("decompressed playlist\n%s", b)
	}
}

// TestDeltaUpdateSkipsOldSegments checks that segments older than six target durations are skipped.
func TestDeltaUpdateSkipsOldSegments(t *testing.T) {
	s := New(40, Options{Part: 200 * ms})
	for _, f := range video(0, 19*time.Second, 40*ms, 2*time.Second) {
		s.Write(f)
	}
	s.Flush()
	l := s.List()
	whole, err := l.Playlist(FMP4, false)
	if err != nil {
		t.Fatal(err)
	}
	delta, err := l.Playlist(FMP4, true)
	if err != nil {
		t.Fatal(err)
	}
	// 8 segments from 2 to 18 s, and parts to 18.8 s: six targets before that is 6.8 s.
	head, rest, ok := strings.Cut(string(delta.Body), "#EXT-X-SKIP:SKIPPED-SEGMENTS=2\n")
	if !ok || !strings.HasPrefix(string(whole.Body), head) || !strings.HasSuffix(string(whole.Body), rest) ||
		delta.ETag == whole.ETag || strings.Contains(rest, "MAP") {
		t.Errorf("delta update\n%s", delta.Body)
	}
	if n := strings.Count(string(whole.Body), "#EXTINF") - strings.Count(rest, "#EXTINF"); n != 2 {
		t.Errorf("%d segments are skipped", n)
	}
}

func TestBlockingReloadConditions(t *testing.T) {
	s := New(40, Options{Part: 200 * ms})
	for _, f := range video(0, 5*time.Second, 40*ms, 2*time.Second) {
		s.Write(f)
	}
	s.Flush() // segments 40 and 41, four parts of 42
	for _, tt := range []struct {
		msn          uint64
		part         int
		has, tooSoon bool
	}{
		{39, -1, true, false},
		{41, -1, true, false},
		{41, 9, true, false},
		{41, 10, true, false}, // is part 0 of 42
		{42, 3, true, false},
		{42, 4, false, false},
		{42, 18, false, false},
		{42, 19, false, true},
		{42, -1, false, false},
		{43, 0, false, false},
		{43, -1, false, false},
		{44, -1, false, true},
		{1 << 63, 0, false, true},
	} {
		if l := s.List(); l.Has(FMP4, tt.msn, tt.part) != tt.has || l.TooFarAhead(tt.msn, tt.part) != tt.tooSoon {
			t.Errorf("segment %d, part %d: Has is %v, TooFarAhead is %v", tt.msn, tt.part, l.Has(FMP4, tt.msn, tt.part),
				l.TooFarAhead(tt.msn, tt.part))
		}
	}
	s.End()
	if l := s.List(); !l.Has(FMP4, 43, 0) {
		t.Error("a reload waits for a segment that will not come")
	}
}

// TestSegmentLineComesWithNextPart checks what hls.js needs of playlists with parts: a segment gets
// its own line only after all its parts were in a playlist. A reload that waits for a segment gets
// its line.
func TestSegmentLineComesWithNextPart(t *testing.T) {
	const long = 40 * time.Second
	for _, gop := range []time.Duration{400 * ms, 2 * time.Second, 5 * time.Second, 10 * time.Second} {
		for _, partTarget := range []time.Duration{100 * ms, 200 * ms, 330 * ms} {
			t.Run(fmt.Sprintf("%v/%v", gop, partTarget), func(t *testing.T) {
				s := New(40, Options{Part: partTarget})
				seen := map[string]bool{} // parts
				closed := uint64(0)
				for _, f := range interleave(videoFPS(25, long, gop, 0), aacAt(long)) {
					s.Write(f)
					s.Flush()
					l := s.List()
					if !l.Ready {
						continue
					}
					text := playlistText(t, l, FMP4)
					newest := l.newest()
					first := newest.sequence == 40
					listed := strings.Contains(text, "\n"+newest.name+extPart+"\n")
					if listed != l.Has(FMP4, newest.sequence, -1) {
						t.Fatalf("segment %d is listed: %v, a reload that waits for it returns: %v", newest.sequence, listed, !listed)
					}
					if !l.Has(TS, newest.sequence, -1) || !strings.Contains(playlistText(t, l, TS), newest.name+extTS) {
						t.Fatalf("segment %d is not in the MPEG-TS playlist", newest.sequence)
					}
					if listed {
						closed = newest.sequence
					}
					for _, p := range newest.parts {
						if listed && !first && !seen[p.name] {
							t.Fatalf("part %s is first listed with the line of its segment:\n%s", p.name, text)
						}
						if seen[p.name] = true; !strings.Contains(text, `"`+p.name+extPart+`"`) {
							t.Fatalf("part %s is not listed in\n%s", p.name, text)
						}
					}
					for _, p := range l.parts {
						seen[p.name] = true
					}
					if len(l.parts) > 0 && !listed {
						t.Fatalf("a part follows a segment without a line:\n%s", text)
					}
				}
				s.End()
				if l := s.List(); !strings.Contains(playlistText(t, l, FMP4), "\n"+l.newest().name+extPart+"\n#EXT-X-ENDLIST") ||
					closed < 43 {
					t.Errorf("at the end, after segment %d was listed:\n%s", closed, playlistText(t, l, FMP4))
				}
			})
		}
	}
}

// TestLastPartsPrecedeSegmentLine ends a stream, holds it and changes its tracks: the last parts of
// a segment are in a playlist before the segment has a line, and an ended playlist has no parts.
func TestLastPartsPrecedeSegmentLine(t *testing.T) {
	const long = 5*time.Second + 280*ms // not a whole number of parts
	frames := interleave(videoFPS(25, long, 2*time.Second, 0), aacAt(long))
	write := func() (*Segmenter, map[string]bool) {
		s, seen := New(40, Options{Part: 200 * ms}), map[string]bool{}
		for _, f := range frames {
			s.Write(f)
			s.Flush()
			recordListedParts(t, s.List(), seen)
		}
		return s, seen
	}
	check := func(t *testing.T, s *Segmenter, seen map[string]bool) {
		t.Helper()
		newest := s.List().newest()
		for _, p := range newest.parts {
			if !seen[p.name] {
				t.Errorf("part %s was not listed before the line of its segment:\n%s", p.name, playlistText(t, s.List(), FMP4))
			}
		}
		plain, _ := write()
		plain.End()
		if want := plain.List().newest(); newest.duration != want.duration || len(newest.parts) != len(want.parts) ||
			!bytes.Equal(newest.data(FMP4), want.data(FMP4)) {
			t.Errorf("the last segment lasts %v and has %d parts, want %v and %d", newest.duration, len(newest.parts),
				want.duration,
				len(want.parts))
		}
	}
	finish := func(t *testing.T, s *Segmenter, seen map[string]bool) {
		t.Helper()
		if wait := s.Finish(); wait != 400*ms {
			t.Fatalf("Finish returned %v", wait)
		}
		text := recordListedParts(t, s.List(), seen)
		if strings.Contains(text, "\n"+s.segment.name+extPart) || strings.Contains(text, "PRELOAD-HINT") ||
			strings.Contains(text, "ENDLIST") {
			t.Fatalf("playlist after Finish:\n%s", text)
		}
		if wait := s.Finish(); wait != 0 {
			t.Fatalf("Finish without new parts returned %v", wait)
		}
	}
	t.Run("end", func(t *testing.T) {
		s, seen := write()
		finish(t, s, seen)
		s.End()
		check(t, s, seen)
		if text := playlistText(t, s.List(), FMP4); strings.Contains(text, "EXT-X-PART:") ||
			!strings.Contains(text, "EXT-X-PART-INF") {
			t.Errorf("at the end:\n%s", text)
		}
	})
	t.Run("pause", func(t *testing.T) {
		s, seen := write()
		finish(t, s, seen)
		s.Pause()
		check(t, s, seen)
		line := "\n" + s.List().newest().name + extPart + "\n"
		for _, f := range videoFPS(25, time.Second, 2*time.Second, 0) {
			f.DTS, f.PTS = f.DTS+long, f.PTS+long
			setDiscontinuity(f, 1)
			s.Write(f)
			if s.Flush(); !strings.Contains(playlistText(t, s.List(), FMP4), line) {
				t.Fatalf("a segment has lost its line:\n%s", playlistText(t, s.List(), FMP4))
			}
		}
	})
	t.Run("frame after finish", func(t *testing.T) {
		s, seen := write()
		finish(t, s, seen)
		late := videoFPS(25, time.Second, 2*time.Second, 0)[0]
		late.DTS, late.PTS = long, long
		s.Write(late)
		if check(t, s, seen); !s.segment.discontinuity {
			t.Error("the segment after Finish is not discontinuous")
		}
	})
	t.Run("discontinuity", func(t *testing.T) {
		s, seen := write()
		for _, f := range videoFPS(25, time.Second, 2*time.Second, 0) {
			f.DTS, f.PTS = f.DTS+long, f.PTS+long
			setDiscontinuity(f, 1)
			s.Write(f)
			s.Flush()
			if s.List().newest().sequence == s.List().open.sequence-1 && s.List().open.discontinuity {
				break
			}
			recordListedParts(t, s.List(), seen)
		}
		text := recordListedParts(t, s.List(), seen)
		check(t, s, seen)
		if newest := s.List().newest(); strings.Contains(text, "\n"+newest.name+extPart) ||
			strings.Contains(text, "PRELOAD-HINT") {
			t.Errorf("the segment before the discontinuity got its line with its last part:\n%s", text)
		}
	})
}

// recordListedParts returns the playlist of l and adds the parts that it lists to seen.
func recordListedParts(t *testing.T, l *List, seen map[string]bool) string {
	t.Helper()
	if !l.Ready {
		return ""
	}
	text := playlistText(t, l, FMP4)
	for part := range strings.SplitSeq(text, "#EXT-X-PART:") {
		if _, uri, ok := strings.Cut(part, `URI="`); ok {
			name, _, _ := strings.Cut(uri, extPart)
			seen[name] = true
		}
	}
	return text
}
