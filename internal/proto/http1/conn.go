package http1

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"runtime/debug"
	"sync/atomic"
	"time"

	"livego/internal/ops/netx"
)

// headSize is the longest head of a request that the front reads; net/http has its own limit for
// those beyond, and a word for them.
const headSize = 16 << 10

// maxKeptFields is how many bytes of header fields a connection keeps until the next request:
// players say the same in each.
const maxKeptFields = 2 << 10

// A conn is a connection as the front serves it, one request after the other in one goroutine.
type conn struct {
	srv  *Server
	tcp  *netx.Conn
	sock socket
	busy atomic.Bool // a request is being answered

	// of all its requests, until the client leaves; handed to http.Request, which takes a context at
	// birth only
	ctx     context.Context
	cancel  context.CancelFunc
	watchID int64 // as which hangups know it; 0 before the first request

	fields    http.Header // of the last request
	host      string
	rawFields []byte // of which both were read
	req       *http.Request
	res       Response

	deadlineSetAt time.Time // when the time to wait for a request was set
}

func (s *Server) newConn(tcp *netx.Conn) (*conn, error) {
	c := &conn{srv: s, tcp: tcp}
	if err := c.sock.open(s, tcp); err != nil {
		return nil, err
	}
	c.ctx, c.cancel = context.WithCancel(s.base)
	ctx := c.ctx
	if s.fallback.ConnContext != nil {
		ctx = s.fallback.ConnContext(ctx, tcp)
	}
	r := http.Request{Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Body: http.NoBody,
		RemoteAddr: tcp.RemoteAddr().String()}
	c.req = r.WithContext(ctx)
	c.res.conn, c.res.header = c, make(http.Header)
	return c, nil
}

// run serves c until it ends, or net/http has it.
func (c *conn) run() {
	over := false
	defer func() {
		if p := recover(); p != nil && p != http.ErrAbortHandler {
			c.log("front: panic serving %v: %v\n%s", c.req.RemoteAddr, p, debug.Stack())
		}
		c.cleanup(over)
	}()
	c.setReadDeadline(c.srv.fallback.ReadHeaderTimeout)
	c.deadlineSetAt = time.Time{} // the next has another time
	for first := true; ; first = false {
		if c.sock.read() != nil {
			return
		}
		c.busy.Store(true)
		head, err := c.readHead(first)
		if err != nil {
			return
		}
		if first && c.otherProtocol(head) {
			return
		}
		if !c.parse(head) {
			over = c.passToNetHTTP()
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
	}
}

// otherProtocol reports whether a client speaks another protocol than HTTP, with which nothing can be done.
func (c *conn) otherProtocol(head []byte) bool {
	const rtmp, tls = 3, 0x16 // C0 of RTMP (RTMP 1.0 section 5.2.2), and a handshake record (RFC 8446 section 5.1)
	told := c.srv.opt.OtherProtocol
	switch {
	case len(head) == 0 || told == nil:
		return false
	case head[0] == rtmp:
		told("RTMP", c.tcp.RemoteAddr())
		c.refuse("this port speaks HTTP, not RTMP")
		return true
	case head[0] == tls:
		told("TLS", c.tcp.RemoteAddr())
	}
	return false
}

// refuse answers a client that does not speak HTTP, as net/http would once it had waited for the
// end of a head, and gives it a moment to read that.
func (c *conn) refuse(reason string) {
	const moment = 500 * time.Millisecond
	_ = c.tcp.SetDeadline(time.Now().Add(moment))
	if _, err := io.WriteString(c.tcp,
		"HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain; charset=utf-8\r\nConnection: close\r\n\r\n400 Bad Request: "+
			reason); err != nil {
		return
	}
	_ = c.tcp.CloseWrite()
	_, _ = io.Copy(io.Discard, c.tcp)
}

// log writes to the server's log of errors.
func (c *conn) log(format string, args ...any) {
	if l := c.srv.fallback.ErrorLog; l != nil {
		l.Printf(format, args...)
	}
}

// cleanup forgets c, which net/http has or which is closed.
func (c *conn) cleanup(over bool) {
	c.sock.release()
	c.srv.disconnects.remove(c.watchID)
	c.cancel()
	c.srv.mu.Lock()
	delete(c.srv.conns, c)
	c.srv.mu.Unlock()
	if !over {
		_ = c.tcp.Close()
		c.srv.notifyState(c.tcp, http.StateClosed)
	}
}

// setReadDeadline gives the client that long to begin the next request, or for ever for 0. The time
// is set anew no more often than makes a difference.
func (c *conn) setReadDeadline(limit time.Duration) {
	now := time.Now()
	if limit > 0 && now.Sub(c.deadlineSetAt) < limit/16 {
		return
	}
	c.deadlineSetAt = now
	var until time.Time
	if limit > 0 {
		until = now.Add(limit)
	}
	_ = c.tcp.SetReadDeadline(until) // who is closed is noticed next
}

// readHead reads on until the readHead of the request is there or is known to be net/http's, and
// returns what has been read. That of the first has the time that was set when the client came, any
// other its own.
func (c *conn) readHead(first bool) ([]byte, error) {
	late := first
	for {
		b := c.sock.bytes()
		if bytes.HasSuffix(b, endOfHead) || len(b) == headSize || !looksLikeRequest(b) {
			return b, nil
		}
		if !late {
			late, c.deadlineSetAt = true, time.Time{}
			if d := c.srv.fallback.ReadHeaderTimeout; d > 0 {
				_ = c.tcp.SetReadDeadline(time.Now().Add(d))
			}
		}
		if err := c.sock.read(); err != nil {
			return nil, err
		}
	}
}

// passToNetHTTP gives c to net/http, with what has been read of it; false when that takes no more.
func (c *conn) passToNetHTTP() bool {
	_ = c.tcp.SetReadDeadline(time.Time{})
	c.srv.notifyState(c.tcp, http.StateHijacked)
	h := &replayedConn{c.tcp, bytes.Clone(c.sock.bytes())}
	select {
	case c.srv.replays.conns <- h:
		return true
	case <-c.srv.replays.closed:
		return false
	}
}

// serve has the handler serve the request. It reports whether the connection may have another.
func (c *conn) serve() bool {
	if c.watchID == 0 {
		c.watchID = c.srv.disconnects.add(c)
	}
	c.res.reset()
	c.srv.fallback.Handler.ServeHTTP(&c.res, c.req)
	return c.res.finish() == nil
}

// bytes returns what has been read. Valid until release.
func (s *socket) bytes() []byte {
	if s.buf == nil {
		return nil
	}
	return s.buf[:s.n]
}

// release gives the buffer back.
func (s *socket) release() {
	if s.buf != nil {
		s.srv.bufs.Put(s.buf)
		s.buf, s.n = nil, 0
	}
}
