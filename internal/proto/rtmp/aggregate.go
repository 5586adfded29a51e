package rtmp

import (
	"bytes"
	"encoding/binary"
	"fmt"
)

// Sizes of what stands around each message in an aggregate, §7.1.6: the layout is that of tags in an FLV file.
const (
	subHeader  = 11
	subTrailer = 4
)

// An aggregate is the rest of an aggregate message that is being split. It is checked as a whole
// before the first message is taken from it, and messages are made one at a time: four thousand
// empty ones would take three times the memory of the aggregate.
type aggregate struct {
	rest     []byte
	streamID uint32 // that of the aggregate overrides its messages'
	shift    uint32 // moves their times so that the first has the aggregate's
}

// splitAggregate returns the aggregate in m.
func splitAggregate(m Message) (aggregate, error) {
	bad := func(what string) (aggregate, error) {
		return aggregate{}, &ProtocolError{"aggregate", "an aggregate message with " + what}
	}
	p := m.Payload
	if len(p) < subHeader+subTrailer {
		return bad(fmt.Sprintf("%d bytes", len(p)))
	}
	a := aggregate{rest: p, streamID: m.StreamID, shift: m.Timestamp - subTimestamp(p)}
	for n := 0; len(p) > 0; n++ {
		if n == maxAggregated {
			return aggregate{}, &ProtocolError{"limit", fmt.Sprintf("more than %d messages in one", maxAggregated)}
		}
		if len(p) < subHeader+subTrailer {
			return bad("bytes left over")
		}
		end := subEnd(p)
		if end+subTrailer > len(p) {
			return bad("a length beyond its end")
		}
		if back := binary.BigEndian.Uint32(p[end:]); back != uint32(end) {
			return bad("a wrong back pointer")
		}
		if p[0] == typeAggregate {
			return bad("another in it")
		}
		p = p[end+subTrailer:]
	}
	return a, nil
}

// subEnd returns where the message ends that p begins with.
func subEnd(p []byte) int { return subHeader + int(p[1])<<16 + int(p[2])<<8 + int(p[3]) }

func subTimestamp(p []byte) uint32 {
	return uint32(p[7])<<24 | uint32(p[4])<<16 | uint32(p[5])<<8 | uint32(p[6])
}

// next returns the next message of the aggregate, and false when there is none left. The message
// has memory of its own: one that is kept must not keep the whole aggregate. skipped is called for
// each that is neither audio, video nor data.
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
