package rtmp

import (
	"io"
	"net"
	"os"
	"sync"
	"time"
)

// pipe returns the two ends of a connection in memory. Unlike a net.Pipe it buffers up to size
// bytes in each direction, so that both ends may write at once. It works in a synctest bubble.
func pipe(size int) (a, b *memConn) {
	x, y := newHalf(size), newHalf(size)
	return &memConn{in: x, out: y}, &memConn{in: y, out: x}
}

type memConn struct {
	net.Conn // nil: methods that are missing here are not called
	in, out  *half
}

func (c *memConn) Read(p []byte) (int, error)         { return c.in.read(p) }
func (c *memConn) Write(p []byte) (int, error)        { return c.out.write(p) }
func (c *memConn) SetReadDeadline(t time.Time) error  { return c.in.readBy.set(c.in, t) }
func (c *memConn) SetWriteDeadline(t time.Time) error { return c.out.writeBy.set(c.out, t) }
func (c *memConn) CloseWrite() error                  { c.out.close(); return nil }
func (c *memConn) Close() error                       { c.in.close(); c.out.close(); return nil }

// half is one direction of a connection.
type half struct {
	mu      sync.Mutex
	cond    *sync.Cond
	buf     []byte
	size    int
	closed  bool
	readBy  deadline
	writeBy deadline
}

type deadline struct {
	at    time.Time
	timer *time.Timer
}

func newHalf(size int) *half {
	h := &half{size: size}
	h.cond = sync.NewCond(&h.mu)
	return h
}

func (d *deadline) set(h *half, t time.Time) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if d.timer != nil {
		d.timer.Stop()
	}
	if d.at = t; !t.IsZero() {
		d.timer = time.AfterFunc(time.Until(t), func() {
			h.mu.Lock()
			defer h.mu.Unlock()
			h.cond.Broadcast()
		})
	}
	h.cond.Broadcast()
	return nil
}

func (d *deadline) passed() bool { return !d.at.IsZero() && !time.Now().Before(d.at) }

func (h *half) read(p []byte) (int, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for {
		switch {
		case h.readBy.passed():
			return 0, os.ErrDeadlineExceeded
		case len(h.buf) > 0:
			n := copy(p, h.buf)
			h.buf = h.buf[n:]
			h.cond.Broadcast()
			return n, nil
		case h.closed:
			return 0, io.EOF
		}
		h.cond.Wait()
	}
}

func (h *half) write(p []byte) (n int, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for {
		switch {
		case h.closed:
			return n, net.ErrClosed
		case h.writeBy.passed():
			return n, os.ErrDeadlineExceeded
		case n == len(p):
			return n, nil
		}
		if room := min(h.size-len(h.buf), len(p)-n); room > 0 {
			h.buf = append(h.buf, p[n:n+room]...)
			n += room
			h.cond.Broadcast()
			continue
		}
		h.cond.Wait()
	}
}

func (h *half) close() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.closed = true
	if h.readBy.timer != nil {
		h.readBy.timer.Stop()
	}
	if h.writeBy.timer != nil {
		h.writeBy.timer.Stop()
	}
	h.cond.Broadcast()
}
