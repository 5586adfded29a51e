package av1

import (
	"bytes"
	"encoding/hex"
	"slices"
	"testing"

	"livego/internal/codec/bits"
	"livego/internal/media"

	"github.com/google/go-cmp/cmp"
)

// Records as ffmpeg 5.1 writes them for libaom.
const (
	plain    = "81000c000a0a00000003b4fd936be401"
	hdr444   = "812040000a0d20000003b4fd936be584880488"
	grey     = "81001c000a0a00000003b4fd936be4a8"
	delimit  = "1200"
	sequence = "0a0a00000003b4fd936be401"
)

// records is the table of av1C records and the sequence header fields that ffprobe prints. It
// seeds the fuzz target.
var records = []struct {
	name, av1C string // hex
	bad        bool
	rfc        string // from the sequence header, "" without one
	want       SequenceHeader
}{
	{"Main 160x90", plain, false, "av01.0.00M.08",
		SequenceHeader{BitDepth: 8, SubsamplingX: true, SubsamplingY: true, Primaries: 2, Transfer: 2, Matrix: 2, Width: 160,
			Height: 90}},
	{"High 4:4:4 10 bit BT.2020 PQ", hdr444, false, "av01.1.00M.10.0.000.09.16.09.0",
		SequenceHeader{Profile: 1, BitDepth: 10, Primaries: 9, Transfer: 16, Matrix: 9, Width: 160, Height: 90}},
	{"monochrome, full range", grey, false, "av01.0.00M.08.1.110.02.02.02.1",
		SequenceHeader{BitDepth: 8, Monochrome: true, SubsamplingX: true, SubsamplingY: true, Primaries: 2, Transfer: 2,
			Matrix: 2, FullRange: true, Width: 160, Height: 90}},
	{"no OBUs", "81000c00", false, "", SequenceHeader{}},
	{"padding OBU", "81000c007a0100", false, "", SequenceHeader{}},
	{"marker 0", "01000c00", true, "", SequenceHeader{}},
	{"version 2", "82000c00", true, "", SequenceHeader{}},
	{"OBU above rest", "81000c000a0b00", true, "", SequenceHeader{}},
	{"truncated", "81000c", true, "", SequenceHeader{}},
	{"empty", "", true, "", SequenceHeader{}},
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
			record := unhex(t, tt.av1C)
			c, err := ParseConfig(record)
			if (err != nil) != tt.bad {
				t.Fatalf("%+v, %v", c, err)
			}
			if tt.rfc == "" {
				return
			}
			s, err := ParseSequenceHeader(c.SequenceHeader)
			if diff := cmp.Diff(tt.want, s); err != nil || diff != "" {
				t.Errorf("%v\n%s", err, diff)
			}
			if got := s.RFC6381(); got != tt.rfc {
				t.Errorf("%s, want %s", got, tt.rfc)
			}
			if got := c.RFC6381(); got != tt.rfc[:len(got)] {
				t.Errorf("the record says %s", got)
			}
			built, err := buildConfig(append(unhex(t, delimit), record[4:]...))
			if err != nil || !bytes.Equal(built, record) {
				t.Errorf("built %x, %v", built, err)
			}
		})
	}
}

// header returns a sequence header with all optional fields, including the frame duration.
func header(ticks func(w *bits.Writer), points uint32) []byte {
	var w bits.Writer
	w.U(3, 2) // Professional
	w.U(2, 0)
	w.U(1, 1) // timing
	ticks(&w)
	w.U(1, 1)  // decoder model
	w.U(5, 9)  // delays of 10 bits
	w.U(32, 1) // num_units_in_decoding_tick
	w.U(10, 0) // lengths
	w.U(1, 1)  // initial display delay
	w.U(5, points-1)
	for range points {
		w.U(12, 1)
		w.U(5, 13)
		w.U(1, 1)  // high tier
		w.U(1, 1)  // decoder model
		w.U(21, 0) // delays, low_delay_mode_flag
		w.U(1, 1)  // delay
		w.U(4, 3)
	}
	w.U(4, 11)
	w.U(4, 10)
	w.U(12, 3839)
	w.U(11, 2047)
	w.U(1, 1) // frame ids
	w.U(7, 0)
	w.U(3, 0)
	w.U(4, 0)
	w.U(1, 1) // order hint
	w.U(2, 0)
	w.U(3, 0b010) // screen content tools: chosen, on; integer vectors: chosen
	w.U(1, 1)
	w.U(3, 6)
	w.U(3, 0)
	w.U(2, 3) // 12 bits
	w.U(1, 0)
	w.U(1, 0)    // no colour description
	w.U(1, 0)    // limited range
	w.U(2, 0b10) // 4:2:2
	w.U(2, 0)
	return w.Bytes()
}

// timing writes timing_info for frames of ticks+1 ticks, with ticks below 1.
func timing(units, scale uint32) func(w *bits.Writer) {
	return func(w *bits.Writer) {
		w.U(32, units)
		w.U(32, scale)
		w.U(2, 3) // equal_picture_interval, and uvlc 0
	}
}

func sequenceCases(t testing.TB) map[string]struct {
	b    []byte
	want SequenceHeader
} {
	full := SequenceHeader{Profile: 2, Level: 13, HighTier: true, BitDepth: 12, SubsamplingX: true, Primaries: 2,
		Transfer: 2, Matrix: 2, Width: 3840, Height: 2048}
	at := func(rate float64) SequenceHeader {
		s := full
		s.FrameRate = rate
		return s
	}
	still := SequenceHeader{Level: 9, BitDepth: 8, SubsamplingX: true, SubsamplingY: true, Primaries: 2, Transfer: 2,
		Matrix: 2, Width: 4, Height: 8}
	return map[string]struct {
		b    []byte
		want SequenceHeader
	}{
		"all options":           {header(timing(1001, 60000), 1), at(60000.0 / 1001)},
		"32 operating points":   {header(timing(1, 25), 32), at(25)},
		"reduced still picture": {[]byte{0b000_1_1_010, 0b01_0001_00, 0b10_11_111_0, 0, 0}, still},
		"units in tick 0":       {header(timing(0, 25), 1), full},
		"time scale 0":          {header(timing(1, 0), 1), full},
		"2^32-1 frames":         {header(timing(1, 1<<32-1), 1), full},
		"2^32-1 ticks a frame": {header(func(w *bits.Writer) { w.U(32, 1); w.U(32, 25); w.U(1, 1); w.U(32, 0) }, 1),
			SequenceHeader{}},
		"unequal frames":   {header(func(w *bits.Writer) { w.U(32, 1); w.U(32, 25); w.U(1, 0) }, 1), full},
		"reserved profile": {[]byte{0xF8, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF}, SequenceHeader{}},
		"truncated":        {unhex(t, sequence)[2:8], SequenceHeader{}},
		"empty":            {nil, SequenceHeader{}},
	}
}

func TestParseSequenceHeader(t *testing.T) {
	for name, tt := range sequenceCases(t) {
		s, err := ParseSequenceHeader(tt.b)
		if diff := cmp.Diff(tt.want, s); diff != "" || (err != nil) != (tt.want == SequenceHeader{}) {
			t.Errorf("%s: %v\n%s", name, err, diff)
		}
	}
	s, err := ParseSequenceHeader(header(timing(1, 25), 1))
	if want := "av01.2.13H.12.0.100.02.02.02.0"; err != nil || s.RFC6381() != want || s.ProfileName() != "Professional" {
		t.Errorf("%s, %s, %v, want %s", s.RFC6381(), s.ProfileName(), err, want)
	}
}

// units is the table of temporal units. It seeds the fuzz target.
var units = []struct {
	name, hex string
	want      media.RandomAccess
	bad       bool
}{
	{"sequence header and key frame", sequence + "320210ff", media.Keyframe, false},
	{"delimiter, sequence header, key frame header", delimit + sequence + "1a0210ff", media.Keyframe, false},
	{"key frame to the end", sequence + "3010ff", media.Keyframe, false},
	{"layer with extension", sequence + "36000210ff", media.Keyframe, false},
	{"still picture", "0a0118" + "320200ff", media.Keyframe, false},
	{"without sequence header", "320210ff", media.NoRandomAccess, false},
	{"sequence header behind", "320210ff" + sequence, media.NoRandomAccess, false},
	{"key frame that is not shown", sequence + "320200ff", media.NoRandomAccess, false},
	{"inter frame", sequence + "320230ff", media.NoRandomAccess, false},
	{"intra-only frame", sequence + "320250ff", media.NoRandomAccess, false},
	{"key frame shown again", sequence + "320290ff", media.NoRandomAccess, false},
	{"inter, then key frame", sequence + "320230ff320210ff", media.NoRandomAccess, false},
	{"frame without content", sequence + "3200", media.NoRandomAccess, false},
	{"delimiter alone", delimit, media.NoRandomAccess, false},
	{"size in 8 bytes", "0a8a80808080808000" + sequence[4:] + "320210ff", media.Keyframe, false},
	{"size in 9 bytes", "0a8a8080808080808000" + sequence[4:], 0, true},
	{"size 2^32", "3280808080100000", 0, true},
	{"size 2^56-1", "32ffffffffffffff7f", 0, true},
	{"size above rest", "320310ff", 0, true},
	{"size truncated", "3280", 0, true},
	{"extension truncated", "36", 0, true},
	{"forbidden bit", "b20210ff", 0, true},
	{"empty", "", 0, true},
}

func TestRandomAccess(t *testing.T) {
	for _, tt := range units {
		got, err := RandomAccess(unhex(t, tt.hex))
		if got != tt.want || (err != nil) != tt.bad {
			t.Errorf("%s: %v, %v", tt.name, got, err)
		}
	}
	if b, err := buildConfig(unhex(t, "320210ff")); err == nil {
		t.Errorf("built %x without a sequence header", b)
	}
}

func TestRandomAccessDoesNotAllocate(t *testing.T) {
	unit := unhex(t, units[0].hex)
	if n := testing.AllocsPerRun(100, func() { RandomAccess(unit) }); n > 0 {
		t.Errorf("%v allocations", n)
	}
}

func FuzzUnit(f *testing.F) {
	for _, tt := range units {
		f.Add(unhex(f, tt.hex))
	}
	for _, tt := range records {
		f.Add(unhex(f, tt.av1C))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if rap, err := RandomAccess(b); err != nil && rap != media.NoRandomAccess {
			t.Errorf("both %v and %v", rap, err)
		}
		if built, err := buildConfig(b); err == nil {
			c, err := ParseConfig(built)
			if err != nil || !slices.Equal(c.SequenceHeader, findSequenceHeader(b)) {
				t.Errorf("built record %x: %v", built, err)
			}
		}
		if c, err := ParseConfig(b); err == nil && c.SequenceHeader != nil {
			checkSequenceHeader(t, c.SequenceHeader)
		}
	})
}

func checkSequenceHeader(t *testing.T, b []byte) {
	s, err := ParseSequenceHeader(b)
	if err != nil {
		return
	}
	if s.Width < 1 || s.Width > 1<<16 || s.Height < 1 || s.Height > 1<<16 || s.BitDepth > 12 ||
		!(s.FrameRate >= 0 && s.FrameRate <= maxRate) {
		t.Errorf("%x: %+v", b, s)
	}
}

func FuzzParseSequenceHeader(f *testing.F) {
	for _, tt := range sequenceCases(f) {
		f.Add(tt.b)
	}
	f.Fuzz(checkSequenceHeader)
}

// findSequenceHeader returns the payload of the first sequence header OBU of a temporal unit, nil
// if it has none.
func findSequenceHeader(unit []byte) []byte {
	for len(unit) > 0 {
		o, rest, err := Next(unit)
		switch {
		case err != nil:
			return nil
		case o.Type == TypeSequenceHeader:
			return o.Payload
		}
		unit = rest
	}
	return nil
}

// buildConfig returns the av1C record for a stream, from a temporal unit with its sequence
// header.
func buildConfig(unit []byte) ([]byte, error) {
	header := findSequenceHeader(unit)
	s, err := ParseSequenceHeader(header)
	if err != nil {
		return nil, err
	}
	var w bits.Writer
	w.U(8, 0x81)
	w.U(3, uint32(s.Profile))
	w.U(5, uint32(s.Level))
	w.U(1, flag(s.HighTier))
	w.U(1, flag(s.BitDepth > 8))
	w.U(1, flag(s.BitDepth == 12))
	w.U(1, flag(s.Monochrome))
	w.U(1, flag(s.SubsamplingX))
	w.U(1, flag(s.SubsamplingY))
	w.U(2, uint32(s.ChromaPosition))
	w.U(8, 0) // no initial_presentation_delay
	b := append(w.Bytes(), TypeSequenceHeader<<3|2)
	for n := len(header); ; n >>= 7 {
		if n < 0x80 {
			b = append(b, byte(n))
			break
		}
		b = append(b, byte(n)|0x80)
	}
	return append(b, header...), nil
}
