package rtmp

import "encoding/binary"

const (
	// extendedTimestamp in the 24 bit timestamp field announces a 32 bit timestamp, §5.3.1.3.
	extendedTimestamp = 0xffffff
	// maxInlined is the most bytes of a first slice that are copied behind the header, which costs
	// less than another vector.
	maxInlined      = 16
	type0HeaderSize = 12 // bytes of basic header and message header of a type 0 chunk
	firstHeaderMax  = type0HeaderSize + 4 + maxInlined
)

// AppendMessage appends to dst the chunks of a message whose payload is the concatenation of body,
// for a peer that has been sent OutChunkSize. It uses a type 0 header and type 3 headers: the bytes
// depend on nothing sent before, so that any number of peers can share them. The result refers to
// the slices of body, which must not change while it is in use; only a first slice of at most
// maxInlined bytes is copied. All headers are in one new array.
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

// continuationHeader returns the type 3 header of the chunks after the first. It repeats an
// extended timestamp, §5.3.1.3.
func continuationHeader(h Header) []byte {
	next := []byte{3<<6 | chunkStreamOf(h.Type)}
	if h.Timestamp >= extendedTimestamp {
		next = binary.BigEndian.AppendUint32(next, h.Timestamp)
	}
	return next
}

// chunkStreamOf returns the chunk stream ID for messages of a type. 2 is reserved for protocol
// control messages, §5.3.1.1.
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
