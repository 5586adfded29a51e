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

// A chunkReader assembles messages from chunks (§5.3), and handles the messages of its own layer,
// SetChunkSize and Abort.
//
// A body grows as its bytes arrive. Memory is never reserved for the length that a header
// announces: the first allocation is at most as large as the largest message that this peer has
// sent completely. The memory of all unfinished messages together is limited.
//
// A chunkReader reads incrementally. An error of br's reader, such as errNeedInput, leaves it in
// its state after the bytes consumed so far, and next may be called again. So the same reader
// serves connections that have a goroutine and those that are fed (Player).
type chunkReader struct {
	br        *bufio.Reader
	count     func(reason string)
	size      int
	streams   map[uint32]*chunkStream
	last      *chunkStream // of the previous chunk, which is mostly that of the next
	current   *chunkStream // of the chunk whose body is being read; nil between chunks
	remaining int          // bytes of that body that have not arrived
	extTime   extendedTime

	maxMedia      int // most bytes of an audio, video, data or aggregate message
	maxReassembly int
	reassembly    int // bytes allocated for unfinished messages
	largest       int // bytes of the largest complete message

	receiving atomic.Bool // a message has started since next was called, or was unfinished then
}

type chunkStream struct {
	id        uint32
	timestamp uint32
	delta     uint32
	field     uint32 // the last timestamp field, extended or not
	extended  bool
	typ       uint8
	streamID  uint32
	length    int
	body      []byte
	open      bool // a message is unfinished
}

// extendedTime says whether the type 3 chunks of a peer repeat the extended timestamp (§5.3.1.3),
// which old encoders omit. While it is unknown, four bytes that equal the last timestamp field are
// taken for one. A peer that has omitted it once is expected to omit it always. If the body of the
// very first such chunk happens to start with these four bytes, the connection fails: the chance is
// one in 2^32, and only that peer is affected.
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

// next returns the next message. io.EOF means that the peer closed the connection between two
// messages, io.ErrUnexpectedEOF within one.
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

// readChunk reads one chunk, and the chunks after it that continue the message and are buffered
// already. If the input ends within a chunk, the next call continues at that byte: a header is
// consumed when it is complete, and a body as it arrives.
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

// readHeader reads the header of a chunk: the basic header (§5.3.1.1), the message header
// (§5.3.1.2) and the extended timestamp.
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
		// librtmp starts a chunk stream with type 1. Types 2 and 3 have no previous header to refer
		// to.
		if format >= 2 {
			return nil, &ProtocolError{"chunk",
				fmt.Sprintf("invalid chunk: a chunk stream starts with a type %d header", format)}
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

// readMessageHeader reads the message header of type format, which follows n bytes of basic header,
// and checks the length of a message that starts here.
func (r *chunkReader) readMessageHeader(s *chunkStream, n int, format byte) error {
	if s.open {
		return &ProtocolError{"chunk", fmt.Sprintf("invalid chunk: type %d header within a message", format)}
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
	// After a type 0 chunk, a type 3 chunk uses that timestamp as its delta (§5.3.1.2.4). ffmpeg
	// relies on it.
	s.delta = s.field
	if format == 0 {
		s.timestamp = 0
	}
	return r.startMessage(s)
}

// type3Header reads the header of a type 3 chunk whose basic header has n bytes.
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
			fmt.Sprintf("message too long: type %d, %d bytes, the limit is %d", s.typ, s.length, limit)}
	}
	s.timestamp += s.delta
	s.open = true
	r.receiving.Store(true)
	return nil
}

// readBody reads the rest of the current chunk.
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
		return &ProtocolError{"limit", fmt.Sprintf("unfinished messages exceed %d bytes", r.maxReassembly)}
	}
	body := make([]byte, len(s.body), size)
	copy(body, s.body)
	s.body = body
	return nil
}

// readBuffered appends the chunks that continue s and are completely buffered. It is an
// optimization: with chunks of a few bytes, readChunk costs more than the bytes.
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

// resetMessage discards the current message of s.
func (r *chunkReader) resetMessage(s *chunkStream) {
	r.reassembly -= cap(s.body)
	s.body = nil
	s.open = false
}

// unfinished returns how many bytes of unfinished messages have arrived, and how many are missing.
func (r *chunkReader) unfinished() (have, missing int) {
	for _, s := range r.streams {
		if s.open {
			have += len(s.body)
			missing += s.length - len(s.body)
		}
	}
	return have, missing
}

// checkChunkStream counts messages on another chunk stream than §5.4 requires, which is harmless.
func (r *chunkReader) checkChunkStream(s *chunkStream) {
	isControl := chunkStreamOf(s.typ) == 2
	if isControl != (s.id == 2) || isControl && s.streamID != 0 {
		r.count("channel")
	}
}

// setChunkSize sets the chunk size of the peer (§5.4.1): at least 1, with the top bit zero. Sizes
// above the largest message length are equivalent.
func (r *chunkReader) setChunkSize(p []byte) error {
	if len(p) < 4 {
		return &ProtocolError{"control", "invalid SetChunkSize: too short"}
	}
	if len(p) > 4 {
		r.count("trailing")
	}
	n := binary.BigEndian.Uint32(p)
	if n == 0 || n > math.MaxInt32 {
		return &ProtocolError{"control", fmt.Sprintf("invalid SetChunkSize: %d", n)}
	}
	r.size = int(min(n, 0xffffff))
	return nil
}

// abort discards the unfinished message of a chunk stream (§5.4.2).
func (r *chunkReader) abort(p []byte) error {
	if len(p) < 4 {
		return &ProtocolError{"control", "invalid Abort: too short"}
	}
	if s := r.streams[binary.BigEndian.Uint32(p)]; s != nil {
		r.resetMessage(s)
	}
	return nil
}
