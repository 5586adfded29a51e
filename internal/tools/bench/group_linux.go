package bench

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// Viewers are read here without the runtime's poller: few goroutines, each with one buffer and one
// epoll instance for thousands of sockets, cost one system call for received data and, with TLS,
// what its decryption takes. TLS handshakes have a goroutine each.

const (
	readBuffer = 256 << 10
	maxEvents  = 512
	idlePoll   = 20 * time.Millisecond // how soon the end of the run is noticed
	// viewersPerAddress is how many viewers use one local address: it has about 28,000 ports, and
	// some are in TIME_WAIT from the last run.
	viewersPerAddress = 10000
)

// A viewerGroup is viewers whose sockets one goroutine reads.
type viewerGroup struct {
	measurement *measurement
	stats       *viewerStats
	options     connOptions
	members     []*groupViewer
	next        int // the first member that is not connected yet
	paused      int // members that resume by time

	epoll      int
	events     [maxEvents]unix.EpollEvent
	buf        []byte
	plain      []byte         // decrypted
	handshakes sync.WaitGroup // in progress
}

// A groupViewer is a viewer with its socket.
type groupViewer struct {
	*viewer
	number    int // of the run
	due       time.Time
	to, from  unix.Sockaddr // from is nil for any address
	toTarget  *target       // that to is the address of
	fd        int           // -1 without a socket
	connected bool
	secure    *tlsConn // nil without TLS
}

// add adds a viewer, number n of the run, that is to connect at a time. Times must not decrease.
func (c *viewerGroup) add(v *viewer, n int, at time.Time) error {
	m := &groupViewer{viewer: v, number: n, due: at, fd: -1}
	c.members = append(c.members, m)
	return m.resolve()
}

// resolve sets the addresses for the viewer's target.
func (m *groupViewer) resolve() error {
	if m.toTarget == m.target {
		return nil
	}
	addr, err := net.ResolveTCPAddr("tcp", m.target.addr)
	if err != nil {
		return err
	}
	ip := addr.AddrPort().Addr().Unmap()
	m.to, m.from, m.toTarget = sockaddr(netip.AddrPortFrom(ip, uint16(addr.Port))), nil, m.target
	if from := localAddr(ip, m.number); from.IsValid() {
		m.from = sockaddr(netip.AddrPortFrom(from, 0))
	}
	return nil
}

func sockaddr(a netip.AddrPort) unix.Sockaddr {
	if a.Addr().Is4() {
		return &unix.SockaddrInet4{Port: int(a.Port()), Addr: a.Addr().As4()}
	}
	return &unix.SockaddrInet6{Port: int(a.Port()), Addr: a.Addr().As16()}
}

// run connects the members and reads their sockets until ctx ends.
func (c *viewerGroup) run(ctx context.Context) error {
	var err error
	if c.epoll, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC); err != nil {
		return fmt.Errorf("epoll: %w", err)
	}
	c.buf, c.plain = make([]byte, readBuffer), make([]byte, maxRecord)
	defer func() {
		c.stats.mu.Lock()
		for _, m := range c.members {
			m.close()
		}
		c.stats.mu.Unlock()
		c.handshakes.Wait()
		_ = unix.Close(c.epoll) // all sockets are closed
	}()
	for ctx.Err() == nil {
		wait := c.connectDue(ctx, time.Now())
		c.resumeDue()
		n, err := unix.EpollWait(c.epoll, c.events[:], int((wait+time.Millisecond-1)/time.Millisecond))
		if err != nil && !errors.Is(err, unix.EINTR) {
			return fmt.Errorf("epoll: %w", err)
		}
		c.handleEvents(ctx, c.events[:max(n, 0)])
	}
	return nil
}

// connectDue connects the members that are due, and returns how long to wait for the next.
func (c *viewerGroup) connectDue(ctx context.Context, now time.Time) time.Duration {
	for c.next < len(c.members) {
		m := c.members[c.next]
		if wait := m.due.Sub(now); wait > 0 {
			return min(wait, idlePoll)
		}
		index := c.next
		c.next++
		if ctx.Err() != nil {
			continue
		}
		c.stats.mu.Lock()
		m.start()
		if err := c.connect(m, index); err != nil {
			m.disconnect(err)
		}
		c.stats.mu.Unlock()
	}
	return idlePoll
}

// resumeDue continues the members whose pause is over.
func (c *viewerGroup) resumeDue() {
	if c.paused == 0 {
		return
	}
	c.stats.mu.Lock()
	defer c.stats.mu.Unlock()
	now := c.measurement.now()
	for i, m := range c.members {
		if m.resumeAt == 0 || m.resumeAt > now || m.ended {
			continue
		}
		m.resumeAt = 0
		c.paused--
		var err error
		if m.fd < 0 {
			err = c.connect(m, i)
		} else {
			err = m.send(m.client.resume())
		}
		c.handleError(m, i, err)
	}
}

// connect opens a socket for m, which is at an index of members.
func (c *viewerGroup) connect(m *groupViewer, index int) error {
	if err := m.resolve(); err != nil {
		return err
	}
	family := unix.AF_INET
	if _, ok := m.to.(*unix.SockaddrInet6); ok {
		family = unix.AF_INET6
	}
	fd, err := unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	m.fd, m.connected = fd, false
	// A request must not wait for the acknowledgement of the end of the handshake.
	if err := unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1); err != nil {
		return err
	}
	if c.options.buffer > 0 { // before connect, since it sets the TCP window
		if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, c.options.buffer); err != nil {
			return err
		}
	}
	if m.from != nil {
		if err := unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_BIND_ADDRESS_NO_PORT, 1); err != nil {
			return err
		}
		if err := unix.Bind(fd, m.from); err != nil {
			return err
		}
	}
	if err := unix.Connect(fd, m.to); err != nil && !errors.Is(err, unix.EINPROGRESS) {
		return err
	}
	e := unix.EpollEvent{Events: unix.EPOLLIN | unix.EPOLLOUT, Fd: int32(index)}
	return unix.EpollCtl(c.epoll, unix.EPOLL_CTL_ADD, fd, &e)
}

// handleEvents reads all sockets that have data.
func (c *viewerGroup) handleEvents(ctx context.Context, events []unix.EpollEvent) {
	if len(events) == 0 {
		return
	}
	c.stats.mu.Lock()
	defer c.stats.mu.Unlock()
	start := c.measurement.now()
	for i := range events {
		index := int(events[i].Fd)
		m := c.members[index]
		if m.fd < 0 {
			continue
		}
		wasPaused := m.resumeAt > 0
		var err error
		if m.connected {
			err = c.read(m)
		} else {
			err = c.onConnect(ctx, m, index)
		}
		if !wasPaused && m.resumeAt > 0 {
			c.paused++
		}
		c.handleError(m, index, err)
	}
	if c.measurement.measured(start) {
		c.stats.readDelay.add(time.Duration(c.measurement.now() - start))
	}
}

// handleError ends m, or connects it again, after an error.
func (c *viewerGroup) handleError(m *groupViewer, index int, err error) {
	if errors.Is(err, errReconnect) {
		m.close()
		if err = nil; m.resumeAt == 0 { // otherwise at the end of its pause
			err = c.connect(m, index)
		}
	}
	if err != nil {
		m.disconnect(err)
	}
}

// onConnect starts the TLS handshake on a new connection, or sends the first bytes.
func (c *viewerGroup) onConnect(ctx context.Context, m *groupViewer, index int) error {
	code, err := unix.GetsockoptInt(m.fd, unix.SOL_SOCKET, unix.SO_ERROR)
	if err != nil {
		return err
	}
	if code != 0 {
		return unix.Errno(code)
	}
	m.connected = true
	if m.target.tls {
		m.secure = newTLSConn(m.fd, c.options.tlsConfig(m.target))
		s := m.secure
		c.handshakes.Go(func() { c.handshake(ctx, m, s, index) })
	} else if err := m.send(m.client.open()); err != nil {
		return err
	}
	return unix.EpollCtl(c.epoll, unix.EPOLL_CTL_MOD, m.fd, &unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(index)})
}

// handshake performs the handshake of s, the connection of m, and sends the first bytes. The group
// reads the socket.
func (c *viewerGroup) handshake(ctx context.Context, m *groupViewer, s *tlsConn, index int) {
	err := s.handshake(ctx)
	c.stats.mu.Lock()
	defer c.stats.mu.Unlock()
	if m.secure != s || m.fd < 0 { // closed
		return
	}
	if err == nil {
		s.finishHandshake()
		m.handshakeDone(s.ConnectionState().DidResume)
		if err = m.send(m.client.open()); err == nil {
			err = c.decrypt(m, nil) // what came with the end of the handshake
		}
	}
	c.handleError(m, index, err)
}

func (c *viewerGroup) read(m *groupViewer) error {
	n, err := unix.Read(m.fd, c.buf)
	switch {
	case errors.Is(err, unix.EAGAIN), errors.Is(err, unix.EINTR):
		return nil
	case err == nil && n == 0:
		err = errClosed
	}
	if err != nil {
		return m.client.closed(err)
	}
	if m.secure != nil {
		return c.decrypt(m, c.buf[:n])
	}
	return m.process(c.buf[:n])
}

// decrypt passes the plain bytes of received ones to the client.
func (c *viewerGroup) decrypt(m *groupViewer, received []byte) error {
	if !m.secure.feed(received) {
		return nil
	}
	for {
		n, err := m.secure.Read(c.plain)
		if errors.Is(err, errNoInput) {
			return nil
		}
		if err != nil {
			return m.client.closed(err)
		}
		if err := m.process(c.plain[:n]); err != nil {
			return err
		}
	}
}

// process passes received bytes to the client and sends its reply.
func (m *groupViewer) process(p []byte) error {
	reply, err := m.receive(p)
	if err != nil || len(reply) == 0 {
		return err
	}
	return m.send(reply)
}

var errSendBufferFull = errors.New("the server does not read what viewers send")

// send writes a few bytes, for which every socket's buffer has room.
func (m *groupViewer) send(p []byte) error {
	if m.secure != nil {
		_, err := m.secure.Write(p)
		return err
	}
	return writeAll(m.fd, p)
}

func writeAll(fd int, p []byte) error {
	n, err := unix.Write(fd, p)
	if err == nil && n < len(p) {
		err = errSendBufferFull
	}
	return err
}

func (m *groupViewer) disconnect(err error) {
	m.end(err)
	m.close()
}

func (m *groupViewer) close() {
	if m.fd < 0 {
		return
	}
	if m.secure != nil {
		_ = m.secure.transport.Close() // before the descriptor may be reused
		m.secure = nil
	}
	_ = unix.Close(m.fd) // unsent data is of no use now
	m.fd = -1
}

// localAddr returns the local address that viewer n of a run uses to reach to: the IPv4 loopback
// interface has many, each with ports of its own. Elsewhere the system chooses.
func localAddr(to netip.Addr, n int) netip.Addr {
	if !to.Is4() || !to.IsLoopback() {
		return netip.Addr{}
	}
	return netip.AddrFrom4([4]byte{127, 0, 0, byte(1 + n/viewersPerAddress%250)})
}
