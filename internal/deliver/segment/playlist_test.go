package segment

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"livego/internal/media"
)

func TestPlaylist(t *testing.T) {
	s := New(40, Options{})
	writeAll(t, s, slices.Concat(video(0, 3*time.Second, 40*ms, 2*time.Second),
		modify(video(3*time.Second, 5*time.Second, 40*ms, 2*time.Second), markDiscontinuous)))
	want := `#EXTM3U
#EXT-X-VERSION:3
#EXT-X-INDEPENDENT-SEGMENTS
#EXT-X-TARGETDURATION:2
#EXT-X-MEDIA-SEQUENCE:40
#EXT-X-DISCONTINUITY-SEQUENCE:40
#EXT-X-PROGRAM-DATE-TIME:2026-01-02T03:04:05.000Z
#EXTINF:2.00000,
40-0.ts
#EXT-X-PROGRAM-DATE-TIME:2026-01-02T03:04:07.000Z
#EXTINF:1.00000,
40-2000.ts
#EXT-X-DISCONTINUITY
#EXT-X-PROGRAM-DATE-TIME:2026-01-02T03:04:08.000Z
#EXTINF:2.00000,
40-3000.ts
#EXT-X-ENDLIST
`
	l := s.List()
	if diff := cmp.Diff(want, tsPlaylistText(t, l)); diff != "" {
		t.Errorf("playlist (-want +got):\n%s", diff)
	}
	v, a := l.Tracks(TS)
	if peak, average := l.Bitrates(TS); v != h264 || a != nil || peak < average || average == 0 {
		t.Errorf("list has video %v, audio %v, peak %d, average %d", v, a, peak, average)
	}
}

func TestPlaylistWindow(t *testing.T) {
	s := New(0, Options{})
	var frames []*media.Frame
	for i := range time.Duration(60) { // a discontinuity every 4 s
		frames = append(frames, modify(video(i*4*time.Second, (i+1)*4*time.Second, 40*ms, 2*time.Second),
			func(f *media.Frame) { setDiscontinuity(f, uint32(i)) })...)
	}
	left := map[string]int{} // index of the frame at which a segment left the playlist
	var first *segment
	for i, f := range frames {
		s.Write(f)
		l := s.List()
		cur := l.current()
		if len(cur) == 0 {
			continue
		}
		tsPlaylistText(t, l) // a segment in no rendered playlist is dropped at once
		if first != nil && cur[0] != first {
			left[first.name] = i
		}
		first = cur[0]
		if n := len(cur); n > 8 || n < 8 && cur[0].sequence > 0 {
			t.Fatalf("%d segments in the playlist, want 8", n)
		}
		for name, at := range left {
			if gone := time.Duration(i-at) * 40 * ms; gone <= 18*time.Second && l.segment(name) == nil {
				t.Fatalf("segment %s was dropped within %v after it left the playlist", name, gone)
			} else if gone > 40*time.Second && l.segment(name) != nil {
				t.Fatalf("segment %s is still kept %v after it left the playlist", name, gone)
			}
		}
		tags := fmt.Sprintf("#EXT-X-DISCONTINUITY-SEQUENCE:%d\n", cur[0].sequence/2-b2u(cur[0].discontinuity))
		if n := cur[0].sequence/2 - b2u(cur[0].discontinuity); n > 0 && !strings.Contains(tsPlaylistText(t, l), tags) {
			t.Fatalf("playlist lacks %q:\n%s", tags, tsPlaylistText(t, l))
		}
	}
}

func b2u(b bool) uint64 {
	if b {
		return 1
	}
	return 0
}

// addQueryByParsing adds a query to the URIs of a playlist, which it finds in the text.
func addQueryByParsing(playlist, query string) []byte {
	var out strings.Builder
	for line := range strings.Lines(playlist) {
		if before, rest, ok := strings.Cut(line, `URI="`); ok {
			uri, after, _ := strings.Cut(rest, `"`)
			line = before + `URI="` + uri + "?" + query + `"` + after
		} else if line[0] != '#' {
			line = strings.TrimSuffix(line, "\n") + "?" + query + "\n"
		}
		out.WriteString(line)
	}
	return []byte(out.String())
}

// TestQueryIsAddedToEveryURI compares playlists with a query to the result of a parser.
func TestQueryIsAddedToEveryURI(t *testing.T) {
	for _, tt := range segmentationCases {
		s := New(7, Options{Part: 200 * ms})
		for _, f := range tt.frames {
			s.Write(f)
			s.Flush()
			l := s.List()
			for f := range formats {
				for _, delta := range []bool{false, true} {
					p, err := l.Playlist(f, delta)
					if err != nil {
						t.Fatal(err)
					}
					if p == nil {
						continue
					}
					if got, want := string(p.WithQuery("s=a_b")), string(addQueryByParsing(string(p.Body), "s=a_b")); got != want {
						t.Fatalf("%s: playlist with a query\n%s\nwant\n%s", tt.name, got, want)
					}
				}
			}
		}
	}
}

// longPlaylist returns the playlist of a low-latency stream with as many segments as it lists, and a
// query as long as that of a private room.
func longPlaylist(t testing.TB) (p *Playlist, query string) {
	s := New(7, Options{Part: 200 * ms})
	for _, f := range interleave(video(0, 20*time.Second, 40*ms, 2*time.Second), audio(0, 20*time.Second)) {
		s.Write(f)
	}
	s.Flush()
	p, err := s.List().Playlist(FMP4, false)
	if err != nil {
		t.Fatal(err)
	}
	return p, "s=" + strings.Repeat("x", 60)
}

// TestWithQueryAllocatesOnce checks what the playlist of a private room costs for each viewer.
func TestWithQueryAllocatesOnce(t *testing.T) {
	p, query := longPlaylist(t)
	if n := testing.AllocsPerRun(100, func() { p.WithQuery(query) }); n > 1 {
		t.Errorf("%v allocations", n)
	}
}

// BenchmarkWithQuery measures the playlist of a private room for one viewer, and the same by a parser.
func BenchmarkWithQuery(b *testing.B) {
	p, query := longPlaylist(b)
	b.Run("offsets", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			p.WithQuery(query)
		}
	})
	b.Run("parser", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			addQueryByParsing(string(p.Body), query)
		}
	})
}

// TestSegmentsStayAvailable generates streams with segments of many durations. After it has left the
// playlist, a segment is available for its own duration and that of the longest playlist that listed
// it (RFC 8216 section 6.2.2).
func TestSegmentsStayAvailable(t *testing.T) {
	for seed := range uint64(16) {
		g := &generator{rnd: rand.New(rand.NewPCG(seed, 16)), video: h264, audio: aac}
		p := programmer{trackWait: 2 * time.Second}
		s := New(7, Options{Part: 200 * ms})
		longest, until := map[*segment]time.Duration{}, map[*segment]time.Duration{}
		var seen *List
		var end time.Duration // of the media in complete segments
		var newest uint64     // sequence number of the last of them
		for stretch := range 6 {
			for _, f := range g.stretch(stretch == 0) {
				p.set(f)
				s.Write(f)
				s.Flush()
				l := s.List()
				if !l.Ready || l == seen {
					continue
				}
				seen = l
				tsPlaylistText(t, l)     // a segment in no rendered playlist is dropped at once
				left := time.Duration(0) // when segments left the playlist: one call may complete several
				for _, seg := range l.segments {
					if seg.sequence > newest {
						newest, end = seg.sequence, end+seg.duration
						if left == 0 {
							left = end
						}
					}
				}
				now, listed := end+l.openDuration(), l.Duration()+l.openDuration()
				current := map[*segment]bool{}
				for _, seg := range l.current() {
					current[seg], longest[seg] = true, max(longest[seg], listed)
				}
				for seg, d := range longest {
					if !current[seg] && until[seg] == 0 {
						until[seg] = left + seg.duration + d
					}
					if until[seg] > now && l.segment(seg.name) != seg {
						t.Fatalf("stream %d: segment %s of %v, which a playlist of %v listed, was dropped %v too soon", seed, seg.name,
							seg.duration, d, until[seg]-now)
					}
				}
			}
		}
	}
}
