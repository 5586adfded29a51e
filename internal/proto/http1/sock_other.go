//go:build !linux

package http1

import (
	"errors"
	"net"
	"os"
	"time"

	"livego/internal/ops/netx"
)

// A socket reads and writes a TCP connection.
type socket struct {
	srv *Server
	tcp *netx.Conn
	buf *[headSize]byte
	n   int // bytes in buf

	deadline time.Time // when the answer must have gone; zero: never
}

func (s *socket) open(srv *Server, tcp *netx.Conn) error {
	s.srv, s.tcp = srv, tcp
	return nil
}

// read waits for bytes, of which there is room for one or more, and reads them.
func (s *socket) read() error {
	if s.buf == nil {
		s.buf, _ = s.srv.bufs.Get().(*[headSize]byte)
		s.n = 0
	}
	n, err := s.tcp.Read(s.buf[s.n:])
	s.n += n
	return err
}

// send sends head and body, waiting as long as there is progress, and returns how many bytes of both went.
func (s *socket) send(head, body []byte) (int, error) {
	defer s.tcp.SetWriteDeadline(time.Time{})
	bufs := net.Buffers{head, body}
	total := 0
	for {
		deadline := time.Now().Add(s.srv.opt.StallTimeout)
		if !s.deadline.IsZero() && s.deadline.Before(deadline) {
			deadline = s.deadline
		}
		_ = s.tcp.SetWriteDeadline(deadline)
		n, err := bufs.WriteTo(s.tcp)
		total += int(n)
		switch {
		case !errors.Is(err, os.ErrDeadlineExceeded):
			return total, err
		case n == 0 || deadline.Equal(s.deadline):
			netx.DropUnsent(s.tcp)
			return total, err
		}
	}
}

// disconnectNotifier notices nobody here: a handler goes on for a client who has left until it has something for him.
type disconnectNotifier struct{}

func newDisconnectNotifier() (*disconnectNotifier, error) { return new(disconnectNotifier), nil }
func (h *disconnectNotifier) close()                      {}
func (h *disconnectNotifier) add(*conn) int64             { return 1 }
func (h *disconnectNotifier) remove(int64)                {}
