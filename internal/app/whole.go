package app

import (
	"bufio"
	"context"
	"net"
	"net/http"

	"livego/internal/netx"
)

// A wholeConn is a viewer's plain TCP connection that can send the head of an answer together with its body. net/http writes what its
// buffer of 4 KiB has, then the rest: two system calls, and for the viewer two wakes, of which there are thousands a second.
type wholeConn struct {
	*net.TCPConn
	joins bool   // the next write waits for the one after it
	head  []byte // that waits
}

// httpBuffer is the size of net/http's buffer: a body of twice as much is certain to be written in more than one piece.
const httpBuffer = 4 << 10

// Write writes b, behind what waited for it. For one goroutine at a time, as the connection's owner is.
func (c *wholeConn) Write(b []byte) (int, error) {
	if c.joins {
		c.joins = false
		c.head = append(c.head[:0], b...)
		return len(b), nil
	}
	if len(c.head) == 0 {
		return c.TCPConn.Write(b)
	}
	bufs := net.Buffers{c.head, b}
	c.head = c.head[:0]
	before := int64(len(bufs[0]))
	n, err := bufs.WriteTo(c.TCPConn)
	return int(max(0, n-before)), err
}

// A wholeListener accepts wholeConns.
type wholeListener struct{ net.Listener }

// Accept accepts a connection.
func (l wholeListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if tcp, ok := c.(*net.TCPConn); ok {
		return &wholeConn{TCPConn: tcp}, err
	}
	return c, err
}

// joinNext has the connection of ctx send what net/http writes next together with what it writes after that.
func joinNext(ctx context.Context) {
	if c, ok := netx.ConnOf(ctx).(*wholeConn); ok {
		c.joins = true
	}
}

// bare gives who takes a connection over the TCP connection itself.
type bare struct{ http.ResponseWriter }

// Hijack implements http.Hijacker.
func (w bare) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	c, rw, err := http.NewResponseController(w.ResponseWriter).Hijack()
	if whole, ok := c.(*wholeConn); ok {
		c = whole.TCPConn
	}
	return c, rw, err
}

// Unwrap is for http.ResponseController.
func (w bare) Unwrap() http.ResponseWriter { return w.ResponseWriter }
