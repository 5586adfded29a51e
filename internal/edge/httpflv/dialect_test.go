package httpflv

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"slices"
	"testing"

	"livego/internal/container/flv"
	"livego/internal/media"
	"livego/internal/stream"
)

// TestDialects: viewers that ask for all tracks, or for the legacy form of HEVC, over HTTP and
// WebSocket.
func TestDialects(t *testing.T) {
	hevc := &media.Track{Kind: media.Video, Codec: media.HEVC, Timescale: 90000, Config: []byte("c"),
		ColorInfo: []byte("colours")}
	second := &media.Track{ID: 2, Kind: media.Audio, Codec: media.AAC, Timescale: 44100, Config: []byte("d")}
	for _, tt := range []struct {
		query string
		want  []string // bodies of media tags
	}{
		{"", []string{"\x90hvc1c", "\xaf\x00\x12\x10", "\x93hvc1key", "\xaf\x01a0"}},
		{"?hevc=12", []string{"\x1c\x00\x00\x00\x00c", "\xaf\x00\x12\x10", "\x1c\x01\x00\x00\x00key", "\xaf\x01a0"}},
		{"?tracks=all", []string{"\x90hvc1c", "\xd4hvc1colours", "\xaf\x00\x12\x10", "\x95\x00mp4a\x02d", "\x93hvc1key",
			"\xaf\x01a0", "\x95\x01mp4a\x02b0"}},
		{"?hevc=7&tracks=2", []string{"\x90hvc1c", "\xaf\x00\x12\x10", "\x93hvc1key", "\xaf\x01a0"}},
	} {
		t.Run(tt.query, func(t *testing.T) {
			hub, srv := newTestServer(t, false)
			p := publish(t, hub)
			for _, f := range []*media.Frame{video(0, "key", true), audio(0, "a0"), audio(0, "b0")} {
				switch string(f.Payload) {
				case "key":
					f.Track, f.PTS = hevc, f.DTS
				case "b0":
					f.Track = second
				}
				p.Write(f)
			}
			byHTTP := bufio.NewReader(get(t, srv, "GET", "/live/movie.flv"+tt.query).Body)
			if _, err := byHTTP.Peek(1); err != nil {
				t.Fatal(err)
			}
			bySocket := dial(t, srv, "/live/movie.flv"+tt.query)
			first := readBinary(t, bySocket)
			p.End(stream.Clean)
			more, _ := readToClose(t, bySocket)
			for name, r := range map[string]io.Reader{"HTTP": byHTTP,
				"WebSocket": bytes.NewReader(append(first, more...))} {
				if got := bodies(t, r); !slices.Equal(got, tt.want) {
					t.Errorf("%s: %q, want %q", name, got, tt.want)
				}
			}
		})
	}
}

// bodies returns the bodies of all audio and video tags.
func bodies(t *testing.T, r io.Reader) (bodies []string) {
	t.Helper()
	for tags := flv.NewReader(r, 1<<20); ; {
		tag, err := tags.Next()
		switch {
		case errors.Is(err, io.EOF):
			return bodies
		case err != nil:
			t.Fatal(err)
		case tag.Type != flv.TypeScriptData:
			bodies = append(bodies, string(tag.Body))
		}
	}
}
