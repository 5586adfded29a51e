package probe

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"livego/internal/container/flv"
	"livego/internal/media"
	"livego/internal/source"
)

const avcC = "\x01\x42\xC0\x0D\xFF\xE1\x00\x15\x67\x42\xC0\x0D\xDA\x05\x07" +
	"\xEC\x04\x40\x00\x00\xFA\x40\x00\x3A\x98\x03\xC5\x0A\xA8\x01\x00\x04\x68\xCE\x0F\xC8"

// A testTag is one tag of a file.
type testTag struct {
	at   uint32
	what byte // K a keyframe, P another picture, A audio, S Sorenson video, V and B sequence headers
}

func flvFile(shots ...testTag) []byte {
	b := flv.FileHeader(true, true)
	for _, s := range shots {
		typ, body := uint8(flv.TypeVideo), ""
		switch s.what {
		case 'V':
			body = "\x17\x00\x00\x00\x00" + avcC
		case 'K':
			body = "\x17\x01\x00\x00\x00\x00\x00\x00\x02\x65\x88"
		case 'P':
			body = "\x27\x01\x00\x00\x00\x00\x00\x00\x02\x41\x9A"
		case 'S':
			body = "\x12\x00\x00"
		case 'B':
			typ, body = flv.TypeAudio, "\xAF\x00\x12\x10"
		case 'A':
			typ, body = flv.TypeAudio, "\xAF\x01raw"
		}
		b = flv.AppendTag(b, typ, s.at, []byte(body))
	}
	return b
}

// regularTags returns audio and video between two times, with a keyframe at every nth picture.
func regularTags(from, to uint32, every int) (shots []testTag) {
	for i := range int(to-from) / 40 {
		what := byte('P')
		if i%every == 0 {
			what = 'K'
		}
		shots = append(shots, testTag{from + uint32(40*i), what}, testTag{from + uint32(40*i), 'A'})
	}
	return shots
}

func withHeaders(more ...testTag) []testTag { return append([]testTag{{0, 'V'}, {0, 'B'}}, more...) }

func TestRemarks(t *testing.T) {
	for _, tt := range []struct {
		name  string
		file  []byte
		codes string
		want  string
	}{
		{"fine", flvFile(withHeaders(regularTags(0, 4000, 50)...)...), "", Fine},
		{"rare keyframes", flvFile(withHeaders(regularTags(0, 12000, 250)...)...), "gop", Playable},
		{"no keyframe", flvFile(withHeaders(testTag{0, 'P'}, testTag{0, 'A'}, testTag{40, 'P'}, testTag{40, 'A'})...),
			"no-key", Unplayable},
		{"late keyframe", flvFile(withHeaders(append([]testTag{{0, 'P'}, {0, 'A'}, {40, 'P'}, {40, 'A'}, {600, 'P'}},
			regularTags(640, 3000, 50)...)...)...), "late-key", Playable},
		{"no audio", flvFile(append([]testTag{{0, 'V'}}, testTag{0, 'K'}, testTag{40, 'P'}, testTag{80, 'P'})...), "no-audio",
			Playable},
		{"timestamp jump", flvFile(withHeaders(append(regularTags(0, 2000, 50), regularTags(5000, 7000, 50)...)...)...),
			"jump jump",
			Playable},
		{"audio starts late", flvFile(append([]testTag{{0, 'V'}, {0, 'K'}, {40, 'P'}, {400, 'P'}, {900, 'P'}, {1000, 'B'}},
			regularTags(1000, 3000, 50)...)...), "offset", Playable},
		{"audio without configuration", flvFile(append([]testTag{{0, 'V'}}, regularTags(0, 4000, 50)...)...),
			"no-audio unusable-track damaged", Playable},
		{"encrypted tag", append(flvFile(withHeaders(regularTags(0, 4000, 50)...)...),
			"\x29\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x0B"...), "damaged", Playable},
		{"zero bytes at the end", append(flvFile(withHeaders(regularTags(0, 4000, 50)...)...), make([]byte, 4096)...),
			"damaged", Playable},
		{"Sorenson", flvFile(testTag{0, 'S'}, testTag{0, 'B'}, testTag{0, 'A'}, testTag{40, 'S'}, testTag{40, 'A'}),
			"old-codec", Playable},
	} {
		path := filepath.Join(t.TempDir(), "it's a film.flv")
		if err := os.WriteFile(path, tt.file, 0o600); err != nil {
			t.Fatal(err)
		}
		s, err := source.Open(path)
		if err != nil {
			t.Fatal(tt.name, err)
		}
		defer s.Close()
		r, err := Inspect(t.Context(), s, Options{})
		if err != nil {
			t.Fatal(tt.name, err)
		}
		var codes []string
		for _, m := range r.Remarks {
			codes = append(codes, m.Code)
			if !strings.Contains(m.RepairCommand, `it'\''s a film.flv' `) ||
				!strings.HasSuffix(m.RepairCommand, ` '`+filepath.Dir(path)+`/it'\''s a film-live.mp4'`) {
				t.Errorf("%s: %s", tt.name, m.RepairCommand)
			}
		}
		if got := strings.Join(codes, " "); got != tt.codes || r.Verdict != tt.want {
			t.Errorf("%s: %q, %s, want %q, %s", tt.name, got, r.Verdict, tt.codes, tt.want)
		}
		var text strings.Builder
		if err := r.WriteText(&text); err != nil || !strings.HasSuffix(text.String(), verdictWords[tt.want]+"\n") {
			t.Errorf("%s: %v\n%s", tt.name, err, &text)
		}
	}
}

// TestRemarkAgreesWithTable checks that the remark about a codec agrees with the table of
// outputs.
func TestRemarkAgreesWithTable(t *testing.T) {
	for _, tt := range []struct{ fmp4, ts, want string }{
		{"yes", "yes", "that support Enhanced RTMP."},
		{"yes", "no", ", and HLS in MPEG-TS does not support it."},
		{"no", "yes", ", and HLS in fMP4 does not support it."},
		{"no", "no", ", and HLS does not support it."},
	} {
		r := &Report{}
		r.checkCodec(&Track{Kind: "video", Codec: "hevc", RTMP: "enhanced", FMP4: tt.fmp4, TS: tt.ts,
			track: &media.Track{Kind: media.Video}})
		if len(r.Remarks) != 1 || !strings.HasSuffix(r.Remarks[0].Text, tt.want) {
			t.Errorf("%+v: %+v", tt, r.Remarks)
		}
	}
}

func TestRepairedPath(t *testing.T) {
	for name, want := range map[string]string{"film.flv": "film-live.mp4", "a/b.c/film.flv": "a/b.c/film-live.mp4",
		"/films/x": "/films/x-live.mp4", "./x.avi": "./x-live.mp4"} {
		if got := repairedPath(name); got != want {
			t.Errorf("%s: %s, want %s", name, got, want)
		}
	}
}

func TestReportFields(t *testing.T) {
	path := filepath.Join(t.TempDir(), "film.flv")
	if err := os.WriteFile(path, flvFile(withHeaders(regularTags(0, 4000, 50)...)...), 0o600); err != nil {
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
	i := slices.IndexFunc(r.Tracks, func(t *Track) bool { return t.Kind == "video" })
	if v := r.Tracks[i]; v.Width != 320 || v.FrameRate != 25 || v.GOP != 2 || v.Keys != 2 || v.Frames != 100 ||
		v.Variable || v.Reordered || v.RTMP != "yes" || v.TS != "yes" {
		t.Errorf("%+v", v)
	}
	if !r.Whole || r.Duration < 3.9 || r.Duration > 4.1 || r.Container != "flv" {
		t.Errorf("%+v", r)
	}
}

func TestFormatClock(t *testing.T) {
	for s, want := range map[float64]string{0: "0:00.0", 59.96: "1:00.0", 61.25: "1:01.3", 3723.5: "1:02:03.5"} {
		if got := FormatClock(s); got != want {
			t.Errorf("%v: %s, want %s", s, got, want)
		}
	}
}

func TestShellQuote(t *testing.T) {
	for s, want := range map[string]string{"a.mp4": "a.mp4", "a b": "'a b'", "it's": `'it'\''s'`, "-i": "./-i",
		"$(x)": "'$(x)'", "": "''"} {
		if got := ShellQuote(s); got != want {
			t.Errorf("%q: %s, want %s", s, got, want)
		}
	}
}
