package nal

import (
	"bytes"
	"slices"
	"testing"
)

// walks is the table of access units and their NAL units. It seeds the fuzz target of Clean.
var walks = []struct {
	name       string
	b          string
	lengthSize int
	want       []string
	bad        bool // an error follows them
}{
	{"one byte lengths", "\x02ab\x01c", 1, []string{"ab", "c"}, false},
	{"two byte lengths", "\x00\x02ab\x00\x01c", 2, []string{"ab", "c"}, false},
	{"three byte lengths", "\x00\x00\x02ab", 3, []string{"ab"}, false},
	{"four byte lengths", "\x00\x00\x00\x02ab", 4, []string{"ab"}, false},
	{"nothing", "", 4, nil, false},
	{"length 0", "\x00\x00\x00\x00", 4, nil, false},
	{"length 0 between", "\x00\x00\x00\x02ab\x00\x00\x00\x00\x00\x00\x00\x01c", 4, []string{"ab", "c"}, false},
	{"length 0xFFFFFFFF", "\xFF\xFF\xFF\xFFab", 4, nil, true},
	{"length above rest", "\x00\x00\x00\x01a\x00\x00\x00\x03ab", 4, []string{"a"}, true},
	{"two zero bytes at the end", "\x00\x00\x00\x01a\x00\x00", 4, []string{"a"}, false},
	{"nine zero bytes at the end", "\x00\x00\x00\x01a\x00\x00\x00\x00\x00\x00\x00\x00\x00", 4, []string{"a"}, false},
	{"three bytes at the end", "\x00\x00\x00\x01abcd", 4, []string{"a"}, false},
	{"four bytes at the end", "\x00\x00\x00\x01abcde", 4, []string{"a"}, true},
	{"a unit that is refused", "\x00\x00\x00\x01a\x00\x00\x00\x02xx\x00\x00\x00\x01c", 4, []string{"a", "xx", "c"}, false},
	{"the first is refused", "\x02xx\x01a\x00", 1, []string{"xx", "a"}, false},
	{"length size 0", "ab", 0, nil, true},
	{"length size 5", "\x00\x00\x00\x00\x01a", 5, nil, true},
}

func TestNext(t *testing.T) {
	for _, tt := range walks {
		t.Run(tt.name, func(t *testing.T) {
			var got []string
			for b := []byte(tt.b); ; {
				unit, rest, err := Next(b, tt.lengthSize)
				if unit == nil || err != nil {
					if (err != nil) != tt.bad || !slices.Equal(got, tt.want) {
						t.Fatalf("%q, %v", got, err)
					}
					return
				}
				got, b = append(got, string(unit)), rest
			}
		})
	}
}

func TestCut(t *testing.T) {
	for _, tt := range []struct {
		b    string
		unit string // "": an error
	}{
		{"\x00\x02ab\x00\x01c", "ab"}, {"\x00\x00", ""}, {"\x00\x03ab", ""}, {"\x00", ""}, {"", ""},
	} {
		if unit, _, err := Cut([]byte(tt.b), 2); string(unit) != tt.unit || (err == nil) != (tt.unit != "") {
			t.Errorf("%q: %q, %v", tt.b, unit, err)
		}
	}
}

// keepAll rejects units that start with x.
func keepAll(unit []byte) bool { return unit[0] != 'x' }

func TestClean(t *testing.T) {
	for _, tt := range walks {
		b := []byte(tt.b)
		clean, err := Clean(b, tt.lengthSize, keepAll)
		if (err != nil) != tt.bad {
			t.Errorf("%s: %v", tt.name, err)
			continue
		}
		var want []byte
		for _, u := range tt.want {
			if !keepAll([]byte(u)) {
				continue
			}
			want = append(append(append(want, make([]byte, tt.lengthSize-1)...), byte(len(u))), u...)
		}
		if !tt.bad && !bytes.Equal(clean, want) {
			t.Errorf("%s: %q, want %q", tt.name, clean, want)
		}
	}
}

func TestCleanDoesNotAllocate(t *testing.T) {
	unit := []byte("\x00\x00\x00\x02ab\x00\x00\x00\x01c\x00\x00")
	if n := testing.AllocsPerRun(100, func() { Clean(unit, 4, keepAll) }); n > 0 {
		t.Errorf("%v allocations", n)
	}
}

// FuzzClean checks that a clean access unit stays as it is and has the units that were kept.
func FuzzClean(f *testing.F) {
	for _, tt := range walks {
		f.Add([]byte(tt.b), tt.lengthSize)
	}
	f.Fuzz(func(t *testing.T, b []byte, lengthSize int) {
		var want []string
		var bad bool
		for rest := b; ; {
			unit, after, err := Next(rest, lengthSize)
			if bad = err != nil; unit == nil || bad {
				break
			}
			if keepAll(unit) {
				want = append(want, string(unit))
			}
			rest = after
		}
		clean, err := Clean(bytes.Clone(b), lengthSize, keepAll)
		if (err != nil) != bad {
			t.Fatalf("error %v", err)
		}
		if bad {
			return
		}
		for _, w := range want {
			unit, rest, err := Next(clean, lengthSize)
			if err != nil || string(unit) != w {
				t.Fatalf("%q, %v, want %q", unit, err, w)
			}
			clean = rest
		}
		if len(clean) > 0 {
			t.Fatalf("%q is left", clean)
		}
	})
}

func TestAnnexB(t *testing.T) {
	for _, tt := range []struct {
		b    string
		want string // "": not in this form
	}{
		{"\x00\x00\x00\x01\x67\x42\x00\x1E\x00\x00\x01\x65\x88\x84",
			"\x00\x00\x00\x04\x67\x42\x00\x1E\x00\x00\x00\x03\x65\x88\x84"},
		{"\x00\x00\x00\x01\x09\xF0\x00\x00\x00\x01\x65\x88\x84", "\x00\x00\x00\x02\x09\xF0\x00\x00\x00\x03\x65\x88\x84"},
		{"\x00\x00\x00\x01\x09\x00\x00\x00\x02\x65\x88", ""},
		{"\x00\x00\x00\x03\x65\x88\x84", ""},
		{"\x00\x00\x01\x65\x88\x84", ""},
		{"", ""},
	} {
		if !IsAnnexB([]byte(tt.b)) {
			if tt.want != "" {
				t.Errorf("%q is not recognized as a stream with start codes", tt.b)
			}
			continue
		}
		if got := FromAnnexB([]byte(tt.b)); string(got) != tt.want {
			t.Errorf("%q became %q, want %q", tt.b, got, tt.want)
		}
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
