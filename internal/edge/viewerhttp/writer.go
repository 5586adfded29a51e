package viewerhttp

import (
	"bufio"
	"net"
	"net/http"
	"time"

	"livego/internal/proto/http1"
)

// progressWriter extends the write deadline of net/http while the client makes progress, or until a
// deadline for the whole response. Without it a client that requests and reads nothing would hold its
// connection without a limit.
type progressWriter struct {
	http.ResponseWriter
	rc       *http.ResponseController
	timeout  time.Duration
	deadline time.Time // zero for none
	hijacked bool      // by the handler
}

// SetWriteDeadline sets a deadline for the whole response, whatever the progress. A zero t means
// none.
func (p *progressWriter) SetWriteDeadline(t time.Time) error {
	p.deadline = t
	return p.rc.SetWriteDeadline(t)
}

func (p *progressWriter) Write(b []byte) (int, error) {
	const piece = 64 << 10 // small enough that a viewer with 64 kbit/s makes progress
	total := 0
	for {
		p.extendDeadline()
		n, err := p.ResponseWriter.Write(b[:min(piece, len(b))])
		total += n
		if b = b[n:]; err != nil || len(b) == 0 {
			return total, err
		}
	}
}

// extendDeadline gives the client the timeout from now on.
func (p *progressWriter) extendDeadline() {
	deadline := time.Now().Add(p.timeout)
	if !p.deadline.IsZero() && p.deadline.Before(deadline) {
		deadline = p.deadline
	}
	_ = p.rc.SetWriteDeadline(deadline) // the connection fails anyway
}

// finish gives the client time to read what net/http sends after the handler.
func (p *progressWriter) finish() {
	if !p.hijacked {
		p.extendDeadline()
	}
}

// Hijack implements http.Hijacker.
func (p *progressWriter) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	p.hijacked = true
	return p.rc.Hijack()
}

// Unwrap implements the interface of http.ResponseController.
func (p *progressWriter) Unwrap() http.ResponseWriter { return p.ResponseWriter }

// tcpHijacker makes Hijack return the TCP connection itself.
type tcpHijacker struct{ http.ResponseWriter }

// Hijack implements http.Hijacker.
func (w tcpHijacker) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	c, rw, err := http.NewResponseController(w.ResponseWriter).Hijack()
	return http1.Conn(c), rw, err
}

// Unwrap implements the interface of http.ResponseController.
func (w tcpHijacker) Unwrap() http.ResponseWriter { return w.ResponseWriter }
