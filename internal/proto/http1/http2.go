package http1

import (
	"time"

	"livego/internal/ops/netx"
)

// serveHTTP2 serves c by HTTP/2 until it ends.
func (c *conn) serveHTTP2() {
	h := c.srv.http2.NewConn(c.req.Context(), &transport{conn: c}, c.req.RemoteAddr, c.req.TLS)
	c.http2.Store(h)
	if c.srv.stopping.Load() { // Shutdown may not have seen it
		h.Shutdown()
	}
	h.Serve()
}

// A transport is a connection below HTTP/2.
type transport struct {
	*conn
	taken int // bytes of the read buffer that have been returned
}

// Read implements http2.Transport. A connection that waits has no buffer.
func (t *transport) Read(p []byte) (int, error) {
	s := &t.sock
	if t.taken == s.n {
		s.release()
		t.taken = 0
		if err := s.read(); err != nil {
			return 0, err
		}
	}
	n := copy(p, s.bytes()[t.taken:])
	t.taken += n
	return n, nil
}

// SetReadDeadline implements http2.Transport.
func (t *transport) SetReadDeadline(deadline time.Time) error { return t.tcp.SetReadDeadline(deadline) }

// Send implements http2.Transport.
func (t *transport) Send(b []byte, deadline time.Time) error {
	_, err := t.sock.sendBy(b, deadline)
	return err
}

// Linger implements http2.Transport.
func (t *transport) Linger() { netx.Linger(t.tcp, lingerTime, t.srv.opt.StallTimeout) }
