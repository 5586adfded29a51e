package netx

import (
	"errors"
	"io"
	"net"
	"os"
	"time"
)

// maxLinger limits a LingerTimer, however slowly the peer reads.
const maxLinger = 30 * time.Second

// A LingerTimer decides how long a connection stays open after its last write. If a socket is
// closed with unread input, or receives input after it was closed, the kernel resets the connection
// and discards what it still holds for the peer: the end of a stream. So a LingerTimer expires the
// quiet time after the kernel holds nothing more, or when no byte has left for the stall time, or
// after 30 s. Create it by NewLingerTimer.
type LingerTimer struct {
	quiet, stall    time.Duration
	start, progress time.Time
	empty           time.Time // when the kernel first held nothing; zero before
	queued          int
}

// NewLingerTimer returns a LingerTimer that starts now, when the kernel holds held bytes.
func NewLingerTimer(now time.Time, held int, quiet, stall time.Duration) LingerTimer {
	t := LingerTimer{quiet: quiet, stall: stall, start: now, progress: now, queued: held}
	if held == 0 {
		t.empty = now
	}
	return t
}

// Expired reports whether to close the connection now, when the kernel holds held bytes.
func (t *LingerTimer) Expired(now time.Time, held int) bool {
	if held != t.queued {
		t.queued, t.progress = held, now
	}
	switch {
	case now.Sub(t.start) >= maxLinger:
		return true
	case held > 0:
		return now.Sub(t.progress) >= t.stall
	case t.empty.IsZero():
		t.empty = now
	}
	return now.Sub(t.empty) >= t.quiet
}

// CloseWrite closes the sending side of c, if c has one.
func CloseWrite(c net.Conn) {
	if w, ok := c.(interface{ CloseWrite() error }); ok {
		_ = w.CloseWrite() // fails if c is closed
	}
}

// Linger reads from c and discards the input until the peer closes its side, or until the
// LingerTimer with these times expires. The caller then closes c.
func Linger(c net.Conn, quiet, stall time.Duration) {
	linger(c, quiet, stall, func() int { return Queued(c) })
}

func linger(c net.Conn, quiet, stall time.Duration, queued func() int) {
	for timer := NewLingerTimer(time.Now(), queued(), quiet, stall); ; {
		if err := c.SetReadDeadline(time.Now().Add(quiet)); err != nil {
			return
		}
		_, err := io.Copy(io.Discard, c)
		if !errors.Is(err, os.ErrDeadlineExceeded) || timer.Expired(time.Now(), queued()) {
			return
		}
	}
}
