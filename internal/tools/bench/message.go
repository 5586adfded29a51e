package bench

import (
	"hash/crc32"

	"livego/internal/container/flv"
)

// headSize is how many bytes of a message are kept: a video header and a marker, with room for what
// a server may insert before it.
const headSize = 64

// A message is one message of a stream while it arrives. Its first bytes are kept; the others are
// counted and, if requested, checksummed. So a viewer costs little more than what the kernel
// charges for the bytes.
type message struct {
	typ  uint8
	time uint32 // milliseconds
	size int
	left int // bytes not received yet

	sums      bool // verify the marker's checksum
	sum       uint32
	mark      marker
	hasMarker bool // whether mark is valid

	headLen int
	head    [headSize]byte
}

func (m *message) start(typ uint8, time uint32, size int) {
	m.typ, m.time, m.size, m.left = typ, time, size, size
	m.mark, m.hasMarker, m.headLen = marker{}, false, 0
}

// write processes a piece of the body, at most left bytes.
func (m *message) write(p []byte) {
	m.left -= len(p)
	if m.headLen < headSize {
		n := copy(m.head[m.headLen:], p)
		m.headLen += n
		p = p[n:]
		if m.headLen == headSize || m.left == 0 {
			m.readMarker()
		}
	}
	if m.sums && m.hasMarker && len(p) > 0 {
		m.sum = crc32.Update(m.sum, castagnoli, p)
	}
}

// readMarker reads the marker when the kept bytes are complete.
func (m *message) readMarker() {
	if m.typ != flv.TypeVideo {
		return
	}
	var end int
	if m.mark, end, m.hasMarker = findMarker(m.head[:m.headLen]); m.hasMarker && m.sums {
		m.sum = crc32.Checksum(m.head[end:m.headLen], castagnoli)
	}
}

// isMedia reports whether m is an audio or video frame rather than a header or data.
func (m *message) isMedia() bool {
	return (m.typ == flv.TypeVideo || m.typ == flv.TypeAudio) && m.size > 0 && !isHeader(m.typ, m.head[:m.headLen])
}

// isKey reports whether a video frame is marked as a keyframe.
func (m *message) isKey() bool { return m.head[0]>>4&7 == 1 }
