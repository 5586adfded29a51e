package aac

import (
	"bytes"
	"encoding/hex"
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

// configs is the table of AudioSpecificConfigs. It seeds the fuzz target.
var configs = []struct {
	name string
	asc  string // hex
	want Config // zero: an error
	rfc  string
	adts string // ADTS header of a 5-byte frame in hex; "" if ADTS cannot express it
}{
	{"LC 44100 stereo", "1210", Config{ObjectType: 2, SampleRate: 44100, OutputRate: 44100, Channels: 2,
		FrameSamples: 1024},
		"mp4a.40.2", "fff15080019ffc"},
	{"LC 8000 mono", "1588", Config{ObjectType: 2, SampleRate: 8000, OutputRate: 8000, Channels: 1, FrameSamples: 1024},
		"mp4a.40.2", "fff16c40019ffc"},
	{"LC 48000 5.1, SBR denied", "11b056e500",
		Config{ObjectType: 2, SampleRate: 48000, OutputRate: 48000, Channels: 6, FrameSamples: 1024},
		"mp4a.40.2", "fff14d80019ffc"},
	{"LC 96000 7.1", "1038", Config{ObjectType: 2, SampleRate: 96000, OutputRate: 96000, Channels: 8, FrameSamples: 1024},
		"mp4a.40.2", "fff141c0019ffc"},
	{"LC 960 samples", "1214", Config{ObjectType: 2, SampleRate: 44100, OutputRate: 44100, Channels: 2, FrameSamples: 960},
		"mp4a.40.2", ""},
	{"LC 2.1 by PCE with comment", "118004c401002000" + "0d4c61766335392e33372e31303056e500",
		Config{ObjectType: 2, SampleRate: 48000, OutputRate: 48000, Channels: 3, FrameSamples: 1024},
		"mp4a.40.2", "fff14c00027ffc" + "a0988020040000"},
	{"HE-AAC explicit", "2b920800", Config{ObjectType: 2, SBR: true, SampleRate: 22050, OutputRate: 44100, Channels: 2,
		FrameSamples: 1024},
		"mp4a.40.5", "fff15c80019ffc"},
	{"HE-AAC v2 explicit, mono core", "eb8a0800",
		Config{ObjectType: 2, SBR: true, PS: true, SampleRate: 22050, OutputRate: 44100, Channels: 2, FrameSamples: 1024},
		"mp4a.40.29", "fff15c40019ffc"},
	{"HE-AAC backward compatible", "139056e5a0",
		Config{ObjectType: 2, SBR: true, SampleRate: 22050, OutputRate: 44100, Channels: 2, FrameSamples: 1024},
		"mp4a.40.5", "fff15c80019ffc"},
	{"HE-AAC v2 backward compatible", "138856e5a54880",
		Config{ObjectType: 2, SBR: true, PS: true, SampleRate: 22050, OutputRate: 44100, Channels: 2, FrameSamples: 1024},
		"mp4a.40.29", "fff15c40019ffc"},
	{"explicit rate with index", "1780562210",
		Config{ObjectType: 2, SampleRate: 44100, OutputRate: 44100, Channels: 2, FrameSamples: 1024},
		"mp4a.40.2", "fff15080019ffc"},
	{"explicit rate without index", "1780562190",
		Config{ObjectType: 2, SampleRate: 44099, OutputRate: 44099, Channels: 2, FrameSamples: 1024},
		"mp4a.40.2", ""},
	{"explicit rate 0", "1780000010", Config{}, "", ""},
	{"explicit rate 2^24-1", "17ffffff90", Config{}, "", ""},
	{"LD 480 samples", "b98c00", Config{ObjectType: 23, SampleRate: 48000, OutputRate: 48000, Channels: 1,
		FrameSamples: 480},
		"mp4a.40.23", ""},
	{"ELD by escape", "f8e62000", Config{ObjectType: 39, SampleRate: 48000, OutputRate: 48000, Channels: 1},
		"mp4a.40.39", ""},
	{"reserved rate index 13", "1690", Config{}, "", ""},
	{"reserved channels 15", "1278", Config{}, "", ""},
	{"object type 0", "0210", Config{}, "", ""},
	{"channels by missing PCE", "1200", Config{}, "", ""},
	{"PCE without channels", "12000000000000000000", Config{}, "", ""},
	{"PCE comment above rest", "118004c401002000ff", Config{}, "", ""},
	{"one byte", "12", Config{}, "", ""},
	{"empty", "", Config{}, "", ""},
}

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestParseConfig(t *testing.T) {
	for _, tt := range configs {
		t.Run(tt.name, func(t *testing.T) {
			c, err := ParseConfig(unhex(t, tt.asc))
			if tt.want.ObjectType == 0 {
				if err == nil {
					t.Fatalf("no error, got %+v", c)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(&tt.want, c, cmpopts.IgnoreUnexported(Config{})); diff != "" {
				t.Error(diff)
			}
			if got := c.RFC6381(); got != tt.rfc {
				t.Errorf("RFC6381 is %q, want %q", got, tt.rfc)
			}
			got, err := c.AppendADTS(nil, []byte("frame"))
			if want := tt.adts; want == "" && err == nil || want != "" &&
				hex.EncodeToString(got) != want+hex.EncodeToString([]byte("frame")) {
				t.Errorf("ADTS %x, %v, want %s", got, err, tt.adts)
			}
		})
	}
}

// adtsHeaders is the table of ADTS frames. It seeds the fuzz target.
var adtsHeaders = []struct {
	name, b string // hex
	want    ADTS   // zero: an error
	asc     string // "" if the frame has no channel layout
}{
	{"LC 44100 stereo", "fff15080019ffc",
		ADTS{ObjectType: 2, SampleRate: 44100, Channels: 2, HeaderLength: 7, Length: 12, Blocks: 1}, "1210"},
	{"MPEG-2, check sum", "fff84c80019ffc0000",
		ADTS{ObjectType: 2, SampleRate: 48000, Channels: 2, HeaderLength: 9, Length: 12, Blocks: 1}, "1190"},
	{"7.1", "fff141c0019ffc", ADTS{ObjectType: 2, SampleRate: 96000, Channels: 8, HeaderLength: 7, Length: 12, Blocks: 1},
		"1038"},
	{"four blocks, check sum", "fff0508001fffF",
		ADTS{ObjectType: 2, SampleRate: 44100, Channels: 2, HeaderLength: 15, Length: 15, Blocks: 4}, "1210"},
	{"2.1 by PCE", "fff14c00027ffc" + "a0988020040000" + "01",
		ADTS{ObjectType: 2, SampleRate: 48000, HeaderLength: 7, Length: 19, Blocks: 1}, "118004c40100200000"},
	{"PCE missing", "fff14c00027ffc" + "210049900219002380",
		ADTS{ObjectType: 2, SampleRate: 48000, HeaderLength: 7, Length: 19, Blocks: 1}, ""},
	{"PCE truncated", "fff14c00027ffc" + "a09880",
		ADTS{ObjectType: 2, SampleRate: 48000, HeaderLength: 7, Length: 19, Blocks: 1}, ""},
	{"reserved rate", "fff17480019ffc", ADTS{}, ""},
	{"length 6", "fff1508000dffc", ADTS{}, ""},
	{"length 8 with check sum", "fff05080011ffc", ADTS{}, ""},
	{"layer 1", "fff75080019ffc", ADTS{}, ""},
	{"no sync word", "ffe15080019ffc", ADTS{}, ""},
	{"truncated", "fff15080019f", ADTS{}, ""},
	{"empty", "", ADTS{}, ""},
}

func TestParseADTS(t *testing.T) {
	for _, tt := range adtsHeaders {
		b := unhex(t, tt.b)
		h, err := ParseADTS(b)
		if diff := cmp.Diff(tt.want, h, cmpopts.IgnoreUnexported(ADTS{})); diff != "" || (err != nil) != (tt.want == ADTS{}) {
			t.Errorf("%s: %v\n%s", tt.name, err, diff)
		}
		if err != nil {
			continue
		}
		asc, err := h.Config(b[min(len(b), h.HeaderLength):])
		if hex.EncodeToString(asc) != tt.asc || (err != nil) != (tt.asc == "") {
			t.Errorf("%s: configuration %x, %v, want %s", tt.name, asc, err, tt.asc)
		}
	}
}

// TestADTSRoundTrip parses what AppendADTS writes.
func TestADTSRoundTrip(t *testing.T) {
	for _, tt := range configs {
		if tt.adts == "" {
			continue
		}
		b := unhex(t, tt.adts)
		h, err := ParseADTS(b)
		if err != nil {
			t.Fatalf("%s: %v", tt.name, err)
		}
		asc, err := h.Config(b[h.HeaderLength:])
		if err != nil {
			t.Fatalf("%s: %v", tt.name, err)
		}
		c, err := ParseConfig(asc)
		if err != nil || c.SampleRate != tt.want.SampleRate || c.ObjectType != tt.want.ObjectType || c.FrameSamples != 1024 {
			t.Errorf("%s: %x is %+v, %v", tt.name, asc, c, err)
		}
		if cores := tt.want.Channels; !tt.want.PS && c.Channels != cores {
			t.Errorf("%s: %d channels, want %d", tt.name, c.Channels, cores)
		}
	}
}

func FuzzADTS(f *testing.F) {
	for _, tt := range adtsHeaders {
		f.Add(unhex(f, tt.b))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		h, err := ParseADTS(b)
		if err != nil {
			return
		}
		if h.Length < h.HeaderLength || h.Length > maxADTS || !validRate(h.SampleRate) {
			t.Errorf("%+v", h)
		}
		asc, err := h.Config(b[min(len(b), h.HeaderLength):])
		if err != nil {
			return
		}
		if c, err := ParseConfig(asc); err != nil || c.SampleRate != h.SampleRate || h.Channels != 0 &&
			c.Channels != h.Channels {
			t.Errorf("%+v: %x is %+v, %v", h, asc, c, err)
		}
	})
}

func TestProfileName(t *testing.T) {
	for asc, want := range map[string]string{"1210": "LC", "2b920800": "HE-AAC", "eb8a0800": "HE-AACv2", "b98c00": "LD",
		"f8e62000": "ELD"} {
		c, err := ParseConfig(unhex(t, asc))
		if err != nil || c.ProfileName() != want {
			t.Errorf("%s: %q, %v, want %q", asc, c.ProfileName(), err, want)
		}
	}
}

// TestADTSLength appends frames around the largest length that ADTS can express.
func TestADTSLength(t *testing.T) {
	c, err := ParseConfig(unhex(t, "1210"))
	if err != nil {
		t.Fatal(err)
	}
	dst := []byte("before")
	for _, n := range []int{0, 1, maxADTS - 7, maxADTS - 6, 1 << 16} {
		got, err := c.AppendADTS(dst, make([]byte, n))
		if n+7 > maxADTS {
			if !errors.Is(err, ErrTooLarge) || !bytes.Equal(got, dst) {
				t.Errorf("%d bytes: %d bytes, %v", n, len(got), err)
			}
			continue
		}
		h := got[len(dst):]
		if size := int(h[3]&3)<<11 | int(h[4])<<3 | int(h[5])>>5; err != nil || size != n+7 || len(h) != size {
			t.Errorf("%d bytes: length field %d, %v", n, size, err)
		}
	}
}

func FuzzParseConfig(f *testing.F) {
	for _, tt := range configs {
		f.Add(unhex(f, tt.asc))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := ParseConfig(b)
		if err != nil {
			return
		}
		if !validRate(c.SampleRate) || !validRate(c.OutputRate) || c.Channels <= 0 {
			t.Errorf("%+v", c)
		}
		if _, err := c.AppendADTS(nil, b); (err == nil) != (c.CheckADTS() == nil) && !errors.Is(err, ErrTooLarge) {
			t.Errorf("%+v: %v", c, err)
		}
	})
}
