package rtmp

import (
	"bufio"
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"livego/internal/ops/netx"
)

// A conn is the common part of both sides of a connection: it reads and writes messages, and
// replies to control messages.
type conn struct {
	nc    net.Conn
	opt   Options
	start time.Time

	// These fields belong to the reading goroutine.
	src         *timedReader
	in          *chunkReader
	negotiating bool // before publish or play, when limits are low
	// ackEvery is the window that the peer has announced, in bytes; 0: send no acknowledgements.
	ackEvery  uint64
	acked     uint64 // bytes read when the last acknowledgement was sent
	pings     replyLimiter
	acks      replyLimiter
	split     aggregate
	readLimit time.Duration
	publisher bool  // the peer sends media, which is read even if it cannot be sent replies
	replyErr  error // why a publisher cannot be sent replies

	// writeMu is held while bytes are written to nc, for as long as a slow peer blocks the write.
	// Goroutines that must not wait use TryLock. Lock it before mu.
	writeMu  sync.Mutex
	writeErr error         // guarded by writeMu; after an error the peer may have part of a message
	sent     atomic.Uint64 // bytes written

	detached bool // pending is collected by the Player, and nothing is written

	mu           sync.Mutex
	pending      []byte // complete messages that the next writer sends
	outChunkSize int    // chunk size that the peer knows after it has read pending
}

func newConn(nc net.Conn, o Options) *conn {
	c := &conn{nc: nc, opt: o.withDefaults(), start: time.Now(), negotiating: true, outChunkSize: 128}
	c.src = &timedReader{nc: nc, in: netx.Reader(nc), onTick: c.ping, onRead: c.onRead}
	c.in = newChunkReader(bufio.NewReaderSize(c.src, readBuffer), c.opt.SkipCount)
	return c
}

// handshake runs f, the handshake of the client or the server, within Options.HandshakeTimeout.
func (c *conn) handshake(f func(io.ReadWriter) error) error {
	c.src.deadline = time.Now().Add(c.opt.HandshakeTimeout)
	c.nc.SetWriteDeadline(c.src.deadline)
	defer c.nc.SetWriteDeadline(time.Time{})
	err := f(struct {
		io.Reader
		io.Writer
	}{c.in.br, c.nc})
	if errors.Is(err, os.ErrDeadlineExceeded) {
		err = &ProtocolError{"timeout", fmt.Sprintf("handshake not finished within %v", c.opt.HandshakeTimeout)}
	}
	return err
}

// onRead is called after each read from the network.
func (c *conn) onRead() error {
	if c.negotiating && c.src.total > maxNegotiation {
		return &ProtocolError{"limit", "too many bytes before publish or play"}
	}
	// Without a window from the peer, send no acknowledgement (§5.4.3). An encoder that closes its
	// socket with an acknowledgement unread makes its kernel reset the connection, and the end of
	// the stream, which is still in flight, is lost.
	if c.ackEvery == 0 || c.src.total-c.acked < c.ackEvery {
		return nil
	}
	c.acked = c.src.total
	return c.reply(control(typeAck, uint32(c.acked)))
}

// setReadBuffer replaces the read buffer by one of size bytes.
func (c *conn) setReadBuffer(size int) {
	unread, _ := c.in.br.Peek(c.in.br.Buffered())
	c.src.leftover = append([]byte(nil), unread...)
	c.in.br = bufio.NewReaderSize(c.src, size)
}

// next returns the next message that is not a control message: audio, video, data or a command.
func (c *conn) next() (Message, error) {
	for {
		if m, ok := c.split.next(c.opt.SkipCount); ok {
			return m, nil
		}
		m, err := c.in.next()
		if err != nil {
			return Message{}, err
		}
		switch m.Type {
		case TypeAudio, TypeVideo, TypeData, typeCommand:
			return m, nil
		case typeDataAMF3, typeCommandAMF3:
			// A format byte of 0 announces AMF0. AMF3 is not decoded.
			if len(m.Payload) == 0 || m.Payload[0] != 0 {
				return Message{}, &ProtocolError{"amf", "AMF3 is not supported"}
			}
			m.Payload = m.Payload[1:]
			m.Type += TypeData - typeDataAMF3
			return m, nil
		case typeAggregate:
			c.split, err = splitAggregate(m)
		default:
			err = c.control(m)
		}
		if err != nil {
			return Message{}, err
		}
	}
}

// Receiving reports whether a message has arrived in part, or is about to be returned. It is safe
// for concurrent use.
func (c *conn) Receiving() bool { return c.in.receiving.Load() }

// control handles a protocol control message (§5.4) or a user control message (§6.2), and skips
// unknown ones.
func (c *conn) control(m Message) error {
	p := m.Payload
	need, known := map[uint8]int{typeAck: 4, typeUserControl: 2, typeWindowAck: 4, typePeerBandwidth: 5}[m.Type]
	if !known {
		c.opt.SkipCount("message_type")
		return nil
	}
	if len(p) < need {
		return &ProtocolError{"control", fmt.Sprintf("invalid control message: type %d, %d bytes", m.Type, len(p))}
	}
	switch m.Type {
	case typeAck:
		if int32(binary.BigEndian.Uint32(p)-uint32(c.sent.Load())) > 0 || !c.acks.allow() {
			c.opt.SkipCount("ack")
		}
	case typeWindowAck:
		n := binary.BigEndian.Uint32(p)
		if n == 0 {
			c.opt.SkipCount("window")
			return nil
		}
		c.ackEvery = uint64(max(n, minWindow))
	case typePeerBandwidth:
		if p[4] > 2 {
			c.opt.SkipCount("bandwidth")
		}
	case typeUserControl:
		return c.userControl(p)
	}
	return nil
}

func (c *conn) userControl(p []byte) error {
	if binary.BigEndian.Uint16(p) != eventPingRequest {
		return nil
	}
	if len(p) < 6 {
		return &ProtocolError{"control", "invalid ping request: too short"}
	}
	if !c.pings.allow() {
		c.opt.SkipCount("ping")
		return nil
	}
	return c.reply(event(eventPingResponse, binary.BigEndian.Uint32(p[2:])))
}

func (c *conn) ping() error {
	return c.send(event(eventPingRequest, uint32(time.Since(c.start).Milliseconds())))
}

// control returns a protocol control message with one 32 bit value.
func control(typ uint8, n uint32) Message {
	return Message{Type: typ, Payload: binary.BigEndian.AppendUint32(nil, n)}
}

// event returns a user control message with one 32 bit value.
func event(kind uint16, n uint32) Message {
	return Message{Type: typeUserControl,
		Payload: binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint16(nil, kind), n)}
}

// send sends ms after the pending messages. If another goroutine is writing, that one sends them,
// and send returns at once.
func (c *conn) send(ms ...Message) error {
	if err := c.queue(ms...); err != nil || c.detached {
		return err
	}
	// The goroutine that held writeMu may have taken pending before queue appended to it, so check
	// again after it has unlocked.
	for c.hasPending() && c.writeMu.TryLock() {
		err := c.flush()
		c.writeMu.Unlock()
		if err != nil {
			return err
		}
	}
	return nil
}

// sendNow sends ms and returns when they are written. It waits for a write in progress.
func (c *conn) sendNow(ms ...Message) error {
	if err := c.queue(ms...); err != nil || c.detached {
		return err
	}
	c.writeMu.Lock()
	err := c.flush()
	c.writeMu.Unlock()
	if err != nil {
		return err
	}
	return c.send() // queued meanwhile
}

// reply is send for the reading goroutine. A publisher that has closed its socket cannot be sent a
// reply, but what it sent before is still to be read. In that case reply records the error and
// returns nil; reading finds the end of the stream.
func (c *conn) reply(ms ...Message) error {
	return c.recordReplyError(c.send(ms...))
}

// recordReplyError returns err, unless it records err because a publisher cannot be sent a reply.
func (c *conn) recordReplyError(err error) error {
	if err == nil || !c.publisher || !isDisconnect(err) {
		return err
	}
	c.replyErr = cmp.Or(c.replyErr, err)
	return nil
}

// isDisconnect reports whether a write failed because the peer has closed or reset the connection.
func isDisconnect(err error) bool {
	return errors.Is(err, syscall.EPIPE) || errors.Is(err, syscall.ECONNRESET)
}

// queue appends ms to pending. SetChunkSize precedes the first command, and so all media.
func (c *conn) queue(ms ...Message) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, m := range ms {
		if c.outChunkSize != OutChunkSize && m.Type == typeCommand {
			c.appendPending(control(typeSetChunkSize, OutChunkSize))
			c.outChunkSize = OutChunkSize
		}
		c.appendPending(m)
	}
	if len(c.pending) > maxPending {
		return &ProtocolError{"limit", "peer does not read replies"}
	}
	return nil
}

func (c *conn) appendPending(m Message) {
	for _, b := range appendChunks(nil, c.outChunkSize, Header{m.Type, m.Timestamp, m.StreamID}, m.Payload) {
		c.pending = append(c.pending, b...)
	}
}

func (c *conn) hasPending() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.pending) > 0
}

// flush writes the pending messages. The caller holds writeMu.
func (c *conn) flush() error {
	c.mu.Lock()
	out := c.pending
	c.pending = nil
	c.mu.Unlock()
	if len(out) == 0 {
		return c.writeErr
	}
	_, err := c.write(&net.Buffers{out})
	return err
}

func (c *conn) write(bufs *net.Buffers) (int64, error) {
	if c.writeErr != nil {
		return 0, c.writeErr
	}
	n, err := netx.WriteBuffers(c.nc, bufs, c.opt.WriteTimeout)
	c.sent.Add(uint64(n))
	c.writeErr = err
	return n, err
}

// WriteMedia writes a batch of complete messages in the form of AppendMessage, and consumes bufs as
// net.Buffers.WriteTo does. It may be called once publish or play is accepted. It returns the
// number of bytes written, and os.ErrDeadlineExceeded if no byte could be written for
// Options.WriteTimeout. After an error the connection cannot be used.
func (c *conn) WriteMedia(bufs *net.Buffers) (int64, error) {
	c.writeMu.Lock()
	err := c.flush()
	var n int64
	if err == nil {
		n, err = c.write(bufs)
	}
	c.writeMu.Unlock()
	if err != nil {
		return n, err
	}
	return n, c.send() // queued meanwhile
}

// SetReadTimeout limits the time until ReadMessage has a complete audio or video message: from now
// to the first, and from each to the next, no matter how many bytes arrive between. After that,
// ReadMessage returns os.ErrDeadlineExceeded. Zero, the default, is no limit. Only the reading
// goroutine may call it.
func (c *conn) SetReadTimeout(d time.Duration) {
	c.readLimit = d
	c.restartReadTimeout()
}

// restartReadTimeout restarts the time in which the next media message must be complete.
func (c *conn) restartReadTimeout() {
	if c.src.deadline = (time.Time{}); c.readLimit > 0 {
		c.src.deadline = time.Now().Add(c.readLimit)
	}
}

// endNegotiation ends the limits that hold before publish or play.
func (c *conn) endNegotiation() {
	c.negotiating = false
	c.src.deadline = time.Time{}
}

// allowMedia sets the limits of a peer that may send media.
func (c *conn) allowMedia() {
	c.in.maxMedia = c.opt.MaxMessage
	c.in.maxReassembly = max(maxReassembly, c.opt.MaxMessage)
	c.setReadBuffer(readBufferMedia)
}

// linger waits for the peer to close the connection while the kernel has data for it, and for
// LingerTimeout after that.
func (c *conn) linger() {
	c.src.stop()
	netx.Linger(c.nc, c.opt.LingerTimeout, c.opt.WriteTimeout)
}

// closeWriteAndLinger closes the sending side, so that the peer closes the other one, and lingers.
func (c *conn) closeWriteAndLinger() {
	netx.CloseWrite(c.nc)
	c.linger()
}

// A replyLimiter allows maxReplies replies in a second. Its zero value is ready for use.
type replyLimiter struct {
	since time.Time
	n     int
}

func (r *replyLimiter) allow() bool {
	if now := time.Now(); now.Sub(r.since) >= time.Second {
		r.since, r.n = now, 0
	}
	r.n++
	return r.n <= maxReplies
}
