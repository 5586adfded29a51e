package netx

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"sync/atomic"
)

// ListenTLS returns a listener for TLS connections over those of ln, which must be of type *Conn.
// It accepts connections of type *tls.Conn, for Redirect.
func ListenTLS(ln net.Listener, c *tls.Config) net.Listener {
	return tls.NewListener(redirectListener{ln}, c)
}

// ClientTLS returns the client's side of a TLS connection over c, a TCP connection, for Redirect.
func ClientTLS(c net.Conn, o *tls.Config) *tls.Conn {
	if tcp, ok := c.(*net.TCPConn); ok {
		c = &redirectConn{Conn: Wrap(tcp)}
	}
	return tls.Client(c, o)
}

type redirectListener struct{ net.Listener }

// Accept waits for a connection.
func (l redirectListener) Accept() (net.Conn, error) {
	nc, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	c, ok := nc.(*Conn)
	if !ok {
		nc.Close()
		return nil, errNotTCP
	}
	return &redirectConn{Conn: c}, nil
}

// A redirectConn is the connection below a tls.Conn.
type redirectConn struct {
	*Conn
	to atomic.Pointer[io.ReadWriter] // nil: the connection
}

// Read reads from the target of Redirect.
func (c *redirectConn) Read(b []byte) (int, error) {
	if to := c.to.Load(); to != nil {
		return (*to).Read(b)
	}
	return c.Conn.Read(b)
}

// Write writes to the target of Redirect.
func (c *redirectConn) Write(b []byte) (int, error) {
	if to := c.to.Load(); to != nil {
		return (*to).Write(b)
	}
	return c.Conn.Write(b)
}

var errNotRedirectable = errors.New("netx: not a connection of ListenTLS")

// Redirect makes c, whose handshake is complete, exchange its records with to instead of its
// socket; nil: with its socket again. When to has nothing to read, it must return ErrNoInput, and
// not an error or block: c can be read again after it. to must accept all that is written to it,
// because c fails after a failed write.
func Redirect(c *tls.Conn, to io.ReadWriter) error {
	r, ok := c.NetConn().(*redirectConn)
	switch {
	case !ok:
		return errNotRedirectable
	case to == nil:
		r.to.Store(nil)
	default:
		r.to.Store(&to)
	}
	return nil
}

// ErrNoInput is returned by the target of Redirect, and then by the tls.Conn, when nothing can be
// read now. It is temporary in the sense of net.Error, which is what crypto/tls asks for.
var ErrNoInput error = noInputError{}

type noInputError struct{}

func (noInputError) Error() string   { return "nothing to read now" }
func (noInputError) Timeout() bool   { return true }
func (noInputError) Temporary() bool { return true }
