// Package http2 serves HTTP/2 (RFC 9113) to viewers. It calls the http.Handler of a net/http server.
// Frames and header compression are those of golang.org/x/net/http2; streams, flow control and
// writing are done here, because the server of net/http passes each frame to another goroutine, which
// costs several times as much as to send it. The package knows no sockets and nothing of what is
// served.
//
// A connection has a goroutine that reads frames, and one for each request, of which one waits for the
// next request. The goroutine of a request writes its response itself, up to 64 KiB at a time, under the
// lock of the connection.
// Replies to the client's own frames, such as PING, are written by the goroutine that reads, before it
// reads on: so a client that does not read them cannot make the server keep them.
package http2

import (
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net/http"
	"os"
	"sync"
	"time"

	h2 "golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
	"golang.org/x/time/rate"
)

const (
	// frameSize is the largest payload of a frame, in both directions: the least that
	// SETTINGS_MAX_FRAME_SIZE may be, and the size of a TLS record.
	frameSize       = 16 << 10
	frameHeaderSize = 9
	// batchSize is the most bytes that are written at once: four TLS records.
	batchSize = 64 << 10
	// maxWindow is the largest flow-control window (RFC 9113 section 6.9.1).
	maxWindow = 1<<31 - 1
	// defaultWindow is the initial flow-control window (RFC 9113 section 6.9.2).
	defaultWindow = 1<<16 - 1
	// headerTable is the size of the table with which clients compress header fields: the default of
	// SETTINGS_HEADER_TABLE_SIZE. Responses are compressed without such a table, so that a connection
	// needs no memory for it.
	headerTable = 4 << 10
	// headerSlack is added to MaxHeaderBytes, as net/http does for HTTP/1.1: the size of a field counts as
	// 32 bytes more than its name and value (RFC 9113 section 6.5.2).
	headerSlack = 4 << 10
	// maxBlock is the most bytes of the frames of one header section. Without it, a client could send
	// empty CONTINUATION frames without an end.
	maxBlock = 64 << 10
	// maxBody is how many bytes of a request's body are kept until its handler reads them.
	maxBody = 16 << 10
	// defaultStreams is the number of concurrent requests of a connection, if the settings have none.
	defaultStreams = 32
)

// A client may send overheadRate frames a second that cost work and serve no response, such as PING,
// SETTINGS and RST_STREAM, and overheadBurst of them at once. Players send a few.
const (
	overheadRate  = 100
	overheadBurst = 200
)

// A Transport is the connection below HTTP/2. One goroutine reads, and one at a time sends. After an
// error of Send, the connection is of no use.
type Transport interface {
	// Read waits for bytes. After os.ErrDeadlineExceeded it can be called again.
	io.Reader
	// SetReadDeadline ends a Read in progress, or a later one, at t; zero: never.
	SetReadDeadline(t time.Time) error
	// Send sends b. It fails if the client makes no progress for as long as the Transport allows, or
	// when the deadline passes; zero: none.
	Send(b []byte, deadline time.Time) error
	// Linger waits until the client has received what was sent, and for a moment until it closes. It
	// discards input: with unread input the kernel would reset the connection when that is closed, and
	// the client could lose the end.
	Linger()
}

// A Server has what the connections of an http.Server share.
type Server struct {
	http       *http.Server
	stall      time.Duration
	maxStreams int
	bufs       sync.Pool // of *[batchSize]byte
	heads      sync.Pool // of *headEncoder
	date       Date
}

// New returns a Server. It uses the Handler, the ReadHeaderTimeout, the IdleTimeout, MaxHeaderBytes,
// HTTP2.MaxConcurrentStreams and the ErrorLog of hs. stall is the longest time that a response waits
// for the client to open a flow-control window. The handler must not modify a request's header, nor
// use the request after it returns.
func New(hs *http.Server, stall time.Duration) *Server {
	s := &Server{http: hs, stall: stall, maxStreams: defaultStreams}
	if hs.HTTP2 != nil {
		s.maxStreams = cmp.Or(hs.HTTP2.MaxConcurrentStreams, s.maxStreams)
	}
	s.bufs.New = func() any { return new([batchSize]byte) }
	s.heads.New = func() any { return newHeadEncoder() }
	return s
}

// A Conn is a connection of a client.
type Conn struct {
	srv *Server
	t   Transport
	// ctx is the parent of the contexts of all requests. It is a field, because requests start in
	// Serve and end with the connection.
	ctx    context.Context
	remote string
	tls    *tls.ConnectionState
	wg     sync.WaitGroup // counts the goroutines of requests
	calls  chan call      // for the goroutine that is idle

	// Of the goroutine that reads:
	framer   *h2.Framer // writes to replies
	replies  bytes.Buffer
	overhead *rate.Limiter
	started  bool      // the client's preface has been read
	blockEnd time.Time // when the header section must be complete; zero outside of one
	block    int       // bytes of the header section
	received int       // bytes of bodies for which no WINDOW_UPDATE has been sent
	fields   []hpack.HeaderField
	header   http.Header // parsed fields of the last request
	host     string      // of header

	wmu        sync.Mutex // held while frames are written
	sendErr    error      // under wmu: of the last Send
	sentUpdate bool       // under wmu: the client has been told that its table for responses is empty

	mu        sync.Mutex
	streams   map[uint32]*stream // open or half-closed
	running   int                // handlers
	idle      bool               // a goroutine waits for a call
	lastID    uint32             // the highest of the client's streams
	window    int64              // bytes of DATA that may be sent on all streams
	initial   int64              // window of a new stream
	idleSince time.Time          // when the last handler returned
	draining  bool               // no new streams
	goneAway  bool               // GOAWAY has been sent
	err       error              // why the connection is ending; nil before
}

// NewConn returns a connection over t. ctx is the parent of the contexts of its requests. remote and
// state are for the fields of http.Request.
func (s *Server) NewConn(ctx context.Context, t Transport, remote string, state *tls.ConnectionState) *Conn {
	c := &Conn{srv: s, t: t, ctx: ctx, remote: remote, tls: state, overhead: rate.NewLimiter(overheadRate, overheadBurst),
		calls: make(chan call, 1), streams: make(map[uint32]*stream), window: defaultWindow, initial: defaultWindow}
	c.framer = h2.NewFramer(&c.replies, reader{c})
	c.framer.SetMaxReadFrameSize(frameSize)
	c.framer.SetReuseFrames()
	c.framer.ReadMetaHeaders = hpack.NewDecoder(headerTable, nil)
	c.framer.MaxHeaderListSize = uint32(cmp.Or(s.http.MaxHeaderBytes, http.DefaultMaxHeaderBytes) + headerSlack)
	return c
}

// Serve serves requests until the connection ends, and returns when all handlers have returned. The
// caller closes the connection.
func (c *Conn) Serve() {
	c.end(c.readFrames())
	c.wg.Wait()
}

// readFrames reads frames until the connection ends, and returns why.
func (c *Conn) readFrames() error {
	defer close(c.calls)
	err := c.start()
	for err == nil {
		err = c.readFrame()
	}
	return err
}

// Shutdown refuses new requests, and ends Serve when those in progress are complete.
func (c *Conn) Shutdown() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.draining = true
	c.wakeReader()
}

// wakeReader makes the goroutine that reads look at the state of c. The caller holds mu.
func (c *Conn) wakeReader() {
	_ = c.t.SetReadDeadline(time.Unix(1, 0)) // if it fails, c is closed, and so does the read
}

// start exchanges the connection prefaces (RFC 9113 section 3.4).
func (c *Conn) start() error {
	c.mu.Lock()
	c.idleSince = time.Now()
	if d := c.srv.http.ReadHeaderTimeout; d > 0 && !c.draining {
		_ = c.t.SetReadDeadline(c.idleSince.Add(d))
	}
	c.mu.Unlock()
	_ = c.framer.WriteSettings( // to memory
		h2.Setting{ID: h2.SettingMaxConcurrentStreams, Val: uint32(c.srv.maxStreams)},
		h2.Setting{ID: h2.SettingMaxHeaderListSize, Val: c.framer.MaxHeaderListSize})
	if err := c.reply(); err != nil {
		return err
	}
	var preface [len(h2.ClientPreface)]byte
	if _, err := io.ReadFull(reader{c}, preface[:]); err != nil {
		return err
	}
	if string(preface[:]) != h2.ClientPreface {
		return h2.ConnectionError(h2.ErrCodeProtocol)
	}
	f, err := c.framer.ReadFrame()
	if err != nil {
		return err
	}
	settings, ok := f.(*h2.SettingsFrame)
	if !ok || settings.IsAck() {
		return h2.ConnectionError(h2.ErrCodeProtocol)
	}
	c.mu.Lock()
	c.started = true
	if !c.draining && c.err == nil {
		_ = c.t.SetReadDeadline(c.nextCheck(time.Now()))
	}
	c.mu.Unlock()
	return c.processSettings(settings)
}

// Errors that end a connection.
var (
	errIdle       = errors.New("http2: idle")
	errDrained    = errors.New("http2: all requests are complete")
	errHeaderTime = errors.New("http2: header section not received in time")
	errClosed     = errors.New("http2: connection closed")
)

// nextCheck returns when to check whether c is idle; zero: never. The caller holds mu.
func (c *Conn) nextCheck(now time.Time) time.Time {
	if c.srv.http.IdleTimeout <= 0 {
		return time.Time{}
	}
	if c.running > 0 {
		return now.Add(c.srv.http.IdleTimeout)
	}
	return c.idleSince.Add(c.srv.http.IdleTimeout)
}

// checkDeadline is called when the read deadline has passed: on time, or by wakeReader. It returns
// why c ends, or sets the next deadline.
func (c *Conn) checkDeadline() error {
	now := time.Now()
	c.mu.Lock()
	goAway := c.draining && !c.goneAway
	c.goneAway = c.goneAway || goAway
	lastID := c.lastID
	c.mu.Unlock()
	if goAway {
		c.framerGoAway(lastID, h2.ErrCodeNo)
		if err := c.reply(); err != nil {
			return err
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.err != nil:
		return c.err
	case c.draining && len(c.streams) == 0:
		return errDrained
	case !c.blockEnd.IsZero() && !now.Before(c.blockEnd):
		return errHeaderTime
	case !c.blockEnd.IsZero():
		_ = c.t.SetReadDeadline(c.blockEnd)
		return nil
	case !c.started && !c.draining:
		return errHeaderTime
	}
	next := c.nextCheck(now)
	if !next.IsZero() && !now.Before(next) {
		return errIdle
	}
	_ = c.t.SetReadDeadline(next)
	return nil
}

// A reader is the input of the framer.
type reader struct{ *Conn }

// Read reads from the connection.
func (r reader) Read(p []byte) (int, error) {
	for {
		n, err := r.t.Read(p)
		if err != nil && errors.Is(err, os.ErrDeadlineExceeded) {
			if err := r.checkDeadline(); err != nil {
				return 0, err
			}
			continue
		}
		if !r.blockEnd.IsZero() {
			if r.block += n; r.block > maxBlock {
				return 0, h2.ConnectionError(h2.ErrCodeEnhanceYourCalm)
			}
		}
		return n, err
	}
}

// readFrame reads and processes a frame. It returns why c ends.
func (c *Conn) readFrame() error {
	head, err := c.framer.ReadFrameHeader()
	if err != nil {
		return err
	}
	if head.Type == h2.FrameHeaders && !head.Flags.Has(h2.FlagHeadersEndHeaders) {
		c.startBlock()
		defer func() { c.blockEnd = time.Time{} }() // the deadline is corrected when it passes
	}
	f, err := c.framer.ReadFrameForHeader(head)
	if err == nil {
		err = c.process(f)
	}
	if e, ok := errors.AsType[h2.StreamError](err); ok {
		return c.refuse(e)
	}
	return err
}

// startBlock starts the time and size limits of a header section in several frames.
func (c *Conn) startBlock() {
	d := cmp.Or(c.srv.http.ReadHeaderTimeout, c.srv.stall)
	c.blockEnd, c.block = time.Now().Add(d), 0
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.draining && c.err == nil {
		_ = c.t.SetReadDeadline(c.blockEnd)
	}
}

// process processes a frame.
func (c *Conn) process(f h2.Frame) error {
	switch f := f.(type) {
	case *h2.MetaHeadersFrame:
		return c.processHeaders(f)
	case *h2.DataFrame:
		return c.processData(f)
	case *h2.WindowUpdateFrame:
		return c.processWindowUpdate(f)
	case *h2.PushPromiseFrame: // a client cannot push (RFC 9113 section 8.4)
		return h2.ConnectionError(h2.ErrCodeProtocol)
	}
	if !c.overhead.Allow() {
		return h2.ConnectionError(h2.ErrCodeEnhanceYourCalm)
	}
	switch f := f.(type) {
	case *h2.SettingsFrame:
		return c.processSettings(f)
	case *h2.PingFrame:
		if f.IsAck() {
			return nil
		}
		_ = c.framer.WritePing(true, f.Data) // to memory
		return c.reply()
	case *h2.RSTStreamFrame:
		return c.processReset(f)
	case *h2.GoAwayFrame: // there are no more requests
		c.Shutdown()
	}
	return nil // PRIORITY and unknown types are ignored (RFC 9113 sections 5.3.2 and 5.5)
}

// processSettings applies settings (RFC 9113 section 6.5). Those for the compression of responses and
// for the size of frames allow at least what is used. If a frame has a setting many times, the streams
// change once.
func (c *Conn) processSettings(f *h2.SettingsFrame) error {
	if f.IsAck() {
		return nil
	}
	initial := c.initial // changed by this goroutine only
	if err := f.ForeachSetting(func(s h2.Setting) error {
		if s.ID == h2.SettingInitialWindowSize {
			initial = int64(s.Val)
		}
		return s.Valid()
	}); err != nil {
		return err
	}
	if err := c.setInitialWindow(initial); err != nil {
		return err
	}
	_ = c.framer.WriteSettingsAck() // to memory
	return c.reply()
}

// setInitialWindow changes the windows of all streams by the difference (RFC 9113 section 6.9.2).
func (c *Conn) setInitialWindow(n int64) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, st := range c.streams {
		if err := st.extend(n - c.initial); err != nil {
			return h2.ConnectionError(h2.ErrCodeFlowControl)
		}
	}
	c.initial = n
	return nil
}

// processWindowUpdate extends a window (RFC 9113 section 6.9).
func (c *Conn) processWindowUpdate(f *h2.WindowUpdateFrame) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if f.StreamID == 0 {
		open := c.window > 0
		if c.window += int64(f.Increment); c.window > maxWindow {
			return h2.ConnectionError(h2.ErrCodeFlowControl)
		}
		for _, st := range c.streams {
			if !open && st.window > 0 {
				st.wake()
			}
		}
		return nil
	}
	st := c.streams[f.StreamID]
	if st == nil {
		return c.checkUsed(f.StreamID)
	}
	return st.extend(int64(f.Increment))
}

// checkUsed returns an error if the stream is idle, and not closed. After GOAWAY it may be a request
// that was not processed (RFC 9113 section 6.8). The caller holds mu.
func (c *Conn) checkUsed(id uint32) error {
	if id > c.lastID && !c.goneAway || id%2 == 0 {
		return h2.ConnectionError(h2.ErrCodeProtocol)
	}
	return nil
}

func streamError(id uint32, code h2.ErrCode) error { return h2.StreamError{StreamID: id, Code: code} }

// processReset ends a stream that the client gives up (RFC 9113 section 6.4).
func (c *Conn) processReset(f *h2.RSTStreamFrame) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if st := c.streams[f.StreamID]; st != nil {
		st.close(errReset)
		return nil
	}
	return c.checkUsed(f.StreamID)
}

// processData adds to the body of a request (RFC 9113 section 6.1).
func (c *Conn) processData(f *h2.DataFrame) error {
	if f.Length == 0 && !f.StreamEnded() && !c.overhead.Allow() {
		return h2.ConnectionError(h2.ErrCodeEnhanceYourCalm)
	}
	if c.received += int(f.Length); c.received > defaultWindow {
		return h2.ConnectionError(h2.ErrCodeFlowControl)
	}
	if c.received > defaultWindow/2 {
		_ = c.framer.WriteWindowUpdate(0, uint32(c.received)) // to memory
		c.received = 0
		if err := c.reply(); err != nil {
			return err
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	st := c.streams[f.StreamID]
	if st == nil {
		if err := c.checkUsed(f.StreamID); err != nil || f.StreamID > c.lastID {
			return err
		}
		return streamError(f.StreamID, h2.ErrCodeStreamClosed)
	}
	return st.receive(f.Data(), int(f.Length), f.StreamEnded())
}

// processHeaders starts a request, or ends one by trailers (RFC 9113 sections 6.2 and 8.1).
func (c *Conn) processHeaders(f *h2.MetaHeadersFrame) error {
	c.mu.Lock()
	if st := c.streams[f.StreamID]; st != nil {
		defer c.mu.Unlock()
		if !st.remoteClosed && (!f.StreamEnded() || len(f.PseudoFields()) > 0) {
			return streamError(f.StreamID, h2.ErrCodeProtocol)
		}
		return st.receive(nil, 0, true)
	}
	used, refused := f.StreamID <= c.lastID, c.goneAway || c.err != nil
	// Handlers of streams that the client has reset may not have returned.
	full := len(c.streams) >= c.srv.maxStreams || c.running >= 2*c.srv.maxStreams
	c.mu.Unlock()
	switch {
	case f.StreamID%2 == 0:
		return h2.ConnectionError(h2.ErrCodeProtocol)
	case used:
		return h2.ConnectionError(h2.ErrCodeStreamClosed)
	case refused: // the client knows it by GOAWAY
		return nil
	case full:
		return streamError(f.StreamID, h2.ErrCodeRefusedStream)
	}
	st := &stream{conn: c, id: f.StreamID, expected: -1}
	handler := c.srv.http.Handler
	ctx, cancel := context.WithCancel(c.ctx)
	r, ok := c.newRequest(ctx, st, f)
	switch {
	case f.Truncated:
		if handler = tooLarge; !ok {
			r = new(http.Request)
		}
	case !ok:
		cancel()
		return streamError(f.StreamID, h2.ErrCodeProtocol)
	}
	st.cancel = cancel
	c.open(st, r, handler)
	return nil
}

// refuse resets a stream for an error of the client.
func (c *Conn) refuse(e h2.StreamError) error {
	if !c.overhead.Allow() {
		return h2.ConnectionError(h2.ErrCodeEnhanceYourCalm)
	}
	c.mu.Lock()
	if st := c.streams[e.StreamID]; st != nil {
		st.close(errReset)
	} else if e.StreamID%2 == 1 {
		c.lastID = max(c.lastID, e.StreamID)
	}
	c.mu.Unlock()
	_ = c.framer.WriteRSTStream(e.StreamID, e.Code) // to memory
	return c.reply()
}

// reply sends the frames in replies.
func (c *Conn) reply() error {
	defer c.replies.Reset()
	c.wmu.Lock()
	defer c.wmu.Unlock()
	return c.send(c.replies.Bytes(), time.Time{})
}

// send sends b. The caller holds wmu.
func (c *Conn) send(b []byte, deadline time.Time) error {
	if c.sendErr == nil {
		c.sendErr = c.t.Send(b, deadline)
	}
	return c.sendErr
}

// fail ends c, from any goroutine. The caller does not hold mu.
func (c *Conn) fail(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err == nil {
		c.err = err
		c.wakeReader()
	}
}

func (c *Conn) framerGoAway(lastID uint32, code h2.ErrCode) {
	_ = c.framer.WriteGoAway(lastID, code, nil) // to memory
}

// end ends all streams, and tells the client why.
func (c *Conn) end(err error) {
	c.mu.Lock()
	c.err = cmp.Or(c.err, err)
	for _, st := range c.streams {
		st.close(errClosed)
	}
	told, lastID := c.goneAway, c.lastID
	c.goneAway = true
	c.mu.Unlock()
	var code h2.ErrCode
	switch e := h2.ConnectionError(0); {
	case errors.As(err, &e):
		code = h2.ErrCode(e)
		c.log("http2: connection error of %s: %v", c.remote, err)
	case errors.Is(err, h2.ErrFrameTooLarge):
		code = h2.ErrCodeFrameSize
	case errors.Is(err, errIdle), errors.Is(err, errDrained):
	case errors.Is(err, errHeaderTime):
		code = h2.ErrCodeProtocol
	default: // the connection is closed, or the client knows
		return
	}
	if !told || code != h2.ErrCodeNo {
		c.framerGoAway(lastID, code)
		if c.reply() != nil {
			return
		}
	}
	c.t.Linger()
}

// log writes to the error log of the http.Server.
func (c *Conn) log(format string, args ...any) {
	if l := c.srv.http.ErrorLog; l != nil {
		l.Printf(format, args...)
	}
}
