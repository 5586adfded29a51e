package nal

import (
	"bytes"
	"encoding/binary"
)

// NextAnnexB returns the first NAL unit of b, a byte stream with start codes (annex B of ITU-T
// H.264 and H.265), and the rest. Both are slices of b. unit is nil at the end. It skips bytes
// before the first start code and zero bytes after a unit. Iterating over b is linear in its
// length.
func NextAnnexB(b []byte) (unit, rest []byte) {
	for {
		start := indexStartCode(b)
		if start < 0 {
			return nil, nil
		}
		b = b[start+3:]
		end := indexStartCode(b)
		if end < 0 {
			end = len(b)
		}
		// A NAL unit never ends in a zero byte: those belong to the next start code or are
		// trailing_zero_8bits.
		unit, b = bytes.TrimRight(b[:end], "\x00"), b[end:]
		if len(unit) > 0 {
			return unit, b
		}
	}
}

func indexStartCode(b []byte) int { return bytes.Index(b, []byte{0, 0, 1}) }

// IsAnnexB reports whether b has start codes of four bytes, and is not a stream with four-byte
// length fields, in which these bytes would be the length of a one-byte NAL unit.
func IsAnnexB(b []byte) bool {
	if !bytes.HasPrefix(b, []byte{0, 0, 0, 1}) {
		return false
	}
	for {
		unit, rest, err := Next(b, 4)
		if err != nil || unit == nil {
			return err != nil
		}
		b = rest
	}
}

// HasStartCode reports whether b starts with a start code of three or four bytes.
func HasStartCode(b []byte) bool {
	return bytes.HasPrefix(b, []byte{0, 0, 1}) || bytes.HasPrefix(b, []byte{0, 0, 0, 1})
}

// FromAnnexB returns the NAL units of b, a byte stream with start codes, with four-byte length
// fields.
func FromAnnexB(b []byte) []byte {
	out := make([]byte, 0, len(b)+4)
	for unit, rest := NextAnnexB(b); unit != nil; unit, rest = NextAnnexB(rest) {
		out = append(binary.BigEndian.AppendUint32(out, uint32(len(unit))), unit...)
	}
	return out
}
