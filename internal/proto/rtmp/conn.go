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

// A conn is what both ends of a connection have in common: messages in and out, and the control
// messages that answer themselves.
type conn struct {
	nc    net.Conn
	opt   Options
	start time.Time

	// For the reading goroutine.
	src         *timedReader
	in          *chunkReader
	negotiating bool   // before publish or play: everything is scarce
	ackEvery    uint64 // bytes of the window that the peer has announced; 0 before: it gets no acknowledgements
	acked       uint64 // bytes read at the last acknowledgement
	pings       replyLimiter
	acks        replyLimiter
	split       aggregate
	readLimit   time.Duration
	publisher   bool  // the peer sends media, which is read whatever becomes of our answers
	replyErr    error // why answers no longer reach a publisher

	// writeMu is held while bytes go to nc. It stays held over a write that a slow peer blocks, so who
	// must not wait only tries it. It comes before mu.
	writeMu  sync.Mutex
	writeErr error         // under writing; after one the peer may have half a message
	sent     atomic.Uint64 // bytes

	detached bool // nobody writes: what is pending is taken away

	mu           sync.Mutex
	pending      []byte // whole messages that wait for whoever writes next
	outChunkSize int    // our chunk size as the peer knows it behind pending
}

func newConn(nc net.Conn, o Options) *conn {
	c := &conn{nc: nc, opt: o.withDefaults(), start: time.Now(), negotiating: true, outChunkSize: 128}
	c.src = &timedReader{nc: nc, in: netx.Reader(nc), onTick: c.ping, onRead: c.onRead}
	c.in = newChunkReader(bufio.NewReaderSize(c.src, readBuffer), c.opt.SkipCount)
	return c
}

// handshake runs f, the client's or the server's, within its time.
func (c *conn) handshake(f func(io.ReadWriter) error) error {
	c.src.deadline = time.Now().Add(c.opt.HandshakeTimeout)
	c.nc.SetWriteDeadline(c.src.deadline)
	defer c.nc.SetWriteDeadline(time.Time{})
	err := f(struct {
		io.Reader
		io.Writer
	}{c.in.br, c.nc})
	if errors.Is(err, os.ErrDeadlineExceeded) {
		err = &ProtocolError{"timeout", fmt.Sprintf("no handshake within %v", c.opt.HandshakeTimeout)}
	}
	return err
}

// onRead follows each read from the network.
func (c *conn) onRead() error {
	if c.negotiating && c.src.total > maxNegotiation {
		return &ProtocolError{"limit", "too much sent before publish or play"}
	}
	// Unasked for, no acknowledgement is sent (§5.4.3): one that an encoder has not read when it
	// closes its socket makes its kernel reset the connection, and the end of the stream, which is
	// still in flight, is lost.
	if c.ackEvery == 0 || c.src.total-c.acked < c.ackEvery {
		return nil
	}
	c.acked = c.src.total
	return c.reply(control(typeAck, uint32(c.acked)))
}

// setReadBuffer gives the connection another read buffer.
func (c *conn) setReadBuffer(size int) {
	held, _ := c.in.br.Peek(c.in.br.Buffered())
	c.src.leftover = append([]byte(nil), held...)
	c.in.br = bufio.NewReaderSize(c.src, size)
}

// next returns the next message that is not the connection's own affair: audio, video, data or a command.
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
			// A format byte of 0 says that AMF0 follows; AMF3 itself is not read at all.
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

// Receiving reports whether a message has come in part, or is about to be returned. For any goroutine.
func (c *conn) Receiving() bool { return c.in.receiving.Load() }

// control acts on a protocol control message (§5.4) or a user control message (§6.2), and passes
// over what it does not know.
func (c *conn) control(m Message) error {
	p := m.Payload
	need, known := map[uint8]int{typeAck: 4, typeUserControl: 2, typeWindowAck: 4, typePeerBandwidth: 5}[m.Type]
	if !known {
		c.opt.SkipCount("message_type")
		return nil
	}
	if len(p) < need {
		return &ProtocolError{"control", fmt.Sprintf("a control message of type %d and %d bytes", m.Type, len(p))}
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
		return &ProtocolError{"control", "a short ping"}
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

// control returns a control message of one number.
func control(typ uint8, n uint32) Message {
	return Message{Type: typ, Payload: binary.BigEndian.AppendUint32(nil, n)}
}

// event returns a user control message of one number.
func event(kind uint16, n uint32) Message {
	return Message{Type: typeUserControl,
		Payload: binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint16(nil, kind), n)}
}

// send sends ms behind all that waits already. When another goroutine is writing it leaves them to
// that one and returns at once.
func (c *conn) send(ms ...Message) error {
	if err := c.queue(ms...); err != nil || c.detached {
		return err
	}
	// Who holds writing may have looked at pending before we put something there: so look again after it is free.
	for c.hasPending() && c.writeMu.TryLock() {
		err := c.flush()
		c.writeMu.Unlock()
		if err != nil {
			return err
		}
	}
	return nil
}

// sendNow sends ms and returns when they are written, behind a write in progress.
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
	return c.send() // what came to wait meanwhile
}

// reply is send for the reading goroutine. A publisher that has closed its socket gets no answer,
// but what it sent before is still to be read: then reply remembers the error and returns nil, and
// the end of the stream is found by reading.
func (c *conn) reply(ms ...Message) error {
	err := c.send(ms...)
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

// queue puts ms behind what is pending. The peer learns our chunk size before the first command, so before any media.
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
		return &ProtocolError{"limit", "answers are not read"}
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

// flush writes what is pending. The caller holds writing.
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

// WriteMedia writes one batch of whole messages in the form that AppendMessage gives them, and
// consumes bufs as net.Buffers.WriteTo does. It may be called once publish or play is accepted. It
// returns the number of bytes written, and os.ErrDeadlineExceeded when not one left for
// Options.WriteTimeout; after an error the connection is of no more use.
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
	return n, c.send() // what came to wait meanwhile
}

// SetReadTimeout sets the longest time that ReadMessage may be without a complete audio or video
// message, the first included: from now to it, and then from each to the next, however many bytes
// arrive between. Beyond, ReadMessage returns os.ErrDeadlineExceeded. Zero, the default, is for
// ever. To be called by the reading goroutine.
func (c *conn) SetReadTimeout(d time.Duration) {
	c.readLimit = d
	c.restartReadTimeout()
}

// restartReadTimeout begins the time until the next media message must be complete.
func (c *conn) restartReadTimeout() {
	if c.src.deadline = (time.Time{}); c.readLimit > 0 {
		c.src.deadline = time.Now().Add(c.readLimit)
	}
}

// endNegotiation ends the time in which everything is scarce.
func (c *conn) endNegotiation() {
	c.negotiating = false
	c.src.deadline = time.Time{}
}

// allowMedia sets the limits of a peer who may send media.
func (c *conn) allowMedia() {
	c.in.maxMedia = c.opt.MaxMessage
	c.in.maxReassembly = max(maxReassembly, c.opt.MaxMessage)
	c.setReadBuffer(readBufferMedia)
}

// linger waits for the peer to end the connection, as long as the kernel has something for it, and a moment.
func (c *conn) linger() {
	c.src.stop()
	netx.Linger(c.nc, c.opt.LingerTimeout, c.opt.WriteTimeout)
}

// closeWriteAndLinger ends the connection's writing side, so that the peer ends his, and lingers for that.
func (c *conn) closeWriteAndLinger() {
	if w, ok := c.nc.(interface{ CloseWrite() error }); ok {
		_ = w.CloseWrite()
	}
	c.linger()
}

// A replyLimiter allows something maxReplies times a second. Its zero value is ready.
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
