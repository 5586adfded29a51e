package bench

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
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

	epoll  int
	events [maxEvents]unix.EpollEvent
	buf    []byte
	plain  []byte         // decrypted
	dials  sync.WaitGroup // in progress
}

// A groupViewer is a viewer with its socket.
type groupViewer struct {
	*viewer
	number int // of the run
	due    time.Time
	fd     int          // -1 without a socket
	tls    *netx.Memory // nil without TLS
}

// add adds a viewer, number n of the run, that is to connect at a time. Times must not decrease.
func (c *viewerGroup) add(v *viewer, n int, at time.Time) {
	c.members = append(c.members, &groupViewer{viewer: v, number: n, due: at, fd: -1})
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
		c.dials.Wait()
		_ = unix.Close(c.epoll) // all sockets are closed
	}()
	for ctx.Err() == nil {
		wait := c.connectDue(ctx, time.Now())
		c.resumeDue(ctx)
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
		c.connect(ctx, m, index)
		c.stats.mu.Unlock()
	}
	return idlePoll
}

// resumeDue continues the members whose pause is over.
func (c *viewerGroup) resumeDue(ctx context.Context) {
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
		if m.fd < 0 {
			c.connect(ctx, m, i)
		} else {
			c.handleError(ctx, m, i, m.send(m.client.resume()))
		}
	}
}

// connect connects m, which is at an index of members, in a goroutine.
func (c *viewerGroup) connect(ctx context.Context, m *groupViewer, index int) {
	t := m.target
	c.dials.Go(func() {
		nc, err := c.dial(ctx, t, m.number)
		c.stats.mu.Lock()
		defer c.stats.mu.Unlock()
		if err == nil && ctx.Err() != nil {
			nc.Close()
		}
		if ctx.Err() != nil { // members are closed
			return
		}
		if err == nil {
			err = c.attach(m, nc, index)
		}
		c.handleError(ctx, m, index, err)
	})
}

// dial connects viewer number n of the run to t.
func (c *viewerGroup) dial(ctx context.Context, t *target, n int) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, connectTimeout)
	defer cancel()
	to, err := net.ResolveTCPAddr("tcp", t.addr)
	if err != nil {
		return nil, err
	}
	d := &net.Dialer{Control: c.control}
	if from := localAddr(to.AddrPort().Addr().Unmap(), n); from.IsValid() {
		d.LocalAddr = &net.TCPAddr{IP: from.AsSlice()}
	}
	return dialTarget(ctx, d, to.String(), t, c.options)
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
func (c *viewerGroup) attach(m *groupViewer, nc net.Conn, index int) (err error) {
	tcp, plain := netx.PlainTCP(nc)
	if !plain {
		tcp = netx.TCPUnderTLS(nc)
	}
	if m.fd, err = netx.DetachFD(tcp); err != nil {
		m.fd = -1
		nc.Close()
		return err
	}
	if s, ok := nc.(*tls.Conn); ok {
		m.handshakeDone(s.ConnectionState().DidResume)
		m.tls = netx.ToMemory(nc)
	}
	if err = m.send(m.client.open()); err != nil {
		return err
	}
	if m.tls != nil {
		if err = c.decrypt(m, nil); err != nil { // what came with the end of the handshake
			return err
		}
	}
	return unix.EpollCtl(c.epoll, unix.EPOLL_CTL_ADD, m.fd, &unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(index)})
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
		err := c.read(m)
		if !wasPaused && m.resumeAt > 0 {
			c.paused++
		}
		c.handleError(ctx, m, index, err)
	}
	if c.measurement.measured(start) {
		c.stats.readDelay.add(time.Duration(c.measurement.now() - start))
	}
}

// handleError ends m, or connects it again, after an error.
func (c *viewerGroup) handleError(ctx context.Context, m *groupViewer, index int, err error) {
	switch {
	case err == nil:
	case !errors.Is(err, errReconnect):
		m.end(err)
		m.close()
	default:
		m.close()
		if m.resumeAt == 0 { // otherwise at the end of its pause
			c.connect(ctx, m, index)
		}
	}
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
	if m.tls != nil {
		return c.decrypt(m, c.buf[:n])
	}
	return m.process(c.buf[:n])
}

// decrypt passes the plain bytes of received ones to the client.
func (c *viewerGroup) decrypt(m *groupViewer, received []byte) error {
	var failed error
	err := m.tls.Open(received, c.plain, func(p []byte) {
		if failed == nil {
			failed = m.process(p)
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

// process passes received bytes to the client and sends its reply.
func (m *groupViewer) process(p []byte) error {
	reply, err := m.receive(p)
	if err != nil || len(reply) == 0 {
		return err
	}
	return m.send(reply)
}

var errSendBufferFull = errors.New("the server does not read what viewers send")

// send writes a few bytes, for which every socket's buffer has room, with replies of TLS.
func (m *groupViewer) send(p []byte) (err error) {
	if m.tls != nil {
		if p, err = m.tls.Seal(nil, p); err != nil {
			return err
		}
	}
	if len(p) == 0 {
		return nil
	}
	n, err := unix.Write(m.fd, p)
	if err == nil && n < len(p) {
		err = errSendBufferFull
	}
	return err
}

func (m *groupViewer) close() {
	if m.fd >= 0 {
		_ = unix.Close(m.fd) // unsent data is of no use now
		m.fd, m.tls = -1, nil
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
