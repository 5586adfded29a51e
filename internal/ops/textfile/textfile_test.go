package textfile

import (
	"bytes"
	"errors"
	"testing"
)

// decodeCases are inputs and results of Decode. They are also seeds of the fuzz test.
var decodeCases = []struct {
	name, in, out string
	err           error
}{
	{"empty", "", "", nil},
	{"one byte", "a", "a", nil},
	{"plain", "level: info\n", "level: info\n", nil},
	{"byte-order mark", "\xef\xbb\xbflevel: info\n", "level: info\n", nil},
	{"only the first mark is removed", "\xef\xbb\xbf\xef\xbb\xbfa", "\xef\xbb\xbfa", nil},
	{"mark in the middle", "a\xef\xbb\xbf", "a\xef\xbb\xbf", nil},
	{"half a mark", "\xef\xbb", "\xef\xbb", nil},
	{"Latin text", "é", "é", nil},
	{"UTF-16 LE with a mark", "\xff\xfea\x00", "", ErrUTF16},
	{"UTF-16 BE with a mark", "\xfe\xff\x00a", "", ErrUTF16},
	{"UTF-16 LE without a mark", "a\x00b\x00", "", ErrUTF16},
	{"UTF-16 BE without a mark", "\x00a\x00b", "", ErrUTF16},
	{"UTF-32 LE", "\xff\xfe\x00\x00a\x00\x00\x00", "", ErrUTF16},
	{"binary", "\x00\x00\x00\x18ftyp", "\x00\x00\x00\x18ftyp", nil},
}

func TestDecode(t *testing.T) {
	for _, c := range decodeCases {
		t.Run(c.name, func(t *testing.T) {
			out, err := Decode([]byte(c.in))
			if string(out) != c.out || !errors.Is(err, c.err) {
				t.Errorf("Decode(%q) = %q, %v; want %q, %v", c.in, out, err, c.out, c.err)
			}
		})
	}
}

func FuzzDecode(f *testing.F) {
	for _, c := range decodeCases {
		f.Add([]byte(c.in))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		out, err := Decode(data)
		if err == nil && !bytes.HasSuffix(data, out) || len(data)-len(out) > len(bom) && err == nil {
			t.Errorf("Decode(%q) = %q", data, out)
		}
	})
}
