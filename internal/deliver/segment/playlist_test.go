package segment

import (
	"strings"
	"testing"
	"time"
)

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
