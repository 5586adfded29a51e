package h265

import (
	"bytes"
	"encoding/hex"
	"strings"
	"testing"

	"livego/internal/codec/bits"
	"livego/internal/media"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

// Records as ffmpeg 5.1 writes them for x265, without the SEI.
const (
	main10 = "0102200000009000000000003cf000fcfdfafa00000f03" + "20000100184001" +
		"0c01ffff02200000030090000003000003003c959809" + "21000100294201010220000003009000000300000" +
		"3003ca00a080f1d5365959a4932bc05a02000007d20000ea601" + "22000100074401c172b46240"
	rext422 = "0104080000004d08000000003cf000fcfef8f800000f03" + "20000100174001" +
		"0c01ffff0408000003004d0800000300003c959409" +
		"21000100284201010408000003004d0800000300003cb00a080f1d5e595952930bc05a1a000007d20000ea6010" +
		"22000100064401c073c189"
	highTier = "0124080000009e080000000096f000fcfff8f800001303" + "200001001b4001" +
		"0c02ffff2408000003009e08000003000096000095" + "98acc048" + "21000100" +
		"2d4201022408000003009e08000003000096000090014101e3bbcb2b3159a49395e02d0100000303e900007530082" +
		"2000100084401c172860c4624"
	mainHD = "01016000000090000000000078f000fcfdf8f800000f03" + "20000100184001" +
		"0c01ffff0160000003009000000300000300789594" + "0921000100" +
		"2e420101016000000300900000030000030078a003c0801107cb965654a4c2fff05970770680800001f480003a9804" +
		"22000100064401c073c189"
)

// record returns an hvcC record with the given last byte of its fixed part, followed by rest.
func record(lengthSizeMinusOne, arrays byte, rest string) string {
	b := append(bytes.Repeat([]byte{1}, 21), 0xFC|lengthSizeMinusOne, arrays)
	return hex.EncodeToString(append(b, rest...))
}

// records is the table of hvcC records and what ffprobe prints for them. It seeds the fuzz
// target.
var records = []struct {
	name string
	hvcC string // hex
	want int    // length size, 0: an error
	rfc  string // "" for a record without an SPS
	prof string
	sps  SPS // without the fields of the codecs parameter
}{
	{"Main 10, 318x238", main10, 4, "hvc1.2.4.L60.90", "Main 10",
		SPS{ChromaFormat: 1, BitDepth: 10, ChromaDepth: 10, Width: 318, Height: 238, FrameRate: 30000.0 / 1001}},
	{"4:2:2", rext422, 4, "hvc1.4.10.L60.4D.8", "Range Extensions",
		SPS{ChromaFormat: 2, BitDepth: 8, ChromaDepth: 8, Width: 318, Height: 238, FrameRate: 30000.0 / 1001}},
	{"4:4:4, high tier, scaling lists, two temporal layers", highTier, 4, "hvc1.4.10.H150.9E.8", "Range Extensions",
		SPS{ChromaFormat: 3, BitDepth: 8, ChromaDepth: 8, Width: 318, Height: 238, FrameRate: 30000.0 / 1001}},
	{"Main 1080", mainHD, 4, "hvc1.1.6.L120.90", "Main",
		SPS{ChromaFormat: 1, BitDepth: 8, ChromaDepth: 8, Width: 1920, Height: 1080, FrameRate: 30000.0 / 1001}},
	{"version 0", "00" + main10[2:], 4, "hvc1.2.4.L60.90", "Main 10",
		SPS{ChromaFormat: 1, BitDepth: 10, ChromaDepth: 10, Width: 318, Height: 238, FrameRate: 30000.0 / 1001}},
	{name: "no arrays", hvcC: record(3, 0, ""), want: 4},
	{name: "length size 1", hvcC: record(0, 0, ""), want: 1},
	{name: "length size 3", hvcC: record(2, 0, "")},
	{name: "version 2", hvcC: "02" + main10[2:]},
	{name: "VPS and an SEI among the SPS",
		hvcC: record(3, 2, "\xA0\x00\x01\x00\x02\x40\x01\xA1\x00\x01\x00\x03\x4E\x01\x01"), want: 4},
	{name: "255 arrays", hvcC: record(3, 255, "\xA0\x00\x01\x00\x02\x40\x01")},
	{name: "65535 units", hvcC: record(3, 1, "\xA0\xFF\xFF\x00\x02\x40\x01")},
	{name: "unit above rest", hvcC: record(3, 1, "\xA0\x00\x01\xFF\xFF\x40\x01")},
	{name: "unit of length 0", hvcC: record(3, 1, "\xA0\x00\x01\x00\x00"), want: 4},
	{name: "truncated", hvcC: record(3, 0, "")[:44]},
	{name: "empty"},
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
		t.Run(tt.name, func(t *testing.T) {
			c, err := ParseConfig(unhex(t, tt.hvcC))
			if tt.want == 0 {
				if err == nil {
					t.Fatalf("no error, got %+v", c)
				}
				return
			}
			if err != nil || c.LengthSize != tt.want {
				t.Fatalf("%+v, %v, want length size %d", c, err, tt.want)
			}
			if tt.rfc == "" {
				return
			}
			s, err := ParseSPS(c.SPS[0])
			if diff := cmp.Diff(tt.sps, s, cmpopts.IgnoreUnexported(SPS{}),
				cmpopts.IgnoreTypes(ProfileTierLevel{})); err != nil || diff != "" {
				t.Errorf("SPS: %v\n%s", err, diff)
			}
			for _, p := range []ProfileTierLevel{c.ProfileTierLevel, s.ProfileTierLevel} {
				if p.RFC6381() != tt.rfc || p.ProfileName() != tt.prof {
					t.Errorf("%s, %q, want %s, %q", p.RFC6381(), p.ProfileName(), tt.rfc, tt.prof)
				}
			}
			if rate := VPSFrameRate(c.VPS[0]); rate != 0 {
				t.Errorf("x265's VPS has no timing, got %v", rate)
			}
			got, err := BuildConfig(c.VPS, c.SPS, c.PPS)
			if want := "01" + tt.hvcC[2:]; err != nil || !sameRecord(hex.EncodeToString(got), want) {
				t.Errorf("%v\n  built %x\n  want %s", err, got, want)
			}
		})
	}
}

// sameRecord compares records in hex without array_completeness, which ffmpeg leaves 0 for hev1.
func sameRecord(a, b string) bool {
	for _, kind := range []string{"0", "1", "2"} {
		b = strings.Replace(b, "2"+kind+"0001", "a"+kind+"0001", 1)
	}
	return a == b
}

func TestRFC6381(t *testing.T) {
	for _, tt := range []struct {
		p    ProfileTierLevel
		want string
	}{
		{ProfileTierLevel{Profile: 1, Compatibility: 0x60000000, Constraints: [6]byte{0xB0}, Level: 93}, "hvc1.1.6.L93.B0"},
		{ProfileTierLevel{Space: 2, Profile: 2, HighTier: true, Compatibility: 1, Level: 120}, "hvc1.B2.80000000.H120"},
		{ProfileTierLevel{Constraints: [6]byte{5: 1}}, "hvc1.0.0.L0.0.0.0.0.0.1"},
	} {
		if got := tt.p.RFC6381(); got != tt.want {
			t.Errorf("%s, want %s", got, tt.want)
		}
	}
}

func TestBuildConfigRefuses(t *testing.T) {
	c, err := ParseConfig(unhex(t, main10))
	if err != nil {
		t.Fatal(err)
	}
	long := [][]byte{append(bytes.Clone(c.PPS[0]), make([]byte, 1<<16)...)}
	for name, sets := range map[string][3][][]byte{
		"no VPS": {nil, c.SPS, c.PPS}, "no SPS": {c.VPS, nil, c.PPS}, "no PPS": {c.VPS, c.SPS, nil},
		"swapped": {c.SPS, c.VPS, c.PPS}, "PPS of 64 KB": {c.VPS, c.SPS, long},
		"SPS truncated": {c.VPS, [][]byte{c.SPS[0][:20]}, c.PPS}, "65 PPS": {c.VPS, c.SPS, make([][]byte, 65)},
	} {
		if b, err := BuildConfig(sets[0], sets[1], sets[2]); err == nil {
			t.Errorf("%s: no error, got %d bytes", name, len(b))
		}
	}
}

// A writer writes parameter sets.
type writer struct{ bits.Writer }

func (w *writer) ue(values ...uint32) {
	for _, v := range values {
		n := 0
		for (v+1)>>n > 1 {
			n++
		}
		w.U(n, 0)
		w.U(n+1, v+1)
	}
}

// layers writes max_sub_layers_minus1, the nesting flag and profile_tier_level of the Main
// profile.
func (w *writer) layers(minusOne uint32) {
	w.U(3, minusOne)
	w.U(1, 1)
}

func (w *writer) profile() {
	w.U(8, 1)
	w.U(32, 0x60000000)
	w.U(32, 0x90000000)
	w.U(16, 0)
	w.U(8, 93)
}

// sps returns an SPS with the given parts; a nil part gets valid values.
func sps(minusOne uint32, size, refs, vui func(w *writer)) []byte {
	var w writer
	w.U(16, TypeSPS<<9|1)
	w.U(4, 0)
	w.layers(minusOne)
	w.profile()
	if minusOne > 0 {
		w.U(16, 3<<14) // profile and level of the lowest sub-layer
		for range 3 {
			w.U(32, 0xFFFFFFFF)
		}
	}
	w.ue(0)
	if size == nil {
		w.ue(1, 640, 480)
		w.U(1, 0)
	} else {
		size(&w)
	}
	w.ue(0, 0, 4) // bit depths, picture order count bits
	w.U(1, 0)
	w.ue(4, 2, 0)
	w.ue(0, 3, 0, 3, 0, 0)
	w.U(4, 0) // scaling lists, amp, sao, pcm
	if refs == nil {
		w.ue(0)
	} else {
		refs(&w)
	}
	w.U(1, 0) // long-term references
	w.U(2, 0)
	if vui == nil {
		w.U(1, 0)
	} else {
		w.U(1, 1)
		vui(&w)
	}
	w.U(1, 1)
	return escape(w.Bytes())
}

// escape inserts emulation prevention bytes.
func escape(b []byte) []byte {
	var out []byte
	zeros := 0
	for _, c := range b {
		if zeros >= 2 && c <= 3 {
			out, zeros = append(out, 3), 0
		}
		if out = append(out, c); c == 0 {
			zeros++
		} else {
			zeros = 0
		}
	}
	return out
}

type setCase struct {
	b             []byte
	width, height int // 0: an error
	rate          float64
}

// setCases are valid and malformed parameter sets.
func setCases() map[string]setCase {
	timing := func(units, scale uint32) func(w *writer) {
		return func(w *writer) {
			w.U(8, 0)
			w.U(1, 1)
			w.U(32, units)
			w.U(32, scale)
		}
	}
	side := func(width, height uint32, crop ...uint32) func(w *writer) {
		return func(w *writer) {
			w.ue(1, width, height)
			w.U(1, uint32(min(len(crop), 1)))
			w.ue(crop...)
		}
	}
	refs := func(f func(w *writer)) []byte { return sps(0, nil, f, timing(1, 25)) }
	return map[string]setCase{
		"plain":                {sps(0, nil, nil, nil), 640, 480, 0},
		"25 frames":            {sps(0, nil, nil, timing(1, 25)), 640, 480, 25},
		"sub-layer of its own": {sps(1, nil, nil, timing(1, 25)), 640, 480, 25},
		"cropped":              {sps(0, side(640, 480, 1, 0, 2, 3), nil, nil), 638, 470, 0},
		"sub-layers 7":         {sps(7, nil, nil, nil), 0, 0, 0},
		"crop above size":      {sps(0, side(640, 480, 200, 120, 0, 0), nil, nil), 0, 0, 0},
		"crop 2^32":            {sps(0, side(640, 480, 1<<32-2, 1<<32-2, 0, 0), nil, nil), 0, 0, 0},
		"width 0":              {sps(0, side(0, 480), nil, nil), 0, 0, 0},
		"height 2^32":          {sps(0, side(640, 1<<32-2), nil, nil), 0, 0, 0},
		"time scale 0":         {sps(0, nil, nil, timing(1, 0)), 640, 480, 0},
		"units in tick 0":      {sps(0, nil, nil, timing(0, 25)), 640, 480, 0},
		"2^32-1 frames":        {sps(0, nil, nil, timing(1, 1<<32-1)), 640, 480, 0},
		"VUI truncated":        {sps(0, nil, nil, func(w *writer) { w.U(9, 1) }), 640, 480, 0},
		"chroma format 4":      {sps(0, func(w *writer) { w.ue(4, 640, 480); w.U(1, 0) }, nil, nil), 0, 0, 0},
		"2^32-2 sets":          {refs(func(w *writer) { w.ue(1<<32 - 2) }), 640, 480, 0},
		"2^32-2 references":    {refs(func(w *writer) { w.ue(1, 1<<32-2, 0) }), 640, 480, 0},
		"set predicts itself":  {refs(func(w *writer) { w.ue(64); w.U(32, 1<<32-1); w.U(32, 1<<32-1) }), 640, 480, 0},
		"two sets, one predicted": {refs(func(w *writer) {
			w.ue(2, 1, 0, 0)
			w.U(1, 1)
			w.U(2, 2) // predicted, sign
			w.ue(0)
			w.U(3, 0b1_0_1) // first used, second only for later
		}), 640, 480, 25},
		"zeros":      {append([]byte{TypeSPS << 1, 1}, make([]byte, 200)...), 0, 0, 0},
		"header":     {[]byte{TypeSPS << 1, 1}, 0, 0, 0},
		"not an SPS": {[]byte{TypePPS << 1, 1, 0xFF, 0xFF}, 0, 0, 0},
		"missing":    {nil, 0, 0, 0},
	}
}

func TestSPS(t *testing.T) {
	for name, row := range setCases() {
		s, err := ParseSPS(row.b)
		if s.Width != row.width || s.Height != row.height || s.FrameRate != row.rate || (err != nil) != (row.width == 0) {
			t.Errorf("%s: %+v, %v, want %d x %d, %v", name, s, err, row.width, row.height, row.rate)
		}
	}
}

// TestTruncatedSPS truncates each parameter set at every bit.
func TestTruncatedSPS(t *testing.T) {
	for _, row := range setCases() {
		for n := range 8 * len(row.b) {
			b := bytes.Clone(row.b[:n/8+1])
			b[n/8] &^= 0xFF >> (n % 8)
			checkSets(t, b)
		}
	}
}

// vps returns a VPS with layer sets and this timing.
func vps(layerSets, units, scale uint32) []byte {
	var w writer
	w.U(16, TypeVPS<<9|1)
	w.U(12, 0xC00)
	w.layers(0)
	w.U(16, 0xFFFF)
	w.profile()
	w.U(1, 1)
	w.ue(4, 2, 0)
	w.U(6, 1)
	w.ue(layerSets)
	for range min(layerSets, 4) {
		w.U(2, 1)
	}
	w.U(1, 1)
	w.U(32, units)
	w.U(32, scale)
	w.U(8, 0x80)
	return escape(w.Bytes())
}

var vpsCases = []struct {
	name string
	b    []byte
	want float64
}{
	{"50 frames", vps(0, 1, 50), 50},
	{"behind layer sets", vps(3, 1001, 60000), 60000.0 / 1001},
	{"2^32-2 layer sets", vps(1<<32-2, 1, 50), 0},
	{"units in tick 0", vps(0, 0, 50), 0},
	{"zeros", append([]byte{TypeVPS << 1, 1}, make([]byte, 60)...), 0},
	{"not a VPS", []byte{TypeSPS << 1, 1, 0xFF, 0xFF}, 0},
	{"missing", nil, 0},
}

func TestVPSFrameRate(t *testing.T) {
	for _, tt := range vpsCases {
		if got := VPSFrameRate(tt.b); got != tt.want {
			t.Errorf("%s: %v, want %v", tt.name, got, tt.want)
		}
	}
}

func checkSets(t *testing.T, b []byte) {
	t.Helper()
	if rate := VPSFrameRate(b); !(rate >= 0 && rate <= maxRate) {
		t.Fatalf("%x: %v frames a second", b, rate)
	}
	s, err := ParseSPS(b)
	if err != nil {
		if s != (SPS{}) {
			t.Fatalf("%x: both an error and %+v", b, s)
		}
		return
	}
	if s.Width <= 0 || s.Width > maxSide || s.Height <= 0 || s.Height > maxSide || s.BitDepth > maxDepth ||
		!(s.FrameRate >= 0 && s.FrameRate <= maxRate) {
		t.Fatalf("%x: %+v", b, s)
	}
}

func FuzzSets(f *testing.F) {
	for _, row := range setCases() {
		f.Add(row.b)
	}
	for _, row := range vpsCases {
		f.Add(row.b)
	}
	f.Fuzz(checkSets)
}

var units = []struct {
	name string
	b    string
	rap  media.RandomAccess
	rasl bool
	bad  bool
}{
	{"trailing picture", "\x00\x00\x00\x03\x02\x01\xAA", 0, false, false},
	{"BLA", "\x00\x00\x00\x03\x20\x01\xAA", media.Keyframe, false, false},
	{"IDR after SEI", "\x00\x00\x00\x03\x4E\x01\xAA\x00\x00\x00\x03\x26\x01\xAA", media.Keyframe, false, false},
	{"CRA", "\x00\x00\x00\x03\x2A\x01\xAA", media.Keyframe, false, false},
	{"IDR with parameter sets",
		"\x00\x00\x00\x03\x40\x01\xAA\x00\x00\x00\x03\x42\x01\xAA\x00\x00\x00\x03\x44\x01\xAA\x00\x00\x00\x03\x26\x01\xAA",
		media.Keyframe, false, false},
	{"SPS and PPS only", "\x00\x00\x00\x03\x42\x01\xAA\x00\x00\x00\x03\x44\x01\xAA", 0, false, false},
	{"RASL_N", "\x00\x00\x00\x03\x10\x01\xAA", 0, true, false},
	{"RASL_R", "\x00\x00\x00\x03\x12\x01\xAA", 0, true, false},
	{"RADL_N", "\x00\x00\x00\x03\x0C\x01\xAA", 0, false, false},
	{"RADL_R", "\x00\x00\x00\x03\x0E\x01\xAA", 0, false, false},
	{"reserved leading type", "\x00\x00\x00\x03\x14\x01\xAA", 0, false, true},
	{"reserved IRAP", "\x00\x00\x00\x03\x2C\x01\xAA", 0, false, true},
	{"unspecified type around IDR", "\x00\x00\x00\x03\x60\x01\xAA\x00\x00\x00\x03\x26\x01\xAA\x00\x00\x00\x03\x7E\x01\xAA",
		media.Keyframe, false, false},
	{"delimiter of two bytes", "\x00\x00\x00\x02\x46\x01\x00\x00\x00\x03\x26\x01\xAA", media.Keyframe, false,
		false},
	{"unit of one byte before IDR", "\x00\x00\x00\x01\x46\x00\x00\x00\x03\x26\x01\xAA", media.Keyframe, false,
		false},
	{"no temporal ID before IDR", "\x00\x00\x00\x03\x02\x00\xAA\x00\x00\x00\x03\x26\x01\xAA",
		media.Keyframe, false, false},
	{"zero bytes after IDR", "\x00\x00\x00\x03\x26\x01\xAA\x00\x00", media.Keyframe, false, false},
	{"header alone", "\x00\x00\x00\x02\x26\x01", 0, false, true},
	{"header truncated", "\x00\x00\x00\x01\x26", 0, false, true},
	{"forbidden bit", "\x00\x00\x00\x02\xA6\x01", 0, false, true},
	{"length above rest", "\x00\x00\x00\x09\x26\x01", 0, false, true},
	{"length 0 after IDR", "\x00\x00\x00\x03\x26\x01\xAA\x00\x00\x00\x00", media.Keyframe, false, false},
}

func TestRandomAccess(t *testing.T) {
	for _, tt := range units {
		rap, rasl, err := RandomAccess([]byte(tt.b), 4)
		if rap != tt.rap || rasl != tt.rasl || (err != nil) != tt.bad {
			t.Errorf("%s: %v, RASL %v, %v", tt.name, rap, rasl, err)
		}
	}
}

func TestRandomAccessDoesNotAllocate(t *testing.T) {
	unit := []byte(units[4].b)
	if n := testing.AllocsPerRun(100, func() { RandomAccess(unit, 4) }); n > 0 {
		t.Errorf("%v allocations", n)
	}
}

func FuzzHEVC(f *testing.F) {
	for _, r := range records {
		for _, u := range units {
			f.Add(unhex(f, r.hvcC), []byte(u.b))
		}
	}
	f.Fuzz(func(t *testing.T, hvcC, unit []byte) {
		c, err := ParseConfig(hvcC)
		if err != nil {
			return
		}
		if c.LengthSize < 1 || c.LengthSize > 4 {
			t.Fatalf("length size %d", c.LengthSize)
		}
		RandomAccess(unit, c.LengthSize)
		for _, set := range append(c.SPS, c.VPS...) {
			checkSets(t, set)
		}
		built, err := BuildConfig(c.VPS, c.SPS, c.PPS)
		if err != nil {
			return
		}
		again, err := ParseConfig(built)
		if err != nil || len(again.VPS) != len(c.VPS) || len(again.SPS) != len(c.SPS) || len(again.PPS) != len(c.PPS) {
			t.Errorf("built record: %v", err)
		}
	})
}
