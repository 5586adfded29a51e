package probe

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"livego/internal/container/flv"
	"livego/internal/source"
)

// minute returns an FLV file of a minute, whose audio has sound outside of two times, and whose frames
// of video are late by late(n) ms.
func minute(silentFrom, silentTo uint32, late func(n int) uint32) []byte {
	b := flv.FileHeader(true, true)
	b = flv.AppendTag(b, flv.TypeVideo, 0, []byte("\x17\x00\x00\x00\x00"+avcC))
	b = flv.AppendTag(b, flv.TypeAudio, 0, []byte("\xAF\x00\x12\x10"))
	sound := 0
	for n := range 60 * 25 {
		at := uint32(40 * n)
		body := "\x27\x01\x00\x00\x00\x00\x00\x00\x02\x41\x9A"
		if n%50 == 0 {
			body = "\x17\x01\x00\x00\x00\x00\x00\x00\x02\x65\x88"
		}
		b = flv.AppendTag(b, flv.TypeVideo, at+late(n), []byte(body))
		for ; uint32(sound*1024*10/441) < at+40; sound++ {
			at := uint32(sound * 1024 * 10 / 441)
			frame := "\xAF\x01raw"
			if at < silentFrom || at >= silentTo {
				frame = "\xAF\x01" + strings.Repeat(string(rune('A'+sound%2)), 100)
			}
			b = flv.AppendTag(b, flv.TypeAudio, at, []byte(frame))
		}
	}
	return b
}

// TestFindings checks which problems of a live stream are remarks about a file.
func TestFindings(t *testing.T) {
	onTime := func(int) uint32 { return 0 }
	for _, tt := range []struct {
		name  string
		file  []byte
		codes string
	}{
		{"fine", minute(0, 0, onTime), ""},
		{"silent", minute(0, 60_000, onTime), "silent_audio"},
		{"silent for a while", minute(20_000, 45_000, onTime), ""},
		{"irregular", minute(0, 0, func(n int) uint32 { return uint32(n % 3 * 15) }), "variable_frame_rate"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "film.flv")
			if err := os.WriteFile(path, tt.file, 0o600); err != nil {
				t.Fatal(err)
			}
			s, err := source.Open(path)
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			r, err := Inspect(t.Context(), s, Options{})
			if err != nil {
				t.Fatal(err)
			}
			var codes []string
			for _, m := range r.Remarks {
				codes = append(codes, m.Code)
			}
			if got := strings.Join(codes, " "); got != tt.codes {
				t.Errorf("%q, want %q: %+v", got, tt.codes, r.Remarks)
			}
		})
	}
}
