package bench

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/netip"
	"sync"
	"time"
)

const (
	idlePoll = 20 * time.Millisecond // how soon the end of the run is noticed
	// viewersPerAddress is how many viewers use one local address: it has about 28,000 ports, and
	// some are in TIME_WAIT from the last run.
	viewersPerAddress = 10000
)

// A viewerGroup is viewers that share statistics and, on Linux, a goroutine that reads their sockets.
type viewerGroup struct {
	measurement *measurement
	stats       *viewerStats
	options     connOptions
	members     []*groupViewer
	next        int            // the first member that is not connected yet
	paused      int            // members that resume by time
	work        sync.WaitGroup // goroutines that connect members or read them
	reader      groupReader
}

// A groupViewer is a viewer with its connection.
type groupViewer struct {
	*viewer
	number    int // of the run
	index     int // of members
	due       time.Time
	connected bool
	conn      groupConn // if connected
}

// add adds a viewer, number n of the run, that is to connect at a time. Times must not decrease.
func (c *viewerGroup) add(v *viewer, n int, at time.Time) {
	c.members = append(c.members, &groupViewer{viewer: v, number: n, index: len(c.members), due: at})
}

// run connects the members and reads their sockets until ctx ends.
func (c *viewerGroup) run(ctx context.Context) error {
	if err := c.reader.open(); err != nil {
		return err
	}
	defer func() {
		c.stats.mu.Lock()
		for _, m := range c.members {
			m.close()
		}
		c.stats.mu.Unlock()
		c.work.Wait()
		c.reader.close()
	}()
	for ctx.Err() == nil {
		wait := c.connectDue(ctx, time.Now())
		c.resumeDue(ctx)
		if err := c.handleInput(ctx, wait); err != nil {
			return err
		}
	}
	return nil
}

// connectDue connects the members that are due, and returns how long to wait for the next.
func (c *viewerGroup) connectDue(ctx context.Context, now time.Time) time.Duration {
	c.stats.mu.Lock()
	defer c.stats.mu.Unlock()
	for ; c.next < len(c.members); c.next++ {
		m := c.members[c.next]
		if wait := m.due.Sub(now); wait > 0 {
			return min(wait, idlePoll)
		}
		m.start()
		c.connect(ctx, m)
	}
	return idlePoll
}

// resumeDue continues the members whose pause is over.
func (c *viewerGroup) resumeDue(ctx context.Context) {
	c.stats.mu.Lock()
	defer c.stats.mu.Unlock()
	if c.paused == 0 {
		return
	}
	now := c.measurement.now()
	for _, m := range c.members {
		if m.resumeAt == 0 || m.resumeAt > now || m.ended {
			continue
		}
		m.resumeAt = 0
		c.paused--
		if m.connected {
			c.handleError(ctx, m, m.send(m.client.resume()))
		} else {
			c.connect(ctx, m)
		}
	}
}

// connect connects m in a goroutine.
func (c *viewerGroup) connect(ctx context.Context, m *groupViewer) {
	t := m.target
	c.work.Go(func() {
		nc, err := c.dial(ctx, t, m.number)
		c.stats.mu.Lock()
		defer c.stats.mu.Unlock()
		if ctx.Err() != nil { // members are closed
			if err == nil {
				nc.Close()
			}
			return
		}
		if err == nil {
			if s, ok := nc.(*tls.Conn); ok {
				m.handshakeDone(s.ConnectionState().DidResume)
			}
			err = c.attach(ctx, m, nc)
		}
		c.handleError(ctx, m, err)
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

// handleError ends m, or connects it again, after an error.
func (c *viewerGroup) handleError(ctx context.Context, m *groupViewer, err error) {
	switch {
	case err == nil:
	case !errors.Is(err, errReconnect):
		m.end(err)
		m.close()
	default:
		m.close()
		if m.resumeAt == 0 { // otherwise at the end of its pause
			c.connect(ctx, m)
		}
	}
}

// process passes received bytes to the client of m and sends its reply.
func (c *viewerGroup) process(m *groupViewer, p []byte) error {
	wasPaused := m.resumeAt > 0
	reply, err := m.receive(p)
	if !wasPaused && m.resumeAt > 0 {
		c.paused++
	}
	if err != nil || len(reply) == 0 {
		return err
	}
	return m.send(reply)
}

// localAddr returns the local address that viewer n of a run uses to reach to: the IPv4 loopback
// interface has many, each with ports of its own. Elsewhere the system chooses.
func localAddr(to netip.Addr, n int) netip.Addr {
	if !to.Is4() || !to.IsLoopback() {
		return netip.Addr{}
	}
	return netip.AddrFrom4([4]byte{127, 0, 0, byte(1 + n/viewersPerAddress%250)})
}
