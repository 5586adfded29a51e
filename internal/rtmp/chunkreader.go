package rtmp

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
)

// A chunkReader puts messages together from chunks, §5.3. It looks into those that are of its own layer: SetChunkSize and Abort.
//
// Bodies grow as bytes arrive and are never reserved by what a header announces: the first allocation is at most as large as the
// largest message that this peer has sent in full. What all unfinished messages have allocated together is limited.
type chunkReader struct {
	br      *bufio.Reader
	count   func(reason string)
	size    int
	streams map[uint32]*chunkStream
	last    *chunkStream // of the chunk before: mostly that of the next
	ext     extendedTime

	maxMedia      int // bytes of a message of type audio, video, data or aggregate
	maxReassembly int
	reassembly    int // bytes allocated for unfinished messages
	largest       int // bytes of the largest complete message
}

type chunkStream struct {
	id        uint32
	timestamp uint32
	delta     uint32
	field     uint32 // extended time field as last read
	extended  bool
	typ       uint8
	streamID  uint32
	length    int
	body      []byte
	open      bool // in mid-message
}

// extendedTime is what is known of a peer's type 3 chunks. They repeat an extended time (§5.3.1.3), but old encoders leave it out. As
// long as nothing else is known, four bytes that equal the last time field are one; a peer once seen to leave it out is taken
// to do so for good. Where it leaves it out and the very first such chunk happens to begin with these four bytes, the
// connection is lost: one in 2^32, and it hurts only itself.
type extendedTime uint8

const (
	extUnknown extendedTime = iota
	extSent
	extOmitted
)

// firstBody is the first allocation for a message while the peer has sent no larger one.
const firstBody = 4 << 10

func newChunkReader(br *bufio.Reader, count func(string)) *chunkReader {
	return &chunkReader{
		br: br, count: count, size: 128, streams: make(map[uint32]*chunkStream),
		maxMedia: maxControl, maxReassembly: maxControl, largest: firstBody,
	}
}

// next returns the next message. io.EOF means that the peer ended between two messages, io.ErrUnexpectedEOF within one.
func (r *chunkReader) next() (Message, error) {
	for {
		s, err := r.chunk()
		if err != nil {
			if err == io.EOF && r.reassembly > 0 {
				err = io.ErrUnexpectedEOF
			}
			return Message{}, err
		}
		if len(s.body) < s.length {
			continue
		}
		m := Message{Type: s.typ, Timestamp: s.timestamp, StreamID: s.streamID, Payload: s.body}
		r.largest = max(r.largest, s.length)
		r.drop(s)
		r.checkChannel(s)
		switch m.Type {
		case typeSetChunkSize:
			err = r.setChunkSize(m.Payload)
		case typeAbort:
			err = r.abort(m.Payload)
		default:
			return m, nil
		}
		if err != nil {
			return Message{}, err
		}
	}
}

// chunk reads one chunk, and those that continue it as far as they are at hand.
func (r *chunkReader) chunk() (*chunkStream, error) {
	b, err := r.br.ReadByte()
	if err != nil {
		return nil, err
	}
	id, err := r.chunkStreamID(b & 0x3f)
	if err != nil {
		return nil, cut(err)
	}
	format := b >> 6
	s, err := r.stream(id, format)
	if err != nil {
		return nil, err
	}
	if err := r.header(s, format); err != nil {
		return nil, cut(err)
	}
	if err := r.body(s, min(r.size, s.length-len(s.body))); err != nil {
		return nil, cut(err)
	}
	r.absorb(s)
	return s, nil
}

// whole returns the length of the chunk that b begins with, 0 when b does not hold all of it. It errs to the large side where an
// extended time may be missing.
func (r *chunkReader) whole(b []byte) int {
	if len(b) == 0 {
		return 0
	}
	id, n := uint32(b[0]&0x3f), 1
	if id < 2 {
		if n += 1 + int(id); len(b) < n {
			return 0
		}
		if id = 64 + uint32(b[1]); n == 3 {
			id += uint32(b[2]) << 8
		}
	}
	s := r.streams[id]
	if s == nil {
		s = new(chunkStream)
	}
	format, length, ext := b[0]>>6, s.length, s.extended && r.ext != extOmitted
	h := b[n:]
	if n += [4]int{11, 7, 3, 0}[format]; len(b) < n {
		return 0
	}
	if format < 3 {
		ext = h[0]&h[1]&h[2] == 0xff
	}
	if format < 2 {
		length = int(h[3])<<16 | int(h[4])<<8 | int(h[5])
	}
	if ext {
		n += 4
	}
	if n += max(0, min(r.size, length-len(s.body))); len(b) < n {
		return 0
	}
	return n
}

// chunkStreamID reads the rest of the basic header, §5.3.1.1.
func (r *chunkReader) chunkStreamID(low byte) (uint32, error) {
	switch low {
	case 0:
		b, err := r.br.ReadByte()
		return 64 + uint32(b), err
	case 1:
		b, err := r.take(2)
		if err != nil {
			return 0, err
		}
		return 64 + uint32(b[0]) + uint32(b[1])<<8, nil
	}
	return uint32(low), nil
}

func (r *chunkReader) stream(id uint32, format byte) (*chunkStream, error) {
	if r.last != nil && r.last.id == id {
		return r.last, nil
	}
	s := r.streams[id]
	if s == nil {
		// librtmp begins with type 1 on a fresh chunk stream; the others have nothing to refer to.
		if format >= 2 {
			return nil, &ProtocolError{"chunk", fmt.Sprintf("a chunk stream begins with a type %d header", format)}
		}
		if len(r.streams) == maxChunkStreams {
			return nil, &ProtocolError{"limit", fmt.Sprintf("more than %d chunk streams", maxChunkStreams)}
		}
		s = &chunkStream{id: id}
		r.streams[id] = s
	}
	r.last = s
	return s, nil
}

// header reads a message header, §5.3.1.2, and where a message begins checks its length.
func (r *chunkReader) header(s *chunkStream, format byte) error {
	if format == 3 {
		return r.continued(s)
	}
	if s.open {
		return &ProtocolError{"chunk", fmt.Sprintf("a type %d header within a message", format)}
	}
	b, err := r.take([3]int{11, 7, 3}[format])
	if err != nil {
		return err
	}
	s.field = uint32(b[0])<<16 | uint32(b[1])<<8 | uint32(b[2])
	if format < 2 {
		s.length = int(b[3])<<16 | int(b[4])<<8 | int(b[5])
		s.typ = b[6]
	}
	if format == 0 {
		s.streamID = binary.LittleEndian.Uint32(b[7:])
	}
	if s.extended = s.field == extended; s.extended {
		if b, err = r.take(4); err != nil {
			return err
		}
		s.field = binary.BigEndian.Uint32(b)
	}
	// A type 3 chunk after a type 0 takes its time for the delta, §5.3.1.2.4; ffmpeg counts on it.
	s.delta = s.field
	if format == 0 {
		s.timestamp = 0
	}
	return r.begin(s)
}

// continued reads what a type 3 chunk has of a header.
func (r *chunkReader) continued(s *chunkStream) error {
	if s.extended && r.ext != extOmitted {
		b, err := r.br.Peek(4)
		switch {
		case err == nil && binary.BigEndian.Uint32(b) == s.field:
			r.ext = extSent
			r.br.Discard(4)
		case err == nil || errors.Is(err, io.EOF):
			r.ext = extOmitted
		default:
			return err
		}
	}
	if s.open {
		return nil
	}
	return r.begin(s)
}

func (r *chunkReader) begin(s *chunkStream) error {
	limit := maxControl
	switch s.typ {
	case TypeAudio, TypeVideo, TypeData, typeDataAMF3, typeAggregate:
		limit = r.maxMedia
	}
	if s.length > limit {
		return &ProtocolError{"limit", fmt.Sprintf("a message of type %d and %d bytes: the limit is %d", s.typ, s.length, limit)}
	}
	s.timestamp += s.delta
	s.open = true
	return nil
}

// body reads n bytes of the message's body.
func (r *chunkReader) body(s *chunkStream, n int) error {
	for n > 0 {
		if len(s.body) == cap(s.body) {
			if err := r.grow(s); err != nil {
				return err
			}
		}
		have := len(s.body)
		piece := s.body[have : have+min(n, cap(s.body)-have)]
		got, err := io.ReadFull(r.br, piece)
		s.body = s.body[:have+got]
		if err != nil {
			return err
		}
		n -= got
	}
	return nil
}

func (r *chunkReader) grow(s *chunkStream) error {
	size := min(s.length, max(r.largest, 2*len(s.body)))
	if r.reassembly += size - cap(s.body); r.reassembly > r.maxReassembly {
		return &ProtocolError{"limit", fmt.Sprintf("unfinished messages of more than %d bytes", r.maxReassembly)}
	}
	body := make([]byte, len(s.body), size)
	copy(body, s.body)
	s.body = body
	return nil
}

// absorb takes the chunks that continue s and lie whole in the read buffer already. Nothing depends on it but speed: with chunks of
// a few bytes the way through chunk costs more than the bytes.
func (r *chunkReader) absorb(s *chunkStream) {
	if s.extended || s.id >= 64 {
		return
	}
	header := 3<<6 | byte(s.id)
	buf, _ := r.br.Peek(r.br.Buffered())
	used := 0
	for s.length > len(s.body) {
		n := min(r.size, s.length-len(s.body))
		if len(buf)-used < 1+n || buf[used] != header || cap(s.body)-len(s.body) < n {
			break
		}
		s.body = append(s.body, buf[used+1:used+1+n]...)
		used += 1 + n
	}
	r.br.Discard(used)
}

// drop forgets the message that s is in.
func (r *chunkReader) drop(s *chunkStream) {
	r.reassembly -= cap(s.body)
	s.body = nil
	s.open = false
}

// checkChannel counts what is not where §5.4 wants it, and harmless.
func (r *chunkReader) checkChannel(s *chunkStream) {
	isControl := chunkStreamOf(s.typ) == 2
	if isControl != (s.id == 2) || isControl && s.streamID != 0 {
		r.count("channel")
	}
}

// setChunkSize takes the peer's chunk size, §5.4.1: from 1 on, the top bit zero, and all above a message's largest length alike.
func (r *chunkReader) setChunkSize(p []byte) error {
	if len(p) < 4 {
		return &ProtocolError{"control", "a short SetChunkSize"}
	}
	if len(p) > 4 {
		r.count("trailing")
	}
	n := binary.BigEndian.Uint32(p)
	if n == 0 || n > math.MaxInt32 {
		return &ProtocolError{"control", fmt.Sprintf("a chunk size of %d", n)}
	}
	r.size = int(min(n, 0xffffff))
	return nil
}

// abort forgets the unfinished message of a chunk stream, §5.4.2.
func (r *chunkReader) abort(p []byte) error {
	if len(p) < 4 {
		return &ProtocolError{"control", "a short Abort"}
	}
	if s := r.streams[binary.BigEndian.Uint32(p)]; s != nil {
		r.drop(s)
	}
	return nil
}

// take returns the next n bytes, valid until the next read.
func (r *chunkReader) take(n int) ([]byte, error) {
	b, err := r.br.Peek(n)
	if err != nil {
		return nil, err
	}
	r.br.Discard(n)
	return b, nil
}
