package hostile

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
	"math"
	"slices"
)

// Message types of RTMP 1.0, §5.4 and §7.1.
const (
	setChunkSize  = 1
	abort         = 2
	ack           = 3
	userControl   = 4
	windowAck     = 5
	peerBandwidth = 6
	audio         = 8
	video         = 9
	dataAMF3      = 15
	sharedAMF3    = 16
	commandAMF3   = 17
	data          = 18
	shared        = 19
	command       = 20
	aggregate     = 22
)

// defaultChunk is the chunk size of a connection that has said nothing, §5.4.1.
const defaultChunk = 128

// A message is one message of the chunk layer.
type message struct {
	csid    int // 0 for 3
	typ     byte
	msid    uint32
	time    uint32
	payload []byte
}

// chunks returns m cut into chunks of size, a type 0 header first and type 3 headers after.
func (m message) chunks(size int) []byte {
	if m.csid == 0 {
		m.csid = 3
	}
	out := m.head(len(m.payload))
	for i := 0; i < len(m.payload); i += size {
		if i > 0 {
			out = append(out, basic(3, m.csid)...)
			if m.time >= 0xffffff {
				out = binary.BigEndian.AppendUint32(out, m.time)
			}
		}
		out = append(out, m.payload[i:min(i+size, len(m.payload))]...)
	}
	return out
}

// wire is chunks of the default size.
func (m message) wire() []byte { return m.chunks(defaultChunk) }

// head returns a type 0 header that announces length, §5.3.1.2.1.
func (m message) head(length int) []byte {
	out := basic(0, m.csid)
	out = append24(out, min(m.time, 0xffffff))
	out = append24(out, uint32(length))
	out = append(out, m.typ)
	out = binary.LittleEndian.AppendUint32(out, m.msid)
	if m.time >= 0xffffff {
		out = binary.BigEndian.AppendUint32(out, m.time)
	}
	return out
}

// basic returns a basic header in the shortest form for csid, §5.3.1.1.
func basic(format, csid int) []byte {
	switch {
	case csid < 64:
		return []byte{byte(format<<6 | csid)}
	case csid < 320:
		return []byte{byte(format << 6), byte(csid - 64)}
	}
	return long(format, csid)
}

// long returns a basic header of three bytes, which has a place for csids from 64 on.
func long(format, csid int) []byte {
	return []byte{byte(format<<6 | 1), byte(csid - 64), byte((csid - 64) >> 8)}
}

func append24(b []byte, v uint32) []byte { return append(b, byte(v>>16), byte(v>>8), byte(v)) }

func be32(v uint32) []byte { return binary.BigEndian.AppendUint32(nil, v) }

func join(parts ...[]byte) []byte { return slices.Concat(parts...) }

// control returns a protocol control message.
func control(typ byte, payload []byte) []byte {
	return message{csid: 2, typ: typ, payload: payload}.wire()
}

// call returns a command of these AMF0 values.
func call(msid uint32, values ...any) []byte {
	return message{typ: command, msid: msid, payload: amf(values...)}.wire()
}

// connect returns a connect command for app; more are further properties.
func connect(app string, more ...any) []byte {
	return call(0, "connect", 1, append(object{"app", app, "tcUrl", "rtmp://127.0.0.1/" + app}, more...))
}

// AMF0 values for amf. Everything in them may repeat or be wrong.
type (
	object []any // key, value, key, value
	ecma   []any
	array  []any
	raw    []byte // as it is
)

// amf encodes values.
func amf(values ...any) []byte {
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
		return append(append(b, 0x02), short(v)...)
	case object:
		return appendPairs(append(b, 0x03), v)
	case ecma:
		return appendPairs(binary.BigEndian.AppendUint32(append(b, 0x08), uint32(len(v)/2)), v)
	case array:
		return append(binary.BigEndian.AppendUint32(append(b, 0x0a), uint32(len(v))), amf(v...)...)
	case raw:
		return append(b, v...)
	}
	panic(fmt.Sprintf("no AMF0 for %T", v))
}

func appendPairs(b []byte, pairs []any) []byte {
	for i := 0; i < len(pairs); i += 2 {
		b = appendAMF(append(b, short(pairs[i].(string))...), pairs[i+1])
	}
	return append(b, 0, 0, 9)
}

// short returns a string with its length in two bytes, without a marker.
func short(s string) []byte { return append(binary.BigEndian.AppendUint16(nil, uint16(len(s))), s...) }

// A chunkReader reads the messages of a server, which is supposed to be right: what is not is an error.
type chunkReader struct {
	r      *bufio.Reader
	size   int
	chunks map[int]*partial
}

type partial struct {
	message
	delta, length uint32
	extended      bool
}

func newChunkReader(r *bufio.Reader) *chunkReader {
	return &chunkReader{r: r, size: defaultChunk, chunks: map[int]*partial{}}
}

// next returns the next message, control messages included.
func (c *chunkReader) next() (message, error) {
	for {
		m, whole, err := c.chunk()
		if err != nil {
			return message{}, err
		}
		if !whole {
			continue
		}
		if m.typ == setChunkSize {
			c.size = int(binary.BigEndian.Uint32(m.payload))
		}
		return m, nil
	}
}

func (c *chunkReader) chunk() (m message, whole bool, err error) {
	b, err := c.r.ReadByte()
	if err != nil {
		return m, false, err
	}
	format, csid := b>>6, int(b&63)
	if csid < 2 {
		return m, false, fmt.Errorf("csid form %d from the server", csid)
	}
	p := c.chunks[csid]
	if p == nil {
		p = new(partial)
		c.chunks[csid] = p
	}
	if err := c.header(p, format); err != nil {
		return m, false, err
	}
	n := min(c.size, int(p.length)-len(p.payload))
	at := len(p.payload)
	p.payload = append(p.payload, make([]byte, n)...)
	if _, err := io.ReadFull(c.r, p.payload[at:]); err != nil {
		return m, false, err
	}
	if len(p.payload) < int(p.length) {
		return m, false, nil
	}
	m = p.message
	p.payload = nil
	return m, true, nil
}

func (c *chunkReader) header(p *partial, format byte) error {
	head := make([]byte, []int{11, 7, 3, 0}[format])
	if _, err := io.ReadFull(c.r, head); err != nil {
		return err
	}
	if format < 3 {
		p.delta = be24(head)
		p.extended = p.delta == 0xffffff
	}
	if format < 2 {
		p.length, p.typ = be24(head[3:]), head[6]
	}
	if format == 0 {
		p.msid, p.time = binary.LittleEndian.Uint32(head[7:]), 0
	}
	if p.extended {
		var ext [4]byte
		if _, err := io.ReadFull(c.r, ext[:]); err != nil {
			return err
		}
		p.delta = binary.BigEndian.Uint32(ext[:])
	}
	if len(p.payload) == 0 {
		p.time += p.delta
	}
	return nil
}

func be24(b []byte) uint32 { return uint32(b[0])<<16 | uint32(b[1])<<8 | uint32(b[2]) }
