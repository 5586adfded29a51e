package h264

import (
	"bytes"
	"encoding/hex"
	"slices"
	"strings"
	"testing"

	"livego/internal/codec/bits"
	"livego/internal/media"

	"github.com/google/go-cmp/cmp"
)

// configs is the table of avcC records and what ffprobe prints for their first SPS. It seeds the
// fuzz target.
var configs = []struct {
	name string
	avcC string // hex
	want SPS
	rfc  string // "" for an invalid record
}{
	{"high cropped 638x358",
		"0164001effe1001a6764001eacd940a02fea6c0440000003004000000c83c58b658001000668eae3cb22c0fdf8f800",
		SPS{100, 0, 30, 1, 8, 8, 638, 358, 25}, "avc1.64001e"},
	{"baseline 320x240", "0142c00dffe100156742c00dda0507ec04400000fa40003a9803c50aa801000468ce0fc8",
		SPS{66, 0xC0, 13, 1, 8, 8, 320, 240, 30000.0 / 1001}, "avc1.42c00d"},
	{"interlaced 4:2:2", "017a001effe10018677a001ebcd940b424d8088000000300800000190f8a14cb01000668faa3cb22c0fef8f800",
		SPS{122, 0, 30, 2, 8, 8, 720, 576, 25}, "avc1.7a001e"},
	{"4:4:4 cropped 318x238", "01f4000dffe1001967f4000d91968141feef011000000300100000030300f142aa01000568ce0f1920fff8f800",
		SPS{244, 0, 13, 3, 8, 8, 318, 238, 24}, "avc1.f4000d"},
	{"1080p60 with trailing byte", "0142c02affe100186742c02ada01e0089f970110000003001000000780f1832a01000468ce0fc8ff",
		SPS{66, 0xC0, 42, 1, 8, 8, 1920, 1080, 60}, "avc1.42c02a"},
	{"no parameter sets", "0164001effe000", SPS{}, "avc1.64001e"},
	{"empty", "", SPS{}, ""},
	{"version 0", "0064001effe000", SPS{}, ""},
	{"length size 3", "0164001efee000", SPS{}, ""},
	{"31 SPS announced", "0164001effff0002676400", SPS{}, ""},
	{"SPS length 0", "0164001effe1000001000168", SPS{}, "avc1.64001e"},
	{"SPS length above rest", "0164001effe1ffff6764001e", SPS{}, ""},
	{"255 PPS announced", "0164001effe0ff0001680001", SPS{}, ""},
	{"PPS in place of SPS", "0164001effe100016800", SPS{}, "avc1.64001e"},
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
	for _, tt := range configs {
		t.Run(tt.name, func(t *testing.T) {
			c, err := ParseConfig(unhex(t, tt.avcC))
			if tt.rfc == "" {
				if err == nil {
					t.Fatalf("no error, got %+v", c)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if got := c.RFC6381(); got != tt.rfc {
				t.Errorf("RFC6381 is %q, want %q", got, tt.rfc)
			}
			if len(c.SPS) == 0 {
				return
			}
			s, err := ParseSPS(c.SPS[0])
			if diff := cmp.Diff(tt.want, s); err != nil || diff != "" {
				t.Errorf("SPS: %v\n%s", err, diff)
			}
		})
	}
}

func TestConfigWithoutPPS(t *testing.T) {
	whole := unhex(t, configs[0].avcC)
	c, err := ParseConfig(whole[:8+0x1a])
	if err != nil || len(c.SPS) != 1 || len(c.PPS) != 0 {
		t.Errorf("%+v, %v", c, err)
	}
}

func TestConfigFromAnnexB(t *testing.T) {
	c, err := ParseConfig(unhex(t, configs[0].avcC))
	if err != nil {
		t.Fatal(err)
	}
	got, err := ConfigFromAnnexB(slices.Concat([]byte{0, 0, 0, 1}, c.SPS[0], []byte{0, 0, 1}, c.PPS[0],
		[]byte{0, 0, 1, 6, 5}))
	if err != nil || hex.EncodeToString(got) != configs[0].avcC {
		t.Errorf("%x, %v", got, err)
	}
	if _, err := ConfigFromAnnexB(append([]byte{0, 0, 0, 1}, c.SPS[0]...)); err == nil {
		t.Error("no error for an SPS without a PPS")
	}
}

// TestBuildConfig parses the table's records and builds them again.
func TestBuildConfig(t *testing.T) {
	for _, tt := range configs {
		if tt.want == (SPS{}) {
			continue
		}
		avcC := unhex(t, tt.avcC)
		c, err := ParseConfig(avcC)
		if err != nil {
			t.Fatal(err)
		}
		got, err := BuildConfig(c.SPS, c.PPS)
		if want := strings.TrimSuffix(tt.avcC, "ff"); err != nil || hex.EncodeToString(got) != want {
			t.Errorf("%s: %v\n got %x\nwant %s", tt.name, err, got, want)
		}
	}
}

func TestBuildConfigRefuses(t *testing.T) {
	good, err := ParseConfig(unhex(t, configs[0].avcC))
	if err != nil {
		t.Fatal(err)
	}
	sps, pps := good.SPS[0], good.PPS[0]
	for name, sets := range map[string]struct{ sps, pps [][]byte }{
		"no SPS":        {nil, good.PPS},
		"no PPS":        {good.SPS, nil},
		"32 SPS":        {slices.Repeat(good.SPS, 32), good.PPS},
		"256 PPS":       {good.SPS, slices.Repeat(good.PPS, 256)},
		"SPS of 64 KB":  {[][]byte{append(bytes.Clone(sps), make([]byte, 1<<16)...)}, good.PPS},
		"swapped":       {[][]byte{pps}, [][]byte{sps}},
		"empty PPS":     {good.SPS, [][]byte{nil}},
		"SPS truncated": {[][]byte{sps[:5]}, good.PPS},
	} {
		if b, err := BuildConfig(sets.sps, sets.pps); err == nil {
			t.Errorf("%s: no error, got %d bytes", name, len(b))
		}
	}
}

func TestProfileName(t *testing.T) {
	for _, tt := range []struct {
		profile, constraints byte
		want                 string
	}{
		{66, 0, "Baseline"}, {66, 0xC0, "Constrained Baseline"}, {77, 0x40, "Main"}, {100, 0, "High"},
		{110, 0x10, "High 10 Intra"}, {122, 0, "High 4:2:2"}, {122, 0x10, "High 4:2:2 Intra"},
		{244, 0x10, "High 4:4:4 Intra"}, {255, 0, ""},
	} {
		if got := (SPS{Profile: tt.profile, Constraints: tt.constraints}).ProfileName(); got != tt.want {
			t.Errorf("profile %d, constraints %#x: %q, want %q", tt.profile, tt.constraints, got, tt.want)
		}
	}
}

func FuzzConfig(f *testing.F) {
	for _, tt := range configs {
		f.Add(unhex(f, tt.avcC))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := ParseConfig(b)
		if err != nil {
			return
		}
		for _, set := range c.SPS {
			checkSPS(t, set)
		}
		built, err := BuildConfig(c.SPS, c.PPS)
		if err != nil {
			return
		}
		if again, err := ParseConfig(built); err != nil || len(again.SPS) != len(c.SPS) || len(again.PPS) != len(c.PPS) {
			t.Errorf("built record: %v", err)
		}
	})
}

// sps returns an SPS of the Main profile with the given fields; a nil part gets valid values.
func sps(t testing.TB, poc, size, vui func(ue func(uint32), w *bits.Writer)) []byte {
	t.Helper()
	var w bits.Writer
	w.U(8, 0x67)
	w.U(24, 77<<16|30)
	ue := func(v uint32) {
		n := 0
		for (v+1)>>n > 1 {
			n++
		}
		w.U(n, 0)
		w.U(n+1, v+1)
	}
	ue(0) // id
	ue(0) // frame number bits
	if poc == nil {
		ue(2)
	} else {
		poc(ue, &w)
	}
	ue(1)
	w.U(1, 0)
	if size == nil {
		ue(39) // 640
		ue(29) // 480
		w.U(2, 3)
		w.U(1, 0)
	} else {
		size(ue, &w)
	}
	if vui == nil {
		w.U(1, 0)
	} else {
		w.U(1, 1)
		vui(ue, &w)
	}
	w.U(1, 1)
	return w.Bytes()
}

// spsCases are valid and malformed SPS.
func spsCases(t testing.TB) map[string]struct {
	b    []byte
	want SPS
} {
	type part = func(ue func(uint32), w *bits.Writer)
	good := SPS{77, 0, 30, 1, 8, 8, 640, 480, 0}
	timing := func(units, scale uint32) part {
		return func(_ func(uint32), w *bits.Writer) {
			w.U(4, 0)
			w.U(1, 1)
			w.U(32, units)
			w.U(32, scale)
		}
	}
	side := func(columns, rows uint32) part {
		return func(ue func(uint32), w *bits.Writer) {
			ue(columns)
			ue(rows)
			w.U(3, 6)
		}
	}
	crop := func(n uint32) part {
		return func(ue func(uint32), w *bits.Writer) {
			ue(39)
			ue(29)
			w.U(3, 7)
			for range 4 {
				ue(n)
			}
		}
	}
	runaway := append([]byte{0x67, 100, 0, 30}, bytes.Repeat([]byte{0xFF}, 20)...)
	return map[string]struct {
		b    []byte
		want SPS
	}{
		"plain":            {sps(t, nil, nil, nil), good},
		"25 frames":        {sps(t, nil, nil, timing(1, 50)), SPS{77, 0, 30, 1, 8, 8, 640, 480, 25}},
		"units in tick 0":  {sps(t, nil, nil, timing(0, 50)), good},
		"time scale 0":     {sps(t, nil, nil, timing(1, 0)), good},
		"2^32-1 frames":    {sps(t, nil, nil, timing(1, 1<<32-1)), good},
		"VUI truncated":    {sps(t, nil, nil, func(_ func(uint32), w *bits.Writer) { w.U(5, 1) }), good},
		"width 2^32":       {sps(t, nil, side(1<<32-2, 29), nil), SPS{}},
		"height 2^28":      {sps(t, nil, side(39, 1<<24-1), nil), SPS{}},
		"crop above size":  {sps(t, nil, crop(200), nil), SPS{}},
		"crop 2^32":        {sps(t, nil, crop(1<<32-2), nil), SPS{}},
		"cropped by 4":     {sps(t, nil, crop(1), nil), SPS{77, 0, 30, 1, 8, 8, 636, 476, 0}},
		"zeros":            {append([]byte{0x67, 77, 0, 30}, make([]byte, 100)...), SPS{}},
		"profile 255":      {[]byte{0x67, 255, 255, 255}, SPS{}},
		"scaling list":     {runaway, SPS{}},
		"chroma format 4":  {[]byte{0x67, 100, 0, 30, 0x94, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF}, SPS{}},
		"bit depth 15":     {[]byte{0x67, 110, 0, 30, 0xA1, 0x1F, 0xFF, 0xFF, 0xFF, 0xFF}, SPS{}},
		"emulation at end": {[]byte{0x67, 77, 0, 0, 3, 0, 0, 3}, SPS{}},
		"2^32-2 POC refs": {sps(t, func(ue func(uint32), w *bits.Writer) { ue(1); w.U(3, 3); ue(1<<32 - 2) }, nil, nil),
			SPS{}},
		"two POC refs": {sps(t, func(ue func(uint32), w *bits.Writer) { ue(1); w.U(3, 3); ue(2); ue(7); ue(0) }, nil,
			nil), good},
		"header alone": {[]byte{0x67}, SPS{}},
		"not an SPS":   {[]byte{0x68, 77, 0, 30, 0xFF, 0xFF}, SPS{}},
		"empty":        {nil, SPS{}},
	}
}

func TestSPS(t *testing.T) {
	for name, row := range spsCases(t) {
		s, err := ParseSPS(row.b)
		if diff := cmp.Diff(row.want, s); diff != "" {
			t.Errorf("%s: %v\n%s", name, err, diff)
		}
		if (err != nil) != (row.want == SPS{}) {
			t.Errorf("%s: error %v", name, err)
		}
	}
}

// TestTruncatedSPS truncates each SPS at every bit.
func TestTruncatedSPS(t *testing.T) {
	for _, row := range spsCases(t) {
		for n := range 8 * len(row.b) {
			b := bytes.Clone(row.b[:n/8+1])
			b[n/8] &^= 0xFF >> (n % 8)
			checkSPS(t, b)
		}
	}
}

func checkSPS(t *testing.T, b []byte) {
	t.Helper()
	s, err := ParseSPS(b)
	if err != nil {
		if s != (SPS{}) {
			t.Fatalf("%x: both an error and %+v", b, s)
		}
		return
	}
	if s.Width <= 0 || s.Width > maxSide || s.Height <= 0 || s.Height > maxSide || s.BitDepth > maxDepth ||
		!(s.FrameRate >= 0 && s.FrameRate <= 1000) {
		t.Fatalf("%x: %+v", b, s)
	}
}

func FuzzSPS(f *testing.F) {
	for _, row := range spsCases(f) {
		f.Add(row.b)
	}
	f.Fuzz(checkSPS)
}

// units is the table of access units with length fields of 4 bytes. It seeds the fuzz target.
var units = []struct {
	name string
	b    string
	want media.RandomAccess
	bad  bool
}{
	{"inter", "\x00\x00\x00\x02\x41\x9A", media.NoRandomAccess, false},
	{"IDR", "\x00\x00\x00\x02\x65\x88", media.Keyframe, false},
	{"SPS, PPS, SEI, IDR",
		"\x00\x00\x00\x02\x67\x64\x00\x00\x00\x02\x68\xEE\x00\x00\x00\x04\x06\x05\x00\x80\x00\x00\x00\x02\x65\x88",
		media.Keyframe, false},
	{"recovery point 0", "\x00\x00\x00\x05\x06\x06\x01\xC4\x80\x00\x00\x00\x02\x41\x9A", media.RecoveryPoint, false},
	{"recovery point 0 after user data", "\x00\x00\x00\x08\x06\x05\x01\xAA\x06\x01\xC4\x80\x00\x00\x00\x02\x41\x9A",
		media.RecoveryPoint, false},
	{"recovery point 1", "\x00\x00\x00\x05\x06\x06\x01\x54\x80\x00\x00\x00\x02\x41\x9A", media.NoRandomAccess, false},
	{"recovery point empty", "\x00\x00\x00\x04\x06\x06\x00\x80\x00\x00\x00\x02\x41\x9A", media.NoRandomAccess, false},
	{"recovery point before IDR", "\x00\x00\x00\x05\x06\x06\x01\xC4\x80\x00\x00\x00\x02\x65\x88", media.Keyframe, false},
	{"SEI of 0xFF bytes", "\x00\x00\x00\x08\x06\xFF\xFF\xFF\xFF\xFF\xFF\xFF", media.NoRandomAccess, false},
	{"SEI size above rest", "\x00\x00\x00\x05\x06\x05\xF0\x00\x80", media.NoRandomAccess, false},
	{"end of sequence", "\x00\x00\x00\x02\x41\x9A\x00\x00\x00\x01\x0A", media.NoRandomAccess, false},
	{"header only", "\x00\x00\x00\x01\x65", 0, true},
	{"length 0", "\x00\x00\x00\x00\x00\x00\x00\x02\x65\x88", media.Keyframe, false},
	{"length 0 alone", "\x00\x00\x00\x00", 0, true},
	{"zero bytes after IDR", "\x00\x00\x00\x02\x65\x88\x00\x00\x00\x00\x00\x00", media.Keyframe, false},
	{"rest shorter than a length", "\x00\x00\x00\x02\x65\x88abc", media.Keyframe, false},
	{"type 24 around IDR", "\x00\x00\x00\x02\x78\x88\x00\x00\x00\x02\x65\x88\x00\x00\x00\x02\x7F\x88", media.Keyframe,
		false},
	{"type 0 before inter", "\x00\x00\x00\x02\x60\x88\x00\x00\x00\x02\x41\x88", media.NoRandomAccess, false},
	{"forbidden bit before IDR", "\x00\x00\x00\x02\xE5\x88\x00\x00\x00\x02\x65\x88", media.Keyframe, false},
	{"delimiter of one byte", "\x00\x00\x00\x01\x09\x00\x00\x00\x02\x65\x88", media.Keyframe, false},
	{"filler of one byte", "\x00\x00\x00\x02\x65\x88\x00\x00\x00\x01\x0C", media.Keyframe, false},
	{"IDR header beside inter", "\x00\x00\x00\x01\x65\x00\x00\x00\x02\x41\x9A", media.NoRandomAccess, false},
	{"length max", "\xFF\xFF\xFF\xFF\x65\x88", 0, true},
	{"length above rest", "\x00\x00\x00\x03\x65\x88", 0, true},
	{"Annex B", "\x00\x00\x00\x01\x67\x64\x00\x1E\x00\x00\x00\x01\x65\x88\x84", 0, true},
	{"Annex B, short start code", "\x00\x00\x01\x65\x88\x84", 0, true},
	{"type 0", "\x00\x00\x00\x02\x60\x88", 0, true},
	{"type 24", "\x00\x00\x00\x02\x78\x88", 0, true},
	{"type 31", "\x00\x00\x00\x02\x7F\x88", 0, true},
	{"forbidden bit", "\x00\x00\x00\x02\xE5\x88", 0, true},
	{"100,000 headers", strings.Repeat("\x00\x00\x00\x01\x65", 1e5), 0, true},
}

func TestRandomAccess(t *testing.T) {
	for _, tt := range units {
		got, err := RandomAccess([]byte(tt.b), 4)
		if (err != nil) != tt.bad || got != tt.want {
			t.Errorf("%s: %v, %v", tt.name, got, err)
		}
	}
	if got, err := RandomAccess([]byte("\x00\x02\x65\x88"), 2); got != media.Keyframe || err != nil {
		t.Errorf("length size 2: %v, %v", got, err)
	}
}

func FuzzRandomAccess(f *testing.F) {
	for _, tt := range units {
		f.Add([]byte(tt.b), 4)
	}
	f.Add([]byte("\x02\x65\x88"), 1)
	f.Fuzz(func(t *testing.T, b []byte, lengthSize int) {
		if rap, err := RandomAccess(b, lengthSize); err != nil && rap != media.NoRandomAccess {
			t.Errorf("both %v and %v", rap, err)
		}
	})
}

func TestRandomAccessDoesNotAllocate(t *testing.T) {
	unit := []byte(units[2].b)
	if n := testing.AllocsPerRun(100, func() { RandomAccess(unit, 4) }); n > 0 {
		t.Errorf("%v allocations", n)
	}
}
