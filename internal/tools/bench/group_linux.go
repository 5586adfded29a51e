package bench

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"
)

// Viewers of plain TCP are read here without the runtime's poller: few goroutines, each with one
// buffer and one epoll instance for thousands of sockets, cost one system call for received data
// and nothing else per viewer.

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
	buffer      int // SO_RCVBUF
	members     []*groupViewer
	next        int // the first member that is not connected yet

	epoll  int
	events [maxEvents]unix.EpollEvent
	buf    []byte
}

// A groupViewer is a viewer with its socket.
type groupViewer struct {
	*viewer
	due       time.Time
	to, from  unix.Sockaddr // from is nil for any address
	fd        int           // -1 without a socket
	connected bool
}

// add adds a viewer, number n of the run, that is to connect at a time. Times must not decrease.
func (c *viewerGroup) add(v *viewer, n int, at time.Time) error {
	addr, err := net.ResolveTCPAddr("tcp", v.target.addr)
	if err != nil {
		return err
	}
	m := &groupViewer{viewer: v, due: at, fd: -1}
	ip := addr.AddrPort().Addr().Unmap()
	m.to = sockaddr(netip.AddrPortFrom(ip, uint16(addr.Port)))
	if from := localAddr(ip, n); from.IsValid() {
		m.from = sockaddr(netip.AddrPortFrom(from, 0))
	}
	c.members = append(c.members, m)
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
	c.buf = make([]byte, readBuffer)
	defer func() {
		for _, m := range c.members {
			m.close()
		}
		_ = unix.Close(c.epoll) // all sockets are closed
	}()
	for ctx.Err() == nil {
		wait := c.connectDue(time.Now())
		n, err := unix.EpollWait(c.epoll, c.events[:], int((wait+time.Millisecond-1)/time.Millisecond))
		if err != nil && !errors.Is(err, unix.EINTR) {
			return fmt.Errorf("epoll: %w", err)
		}
		c.handleEvents(c.events[:max(n, 0)])
	}
	return nil
}

// connectDue connects the members that are due, and returns how long to wait for the next.
func (c *viewerGroup) connectDue(now time.Time) time.Duration {
	for c.next < len(c.members) {
		m := c.members[c.next]
		if wait := m.due.Sub(now); wait > 0 {
			return min(wait, idlePoll)
		}
		c.stats.mu.Lock()
		m.start()
		if err := c.connect(m, c.next); err != nil {
			m.disconnect(err)
		}
		c.stats.mu.Unlock()
		c.next++
	}
	return idlePoll
}

// connect opens a socket for m, which is at an index of members.
func (c *viewerGroup) connect(m *groupViewer, index int) error {
	family := unix.AF_INET
	if _, ok := m.to.(*unix.SockaddrInet6); ok {
		family = unix.AF_INET6
	}
	fd, err := unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	m.fd = fd
	if c.buffer > 0 { // before connect, since it sets the TCP window
		if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, c.buffer); err != nil {
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
func (c *viewerGroup) handleEvents(events []unix.EpollEvent) {
	if len(events) == 0 {
		return
	}
	c.stats.mu.Lock()
	defer c.stats.mu.Unlock()
	start := c.measurement.now()
	for i := range events {
		m := c.members[events[i].Fd]
		if m.fd < 0 {
			continue
		}
		var err error
		if m.connected {
			err = c.read(m)
		} else {
			err = c.onConnect(m, int(events[i].Fd))
		}
		if errors.Is(err, errReconnect) {
			m.close()
			m.connected = false
			err = c.connect(m, int(events[i].Fd))
		}
		if err != nil {
			m.disconnect(err)
		}
	}
	if c.measurement.measured(start) {
		c.stats.readDelay.add(time.Duration(c.measurement.now() - start))
	}
}

// onConnect sends the first bytes on a new connection.
func (c *viewerGroup) onConnect(m *groupViewer, index int) error {
	code, err := unix.GetsockoptInt(m.fd, unix.SOL_SOCKET, unix.SO_ERROR)
	if err != nil {
		return err
	}
	if code != 0 {
		return unix.Errno(code)
	}
	m.connected = true
	if err := m.send(m.client.open()); err != nil {
		return err
	}
	return unix.EpollCtl(c.epoll, unix.EPOLL_CTL_MOD, m.fd, &unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(index)})
}

func (c *viewerGroup) read(m *groupViewer) error {
	n, err := unix.Read(m.fd, c.buf)
	switch {
	case errors.Is(err, unix.EAGAIN), errors.Is(err, unix.EINTR):
		return nil
	case err != nil:
		return err
	case n == 0:
		return errClosed
	}
	reply, err := m.receive(c.buf[:n])
	if err != nil || len(reply) == 0 {
		return err
	}
	return m.send(reply)
}

var errSendBufferFull = errors.New("the server does not read what viewers send")

// send writes a few bytes, for which every socket's buffer has room.
func (m *groupViewer) send(p []byte) error {
	n, err := unix.Write(m.fd, p)
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
	if m.fd >= 0 {
		_ = unix.Close(m.fd) // unsent data is of no use now
		m.fd = -1
	}
}

// localAddr returns the local address that viewer n of a run uses to reach to: the IPv4 loopback
// interface has many, each with ports of its own. Elsewhere the system chooses.
func localAddr(to netip.Addr, n int) netip.Addr {
	if !to.Is4() || !to.IsLoopback() {
		return netip.Addr{}
	}
	return netip.AddrFrom4([4]byte{127, 0, 0, byte(1 + n/viewersPerAddress%250)})
}
