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

// A Closing says how long a connection stays open whose last bytes have been given to the kernel. A socket that is closed with input
// unread, or that gets input after it was closed, is reset, and what the kernel still holds for the peer is lost: the end of a stream.
// So a Closing is over a quiet time after the kernel holds nothing more, when not a byte has left for the stall time, or after 30 s.
// Its zero value is not ready: see NewClosing.
type Closing struct {
	quiet, stall    time.Duration
	start, progress time.Time
	empty           time.Time // when the kernel was first seen to hold nothing; zero before
	held            int
}

// NewClosing returns a Closing that begins now, while the kernel holds that many bytes.
func NewClosing(now time.Time, held int, quiet, stall time.Duration) Closing {
	c := Closing{quiet: quiet, stall: stall, start: now, progress: now, held: held}
	if held == 0 {
		c.empty = now
	}
	return c
}

// Over reports whether the connection is to be closed now, when the kernel holds that many bytes.
func (c *Closing) Over(now time.Time, held int) bool {
	if held != c.held {
		c.held, c.progress = held, now
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

// Linger reads from c, and discards, until the peer closes its side or the Closing of these times is over. The caller then closes c.
func Linger(c net.Conn, quiet, stall time.Duration) {
	linger(c, quiet, stall, func() int { return Queued(c) })
}

func linger(c net.Conn, quiet, stall time.Duration, queued func() int) {
	for closing := NewClosing(time.Now(), queued(), quiet, stall); ; {
		if err := c.SetReadDeadline(time.Now().Add(quiet)); err != nil {
			return
		}
		_, err := io.Copy(io.Discard, c)
		if !errors.Is(err, os.ErrDeadlineExceeded) || closing.Over(time.Now(), queued()) {
			return
		}
	}
}
