// Package nal parses the NAL unit streams that H.264 and HEVC share: length-prefixed (ISO/IEC
// 14496-15) and with start codes (annex B). It does not parse NAL units themselves.
package nal

import "errors"

// ErrMalformed is returned for a stream whose length fields exceed its size.
var ErrMalformed = errors.New("nal: length field beyond the end")

// ErrNoUnit is returned for an access unit without a NAL unit that a decoder reads.
var ErrNoUnit = errors.New("nal: no NAL unit that a decoder reads")

// ErrEmpty is returned by Cut for a NAL unit of length 0.
var ErrEmpty = errors.New("nal: empty NAL unit")

// Cut returns the first NAL unit of b, whose length field has lengthSize bytes (1 to 4), and the
// rest. Both are slices of b. An empty NAL unit is an error.
func Cut(b []byte, lengthSize int) (unit, rest []byte, err error) {
	if lengthSize < 1 || lengthSize > 4 || len(b) < lengthSize {
		return nil, nil, ErrMalformed
	}
	var n uint64
	for _, c := range b[:lengthSize] {
		n = n<<8 | uint64(c)
	}
	b = b[lengthSize:]
	switch {
	case n == 0:
		return nil, b, ErrEmpty
	case n > uint64(len(b)):
		return nil, nil, ErrMalformed
	}
	return b[:n], b[n:], nil
}

// Next is Cut for iterating over an access unit. It skips what decoders skip: empty NAL units,
// including the zero bytes that some encoders append, and a rest that is shorter than a length
// field. unit is nil at the end. Iterating is linear in the length of b.
func Next(b []byte, lengthSize int) (unit, rest []byte, err error) {
	for len(b) >= max(lengthSize, 1) {
		if unit, rest, err = Cut(b, lengthSize); !errors.Is(err, ErrEmpty) {
			return unit, rest, err
		}
		b = rest
	}
	return nil, nil, nil
}

// Clean returns the access unit b without what Next skips and without the NAL units for which
// keep returns false. It moves the others within b. It returns b itself if nothing is removed.
func Clean(b []byte, lengthSize int, keep func(unit []byte) bool) (clean []byte, err error) {
	clean = b[:0]
	for rest := b; ; {
		var unit []byte
		if unit, rest, err = Next(rest, lengthSize); unit == nil || err != nil {
			return clean, err
		}
		if !keep(unit) {
			continue
		}
		// The unit is at or after its destination, and its length field is in front of it.
		from := len(b) - len(rest) - len(unit) - lengthSize
		if from == len(clean) {
			clean = b[:len(b)-len(rest)]
		} else {
			clean = append(clean, b[from:len(b)-len(rest)]...)
		}
	}
}

// Unescape returns at most the first limit bytes of unit without emulation prevention bytes
// (ITU-T H.264 clause 7.4.1.1). The result may share memory with unit.
func Unescape(unit []byte, limit int) []byte {
	unit = unit[:min(len(unit), limit)]
	for i := 2; i < len(unit); i++ {
		if unit[i] == 3 && unit[i-1] == 0 && unit[i-2] == 0 {
			return unescapeFrom(unit, i)
		}
	}
	return unit
}

// unescapeFrom copies unit without emulation prevention bytes, of which the first is at first.
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
