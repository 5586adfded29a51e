package bench

import (
	"context"
	"crypto/tls"
	"net"
	"sync"
)

// maxRecord is the payload of the largest TLS record (RFC 8446 section 5.1).
const maxRecord = 16 << 10

// A tlsConn is a TLS connection over a socket that a viewer group reads.
type tlsConn struct {
	*tls.Conn
	transport *memoryTransport
}

func newTLSConn(fd int, c *tls.Config) *tlsConn {
	t := &memoryTransport{fd: fd, handshaking: true}
	t.arrived.L = &t.mu
	return &tlsConn{Conn: tls.Client(t, c), transport: t}
}

// handshake performs the handshake. Meanwhile, and until finishHandshake, feed keeps what is
// received.
func (c *tlsConn) handshake(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, connectTimeout)
	defer cancel()
	return c.HandshakeContext(ctx)
}

// finishHandshake lets feed report what can be read. The server may have sent the first.
func (c *tlsConn) finishHandshake() {
	c.transport.mu.Lock()
	defer c.transport.mu.Unlock()
	c.transport.handshaking = false
}

// feed passes received bytes, which are valid until the next call, and reports whether they can be
// read: until errNoInput, before the next call.
func (c *tlsConn) feed(p []byte) bool {
	t := c.transport
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.handshaking || len(t.in) > 0 {
		t.in = append(t.in, p...)
	} else {
		t.in = p
	}
	t.arrived.Signal()
	return !t.handshaking
}

// A memoryTransport is the connection below a tls.Conn. During the handshake Read blocks; then it
// fails with errNoInput when there is nothing to read, after which a tls.Conn may be read again.
// Write writes to the socket.
type memoryTransport struct {
	net.Conn // nil: crypto/tls needs no other method

	mu          sync.Mutex
	fd          int // -1 after Close
	handshaking bool
	arrived     sync.Cond // input, or the end
	in          []byte
}

func (t *memoryTransport) Read(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for t.handshaking && len(t.in) == 0 && t.fd >= 0 {
		t.arrived.Wait()
	}
	switch {
	case t.fd < 0:
		return 0, net.ErrClosed
	case len(t.in) == 0:
		return 0, errNoInput
	}
	n := copy(p, t.in)
	t.in = t.in[n:]
	return n, nil
}

func (t *memoryTransport) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.fd < 0 {
		return 0, net.ErrClosed
	}
	if err := writeAll(t.fd, p); err != nil {
		return 0, err
	}
	return len(p), nil
}

// Close ends a handshake. It does not close the socket.
func (t *memoryTransport) Close() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.fd = -1
	t.arrived.Broadcast()
	return nil
}

// errNoInput is the temporary error after which a tls.Conn may be read again.
var errNoInput net.Error = noInputError{}

type noInputError struct{}

func (noInputError) Error() string   { return "nothing received" }
func (noInputError) Timeout() bool   { return true }
func (noInputError) Temporary() bool { return true }
