package nal

import (
	"bytes"
	"slices"
	"testing"
)

func TestNext(t *testing.T) {
	tests := []struct {
		name       string
		b          []byte
		lengthSize int
		want       []string // nil: an error somewhere
	}{
		{"one byte lengths", []byte("\x02ab\x01c"), 1, []string{"ab", "c"}},
		{"two byte lengths", []byte("\x00\x02ab\x00\x01c"), 2, []string{"ab", "c"}},
		{"three byte lengths", []byte("\x00\x00\x02ab"), 3, []string{"ab"}},
		{"four byte lengths", []byte("\x00\x00\x00\x02ab"), 4, []string{"ab"}},
		{"V06 length 0", []byte("\x00\x00\x00\x00"), 4, nil},
		{"V06 length 0xFFFFFFFF", []byte("\xFF\xFF\xFF\xFFab"), 4, nil},
		{"V06 length above rest", []byte("\x00\x00\x00\x03ab"), 4, nil},
		{"cut length", []byte("\x00\x00\x00\x01a\x00"), 4, nil},
		{"length size 0", []byte("ab"), 0, nil},
		{"length size 5", []byte("\x00\x00\x00\x00\x01a"), 5, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var got []string
			for b := tt.b; len(b) > 0; {
				unit, rest, err := Next(b, tt.lengthSize)
				if err != nil {
					if tt.want != nil {
						t.Fatal(err)
					}
					return
				}
				got, b = append(got, string(unit)), rest
			}
			if tt.want == nil {
				t.Fatalf("no error, got %q", got)
			}
			for i := range tt.want {
				if got[i] != tt.want[i] {
					t.Errorf("unit %d is %q, want %q", i, got[i], tt.want[i])
				}
			}
		})
	}
}

func TestUnescape(t *testing.T) {
	tests := []struct{ in, want string }{
		{"", ""},
		{"\x00\x00\x03", "\x00\x00"},
		{"a\x00\x00\x03\x01b", "a\x00\x00\x01b"},
		{"\x00\x00\x03\x00\x00\x03\x00\x00\x03", "\x00\x00\x00\x00\x00\x00"},
		{"\x00\x00\x00\x03\x03", "\x00\x00\x00\x03"},
		{"\x00\x03\x00\x03", "\x00\x03\x00\x03"},
	}
	for _, tt := range tests {
		in := []byte(tt.in)
		if got := Unescape(in, 1<<10); string(got) != tt.want {
			t.Errorf("Unescape(%q) = %q, want %q", tt.in, got, tt.want)
		}
		if !bytes.Equal(in, []byte(tt.in)) {
			t.Errorf("Unescape changed its argument %q", tt.in)
		}
	}
	if got := Unescape(make([]byte, 100), 7); len(got) != 7 {
		t.Errorf("limit 7 gave %d bytes", len(got))
	}
}

var streams = []struct {
	name, b string
	want    []string
}{
	{"three and four byte start codes", "\x00\x00\x00\x01ab\x00\x00\x01c", []string{"ab", "c"}},
	{"zeros behind a unit", "\x00\x00\x01ab\x00\x00\x00\x00\x00\x01c\x00", []string{"ab", "c"}},
	{"bytes before the first", "xy\x00\x00\x01a", []string{"a"}},
	{"zeros within", "\x00\x00\x01a\x00\x00\x03\x01", []string{"a\x00\x00\x03\x01"}},
	{"empty units", "\x00\x00\x01\x00\x00\x01\x00\x00\x01a", []string{"a"}},
	{"start code alone", "\x00\x00\x01", nil},
	{"no start code", "abc", nil},
	{"empty", "", nil},
}

func TestNextAnnexB(t *testing.T) {
	for _, tt := range streams {
		var got []string
		for unit, rest := NextAnnexB([]byte(tt.b)); unit != nil; unit, rest = NextAnnexB(rest) {
			got = append(got, string(unit))
		}
		if !slices.Equal(got, tt.want) {
			t.Errorf("%s: %q, want %q", tt.name, got, tt.want)
		}
	}
}

func FuzzNextAnnexB(f *testing.F) {
	for _, tt := range streams {
		f.Add([]byte(tt.b))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		taken := 0
		for unit, rest := NextAnnexB(b); unit != nil; unit, rest = NextAnnexB(rest) {
			if taken += len(unit) + 3; len(unit) == 0 || taken+len(rest) > len(b) {
				t.Fatalf("%d bytes taken and %d left of %d", taken, len(rest), len(b))
			}
		}
	})
}
