package netx

import (
	"crypto/tls"
	"errors"
	"net"
	"sync"
)

// A Memory is a TLS connection whose socket belongs to the caller: the caller passes it the bytes
// that the socket received, and sends the bytes that it returns. It needs no goroutine.
type Memory struct {
	conn *tls.Conn

	in []byte // received and not read yet; only the caller of Open reads

	mu  sync.Mutex
	out []byte // to be sent
}

// TCPUnderTLS returns the TCP connection below c, a connection of ListenTLS whose handshake is
// complete; nil otherwise.
func TCPUnderTLS(c net.Conn) *net.TCPConn {
	secure, ok := c.(*tls.Conn)
	if !ok || !secure.ConnectionState().HandshakeComplete {
		return nil
	}
	if below, ok := secure.NetConn().(*redirectConn); ok {
		return below.TCPConn
	}
	return nil
}

// ToMemory makes c, for which TCPUnderTLS is not nil, a Memory. No other goroutine may use c, now or
// later, and c must not be closed. Bytes that c has read from the socket are not lost: Open returns
// them.
func ToMemory(c net.Conn) *Memory {
	m := &Memory{conn: c.(*tls.Conn)}
	_ = Redirect(m.conn, memoryPipe{m}) // c is redirectable
	return m
}

// Open decrypts received bytes, and calls f with what they contain, which is valid during the call.
// buf is memory for that. The error is io.EOF if the peer has closed its side, or why the connection
// has failed. For one goroutine at a time.
func (m *Memory) Open(received, buf []byte, f func([]byte)) error {
	m.in = received
	defer func() { m.in = nil }()
	for {
		n, err := m.conn.Read(buf)
		if n > 0 {
			f(buf[:n])
		}
		if errors.Is(err, ErrNoInput) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// Seal encrypts b, which it does not keep, and returns the records, in buf if that is large enough.
// Records of Open that have not been taken come first.
func (m *Memory) Seal(buf, b []byte) ([]byte, error) {
	m.mu.Lock()
	m.out = append(buf[:0], m.out...)
	m.mu.Unlock()
	_, err := m.conn.Write(b)
	return m.Take(), err
}

// CloseWrite has Take return the record that closes this side.
func (m *Memory) CloseWrite() error { return m.conn.CloseWrite() }

// Take returns records that Open or CloseWrite created, such as the reply to a key update; nil if
// there are none.
func (m *Memory) Take() []byte {
	m.mu.Lock()
	defer m.mu.Unlock()
	out := m.out
	m.out = nil
	return out
}

// Output returns how many bytes there are to Take.
func (m *Memory) Output() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.out)
}

// A memoryPipe is what the tls.Conn of a Memory reads and writes.
type memoryPipe struct{ *Memory }

// Read reads what has been received.
func (m memoryPipe) Read(b []byte) (int, error) {
	if len(m.in) == 0 {
		return 0, ErrNoInput
	}
	n := copy(b, m.in)
	m.in = m.in[n:]
	return n, nil
}

// Write appends to what is to be sent.
func (m memoryPipe) Write(b []byte) (int, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.out = append(m.out, b...)
	return len(b), nil
}
