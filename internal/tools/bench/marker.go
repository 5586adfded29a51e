package bench

import (
	"bytes"
	"hash/crc32"
)

// A marker precedes each video frame's first slice: when the frame was sent, its number, and a
// checksum of the following bytes. It is an SEI message of user data (ITU-T H.264 clause D.1.6), so
// every server forwards it and every decoder ignores it.
type marker struct {
	sent int64  // nanoseconds of the clock
	seq  uint32 // number of the video frame, from 1
	sum  uint32 // of the bytes after the marker
}

// markerSize is the size of a marker with its length field, which has four bytes as in most avcC.
const markerSize = 4 + markerText

// markerText is the size of the part that findMarker searches and reads.
const markerText = len(markerHead) + markerFields + 1

const (
	// NAL unit header of an SEI, user_data_unregistered, its size, and the UUID of the marker.
	markerHead   = "\x06\x05\x24" + "\x6c\x69\x76\x65\x67\x6f\x4d\x11\x9b\xe5\xfa\x3c\xd8\x62\x7e\x91"
	markerFields = 10 + 5 + 5
	trailingBits = 0x80 // rbsp_trailing_bits
)

// appendMarker appends m as a NAL unit after its length. Numbers are in groups of seven bits, with
// the eighth bit set: no byte is zero, so no emulation prevention is needed.
func appendMarker(dst []byte, m marker) []byte {
	dst = append(dst, 0, 0, 0, byte(markerSize-4))
	dst = append(dst, markerHead...)
	dst = appendBase128(dst, 10, uint64(m.sent))
	dst = appendBase128(dst, 5, uint64(m.seq))
	dst = appendBase128(dst, 5, uint64(m.sum))
	return append(dst, trailingBits)
}

// findMarker finds the first marker in b and returns where it ends.
func findMarker(b []byte) (m marker, end int, ok bool) {
	i := bytes.Index(b, markerPrefix)
	if i < 0 || len(b) < i+markerText {
		return m, 0, false
	}
	b = b[i+len(markerHead):]
	m.sent = int64(base128(b[:10]))
	m.seq = uint32(base128(b[10:15]))
	m.sum = uint32(base128(b[15:20]))
	return m, i + markerText, true
}

var markerPrefix = []byte(markerHead)

func appendBase128(dst []byte, n int, v uint64) []byte {
	for i := n - 1; i >= 0; i-- {
		dst = append(dst, 0x80|byte(v>>(7*i)))
	}
	return dst
}

func base128(b []byte) (v uint64) {
	for _, c := range b {
		v = v<<7 | uint64(c&0x7F)
	}
	return v
}

// castagnoli is the CRC that processors have an instruction for.
var castagnoli = crc32.MakeTable(crc32.Castagnoli)
