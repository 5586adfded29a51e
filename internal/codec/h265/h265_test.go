package h265

import (
	"bytes"
	"testing"

	"livego/internal/media"
)

// record returns an hvcC with the given last byte of its fixed part, and what follows it.
func record(lengthSizeMinusOne, arrays byte, rest string) []byte {
	b := append(bytes.Repeat([]byte{1}, 21), 0xFC|lengthSizeMinusOne, arrays)
	return append(b, rest...)
}

var records = []struct {
	name string
	hvcC []byte
	want int // 0: refused
}{
	{"no arrays", record(3, 0, ""), 4},
	{"length size 1", record(0, 0, ""), 1},
	{"length size 3", record(2, 0, ""), 0},
	{"VPS and SPS", record(3, 2, "\xA0\x00\x01\x00\x02\x40\x01\xA1\x00\x01\x00\x03\x42\x01\x01"), 4},
	{"V10 255 arrays", record(3, 255, "\xA0\x00\x01\x00\x02\x40\x01"), 0},
	{"V10 65535 units", record(3, 1, "\xA0\xFF\xFF\x00\x02\x40\x01"), 0},
	{"V10 unit above rest", record(3, 1, "\xA0\x00\x01\xFF\xFF\x40\x01"), 0},
	{"V10 unit of length 0", record(3, 1, "\xA0\x00\x01\x00\x00"), 0},
	{"cut", record(3, 0, "")[:22], 0},
	{"empty", nil, 0},
}

func TestLengthSize(t *testing.T) {
	for _, tt := range records {
		got, err := LengthSize(tt.hvcC)
		if got != tt.want || (err != nil) != (tt.want == 0) {
			t.Errorf("%s: %d, %v, want %d", tt.name, got, err, tt.want)
		}
	}
}

var units = []struct {
	name string
	b    string
	want media.RandomAccess
	bad  bool
}{
	{"trailing picture", "\x00\x00\x00\x03\x02\x01\xAA", media.NoAccess, false},
	{"BLA", "\x00\x00\x00\x03\x20\x01\xAA", media.Key, false},
	{"IDR after SEI", "\x00\x00\x00\x03\x4E\x01\xAA\x00\x00\x00\x03\x26\x01\xAA", media.Key, false},
	{"CRA", "\x00\x00\x00\x03\x2A\x01\xAA", media.Key, false},
	{"reserved IRAP", "\x00\x00\x00\x03\x2C\x01\xAA", media.NoAccess, false},
	{"header cut", "\x00\x00\x00\x01\x26", 0, true},
	{"forbidden bit", "\x00\x00\x00\x02\xA6\x01", 0, true},
	{"length above rest", "\x00\x00\x00\x09\x26\x01", 0, true},
}

func TestRandomAccess(t *testing.T) {
	for _, tt := range units {
		got, err := RandomAccess([]byte(tt.b), 4)
		if got != tt.want || (err != nil) != tt.bad {
			t.Errorf("%s: %v, %v", tt.name, got, err)
		}
	}
}

func FuzzHEVC(f *testing.F) {
	for _, r := range records {
		for _, u := range units {
			f.Add(r.hvcC, []byte(u.b))
		}
	}
	f.Fuzz(func(t *testing.T, hvcC, unit []byte) {
		size, err := LengthSize(hvcC)
		if err == nil && (size < 1 || size > 4) {
			t.Fatalf("length size %d", size)
		}
		RandomAccess(unit, size)
	})
}
