//go:build !linux

package http1

import (
	"errors"
	"net"
	"os"
	"time"

	"livego/internal/ops/netx"
)

// A socket reads and writes a connection.
type socket struct {
	readBuffer
	srv *Server
	nc  net.Conn // TCP or TLS

	deadline time.Time // for the whole response; zero: none
}

func (s *socket) open(c *conn) error {
	s.srv, s.nc, s.pool = c.srv, c.nc, &c.srv.bufs
	return nil
}

func (s *socket) redirect() error { return nil }
func (s *socket) restore() error  { return nil }
func (s *socket) close()          { _ = s.nc.Close() }

// read waits for bytes and reads them. The buffer must have room for one byte at least.
func (s *socket) read() error {
	n, err := s.nc.Read(s.room())
	s.n += n
	return err
}

// send writes head and body, as long as there is progress, and returns how many bytes of both were
// written.
func (s *socket) send(head, body []byte) (int, error) {
	defer s.nc.SetWriteDeadline(time.Time{})
	bufs := net.Buffers{head, body}
	total := 0
	for {
		deadline := time.Now().Add(s.srv.opt.StallTimeout)
		if !s.deadline.IsZero() && s.deadline.Before(deadline) {
			deadline = s.deadline
		}
		_ = s.nc.SetWriteDeadline(deadline)
		n, err := bufs.WriteTo(s.nc)
		total += int(n)
		switch {
		case !errors.Is(err, os.ErrDeadlineExceeded):
			return total, err
		case n == 0 || deadline.Equal(s.deadline):
			netx.DropUnsent(s.nc)
			return total, err
		}
	}
}

// sendBy is send with a deadline for b.
func (s *socket) sendBy(b []byte, deadline time.Time) (int, error) {
	s.deadline = deadline
	return s.send(nil, b)
}

// disconnectNotifier does nothing on this system: the handler of a client that disconnects runs
// until it writes a response.
type disconnectNotifier struct{}

func newDisconnectNotifier() (*disconnectNotifier, error) { return new(disconnectNotifier), nil }
func (h *disconnectNotifier) close()                      {}
func (h *disconnectNotifier) add(*conn) int64             { return 1 }
func (h *disconnectNotifier) remove(int64)                {}
func (h *disconnectNotifier) unwatch(*conn)               {}
