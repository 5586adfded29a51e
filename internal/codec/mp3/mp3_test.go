package mp3

import "testing"

var headers = []struct {
	name string
	b    string
	want Header // zero: an error
}{
	{"MPEG-1 layer III 128k 44100 joint stereo", "\xFF\xFB\x90\x64", Header{44100, 2, 3, 1152, 417}},
	{"the same, padded", "\xFF\xFB\x92\x64", Header{44100, 2, 3, 1152, 418}},
	{"MPEG-1 layer III 64k 48000 mono", "\xFF\xFB\x54\xC4", Header{48000, 1, 3, 1152, 192}},
	{"MPEG-2 layer III 32k 22050 mono", "\xFF\xF3\x40\xC4", Header{22050, 1, 3, 576, 104}},
	{"MPEG-2.5 layer III 8k 8000 mono", "\xFF\xE3\x18\xC4", Header{8000, 1, 3, 576, 72}},
	{"MPEG-1 layer II 192k 48000", "\xFF\xFD\xA4\x04", Header{48000, 2, 2, 1152, 576}},
	{"MPEG-2 layer II 16000", "\xFF\xF5\x88\x04", Header{16000, 2, 2, 1152, 576}},
	{"MPEG-1 layer I 32000", "\xFF\xFF\x1A\x04", Header{32000, 2, 1, 384, 52}},
	{"free format", "\xFF\xFB\x00\x64", Header{44100, 2, 3, 1152, 0}},
	{"reserved version", "\xFF\xEB\x90\x64", Header{}},
	{"reserved layer", "\xFF\xF9\x90\x64", Header{}},
	{"bitrate 15", "\xFF\xFB\xF0\x64", Header{}},
	{"rate 3", "\xFF\xFB\x9C\x64", Header{}},
	{"no sync", "\xFF\x1B\x90\x64", Header{}},
	{"ID3", "ID3\x04", Header{}},
	{"truncated", "\xFF\xFB\x90", Header{}},
	{"empty", "", Header{}},
}

func TestParseHeader(t *testing.T) {
	for _, tt := range headers {
		h, err := ParseHeader([]byte(tt.b))
		if h != tt.want || (err != nil) != (tt.want == Header{}) {
			t.Errorf("%s: %+v, %v, want %+v", tt.name, h, err, tt.want)
		}
	}
}

func TestCountFrames(t *testing.T) {
	frame := make([]byte, 417)
	copy(frame, headers[0].b)
	two := append(append([]byte{}, frame...), frame...)
	for name, tt := range map[string]struct {
		b    []byte
		want int
	}{
		"one": {frame, 1}, "two": {two, 2}, "two and a truncated one": {append(two, frame[:100]...), 2},
		"truncated": {frame[:100], 1}, "free format": {[]byte(headers[8].b), 1}, "none": {nil, 1},
	} {
		if got := CountFrames(tt.b); got != tt.want {
			t.Errorf("%s: %d frames, want %d", name, got, tt.want)
		}
	}
}

func FuzzParseHeader(f *testing.F) {
	for _, tt := range headers {
		f.Add([]byte(tt.b))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		h, err := ParseHeader(b)
		if err == nil && (h.SampleRate < 8000 || h.SampleRate > 48000 || h.Samples == 0 || h.Length < 0) {
			t.Errorf("%+v", h)
		}
		if n := CountFrames(b); n < 1 || n > 1+len(b)/24 {
			t.Errorf("%d frames in %d bytes", n, len(b))
		}
	})
}
