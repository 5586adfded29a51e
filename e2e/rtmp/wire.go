package rtmp

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
	"math"
)

// Message types of RTMP 1.0, §5.4 and §7.1.
const (
	SetChunkSize     = 1
	Abort            = 2
	Ack              = 3
	UserControl      = 4
	WindowAck        = 5
	PeerBandwidth    = 6
	Audio            = 8
	Video            = 9
	DataAMF3         = 15
	SharedObjectAMF3 = 16
	CommandAMF3      = 17
	Data             = 18
	SharedObject     = 19
	Command          = 20
	Aggregate        = 22
)

// DefaultChunkSize is the chunk size of a connection before Set Chunk Size, §5.4.1.
const DefaultChunkSize = 128

// A Message is a message of the chunk layer.
type Message struct {
	CSID     int // chunk stream ID; 0 for 3
	Type     byte
	StreamID uint32
	Time     uint32
	Payload  []byte
}

// Chunks returns m in chunks of size bytes: one with a type 0 header, then others with type 3
// headers.
func (m Message) Chunks(size int) []byte {
	if m.CSID == 0 {
		m.CSID = 3
	}
	out := m.Header(len(m.Payload))
	for i := 0; i < len(m.Payload); i += size {
		if i > 0 {
			out = append(out, BasicHeader(3, m.CSID)...)
			if m.Time >= 0xffffff {
				out = binary.BigEndian.AppendUint32(out, m.Time)
			}
		}
		out = append(out, m.Payload[i:min(i+size, len(m.Payload))]...)
	}
	return out
}

// DefaultChunks is Chunks with the default size.
func (m Message) DefaultChunks() []byte { return m.Chunks(DefaultChunkSize) }

// Header returns a type 0 header that announces a payload of length bytes, §5.3.1.2.1.
func (m Message) Header(length int) []byte {
	out := BasicHeader(0, m.CSID)
	out = appendUint24(out, min(m.Time, 0xffffff))
	out = appendUint24(out, uint32(length))
	out = append(out, m.Type)
	out = binary.LittleEndian.AppendUint32(out, m.StreamID)
	if m.Time >= 0xffffff {
		out = binary.BigEndian.AppendUint32(out, m.Time)
	}
	return out
}

// BasicHeader returns a basic header in the shortest form for csid, §5.3.1.1.
func BasicHeader(format, csid int) []byte {
	switch {
	case csid < 64:
		return []byte{byte(format<<6 | csid)}
	case csid < 320:
		return []byte{byte(format << 6), byte(csid - 64)}
	}
	return LongBasicHeader(format, csid)
}

// LongBasicHeader returns a basic header of three bytes, for any csid from 64 on.
func LongBasicHeader(format, csid int) []byte {
	return []byte{byte(format<<6 | 1), byte(csid - 64), byte((csid - 64) >> 8)}
}

func appendUint24(b []byte, v uint32) []byte { return append(b, byte(v>>16), byte(v>>8), byte(v)) }

// AMF0 values for AMF. Keys may repeat, and values may be invalid.
type (
	// Object is key, value, key, value.
	Object []any
	// ECMAArray is key, value, key, value, as an ECMA array.
	ECMAArray []any
	// StrictArray is an array without keys.
	StrictArray []any
	// Raw is encoded already.
	Raw []byte
)

// AMF encodes values in AMF0.
func AMF(values ...any) []byte {
	var b []byte
	for _, v := range values {
		b = appendAMF(b, v)
	}
	return b
}

func appendAMF(b []byte, v any) []byte {
	switch v := v.(type) {
	case nil:
		return append(b, 0x05)
	case bool:
		if v {
			return append(b, 0x01, 1)
		}
		return append(b, 0x01, 0)
	case int:
		return appendAMF(b, float64(v))
	case float64:
		return binary.BigEndian.AppendUint64(append(b, 0x00), math.Float64bits(v))
	case string:
		if len(v) > math.MaxUint16 {
			return append(binary.BigEndian.AppendUint32(append(b, 0x0c), uint32(len(v))), v...)
		}
		return append(append(b, 0x02), utf8String(v)...)
	case Object:
		return appendPairs(append(b, 0x03), v)
	case ECMAArray:
		return appendPairs(binary.BigEndian.AppendUint32(append(b, 0x08), uint32(len(v)/2)), v)
	case StrictArray:
		return append(binary.BigEndian.AppendUint32(append(b, 0x0a), uint32(len(v))), AMF(v...)...)
	case Raw:
		return append(b, v...)
	}
	panic(fmt.Sprintf("no AMF0 for %T", v))
}

func appendPairs(b []byte, pairs []any) []byte {
	for i := 0; i < len(pairs); i += 2 {
		b = appendAMF(append(b, utf8String(pairs[i].(string))...), pairs[i+1])
	}
	return append(b, 0, 0, 9)
}

// utf8String returns a string with its length in two bytes, without a type marker.
func utf8String(s string) []byte {
	return append(binary.BigEndian.AppendUint16(nil, uint16(len(s))), s...)
}

// A Reader reads the messages of a server. An invalid message is an error.
type Reader struct {
	R         *bufio.Reader // the rest of the connection
	chunkSize int
	partials  map[int]*partialMessage
}

type partialMessage struct {
	Message
	delta, length uint32
	extended      bool
}

// NewReader returns a Reader of what follows the handshake.
func NewReader(r *bufio.Reader) *Reader {
	return &Reader{R: r, chunkSize: DefaultChunkSize, partials: map[int]*partialMessage{}}
}

// ReadMessage returns the next message, control messages included.
func (c *Reader) ReadMessage() (Message, error) {
	for {
		m, whole, err := c.readChunk()
		if err != nil {
			return Message{}, err
		}
		if !whole {
			continue
		}
		if m.Type == SetChunkSize {
			c.chunkSize = int(binary.BigEndian.Uint32(m.Payload))
		}
		return m, nil
	}
}

func (c *Reader) readChunk() (m Message, whole bool, err error) {
	b, err := c.R.ReadByte()
	if err != nil {
		return m, false, err
	}
	format, csid := b>>6, int(b&63)
	if csid < 2 {
		return m, false, fmt.Errorf("csid form %d from the server", csid)
	}
	p := c.partials[csid]
	if p == nil {
		p = new(partialMessage)
		c.partials[csid] = p
	}
	if err := c.readHeader(p, format); err != nil {
		return m, false, err
	}
	n := min(c.chunkSize, int(p.length)-len(p.Payload))
	at := len(p.Payload)
	p.Payload = append(p.Payload, make([]byte, n)...)
	if _, err := io.ReadFull(c.R, p.Payload[at:]); err != nil {
		return m, false, err
	}
	if len(p.Payload) < int(p.length) {
		return m, false, nil
	}
	m = p.Message
	p.Payload = nil
	return m, true, nil
}

func (c *Reader) readHeader(p *partialMessage, format byte) error {
	head := make([]byte, []int{11, 7, 3, 0}[format])
	if _, err := io.ReadFull(c.R, head); err != nil {
		return err
	}
	if format < 3 {
		p.delta = uint24(head)
		p.extended = p.delta == 0xffffff
	}
	if format < 2 {
		p.length, p.Type = uint24(head[3:]), head[6]
	}
	if format == 0 {
		p.StreamID, p.Time = binary.LittleEndian.Uint32(head[7:]), 0
	}
	if p.extended {
		var ext [4]byte
		if _, err := io.ReadFull(c.R, ext[:]); err != nil {
			return err
		}
		p.delta = binary.BigEndian.Uint32(ext[:])
	}
	if len(p.Payload) == 0 {
		p.Time += p.delta
	}
	return nil
}

func uint24(b []byte) uint32 { return uint32(b[0])<<16 | uint32(b[1])<<8 | uint32(b[2]) }
