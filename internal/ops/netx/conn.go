package netx

import (
	"errors"
	"net"
	"net/netip"
	"os"
	"sync/atomic"
	"time"
)

// A Conn is a TCP connection that a Limiter has admitted, and counts until Close. RemoteAddr is the
// address of the client, which a trusted proxy may have reported.
type Conn struct {
	*net.TCPConn
	remote   net.Addr              // nil: the peer
	entry    atomic.Pointer[entry] // nil: not counted
	detached atomic.Bool           // the socket has another owner
}

// Wrap returns c as a Conn that no Limiter counts.
func Wrap(c *net.TCPConn) *Conn { return &Conn{TCPConn: c} }

// RemoteAddr returns the address of the client.
func (c *Conn) RemoteAddr() net.Addr {
	if c.remote != nil {
		return c.remote
	}
	return c.TCPConn.RemoteAddr()
}

// Write writes b. After a timeout, the kernel drops the unsent bytes when c is closed, by any
// owner.
func (c *Conn) Write(b []byte) (int, error) {
	n, err := c.TCPConn.Write(b)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		DropUnsent(c)
	}
	return n, err
}

// Close closes the connection.
func (c *Conn) Close() error {
	if e := c.entry.Swap(nil); e != nil {
		e.limiter.remove(e)
	}
	return c.TCPConn.Close()
}

// Admitted returns c. Connections that embed a Conn promote it.
func (c *Conn) Admitted() *Conn { return c }

// Admitted returns the Conn under c, which may be TLS; nil if there is none.
func Admitted(c net.Conn) *Conn {
	if t, ok := c.(interface{ NetConn() net.Conn }); ok {
		c = t.NetConn()
	}
	if a, ok := c.(interface{ Admitted() *Conn }); ok {
		return a.Admitted()
	}
	return nil
}

// PlainTCP returns c as a TCP connection, and false if it is not one, or one below another
// protocol.
func PlainTCP(c net.Conn) (*net.TCPConn, bool) {
	switch c := c.(type) {
	case *net.TCPConn:
		return c, true
	case *Conn:
		return c.TCPConn, true
	}
	return nil, false
}

// Socket returns the TCP connection under c, which may be TLS, with the address of the peer; c if
// there is none.
func Socket(c net.Conn) net.Conn {
	if tcp := tcpConn(c); tcp != nil {
		return tcp
	}
	return c
}

// Detach returns a function that ends the count of c, which may be TLS, for the new owner of the
// socket. c.Close does not end it any more, and Serve does not close c.
func Detach(c net.Conn) (leave func()) {
	a := Admitted(c)
	if a == nil {
		return func() {}
	}
	a.detached.Store(true)
	if e := a.entry.Swap(nil); e != nil {
		return func() { e.limiter.remove(e) }
	}
	return func() {}
}

// closeUndetached closes c, unless its socket has another owner.
func closeUndetached(c net.Conn) {
	if a := Admitted(c); a == nil || !a.detached.Load() {
		_ = c.Close()
	}
}

// MarkDelivered records that media was sent on c. c is not idle for LimitOptions.Idle, or for keep
// if that is longer.
func MarkDelivered(c net.Conn, keep time.Duration) {
	if e := entryOf(c); e != nil {
		e.limiter.markDelivered(e, keep)
	}
}

// MarkStreaming records that media is being sent on c until done is called or c is closed.
func MarkStreaming(c net.Conn) (done func()) {
	e := entryOf(c)
	if e == nil {
		return func() {}
	}
	e.limiter.startStream(e)
	return func() { e.limiter.endStream(e) }
}

// MarkViewer records that c, which is ForEncoders, plays. The error is of kind domain.Limit if
// there is no room for another viewer.
func MarkViewer(c net.Conn) error {
	if e := entryOf(c); e != nil {
		return e.limiter.becomeViewer(e)
	}
	return nil
}

// MarkPublisher records that c publishes. The error is of kind domain.Limit if there is no room for
// another publisher.
func MarkPublisher(c net.Conn) error {
	if e := entryOf(c); e != nil {
		return e.limiter.becomePublisher(e)
	}
	return nil
}

// AssignClient counts c, a connection of a trusted proxy, for the client whose request it carries,
// until done is called: the limits by address then hold for that client. The error is of kind
// domain.Limit.
func AssignClient(c net.Conn, client netip.Addr) (done func(), err error) {
	e := entryOf(c)
	if e == nil {
		return func() {}, nil
	}
	return func() { e.limiter.unassign(e) }, e.limiter.assign(e, client)
}

// entryOf returns the entry of c, which may be TLS; nil if c is not counted.
func entryOf(c net.Conn) *entry {
	if a := Admitted(c); a != nil {
		return a.entry.Load()
	}
	return nil
}
