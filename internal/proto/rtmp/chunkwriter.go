package rtmp

import "encoding/binary"

const (
	extendedTimestamp = 0xffffff // the 24 bit time field that announces 32 bits more, §5.3.1.3
	// bytes of a leading slice that are copied beside the header: a codec's few bytes cost less than a
	// vector
	maxInlined      = 16
	type0HeaderSize = 12 // basic header and message header of a type 0 chunk
	firstHeaderMax  = type0HeaderSize + 4 + maxInlined
)

// AppendMessage appends to dst the chunks of a message whose payload is the slices of body one
// after the other, for a peer that was told OutChunkSize: a type 0 header and type 3 headers, so
// that the bytes depend on nothing sent before and may go to any number of peers. Slices of body
// are referred to, not copied, but for a first one of a few bytes: they must not change while the
// result is in use. All headers are in one new array.
func AppendMessage(dst [][]byte, h Header, body ...[]byte) [][]byte {
	return appendChunks(dst, OutChunkSize, h, body...)
}

func appendChunks(dst [][]byte, chunkSize int, h Header, body ...[]byte) [][]byte {
	length := 0
	for _, b := range body {
		length += len(b)
	}
	more := 0
	if length > 0 {
		more = (length - 1) / chunkSize
	}
	if dst == nil {
		dst = make([][]byte, 0, len(body)+1+2*more)
	}
	heads := make([]byte, 0, firstHeaderMax+5*more)
	heads = appendFirstHeader(heads, h, length)
	next := continuationHeader(h)

	room := chunkSize
	if len(body) > 0 && len(body[0]) <= maxInlined {
		heads = append(heads, body[0]...)
		room -= len(body[0])
		body = body[1:]
	}
	dst = append(dst, heads)
	for _, b := range body {
		for len(b) > 0 {
			if room == 0 {
				start := len(heads)
				heads = append(heads, next...)
				dst = append(dst, heads[start:])
				room = chunkSize
			}
			n := min(room, len(b))
			dst = append(dst, b[:n])
			b = b[n:]
			room -= n
		}
	}
	return dst
}

// appendFirstHeader appends a type 0 header, §5.3.1.2.1.
func appendFirstHeader(dst []byte, h Header, length int) []byte {
	time := min(h.Timestamp, extendedTimestamp)
	dst = append(dst, chunkStreamOf(h.Type),
		byte(time>>16), byte(time>>8), byte(time),
		byte(length>>16), byte(length>>8), byte(length), h.Type)
	dst = binary.LittleEndian.AppendUint32(dst, h.StreamID)
	if time == extendedTimestamp {
		dst = binary.BigEndian.AppendUint32(dst, h.Timestamp)
	}
	return dst
}

// continuationHeader returns the type 3 header of the chunks that follow the first. It repeats an
// extended time, §5.3.1.3.
func continuationHeader(h Header) []byte {
	next := []byte{3<<6 | chunkStreamOf(h.Type)}
	if h.Timestamp >= extendedTimestamp {
		next = binary.BigEndian.AppendUint32(next, h.Timestamp)
	}
	return next
}

// chunkStreamOf returns the chunk stream that messages of a type go by: 2 is for control alone, §5.3.1.1.
func chunkStreamOf(typ uint8) byte {
	switch typ {
	case typeSetChunkSize, typeAbort, typeAck, typeUserControl, typeWindowAck, typePeerBandwidth:
		return 2
	case typeCommand:
		return 3
	case TypeAudio:
		return 4
	case TypeVideo:
		return 6
	}
	return 5
}
