package rtmp

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"sync/atomic"
)

// A chunkReader puts messages together from chunks, §5.3. It looks into those that are of its own
// layer: SetChunkSize and Abort.
//
// Bodies grow as bytes arrive and are never reserved by what a header announces: the first
// allocation is at most as large as the largest message that this peer has sent in full. What all
// unfinished messages have allocated together is limited.
//
// It reads incrementally: any error that br's reader returns, errNeedInput among them, leaves it as
// it was but for the bytes that were consumed, and next may be called again. So one reader serves
// connections that are read by a goroutine of their own and those that are fed.
type chunkReader struct {
	br        *bufio.Reader
	count     func(reason string)
	size      int
	streams   map[uint32]*chunkStream
	last      *chunkStream // of the chunk before: mostly that of the next
	current   *chunkStream // of the chunk whose body is being read; nil between chunks
	remaining int          // bytes that are missing of that body
	extTime   extendedTime

	maxMedia      int // bytes of a message of type audio, video, data or aggregate
	maxReassembly int
	reassembly    int // bytes allocated for unfinished messages
	largest       int // bytes of the largest complete message

	receiving atomic.Bool // a message has begun since next was called, or was unfinished then
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

// extendedTime is what is known of a peer's type 3 chunks. They repeat an extended time (§5.3.1.3),
// but old encoders leave it out. As long as nothing else is known, four bytes that equal the last
// time field are one; a peer once seen to leave it out is taken to do so for good. Where it leaves
// it out and the very first such chunk happens to begin with these four bytes, the connection is
// lost: one in 2^32, and it hurts only itself.
type extendedTime uint8

const (
	extUnknown extendedTime = iota
	extSent
	extOmitted
)

// initialBodySize is the first allocation for a message while the peer has sent no larger one.
const initialBodySize = 4 << 10

func newChunkReader(br *bufio.Reader, count func(string)) *chunkReader {
	return &chunkReader{
		br: br, count: count, size: 128, streams: make(map[uint32]*chunkStream),
		maxMedia: maxControl, maxReassembly: maxControl, largest: initialBodySize,
	}
}

// next returns the next message. io.EOF means that the peer ended between two messages, io.ErrUnexpectedEOF within one.
func (r *chunkReader) next() (Message, error) {
	r.receiving.Store(r.reassembly > 0)
	for {
		s, err := r.readChunk()
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
		r.resetMessage(s)
		r.checkChunkStream(s)
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

// readChunk reads one readChunk, and those that continue it as far as they are at hand. Where the
// input ends within a readChunk, the next call goes on at that byte: a header is consumed when all
// of it has arrived, and a body as it arrives.
func (r *chunkReader) readChunk() (*chunkStream, error) {
	if r.current == nil {
		s, err := r.readHeader()
		if err != nil {
			return nil, err
		}
		r.current, r.remaining = s, min(r.size, s.length-len(s.body))
	}
	s := r.current
	if err := r.readBody(s); err != nil {
		return nil, unexpectedEOF(err)
	}
	r.current = nil
	r.readBuffered(s)
	return s, nil
}

// readHeader reads the readHeader of a chunk: the basic readHeader (§5.3.1.1), the message
// readHeader (§5.3.1.2) and the extended time.
func (r *chunkReader) readHeader() (*chunkStream, error) {
	b, err := r.br.Peek(1)
	if err != nil {
		return nil, err
	}
	n, id, format := 1, uint32(b[0]&0x3f), b[0]>>6
	if id < 2 {
		n += 1 + int(id)
		if b, err = r.br.Peek(n); err != nil {
			return nil, unexpectedEOF(err)
		}
		if id = 64 + uint32(b[1]); n == 3 {
			id += uint32(b[2]) << 8
		}
	}
	s, err := r.stream(id, format)
	if err != nil {
		return nil, err
	}
	if format == 3 {
		err = r.type3Header(s, n)
	} else {
		err = r.readMessageHeader(s, n, format)
	}
	return s, unexpectedEOF(err)
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

// readMessageHeader reads a message header that n bytes precede, and where a message begins checks its length.
func (r *chunkReader) readMessageHeader(s *chunkStream, n int, format byte) error {
	if s.open {
		return &ProtocolError{"chunk", fmt.Sprintf("a type %d header within a message", format)}
	}
	end := n + [3]int{11, 7, 3}[format]
	b, err := r.br.Peek(end)
	if err != nil {
		return err
	}
	extends := b[n]&b[n+1]&b[n+2] == 0xff
	if extends {
		end += 4
		if b, err = r.br.Peek(end); err != nil {
			return err
		}
	}
	h := b[n:end]
	s.field = uint32(h[0])<<16 | uint32(h[1])<<8 | uint32(h[2])
	if format < 2 {
		s.length = int(h[3])<<16 | int(h[4])<<8 | int(h[5])
		s.typ = h[6]
	}
	if format == 0 {
		s.streamID = binary.LittleEndian.Uint32(h[7:])
	}
	if s.extended = extends; extends {
		s.field = binary.BigEndian.Uint32(h[len(h)-4:])
	}
	r.br.Discard(end)
	// A type 3 chunk after a type 0 takes its time for the delta, §5.3.1.2.4; ffmpeg counts on it.
	s.delta = s.field
	if format == 0 {
		s.timestamp = 0
	}
	return r.startMessage(s)
}

// type3Header reads the header of a type 3 chunk, whose basic header has n bytes.
func (r *chunkReader) type3Header(s *chunkStream, n int) error {
	if s.extended && r.extTime != extOmitted {
		b, err := r.br.Peek(n + 4)
		switch {
		case err == nil && binary.BigEndian.Uint32(b[n:]) == s.field:
			r.extTime = extSent
			n += 4
		case err == nil || errors.Is(err, io.EOF):
			r.extTime = extOmitted
		default:
			return err
		}
	}
	r.br.Discard(n)
	if s.open {
		return nil
	}
	return r.startMessage(s)
}

func (r *chunkReader) startMessage(s *chunkStream) error {
	limit := maxControl
	switch s.typ {
	case TypeAudio, TypeVideo, TypeData, typeDataAMF3, typeAggregate:
		limit = r.maxMedia
	}
	if s.length > limit {
		return &ProtocolError{"limit",
			fmt.Sprintf("a message of type %d and %d bytes: the limit is %d", s.typ, s.length, limit)}
	}
	s.timestamp += s.delta
	s.open = true
	r.receiving.Store(true)
	return nil
}

// readBody reads what is left of the chunk at hand.
func (r *chunkReader) readBody(s *chunkStream) error {
	for r.remaining > 0 {
		if len(s.body) == cap(s.body) {
			if err := r.grow(s); err != nil {
				return err
			}
		}
		have := len(s.body)
		piece := s.body[have : have+min(r.remaining, cap(s.body)-have)]
		got, err := io.ReadFull(r.br, piece)
		s.body = s.body[:have+got]
		r.remaining -= got
		if err != nil {
			return err
		}
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

// readBuffered takes the chunks that continue s and lie whole in the read buffer already. Nothing
// depends on it but speed: with chunks of a few bytes the way through chunk costs more than the
// bytes.
func (r *chunkReader) readBuffered(s *chunkStream) {
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

// resetMessage forgets the message that s is in.
func (r *chunkReader) resetMessage(s *chunkStream) {
	r.reassembly -= cap(s.body)
	s.body = nil
	s.open = false
}

// unfinished returns how many bytes of incomplete messages have come, and how many are missing.
func (r *chunkReader) unfinished() (have, missing int) {
	for _, s := range r.streams {
		if s.open {
			have += len(s.body)
			missing += s.length - len(s.body)
		}
	}
	return have, missing
}

// checkChunkStream counts what is not where §5.4 wants it, and harmless.
func (r *chunkReader) checkChunkStream(s *chunkStream) {
	isControl := chunkStreamOf(s.typ) == 2
	if isControl != (s.id == 2) || isControl && s.streamID != 0 {
		r.count("channel")
	}
}

// setChunkSize takes the peer's chunk size, §5.4.1: from 1 on, the top bit zero, and all above a
// message's largest length alike.
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
		r.resetMessage(s)
	}
	return nil
}
