package http1

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"livego/internal/ops/netx"
	"livego/internal/proto/http2"
)

const (
	// headSize is the longest request head that this package reads. net/http handles longer ones,
	// with its own limit and error.
	headSize = 16 << 10
	// bufSize is the size of the buffers for heads: nearly all are shorter.
	bufSize = 2 << 10
)

// maxKeptFields is the most bytes of header fields that a connection keeps for comparison with the
// next request: players send the same ones in each.
const maxKeptFields = 2 << 10

// A conn is a connection on which one goroutine at a time serves one request after another.
type conn struct {
	srv  *Server
	nc   net.Conn // tcp, or tls
	tcp  *netx.Conn
	tls  *tls.Conn // over tcp; nil without TLS
	sock socket
	busy atomic.Bool // a request is being served

	requests int // that have been served

	http2 atomic.Pointer[http2.Conn] // nil: HTTP/1.1

	// ctx is the context of all requests, until the client closes. It is a field, because an
	// http.Request takes a context at its creation only.
	ctx     context.Context
	cancel  context.CancelFunc
	watchID int64 // ID at the disconnectNotifier; 0 before the first request

	fields    http.Header // parsed header fields of the last request
	host      string
	rawFields []byte // the bytes of fields and host
	req       *http.Request
	url       url.URL // of req, in most cases
	res       Response

	deadlineSetAt time.Time // when the deadline for the next request was set
}

func (s *Server) newConn(nc net.Conn) (*conn, error) {
	c := &conn{srv: s, nc: nc, tcp: netx.Admitted(nc)}
	c.tls, _ = nc.(*tls.Conn)
	if c.tcp == nil {
		return nil, errNotTCP
	}
	if err := c.sock.open(c); err != nil {
		return nil, err
	}
	c.ctx, c.cancel = context.WithCancel(s.base)
	ctx := c.ctx
	if s.fallback.ConnContext != nil {
		ctx = s.fallback.ConnContext(ctx, c.nc)
	}
	r := http.Request{Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Body: http.NoBody,
		RemoteAddr: c.tcp.RemoteAddr().String()}
	c.req = r.WithContext(ctx)
	c.res.conn, c.res.header = c, make(http.Header)
	return c, nil
}

// requestsPerGoroutine is how many requests a goroutine serves before another one continues with the
// connection, which starts with a small stack. The runtime halves a stack only if it finds less than a
// quarter of it in use, which is never the case while a request is held. So the first request, and each
// that happens to render what all viewers share, would leave a large stack for as long as the viewer
// watches.
const requestsPerGoroutine = 32

// run serves c until it ends, is passed to net/http, or is continued by another goroutine.
func (c *conn) run() {
	passed, continued := false, false
	defer func() {
		if p := recover(); p != nil && p != http.ErrAbortHandler {
			c.log("http1: panic serving %v: %v\n%s", c.req.RemoteAddr, p, debug.Stack())
		}
		if !continued {
			c.cleanup(passed || c.res.hijacked)
		}
	}()
	if c.requests == 0 && !c.start() {
		return
	}
	for {
		if c.sock.read() != nil {
			return
		}
		c.busy.Store(true)
		first := c.requests == 0
		head, err := c.readHead(first)
		if err != nil {
			return
		}
		if first && c.otherProtocol(head) {
			return
		}
		if !c.parse(head) {
			passed = c.passToNetHTTP()
			return
		}
		c.sock.release()
		if !c.serve() {
			return
		}
		if len(c.rawFields) > maxKeptFields {
			c.fields, c.rawFields = nil, nil
		}
		c.busy.Store(false)
		if c.srv.stopping.Load() {
			return
		}
		c.setReadDeadline(c.srv.fallback.IdleTimeout)
		if c.requests++; c.requests%requestsPerGoroutine == 1 {
			continued = true
			c.srv.wg.Go(c.run)
			return
		}
	}
}

// start prepares c for its first request. It reports false if there is none: the TLS handshake has
// failed, or c has been served by HTTP/2.
func (c *conn) start() bool {
	c.setReadDeadline(c.srv.fallback.ReadHeaderTimeout)
	c.deadlineSetAt = time.Time{} // the idle timeout is another limit
	if c.tls == nil {
		return true
	}
	if err := c.handshake(); err != nil {
		return false
	}
	if c.req.TLS.NegotiatedProtocol == "h2" {
		c.serveHTTP2()
		return false
	}
	return true
}

var errNotTCP = errors.New("http1: not a TCP connection")

// handshake performs the TLS handshake, and prepares c for the records.
func (c *conn) handshake() error {
	if d := c.srv.fallback.ReadHeaderTimeout; d > 0 {
		_ = c.tcp.SetDeadline(time.Now().Add(d)) // if it fails, c is closed, and so does the handshake
	}
	if err := c.tls.HandshakeContext(c.ctx); err != nil {
		if e, ok := errors.AsType[tls.RecordHeaderError](err); ok && e.Conn != nil && hasMethodPrefix(e.RecordHeader[:]) {
			_, _ = io.WriteString(e.Conn,
				"HTTP/1.0 400 Bad Request\r\n\r\nClient sent an HTTP request to an HTTPS server.\n") // as net/http does
		}
		c.log("http1: TLS handshake error from %s: %v", c.req.RemoteAddr, err)
		return err
	}
	_ = c.tcp.SetWriteDeadline(time.Time{})
	state := c.tls.ConnectionState()
	c.req.TLS = &state
	return c.sock.redirect()
}

// otherProtocol reports whether the client uses a protocol that cannot be served.
func (c *conn) otherProtocol(head []byte) bool {
	// C0 of RTMP (RTMP 1.0 section 5.2.2), and a TLS handshake record (RFC 8446 section 5.1).
	const rtmp, tls = 3, 0x16
	report := c.srv.opt.OtherProtocol
	switch {
	case len(head) == 0 || report == nil || c.tls != nil:
		return false
	case head[0] == rtmp:
		report("RTMP", c.tcp.RemoteAddr())
		c.refuse("this port serves HTTP, not RTMP")
		return true
	case head[0] == tls:
		report("TLS", c.tcp.RemoteAddr())
	}
	return false
}

// lingerTime is how long a client may take to read the last response and to close.
const lingerTime = 500 * time.Millisecond

// refuse answers a client that does not use HTTP, at once, while net/http would wait for the end of
// a head. It gives the client a moment to read the response.
func (c *conn) refuse(reason string) {
	_ = c.tcp.SetDeadline(time.Now().Add(lingerTime))
	if _, err := io.WriteString(c.tcp,
		"HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain; charset=utf-8\r\nConnection: close\r\n\r\n400 Bad Request: "+
			reason); err != nil {
		return
	}
	_ = c.tcp.CloseWrite()
	_, _ = io.Copy(io.Discard, c.tcp)
}

// log writes to the server's error log.
func (c *conn) log(format string, args ...any) {
	if l := c.srv.fallback.ErrorLog; l != nil {
		l.Printf(format, args...)
	}
}

// cleanup releases c, which was hijacked or passed to net/http, or is closed.
func (c *conn) cleanup(passed bool) {
	c.sock.release()
	c.srv.disconnects.remove(c.watchID)
	c.cancel()
	c.srv.mu.Lock()
	delete(c.srv.conns, c)
	c.srv.mu.Unlock()
	if !passed {
		c.sock.close()
		c.srv.notifyState(c.nc, http.StateClosed)
	}
}

// setReadDeadline gives the client limit to start the next request; 0: no limit. It renews the
// deadline only if that makes a difference.
func (c *conn) setReadDeadline(limit time.Duration) {
	now := time.Now()
	if limit > 0 && now.Sub(c.deadlineSetAt) < limit/16 {
		return
	}
	c.deadlineSetAt = now
	var deadline time.Time
	if limit > 0 {
		deadline = now.Add(limit)
	}
	_ = c.tcp.SetReadDeadline(deadline) // if it fails, c is closed, and so does the next read
}

// readHead reads until the head of the request is complete, or cannot be one that parse accepts,
// and returns the bytes. The first request has the deadline that was set at accept, any other
// ReadHeaderTimeout.
func (c *conn) readHead(first bool) ([]byte, error) {
	deadlineSet := first
	for {
		b := c.sock.bytes()
		if bytes.HasSuffix(b, endOfHead) || len(b) >= headSize || !looksLikeRequest(b) {
			return b, nil
		}
		if !deadlineSet {
			deadlineSet, c.deadlineSetAt = true, time.Time{}
			if d := c.srv.fallback.ReadHeaderTimeout; d > 0 {
				_ = c.tcp.SetReadDeadline(time.Now().Add(d))
			}
		}
		if err := c.sock.read(); err != nil {
			return nil, err
		}
	}
}

// passToNetHTTP passes c and the bytes read from it to net/http. It reports false if that is
// closed.
func (c *conn) passToNetHTTP() bool {
	_ = c.tcp.SetReadDeadline(time.Time{})
	c.srv.notifyState(c.nc, http.StateHijacked)
	nc := c.nc
	if c.sock.restore() != nil {
		return false
	}
	if c.watchID != 0 {
		c.srv.disconnects.unwatch(c)
	}
	if b := bytes.Clone(c.sock.bytes()); c.tls == nil {
		nc = &replayedConn{c.tcp, replay{c.tcp, b}}
	} else if len(b) > 0 {
		nc = &replayedTLSConn{c.tls, replay{c.tls, b}}
	}
	select {
	case c.srv.replays.conns <- nc:
		return true
	case <-c.srv.replays.closed:
		return false
	}
}

// serve calls the handler for the request. It reports whether the connection may have another.
func (c *conn) serve() bool {
	if c.watchID == 0 {
		c.watchID = c.srv.disconnects.add(c)
	}
	c.res.reset()
	defer c.res.release()
	c.srv.fallback.Handler.ServeHTTP(&c.res, c.req)
	return c.res.finish() == nil
}

// A readBuffer is the buffer of a socket while it reads a head.
type readBuffer struct {
	pool *sync.Pool // of *[bufSize]byte
	buf  []byte     // nil if nothing has been read
	n    int        // bytes in buf
}

// room returns a buffer with room for one byte at least, to be read into.
func (r *readBuffer) room() []byte {
	switch {
	case r.buf == nil:
		r.buf, r.n = r.pool.Get().(*[bufSize]byte)[:], 0
	case r.n == bufSize:
		r.buf = append(make([]byte, 0, headSize), r.buf...)[:headSize]
	}
	return r.buf[r.n:]
}

// bytes returns the bytes that have been read, valid until release.
func (r *readBuffer) bytes() []byte { return r.buf[:r.n] }

// release returns the buffer to the pool.
func (r *readBuffer) release() {
	if len(r.buf) == bufSize {
		r.pool.Put((*[bufSize]byte)(r.buf))
	}
	r.buf, r.n = nil, 0
}
