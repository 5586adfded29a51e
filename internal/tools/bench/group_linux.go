package bench

import (
	"context"
	"errors"
	"fmt"
	"net"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"livego/internal/ops/netx"
)

// Viewers are read here without the runtime's poller: few goroutines, each with one buffer and one
// epoll instance for thousands of sockets, cost one system call for received data and, with TLS,
// what its decryption takes. A viewer that connects has a goroutine until its handshake is complete.

const (
	readBuffer = 256 << 10
	maxRecord  = 16 << 10 // payload of the largest TLS record (RFC 8446 section 5.1)
	maxEvents  = 512
)

// A groupReader reads the sockets of a group.
type groupReader struct {
	epoll  int
	events [maxEvents]unix.EpollEvent
	buf    []byte
	plain  []byte // decrypted
}

func (r *groupReader) open() (err error) {
	if r.epoll, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC); err != nil {
		return fmt.Errorf("epoll: %w", err)
	}
	r.buf, r.plain = make([]byte, readBuffer), make([]byte, maxRecord)
	return nil
}

// close follows the close of all sockets.
func (r *groupReader) close() { _ = unix.Close(r.epoll) }

// A groupConn is the socket of a viewer.
type groupConn struct {
	fd  int
	tls *netx.Memory // nil without TLS
}

// control sets the options of a socket that must be set before it connects.
func (c *viewerGroup) control(_, _ string, raw syscall.RawConn) (err error) {
	cerr := raw.Control(func(fd uintptr) {
		if c.options.buffer > 0 { // it sets the TCP window
			err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUF, c.options.buffer)
		}
		if err == nil {
			err = unix.SetsockoptInt(int(fd), unix.IPPROTO_IP, unix.IP_BIND_ADDRESS_NO_PORT, 1)
		}
	})
	return errors.Join(err, cerr)
}

// attach makes nc the connection of m, and sends the first bytes.
func (c *viewerGroup) attach(_ context.Context, m *groupViewer, nc net.Conn) error {
	tcp, plain := netx.PlainTCP(nc)
	if !plain {
		tcp = netx.TCPUnderTLS(nc)
	}
	fd, err := netx.DetachFD(tcp)
	if err != nil {
		nc.Close()
		return err
	}
	m.connected, m.conn = true, groupConn{fd: fd}
	if !plain {
		m.conn.tls = netx.ToMemory(nc)
	}
	if err := m.send(m.client.open()); err != nil {
		return err
	}
	if !plain {
		if err := c.decrypt(m, nil); err != nil { // what came with the end of the handshake
			return err
		}
	}
	return unix.EpollCtl(c.reader.epoll, unix.EPOLL_CTL_ADD, fd,
		&unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(m.index)})
}

// handleInput waits for data, and reads all sockets that have some.
func (c *viewerGroup) handleInput(ctx context.Context, wait time.Duration) error {
	r := &c.reader
	n, err := unix.EpollWait(r.epoll, r.events[:], int((wait+time.Millisecond-1)/time.Millisecond))
	if err != nil && !errors.Is(err, unix.EINTR) {
		return fmt.Errorf("epoll: %w", err)
	}
	if n <= 0 {
		return nil
	}
	c.stats.mu.Lock()
	defer c.stats.mu.Unlock()
	start := c.measurement.now()
	for i := range r.events[:n] {
		if m := c.members[r.events[i].Fd]; m.connected {
			c.handleError(ctx, m, c.read(m))
		}
	}
	if c.measurement.measured(start) {
		c.stats.readDelay.add(time.Duration(c.measurement.now() - start))
	}
	return nil
}

func (c *viewerGroup) read(m *groupViewer) error {
	n, err := unix.Read(m.conn.fd, c.reader.buf)
	switch {
	case errors.Is(err, unix.EAGAIN), errors.Is(err, unix.EINTR):
		return nil
	case err == nil && n == 0:
		err = errClosed
	}
	if err != nil {
		return m.client.closed(err)
	}
	if m.conn.tls != nil {
		return c.decrypt(m, c.reader.buf[:n])
	}
	return c.process(m, c.reader.buf[:n])
}

// decrypt passes the plain bytes of received ones to the client.
func (c *viewerGroup) decrypt(m *groupViewer, received []byte) error {
	var failed error
	err := m.conn.tls.Open(received, c.reader.plain, func(p []byte) {
		if failed == nil {
			failed = c.process(m, p)
		}
	})
	if failed != nil {
		return failed
	}
	if err != nil {
		return m.client.closed(err)
	}
	return m.send(nil)
}

var errSendBufferFull = errors.New("the server does not read what viewers send")

// send writes a few bytes, for which every socket's buffer has room, with replies of TLS.
func (m *groupViewer) send(p []byte) (err error) {
	if m.conn.tls != nil {
		if p, err = m.conn.tls.Seal(nil, p); err != nil {
			return err
		}
	}
	if len(p) == 0 {
		return nil
	}
	n, err := unix.Write(m.conn.fd, p)
	if err == nil && n < len(p) {
		err = errSendBufferFull
	}
	return err
}

func (m *groupViewer) close() {
	if m.connected {
		_ = unix.Close(m.conn.fd) // unsent data is of no use now
		m.connected, m.conn = false, groupConn{}
	}
}
