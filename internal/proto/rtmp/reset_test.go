package rtmp

import (
	"context"
	"errors"
	"io"
	"net"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"livego/internal/ops/netx"
)

// tcpEnds returns the two sides of a TCP connection on which publish is accepted.
func tcpEnds(t *testing.T) (s *ServerConn, c *ClientConn) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	dialed, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	accepted, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	s, c = NewServerConn(accepted, Options{}), NewClientConn(dialed, Options{})
	t.Cleanup(func() { accepted.Close(); dialed.Close() })
	startPublish(t, s, c)
	return s, c
}

// TestPublisherResetDeliversAllMedia: an encoder closes its socket with a reply unread, and its
// kernel resets the connection. The server reads everything that had arrived, though it can no
// longer send acknowledgements.
func TestPublisherResetDeliversAllMedia(t *testing.T) {
	s, c := tcpEnds(t)
	if err := s.nc.(*net.TCPConn).SetReadBuffer(1 << 20); err != nil {
		t.Fatal(err)
	}
	if err := s.sendNow(event(eventPingRequest, 1)); err != nil { // c never reads it
		t.Fatal(err)
	}
	if err := c.sendNow(control(typeWindowAck, minWindow)); err != nil {
		t.Fatal(err)
	}
	const messages, size = 36, 4 << 10 // more than two windows, and less than the kernel buffers
	for range messages {
		if err := c.WriteMessage(Message{Type: TypeVideo, Payload: make([]byte, size)}); err != nil {
			t.Fatal(err)
		}
	}
	if err := c.sendNow(Message{Type: TypeVideo, StreamID: 1, Payload: make([]byte, size)}); err != nil {
		t.Fatal(err)
	}
	awaitSent(t, c.nc)
	c.nc.Close()
	for i := range messages + 1 {
		if m, err := s.ReadMessage(); err != nil || len(m.Payload) != size {
			t.Fatalf("message %d of %d: %d bytes, %v", i, messages, len(m.Payload), err)
		}
	}
	if _, err := s.ReadMessage(); !errors.Is(err, syscall.ECONNRESET) && !errors.Is(err, syscall.EPIPE) {
		t.Errorf("the error at the end is %v", err)
	}
}

// awaitSent waits until the peer's kernel has acknowledged everything written to nc.
func awaitSent(t *testing.T, nc net.Conn) {
	t.Helper()
	limit := time.NewTimer(10 * time.Second)
	defer limit.Stop()
	again := time.NewTicker(time.Millisecond)
	defer again.Stop()
	for netx.Queued(nc) > 0 {
		select {
		case <-again.C:
		case <-limit.C:
			t.Fatalf("%d bytes are not sent", netx.Queued(nc))
		}
	}
}

// TestUnfinishedMessage closes the connection of a publisher within a message.
func TestUnfinishedMessage(t *testing.T) {
	withConns(t, 1<<20, Options{}, func(t *testing.T, s *ServerConn, c *ClientConn) {
		startPublish(t, s, c)
		c.nc.Write(append([]byte("\x04\x00\x00\x00\x00\x10\x00\x09\x01\x00\x00\x00"), make([]byte, 100)...))
		c.Close()
		if _, err := s.ReadMessage(); !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Error(err)
		}
		if !s.Receiving() {
			t.Error("no message has arrived in part")
		}
		if have, missing := s.Unfinished(); have != 100 || missing != 0x1000-100 {
			t.Errorf("%d bytes arrived, %d are missing", have, missing)
		}
	})
}

// TestPublisherGetsNoUnrequestedMessages: the server sends no acknowledgement without a window, and
// no ping.
func TestPublisherGetsNoUnrequestedMessages(t *testing.T) {
	withConns(t, 1<<22, Options{}, func(t *testing.T, s *ServerConn, c *ClientConn) {
		startPublish(t, s, c)
		before := s.sent.Load()
		go func() {
			for range 60 {
				c.WriteMessage(Message{Type: TypeVideo, Payload: make([]byte, 256<<10)})
				time.Sleep(time.Second)
			}
			c.EndStream()
		}()
		for range 60 {
			if _, err := s.ReadMessage(); err != nil {
				t.Fatal(err)
			}
		}
		if n := s.sent.Load() - before; n != 0 {
			t.Errorf("%d bytes were sent to a publisher that asked for none", n)
		}
		if _, err := s.ReadMessage(); err != ErrStreamEnded {
			t.Error(err)
		}
	})
}

// TestClientCloseDeliversAllMedia: a publisher ends its stream and closes while a reply of the
// server is unread and its kernel still has most of the media. The server receives all of it.
func TestClientCloseDeliversAllMedia(t *testing.T) {
	s, c := tcpEnds(t)
	if err := errors.Join(s.nc.(*net.TCPConn).SetReadBuffer(4<<10),
		c.nc.(*net.TCPConn).SetWriteBuffer(1<<20)); err != nil {
		t.Fatal(err)
	}
	if err := s.sendNow(event(eventPingRequest, 1)); err != nil {
		t.Fatal(err)
	}
	const messages, size = 36, 4 << 10
	for range messages {
		if err := c.WriteMessage(Message{Type: TypeVideo, Payload: make([]byte, size)}); err != nil {
			t.Fatal(err)
		}
	}
	if err := c.EndStream(); err != nil {
		t.Fatal(err)
	}
	closed := make(chan error, 1)
	go func() { closed <- c.Close() }()
	for i := range messages {
		if _, err := s.ReadMessage(); err != nil {
			t.Fatalf("message %d of %d: %v", i, messages, err)
		}
	}
	if _, err := s.ReadMessage(); err != ErrStreamEnded {
		t.Errorf("the error at the end is %v", err)
	}
	s.Close()
	if err := <-closed; err != nil {
		t.Error(err)
	}
}

// TestClientCloseIsBounded: a server that neither reads nor closes delays Close of a publisher no
// longer than a write.
func TestClientCloseIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := pipe(1 << 20)
		s, c := NewServerConn(a, Options{}), NewClientConn(b, Options{})
		defer s.Close()
		negotiate(t, s, c, s.AcceptPublish, func(ctx context.Context) error { return c.Publish(ctx, "key") })
		if err := c.EndStream(); err != nil {
			t.Fatal(err)
		}
		start := time.Now()
		if err := c.Close(); err != nil {
			t.Error(err)
		}
		if d := time.Since(start); d > 10*time.Second {
			t.Errorf("it took %v", d)
		}
	})
}
