package bench

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"livego/internal/container/amf0"
	"livego/internal/proto/rtmp"
)

// Message types and user control events that a viewer handles (RTMP 1.0 §5.4 and §7.1).
const (
	rtmpSetChunkSize = 1
	rtmpAck          = 3
	rtmpUserControl  = 4
	rtmpWindowAck    = 5
	rtmpCommandAMF3  = 17
	rtmpCommand      = 20

	rtmpStreamEOF    = 1
	rtmpPingRequest  = 6
	rtmpPingResponse = 7
)

const (
	rtmpHandshake    = 1536
	rtmpChunkHeader  = 3 + 11 + 4
	maxRTMPCommand   = 64 << 10
	maxChunkStreams  = 64
	transactConnect  = 1
	transactCreate   = 2
	transactPlay     = 3
	rtmpDefaultChunk = 128
)

// An rtmpClient plays by RTMP. Unlike the client of internal/proto/rtmp, it serves thousands of
// viewers in few goroutines and reads headers only.
type rtmpClient struct {
	singleResponse
	app, tcURL, name string
	sums             bool
	deliver          onMessage

	handshake     []byte // S0, S1 and S2, while they arrive
	handshakeDone bool
	streams       []*chunkStream // in order of their first use

	// The current chunk.
	head  [rtmpChunkHeader]byte
	n     int
	cur   *chunkStream
	left  int // bytes left of its payload
	chunk int // the server's chunk size

	received, acked, window uint64
	reply                   []byte
}

// A chunkStream is the state of a chunk stream (§5.3).
type chunkStream struct {
	id uint32
	message
	delta    uint32
	extended bool
	command  []byte // the body of a command
}

func newRTMPClient(t *target, sums bool, deliver onMessage) *rtmpClient {
	return &rtmpClient{app: t.app, tcURL: t.tcURL, name: t.name, sums: sums, deliver: deliver, chunk: rtmpDefaultChunk}
}

// open returns C0 and C1 of the simple handshake (§5.2).
func (r *rtmpClient) open() []byte {
	hello := make([]byte, 1+rtmpHandshake)
	hello[0] = 3
	return hello
}

func (r *rtmpClient) feed(p []byte) ([]byte, error) {
	r.received += uint64(len(p))
	r.reply = nil
	if !r.handshakeDone {
		n := min(1+2*rtmpHandshake-len(r.handshake), len(p))
		r.handshake = append(r.handshake, p[:n]...)
		p = p[n:]
		if len(r.handshake) < 1+2*rtmpHandshake {
			return nil, nil
		}
		if r.handshake[0] != 3 {
			return nil, fmt.Errorf("unsupported RTMP version %d", r.handshake[0])
		}
		r.connect()
	}
	err := r.readChunks(p)
	if r.window > 0 && r.received-r.acked >= r.window/2 {
		r.acked = r.received
		r.send(rtmp.Header{Type: rtmpAck}, binary.BigEndian.AppendUint32(nil, uint32(r.received)))
	}
	return r.reply, err
}

// connect completes the handshake and sends the first command.
func (r *rtmpClient) connect() {
	r.reply = append(r.reply, r.handshake[1:1+rtmpHandshake]...)
	r.handshake, r.handshakeDone = nil, true
	r.send(rtmp.Header{Type: rtmpSetChunkSize}, binary.BigEndian.AppendUint32(nil, rtmp.OutChunkSize))
	r.sendCommand(0, "connect", transactConnect, amf0.Object{
		{Key: "app", Value: r.app}, {Key: "flashVer", Value: "LNX 9,0,124,2"}, {Key: "tcUrl", Value: r.tcURL},
		{Key: "fpad", Value: false}, {Key: "capabilities", Value: 15}, {Key: "audioCodecs", Value: 4071},
		{Key: "videoCodecs", Value: 252}, {Key: "videoFunction", Value: 1},
	})
}

func (r *rtmpClient) sendCommand(stream uint32, values ...any) {
	r.send(rtmp.Header{Type: rtmpCommand, StreamID: stream}, amf0.Append(nil, values...))
}

func (r *rtmpClient) send(h rtmp.Header, body []byte) {
	for _, b := range rtmp.AppendMessage(nil, h, body) {
		r.reply = append(r.reply, b...)
	}
}

// readChunks decodes chunks.
func (r *rtmpClient) readChunks(p []byte) error {
	for len(p) > 0 {
		if r.cur == nil {
			n := copy(r.head[r.n:r.headerSize()], p)
			r.n += n
			p = p[n:]
			if r.n < r.headerSize() {
				continue
			}
			if err := r.readChunkHeader(); err != nil {
				return err
			}
		}
		n := min(r.left, len(p))
		if r.cur.command != nil && len(r.cur.command)+n <= maxRTMPCommand {
			r.cur.command = append(r.cur.command, p[:n]...)
		}
		r.cur.write(p[:n])
		r.left -= n
		p = p[n:]
		if r.left > 0 {
			return nil
		}
		s := r.cur
		r.cur, r.n = nil, 0
		if s.left == 0 {
			if err := r.handleMessage(s); err != nil {
				return err
			}
		}
	}
	return nil
}

// headerSize returns the length of the chunk header, as far as r.head determines it (§5.3.1).
func (r *rtmpClient) headerSize() int {
	if r.n == 0 {
		return 1
	}
	basic := r.basicSize()
	if r.n < basic {
		return basic
	}
	size := basic + messageHeaderSize(r.head[0])
	if r.n < size {
		return size
	}
	extended := false
	if size > basic {
		extended = uint24(r.head[basic:]) == 0xFFFFFF
	} else if s := r.stream(); s != nil {
		extended = s.extended
	}
	if extended {
		size += 4
	}
	return size
}

func (r *rtmpClient) basicSize() int {
	switch r.head[0] & 0x3F {
	case 0:
		return 2
	case 1:
		return 3
	}
	return 1
}

func messageHeaderSize(first byte) int { return [...]int{11, 7, 3, 0}[first>>6] }

// streamID returns the chunk stream ID of r.head.
func (r *rtmpClient) streamID() uint32 {
	switch r.head[0] & 0x3F {
	case 0:
		return 64 + uint32(r.head[1])
	case 1:
		return 64 + uint32(r.head[1]) + uint32(r.head[2])<<8
	}
	return uint32(r.head[0] & 0x3F)
}

func (r *rtmpClient) stream() *chunkStream {
	id := r.streamID()
	for _, s := range r.streams {
		if s.id == id {
			return s
		}
	}
	return nil
}

// readChunkHeader reads a complete chunk header. An empty message is complete with it.
func (r *rtmpClient) readChunkHeader() error {
	format := r.head[0] >> 6
	s := r.stream()
	if s == nil {
		if format > 1 || len(r.streams) == maxChunkStreams {
			return errors.New("invalid RTMP chunk: unknown chunk stream")
		}
		s = &chunkStream{id: r.streamID(), message: message{sums: r.sums}}
		r.streams = append(r.streams, s)
	}
	if s.left == 0 || format != 3 {
		s.readMessageHeader(format, r.head[r.basicSize():r.n])
	}
	r.cur, r.left = s, min(s.left, r.chunk)
	return nil
}

// readMessageHeader reads the message header h of a chunk that starts a message.
func (s *chunkStream) readMessageHeader(format byte, h []byte) {
	typ, size := s.typ, s.size
	if format < 3 {
		s.delta = uint24(h)
		s.extended = s.delta == 0xFFFFFF
	}
	if format < 2 {
		size, typ = int(uint24(h[3:])), h[6]
	}
	if s.extended {
		s.delta = binary.BigEndian.Uint32(h[len(h)-4:])
	}
	time := s.delta
	if format > 0 {
		time += s.time
	}
	s.start(typ, time, size)
	s.command = nil
	if typ == rtmpCommand || typ == rtmpCommandAMF3 {
		s.command = make([]byte, 0, min(size, maxRTMPCommand))
	}
}

// handleMessage handles a complete message.
func (r *rtmpClient) handleMessage(s *chunkStream) error {
	switch s.typ {
	case rtmpCommand, rtmpCommandAMF3:
		body := s.command
		s.command = nil
		if s.typ == rtmpCommandAMF3 && len(body) > 0 {
			body = body[1:]
		}
		return r.handleCommand(body)
	case rtmpSetChunkSize, rtmpWindowAck, rtmpUserControl:
		return r.handleControl(s.typ, s.head[:s.headLen])
	}
	r.deliver(&s.message)
	return nil
}

func (r *rtmpClient) handleControl(typ uint8, p []byte) error {
	switch {
	case len(p) < 4:
		return errors.New("invalid RTMP control message: too short")
	case typ == rtmpSetChunkSize:
		if r.chunk = int(binary.BigEndian.Uint32(p)); r.chunk < 1 || r.chunk > 1<<30 {
			return fmt.Errorf("invalid RTMP chunk size %d", r.chunk)
		}
	case typ == rtmpWindowAck:
		r.window = uint64(binary.BigEndian.Uint32(p))
	case binary.BigEndian.Uint16(p) == rtmpStreamEOF:
		return io.EOF
	case binary.BigEndian.Uint16(p) == rtmpPingRequest && len(p) >= 6:
		pong := append([]byte{0, rtmpPingResponse}, p[2:6]...)
		r.send(rtmp.Header{Type: rtmpUserControl}, pong)
	}
	return nil
}

// handleCommand handles a command of the server: each result triggers the next step.
func (r *rtmpClient) handleCommand(body []byte) error {
	d := amf0.NewDecoder(body)
	var v [4]any // name, transaction, and two arguments
	for i := range v {
		var err error
		if v[i], err = d.Next(); err != nil {
			break // shorter commands are ignored
		}
	}
	info, _ := v[3].(amf0.Object)
	code, _ := info.Get("code").(string)
	description, _ := info.Get("description").(string)
	switch {
	case v[0] == "_error", v[0] == "onStatus" && info.Get("level") == "error":
		return fmt.Errorf("refused: %s %s", code, description)
	case v[0] == "_result" && v[1] == float64(transactConnect):
		r.sendCommand(0, "createStream", transactCreate, nil)
	case v[0] == "_result" && v[1] == float64(transactCreate):
		id, _ := v[3].(float64)
		r.sendCommand(uint32(id), "play", transactPlay, nil, r.name, -2)
	case code == "NetStream.Play.UnpublishNotify", code == "NetStream.Play.Complete":
		return io.EOF
	}
	return nil
}

func uint24(b []byte) uint32 { return uint32(b[0])<<16 | uint32(b[1])<<8 | uint32(b[2]) }
