package netx

import (
	"errors"
	"net"
	"net/netip"
	"os"
	"sync/atomic"
	"time"
)

// A Conn is a TCP connection that a Limiter has admitted. RemoteAddr is the address of the client,
// which a trusted proxy may have given. It is counted until Close.
type Conn struct {
	*net.TCPConn
	remote net.Addr              // nil: that of the peer
	entry  atomic.Pointer[entry] // nil: nobody counts it
}

// Wrap returns c as a Conn that nobody counts.
func Wrap(c *net.TCPConn) *Conn { return &Conn{TCPConn: c} }

// RemoteAddr returns the address of the client.
func (c *Conn) RemoteAddr() net.Addr {
	if c.remote != nil {
		return c.remote
	}
	return c.TCPConn.RemoteAddr()
}

// Write writes b. After a write that timed out the peer is given up: what it has not taken is
// dropped when c is closed, by whomever.
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

// Admitted returns c, also where c is part of another connection.
func (c *Conn) Admitted() *Conn { return c }

// PlainTCP returns the TCP connection that c is, with nothing between; false where c is no such.
func PlainTCP(c net.Conn) (*net.TCPConn, bool) {
	switch c := c.(type) {
	case *net.TCPConn:
		return c, true
	case *Conn:
		return c.TCPConn, true
	}
	return nil, false
}

// Socket returns the TCP connection under c, which may be TLS, with the peer's own address; c where there is none.
func Socket(c net.Conn) net.Conn {
	if tcp := tcpConn(c); tcp != nil {
		return tcp
	}
	return c
}

// Detach returns the function that ends the count of c. From now on c.Close does not: its socket has another owner.
func Detach(c net.Conn) (leave func()) {
	if a, ok := c.(*Conn); ok {
		if e := a.entry.Swap(nil); e != nil {
			return func() { e.limiter.remove(e) }
		}
	}
	return func() {}
}

// MarkDelivered notes that media went out by c, which is not idle for the time that the Limiter
// allows, or for keep if that is longer.
func MarkDelivered(c net.Conn, keep time.Duration) {
	if e := entryOf(c); e != nil {
		e.limiter.markDelivered(e, keep)
	}
}

// MarkStreaming notes that media goes out by c until done is called, or c is closed.
func MarkStreaming(c net.Conn) (done func()) {
	e := entryOf(c)
	if e == nil {
		return func() {}
	}
	e.limiter.startStream(e)
	return func() { e.limiter.endStream(e) }
}

// MarkViewer notes that c, which is ForEncoders, has become the connection of a viewer. The error
// is of kind live.Limit: there is no room for another.
func MarkViewer(c net.Conn) error {
	if e := entryOf(c); e != nil {
		return e.limiter.becomeViewer(e)
	}
	return nil
}

// MarkPublisher notes that c has become the connection of a publisher. The error is of kind
// live.Limit: there is no room for another.
func MarkPublisher(c net.Conn) error {
	if e := entryOf(c); e != nil {
		return e.limiter.becomePublisher(e)
	}
	return nil
}

// AssignClient makes c, a connection of a trusted proxy, one of the client whose request it
// carries: limits by address hold for the client until done is called. The error is of kind
// live.Limit.
func AssignClient(c net.Conn, client netip.Addr) (done func(), err error) {
	e := entryOf(c)
	if e == nil {
		return func() {}, nil
	}
	return func() { e.limiter.unassign(e) }, e.limiter.assign(e, client)
}

// entryOf returns as what c is counted, which may be TLS; nil when it is not.
func entryOf(c net.Conn) *entry {
	if c == nil {
		return nil
	}
	if t, ok := c.(interface{ NetConn() net.Conn }); ok {
		c = t.NetConn()
	}
	if a, ok := c.(interface{ Admitted() *Conn }); ok {
		return a.Admitted().entry.Load()
	}
	return nil
}
