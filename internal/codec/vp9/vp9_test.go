package vp9

import (
	"bytes"
	"encoding/hex"
	"strings"
	"testing"

	"livego/internal/codec/bits"
	"livego/internal/media"

	"github.com/google/go-cmp/cmp"
)

// key returns the header of a key frame. format writes the fields after the sync code.
func key(profile uint32, width, height int, format func(w *bits.Writer)) []byte {
	var w bits.Writer
	w.U(2, 2)
	w.U(1, profile&1)
	w.U(1, profile>>1)
	if profile == 3 {
		w.U(1, 0)
	}
	w.U(4, 0b0_0_1_0) // not existing, key, shown, not resilient
	w.U(24, 0x498342)
	format(&w)
	w.U(16, uint32(width-1))
	w.U(16, uint32(height-1))
	w.U(8, 0)
	return w.Bytes()
}

// format writes fields of one bit each but for the colour space.
func format(depth []uint32, space uint32, rest ...uint32) func(w *bits.Writer) {
	return func(w *bits.Writer) {
		for _, v := range depth {
			w.U(1, v)
		}
		w.U(3, space)
		for _, v := range rest {
			w.U(1, v)
		}
	}
}

// super joins frames by an index that claims these sizes.
func super(frames string, sizes ...byte) string {
	marker := string([]byte{0xC0 | byte(len(sizes)-1)})
	return frames + marker + string(sizes) + marker
}

var (
	plain = key(0, 320, 180, format(nil, csUnknown, 0))
	inter = "\x86\x00\x00"
)

// frames is the table of access units; fuzzing starts from it.
var frames = []struct {
	name string
	b    string
	want Header // zero: an error
	rfc  string // of a key frame's configuration
}{
	{"key frame", string(plain), Header{KeyFrame: true, Shown: true, Width: 320, Height: 180, BitDepth: 8,
		SubsamplingX: true, SubsamplingY: true}, "vp09.00.11.08"},
	{"BT.2020 10 bit", string(key(2, 3840, 2160, format([]uint32{0}, csBT2020, 0))),
		Header{Profile: 2, KeyFrame: true, Shown: true, Width: 3840, Height: 2160, BitDepth: 10, ColorSpace: csBT2020,
			SubsamplingX: true, SubsamplingY: true},
		"vp09.02.50.10.01.09.14.09.00"},
	{"4:2:2 12 bit full range", string(key(3, 1919, 1079, format([]uint32{1}, csBT709, 1, 1, 0, 0))),
		Header{Profile: 3, KeyFrame: true, Shown: true, Width: 1919, Height: 1079, BitDepth: 12, ColorSpace: csBT709,
			FullRange: true, SubsamplingX: true},
		"vp09.03.40.12.02.01.01.01.01"},
	{"RGB", string(key(1, 65536, 65536, format(nil, csRGB, 0))),
		Header{Profile: 1, KeyFrame: true, Shown: true, Width: 65536, Height: 65536, BitDepth: 8, ColorSpace: csRGB,
			FullRange: true},
		"vp09.01.62.08.03.01.13.00.01"},
	{"4:4:0", string(key(1, 64, 64, format(nil, csUnknown, 0, 0, 1, 0))),
		Header{Profile: 1, KeyFrame: true, Shown: true, Width: 64, Height: 64, BitDepth: 8, SubsamplingY: true}, ""},
	{"inter frame", inter, Header{Shown: true}, ""},
	{"hidden inter frame", "\x84\x00", Header{}, ""}, // equal to no header, hence below
	{"show existing", "\x88", Header{Shown: true, ShowExisting: true}, ""},
	{"superframe with a key frame", super(string(plain)+inter, byte(len(plain)), 3),
		Header{KeyFrame: true, Shown: true, Width: 320, Height: 180, BitDepth: 8, SubsamplingX: true, SubsamplingY: true},
		"vp09.00.11.08"},
	{"superframe of 8", super(strings.Repeat("\x86", 8), 1, 1, 1, 1, 1, 1, 1, 1), Header{Shown: true}, ""},
	{"index without its other marker", inter + "\xC0", Header{Shown: true}, ""},
	{"superframe sizes above frame", super(inter, 3, 1), Header{}, ""},
	{"superframe size 255", super(inter, 255), Header{}, ""},
	{"superframe size 0", super(inter, 0, 3), Header{}, ""},
	{"superframe size 2^32-1", inter + "\xD8\xFF\xFF\xFF\xFF\xD8", Header{}, ""},
	{"index alone", super("", 0), Header{}, ""},
	{"no frame marker", "\x46\x00\x00", Header{}, ""},
	{"reserved profile 4", "\xB8\x00\x00", Header{}, ""},
	{"bad sync code", "\x82\x49\x83\x43\x00\x00\x00\x00\x00", Header{}, ""},
	{"RGB in profile 0", string(key(0, 64, 64, format(nil, csRGB, 0))), Header{}, ""},
	{"reserved bit", string(key(1, 64, 64, format(nil, csUnknown, 0, 1, 0, 1))), Header{}, ""},
	{"size truncated", string(plain[:6]), Header{}, ""},
	{"empty", "", Header{}, ""},
}

func TestParseHeader(t *testing.T) {
	for _, tt := range frames {
		t.Run(tt.name, func(t *testing.T) {
			h, err := ParseHeader([]byte(tt.b))
			if tt.name == "hidden inter frame" {
				if h != (Header{}) || err != nil {
					t.Errorf("%+v, %v", h, err)
				}
				return
			}
			if diff := cmp.Diff(tt.want, h); diff != "" || (err != nil) != (tt.want == Header{}) {
				t.Fatalf("%v\n%s", err, diff)
			}
			want := media.NoRandomAccess
			if h.KeyFrame {
				want = media.Keyframe
			}
			if rap, err2 := RandomAccess([]byte(tt.b)); rap != want || (err2 == nil) != (err == nil) {
				t.Errorf("random access %v, %v", rap, err2)
			}
			c, err := h.Config(30)
			if (err != nil) != (tt.rfc == "") {
				t.Fatalf("%+v, %v", c, err)
			}
			if err == nil && c.RFC6381() != tt.rfc {
				t.Errorf("%s, want %s", c.RFC6381(), tt.rfc)
			}
		})
	}
}

func TestRandomAccessDoesNotAllocate(t *testing.T) {
	if n := testing.AllocsPerRun(100, func() { RandomAccess(plain) }); n > 0 {
		t.Errorf("%v allocations", n)
	}
}

// records is the table of vpcC records; fuzzing starts from it.
var records = []struct {
	name, vpcC string // hex
	want       Config // zero: an error
	rfc        string
}{
	{"profile 0", "000a820202020000", Config{Level: 10, BitDepth: 8, Chroma: 1, Primaries: 2, Transfer: 2, Matrix: 2},
		"vp09.00.10.08"},
	{"with version and flags", "01000000000a820202020000",
		Config{Level: 10, BitDepth: 8, Chroma: 1, Primaries: 2, Transfer: 2, Matrix: 2}, "vp09.00.10.08"},
	{"BT.2020 PQ", "020aa20910090000",
		Config{Profile: 2, Level: 10, BitDepth: 10, Chroma: 1, Primaries: 9, Transfer: 16, Matrix: 9},
		"vp09.02.10.10.01.09.16.09.00"},
	{"4:4:4 full range", "010a870101010000",
		Config{Profile: 1, Level: 10, BitDepth: 8, Chroma: 3, FullRange: true, Primaries: 1, Transfer: 1, Matrix: 1},
		"vp09.01.10.08.03.01.01.01.01"},
	{"profile 4", "040a820202020000", Config{}, ""},
	{"depth 0", "010a020202020000", Config{}, ""},
	{"reserved chroma", "000a880202020000", Config{}, ""},
	{"truncated", "000a820202", Config{}, ""},
	{"version and flags alone", "01000000", Config{}, ""},
	{"empty", "", Config{}, ""},
}

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestConfig(t *testing.T) {
	for _, tt := range records {
		b := unhex(t, tt.vpcC)
		c, err := ParseConfig(b)
		if tt.rfc == "" {
			if err == nil {
				t.Errorf("%s: no error, got %+v", tt.name, c)
			}
			continue
		}
		if diff := cmp.Diff(&tt.want, c); err != nil || diff != "" {
			t.Errorf("%s: %v\n%s", tt.name, err, diff)
			continue
		}
		if c.RFC6381() != tt.rfc || !bytes.HasSuffix(b, c.Append(nil)) {
			t.Errorf("%s: %s, %x", tt.name, c.RFC6381(), c.Append(nil))
		}
	}
}

func FuzzFrame(f *testing.F) {
	for _, tt := range frames {
		f.Add([]byte(tt.b))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		h, err := ParseHeader(b)
		if err != nil {
			if h.KeyFrame || h.Width != 0 {
				t.Errorf("both %v and %+v", err, h)
			}
			return
		}
		c, err := h.Config(0)
		if err != nil {
			return
		}
		if again, err := ParseConfig(c.Append(nil)); err != nil || *again != *c {
			t.Errorf("%+v became %+v, %v", c, again, err)
		}
	})
}

func FuzzConfig(f *testing.F) {
	for _, tt := range records {
		f.Add(unhex(f, tt.vpcC))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := ParseConfig(b)
		if err != nil {
			return
		}
		if again, err := ParseConfig(c.Append(nil)); err != nil || *again != *c {
			t.Errorf("%+v became %+v, %v", c, again, err)
		}
	})
}
