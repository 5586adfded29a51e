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

// splitAggregate returns the messages in m, an aggregate. Each has memory of its own: one that is kept must not keep the whole
// aggregate. Their times are moved so that the first has the aggregate's.
func (c *conn) splitAggregate(m Message) ([]Message, error) {
	bad := func(what string) error { return &ProtocolError{"aggregate", "an aggregate message with " + what} }
	p := m.Payload
	if len(p) < subHeader+subTrailer {
		return nil, bad(fmt.Sprintf("%d bytes", len(p)))
	}
	var subs []Message
	var shift uint32
	for n := 0; len(p) > 0; n++ {
		if n == maxAggregated {
			return nil, &ProtocolError{"limit", fmt.Sprintf("more than %d messages in one", maxAggregated)}
		}
		if len(p) < subHeader+subTrailer {
			return nil, bad("bytes left over")
		}
		end := subHeader + int(p[1])<<16 + int(p[2])<<8 + int(p[3])
		if end+subTrailer > len(p) {
			return nil, bad("a length beyond its end")
		}
		if back := binary.BigEndian.Uint32(p[end:]); back != uint32(end) {
			return nil, bad("a wrong back pointer")
		}
		sub := Message{
			Type:      p[0],
			Timestamp: uint32(p[7])<<24 | uint32(p[4])<<16 | uint32(p[5])<<8 | uint32(p[6]),
			StreamID:  m.StreamID, // that of the aggregate overrides its messages'
		}
		if n == 0 {
			shift = m.Timestamp - sub.Timestamp
		}
		sub.Timestamp += shift
		switch sub.Type {
		case TypeAudio, TypeVideo, TypeData:
			sub.Payload = bytes.Clone(p[subHeader:end])
			subs = append(subs, sub)
		case typeAggregate:
			return nil, bad("another in it")
		default:
			c.opt.SkipCount("message_type")
		}
		p = p[end+subTrailer:]
	}
	return subs, nil
}
