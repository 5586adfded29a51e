package netx

import (
	"errors"
	"io"
	"net"
	"os"
	"time"
)

// maxLinger bounds how long a Closing lasts, however slowly the peer reads.
const maxLinger = 30 * time.Second

// A LingerTimer says how long a connection stays open whose last bytes have been given to the
// kernel. A socket that is closed with input unread, or that gets input after it was closed, is
// reset, and what the kernel still holds for the peer is lost: the end of a stream. So a
// LingerTimer is over a quiet time after the kernel holds nothing more, when not a byte has left
// for the stall time, or after 30 s. Its zero value is not ready: see NewLingerTimer.
type LingerTimer struct {
	quiet, stall    time.Duration
	start, progress time.Time
	empty           time.Time // when the kernel was first seen to hold nothing; zero before
	queued          int
}

// NewLingerTimer returns a Closing that begins now, while the kernel holds that many bytes.
func NewLingerTimer(now time.Time, held int, quiet, stall time.Duration) LingerTimer {
	c := LingerTimer{quiet: quiet, stall: stall, start: now, progress: now, queued: held}
	if held == 0 {
		c.empty = now
	}
	return c
}

// Expired reports whether the connection is to be closed now, when the kernel holds that many bytes.
func (c *LingerTimer) Expired(now time.Time, held int) bool {
	if held != c.queued {
		c.queued, c.progress = held, now
	}
	switch {
	case now.Sub(c.start) >= maxLinger:
		return true
	case held > 0:
		return now.Sub(c.progress) >= c.stall
	case c.empty.IsZero():
		c.empty = now
	}
	return now.Sub(c.empty) >= c.quiet
}

// Linger reads from c, and discards, until the peer closes its side or the Closing of these times
// is over. The caller then closes c.
func Linger(c net.Conn, quiet, stall time.Duration) {
	linger(c, quiet, stall, func() int { return Queued(c) })
}

func linger(c net.Conn, quiet, stall time.Duration, queued func() int) {
	for closing := NewLingerTimer(time.Now(), queued(), quiet, stall); ; {
		if err := c.SetReadDeadline(time.Now().Add(quiet)); err != nil {
			return
		}
		_, err := io.Copy(io.Discard, c)
		if !errors.Is(err, os.ErrDeadlineExceeded) || closing.Expired(time.Now(), queued()) {
			return
		}
	}
}
