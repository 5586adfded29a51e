// Package nal takes apart the NAL unit streams that H.264 and HEVC share: length-prefixed (ISO/IEC 14496-15) and with start codes
// (annex B). It does not know what is in a NAL unit.
package nal

import "errors"

// ErrMalformed is returned for a stream whose length fields do not add up.
var ErrMalformed = errors.New("nal: length field beyond the end or zero")

// Next cuts the first NAL unit off b, whose length fields have lengthSize bytes, 1 to 4. Both results are slices of b.
// A walk over b is linear in its length: an empty NAL unit is an error.
func Next(b []byte, lengthSize int) (unit, rest []byte, err error) {
	if lengthSize < 1 || lengthSize > 4 || len(b) < lengthSize {
		return nil, nil, ErrMalformed
	}
	var n uint64
	for _, c := range b[:lengthSize] {
		n = n<<8 | uint64(c)
	}
	b = b[lengthSize:]
	if n == 0 || n > uint64(len(b)) {
		return nil, nil, ErrMalformed
	}
	return b[:n], b[n:], nil
}

// Unescape returns at most the first limit bytes of unit without emulation prevention bytes (ITU-T H.264 clause 7.4.1.1).
// The result may share memory with unit.
func Unescape(unit []byte, limit int) []byte {
	unit = unit[:min(len(unit), limit)]
	for i := 2; i < len(unit); i++ {
		if unit[i] == 3 && unit[i-1] == 0 && unit[i-2] == 0 {
			return unescapeFrom(unit, i)
		}
	}
	return unit
}

// unescapeFrom copies unit, whose first emulation prevention byte is at first.
func unescapeFrom(unit []byte, first int) []byte {
	out := append(make([]byte, 0, len(unit)), unit[:first]...)
	zeros := 0
	for _, c := range unit[first+1:] {
		if c == 3 && zeros >= 2 {
			zeros = 0
			continue
		}
		if c == 0 {
			zeros++
		} else {
			zeros = 0
		}
		out = append(out, c)
	}
	return out
}
