package scenes

import (
	"io"
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

// fit makes the socket's buffer small, so that the tap is what the server feels.
func (t *tap) fit(nc net.Conn) {
	if t != nil {
		nc.(*net.TCPConn).SetReadBuffer(8 << 10)
	}
}

// on returns r behind the tap.
func (t *tap) on(r io.Reader) io.Reader {
	if t == nil {
		return r
	}
	return &tapped{t, r, time.Now()}
}

type tapped struct {
	*tap
	r   io.Reader
	due time.Time // when what was read is through
}

// Read reads what the rate lets through in a twentieth of a second, and waits when it is ahead.
func (t *tapped) Read(b []byte) (int, error) {
	const piece = time.Second / 20
	for {
		t.mu.Lock()
		rate, changed := t.rate, t.changed
		t.mu.Unlock()
		if rate == 0 {
			<-changed
			continue
		}
		n, err := t.r.Read(b[:min(len(b), max(1, rate/int(time.Second/piece)))])
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
