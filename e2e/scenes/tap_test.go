package scenes

import (
	"context"
	"net"
	"sync"
	"time"
)

// A tap lets a viewer read no faster than at its rate, which may change. A nil tap is open.
type tap struct {
	mu      sync.Mutex
	rate    int // bytes a second; 0: nothing at all
	changed chan struct{}
}

// wideOpen is the rate of a viewer who takes what comes.
const wideOpen = 1 << 30

func newTap(rate int) *tap { return &tap{rate: rate, changed: make(chan struct{})} }

// turn sets the rate.
func (t *tap) turn(rate int) {
	if t == nil {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.rate = rate
	close(t.changed)
	t.changed = make(chan struct{})
}

// now returns the rate, and what is closed when it is another.
func (t *tap) now() (rate int, changed <-chan struct{}) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.rate, t.changed
}

// dial connects to addr, with the tap under all that is read. The socket's buffer is made small, so that the tap is what the server feels;
// and so are segments, of which the loopback's would not go into it: each would wait for a timer of TCP's.
func (t *tap) dial(ctx context.Context, addr string) (net.Conn, error) {
	if t == nil {
		return new(net.Dialer).DialContext(ctx, "tcp", addr)
	}
	d := net.Dialer{Control: narrow}
	nc, err := d.DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	return &tapped{nc, t, time.Now()}, nil
}

type tapped struct {
	net.Conn
	tap *tap
	due time.Time // when what was read is through
}

// Read reads what the rate lets through in a twentieth of a second, and waits when it is ahead.
func (t *tapped) Read(b []byte) (int, error) {
	const piece = time.Second / 20
	for {
		rate, changed := t.tap.now()
		if rate == 0 {
			<-changed
			continue
		}
		n, err := t.Conn.Read(b[:min(len(b), max(1, rate/int(time.Second/piece)))])
		if rate == wideOpen {
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
