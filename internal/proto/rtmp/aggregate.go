package rtmp

import (
	"bytes"
	"encoding/binary"
	"fmt"
)

// Sizes of the header and the back pointer of a message in an aggregate (§7.1.6), which are those
// of an FLV tag.
const (
	subHeader  = 11
	subTrailer = 4
)

// An aggregate is the unread rest of an aggregate message. splitAggregate validates all of it; next
// then creates one message at a time, because 4096 empty messages would need three times the memory
// of the aggregate.
type aggregate struct {
	rest     []byte
	streamID uint32 // overrides the ID in the messages
	// shift is added to each timestamp, so that the first message has that of the aggregate.
	shift uint32
}

// splitAggregate validates the aggregate message m.
func splitAggregate(m Message) (aggregate, error) {
	bad := func(what string) (aggregate, error) {
		return aggregate{}, &ProtocolError{"aggregate", "invalid aggregate message: " + what}
	}
	p := m.Payload
	if len(p) < subHeader+subTrailer {
		return bad(fmt.Sprintf("%d bytes", len(p)))
	}
	a := aggregate{rest: p, streamID: m.StreamID, shift: m.Timestamp - subTimestamp(p)}
	for n := 0; len(p) > 0; n++ {
		if n == maxAggregated {
			return aggregate{}, &ProtocolError{"limit", fmt.Sprintf("more than %d messages in an aggregate", maxAggregated)}
		}
		if len(p) < subHeader+subTrailer {
			return bad("trailing bytes")
		}
		end := subEnd(p)
		if end+subTrailer > len(p) {
			return bad("length exceeds the message")
		}
		if back := binary.BigEndian.Uint32(p[end:]); back != uint32(end) {
			return bad("wrong back pointer")
		}
		if p[0] == typeAggregate {
			return bad("nested aggregate")
		}
		p = p[end+subTrailer:]
	}
	return a, nil
}

// subEnd returns the offset at which the first message in p ends.
func subEnd(p []byte) int { return subHeader + int(p[1])<<16 + int(p[2])<<8 + int(p[3]) }

func subTimestamp(p []byte) uint32 {
	return uint32(p[7])<<24 | uint32(p[4])<<16 | uint32(p[5])<<8 | uint32(p[6])
}

// next returns the next message of the aggregate, and false at the end. The payload is a copy, so
// that a frame that is kept does not keep the whole aggregate in memory. next calls skipped for
// each message that is neither audio, video nor data.
func (a *aggregate) next(skipped func(reason string)) (Message, bool) {
	for len(a.rest) > 0 {
		p, end := a.rest, subEnd(a.rest)
		if a.rest = p[end+subTrailer:]; len(a.rest) == 0 {
			a.rest = nil
		}
		switch p[0] {
		case TypeAudio, TypeVideo, TypeData:
			return Message{p[0], subTimestamp(p) + a.shift, a.streamID, bytes.Clone(p[subHeader:end])}, true
		}
		skipped("message_type")
	}
	return Message{}, false
}
