package nal

import "bytes"

// NextAnnexB cuts the first NAL unit off b, a byte stream with start codes (ITU-T H.264 annex B, H.265 annex B). Both results
// are slices of b; unit is nil when there is none left. What stands before the first start code is passed over, and zero bytes
// behind a unit are not part of it. A walk over b is linear in its length.
func NextAnnexB(b []byte) (unit, rest []byte) {
	for {
		start := startCode(b)
		if start < 0 {
			return nil, nil
		}
		b = b[start+3:]
		end := startCode(b)
		if end < 0 {
			end = len(b)
		}
		// A NAL unit never ends in a zero byte: those belong to the next start code or are trailing_zero_8bits.
		unit, b = bytes.TrimRight(b[:end], "\x00"), b[end:]
		if len(unit) > 0 {
			return unit, b
		}
	}
}

func startCode(b []byte) int { return bytes.Index(b, []byte{0, 0, 1}) }
