package resilience

import (
	"context"
	"net"
	"sync"
	"time"
)

// A throttle limits the rate at which a viewer reads; the rate may change. A nil throttle does not
// limit.
type throttle struct {
	mu      sync.Mutex
	rate    int // bytes per second; 0: read nothing
	changed chan struct{}
}

// unlimited is the rate of a viewer that reads as fast as it can.
const unlimited = 1 << 30

func newThrottle(rate int) *throttle { return &throttle{rate: rate, changed: make(chan struct{})} }

// setRate sets the rate.
func (t *throttle) setRate(rate int) {
	if t == nil {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.rate = rate
	close(t.changed)
	t.changed = make(chan struct{})
}

// current returns the rate, and a channel that is closed when it changes.
func (t *throttle) current() (rate int, changed <-chan struct{}) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.rate, t.changed
}

// dial connects to addr and throttles reading. It makes the receive buffer small, so that the
// server notices the rate, and the TCP segments too: loopback's segments would not fit into the
// buffer, and each would wait for a TCP timer.
func (t *throttle) dial(ctx context.Context, addr string) (net.Conn, error) {
	if t == nil {
		return new(net.Dialer).DialContext(ctx, "tcp", addr)
	}
	d := net.Dialer{Control: limitBuffers}
	nc, err := d.DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	return &throttledConn{nc, t, time.Now()}, nil
}

type throttledConn struct {
	net.Conn
	throttle *throttle
	due      time.Time // when the bytes read so far are due at the rate
}

// Read reads what the rate allows in a twentieth of a second, and waits when it is ahead.
func (t *throttledConn) Read(b []byte) (int, error) {
	const piece = time.Second / 20
	for {
		rate, changed := t.throttle.current()
		if rate == 0 {
			<-changed
			continue
		}
		n, err := t.Conn.Read(b[:min(len(b), max(1, rate/int(time.Second/piece)))])
		if rate == unlimited {
			return n, err
		}
		now := time.Now()
		if t.due.Before(now.Add(-piece)) { // unused time is not made up for later
			t.due = now.Add(-piece)
		}
		t.due = t.due.Add(time.Duration(n) * time.Second / time.Duration(rate))
		if ahead := t.due.Sub(now); ahead > 0 {
			pause := time.NewTimer(ahead)
			select {
			case <-pause.C:
			case <-changed:
				pause.Stop()
			}
		}
		return n, err
	}
}
