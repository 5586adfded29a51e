// Package textfile decodes text files that people edit. Editors on Windows write a byte-order mark
// at the start of a file, or save it as UTF-16. The package knows no format.
package textfile

import (
	"bytes"
	"errors"
)

// ErrUTF16 reports a file in UTF-16 or UTF-32, which livego does not read.
var ErrUTF16 = errors.New("the file is UTF-16: save it as UTF-8")

// bom is the UTF-8 encoding of U+FEFF.
var bom = []byte("\xef\xbb\xbf")

// Decode returns data without a leading UTF-8 byte-order mark. The result shares memory with data.
// The error is ErrUTF16.
func Decode(data []byte) ([]byte, error) {
	if isUTF16(data) {
		return nil, ErrUTF16
	}
	return bytes.TrimPrefix(data, bom), nil
}

// isUTF16 reports whether data starts with a UTF-16 byte-order mark, or with an ASCII character in
// two bytes.
func isUTF16(data []byte) bool {
	if len(data) < 2 {
		return false
	}
	a, b := data[0], data[1]
	return a == 0xff && b == 0xfe || a == 0xfe && b == 0xff || isASCII(a) && b == 0 || a == 0 && isASCII(b)
}

func isASCII(c byte) bool { return c == '\t' || c == '\n' || c == '\r' || c >= ' ' && c < 0x7f }
