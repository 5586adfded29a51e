package resilience

import (
	"context"
	"net"
	"sync"
	"time"
)

// A throttle lets a viewer read no faster than at its rate, which may change. A nil throttle is open.
type throttle struct {
	mu      sync.Mutex
	rate    int // bytes a second; 0: nothing at all
	changed chan struct{}
}

// unlimited is the rate of a viewer who takes what comes.
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

// current returns the rate, and what is closed when it is another.
func (t *throttle) current() (rate int, changed <-chan struct{}) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.rate, t.changed
}

// dial connects to addr, with the tap under all that is read. The socket's buffer is made small, so
// that the tap is what the server feels; and so are segments, of which the loopback's would not go
// into it: each would wait for a timer of TCP's.
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
	due      time.Time // when what was read is through
}

// Read reads what the rate lets through in a twentieth of a second, and waits when it is ahead.
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
		if t.due.Before(now.Add(-piece)) { // what was not taken then is not caught up with
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
