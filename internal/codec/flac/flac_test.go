package flac

import (
	"encoding/hex"
	"testing"
)

// head is "fLaC" and the header of a STREAMINFO block, in hex.
const head = "664c6143" + "80000022"

// infos is the table of configurations. It seeds the fuzz target. The first is ffmpeg's.
var infos = []struct {
	name, b string     // hex
	want    StreamInfo // zero: an error
}{
	{"44100 stereo 16 bits", head + "10001000" + "000000000000" + "0ac442f000000000" + "00000000000000000000000000000000",
		StreamInfo{4096, 4096, 44100, 2, 16}},
	{"96000 5.1 24 bits, more blocks",
		"664c6143" + "00000022" + "00101000" + "000000000000" + "17700b7000000000" + "00000000000000000000000000000000" +
			"84000000",
		StreamInfo{16, 4096, 96000, 6, 24}},
	{"rate 0", head + "10001000" + "000000000000" + "000002f000000000" + "00000000000000000000000000000000", StreamInfo{}},
	{"block size 15", head + "000f1000" + "000000000000" + "0ac442f000000000" + "00000000000000000000000000000000",
		StreamInfo{}},
	{"largest below smallest", head + "10000fff" + "000000000000" + "0ac442f000000000" +
		"00000000000000000000000000000000", StreamInfo{}},
	{"3 bits", head + "10001000" + "000000000000" + "0ac4422000000000" + "00000000000000000000000000000000", StreamInfo{}},
	{"another block first", "664c6143" + "84000022" + "10001000" + "000000000000" + "0ac442f000000000" +
		"00000000000000000000000000000000", StreamInfo{}},
	{"no marker", "4f676753" + "80000022" + "10001000" + "000000000000" + "0ac442f000000000" +
		"00000000000000000000000000000000", StreamInfo{}},
	{"truncated", head + "10001000" + "000000000000" + "0ac442f000000000" + "000000000000000000000000000000",
		StreamInfo{}},
	{"empty", "", StreamInfo{}},
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
	for _, tt := range infos {
		if i, err := ParseConfig(unhex(t, tt.b)); i != tt.want || (err != nil) != (tt.want == StreamInfo{}) {
			t.Errorf("%s: %+v, %v, want %+v", tt.name, i, err, tt.want)
		}
	}
}

func FuzzParseConfig(f *testing.F) {
	for _, tt := range infos {
		f.Add(unhex(f, tt.b))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		i, err := ParseConfig(b)
		if err == nil && (i.SampleRate <= 0 || i.Channels < 1 || i.Channels > 8 || i.BitDepth > 32 || i.MaxBlock > 65535) {
			t.Errorf("%+v", i)
		}
	})
}

// frames is the table of frame headers. It seeds the fuzz target.
var frames = []struct {
	name, b string
	want    int // 0: an error
}{
	{"4096", "\xFF\xF8\xC9\x18\x00", 4096},
	{"variable 4608", "\xFF\xF9\x59\x18\x00", 4608},
	{"192", "\xFF\xF8\x19\x18\x00", 192},
	{"576", "\xFF\xF8\x29\x18\x00", 576},
	{"256", "\xFF\xF8\x89\x18\x00", 256},
	{"32768", "\xFF\xF8\xF9\x18\x00", 32768},
	{"8 bits behind a number of 1 byte", "\xFF\xF8\x69\x18\x7F\x0F", 16},
	{"16 bits behind a number of 2 bytes", "\xFF\xF8\x79\x18\xC2\x80\x05\xFF", 1536},
	{"16 bits behind a number of 7 bytes", "\xFF\xF9\x79\x18\xFE\x80\x80\x80\x80\x80\x80\x00\xFF", 256},
	{"65536", "\xFF\xF8\x79\x18\x00\xFF\xFF", 0},
	{"number of 8 bytes", "\xFF\xF8\x79\x18\xFF\x80\x80\x80\x80\x80\x80\x80\x00\xFF", 0},
	{"number begins in its middle", "\xFF\xF8\x69\x18\x80\x0F", 0},
	{"size truncated", "\xFF\xF8\x79\x18\x00\x05", 0},
	{"reserved size", "\xFF\xF8\x09\x18\x00", 0},
	{"reserved bit", "\xFF\xFA\xC9\x18\x00", 0},
	{"truncated", "\xFF\xF8\xC9\x18", 0},
	{"empty", "", 0},
}

func TestSamples(t *testing.T) {
	for _, tt := range frames {
		if n, err := Samples([]byte(tt.b)); n != tt.want || (err != nil) != (tt.want == 0) {
			t.Errorf("%s: %d, %v, want %d", tt.name, n, err, tt.want)
		}
	}
}

func FuzzSamples(f *testing.F) {
	for _, tt := range frames {
		f.Add([]byte(tt.b))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if n, err := Samples(b); n < 0 || n > 1<<16-1 || (err != nil) != (n == 0) {
			t.Errorf("%x: %d, %v", b, n, err)
		}
	})
}
