package rtmp

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"reflect"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"livego/internal/container/amf0"
)

// withConns runs f in a synctest bubble with the two sides of a connection whose buffers hold size
// bytes.
func withConns(t *testing.T, size int, o Options, f func(t *testing.T, s *ServerConn, c *ClientConn)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		a, b := pipe(size)
		s, c := NewServerConn(a, o), NewClientConn(b, Options{})
		defer s.Close()
		defer c.Close()
		f(t, s, c)
	})
}

// startPublish connects both sides and has the server accept a publish.
func startPublish(t *testing.T, s *ServerConn, c *ClientConn) *Request {
	t.Helper()
	return negotiate(t, s, c, s.AcceptPublish, func(ctx context.Context) error { return c.Publish(ctx, "key?token=t") })
}

// startPlay connects both sides and has the server accept a play.
func startPlay(t *testing.T, s *ServerConn, c *ClientConn) *Request {
	t.Helper()
	return negotiate(t, s, c, s.AcceptPlay, func(ctx context.Context) error { return c.Play(ctx, "movie") })
}

func negotiate(t *testing.T, s *ServerConn, c *ClientConn, accept func() error,
	ask func(context.Context) error) *Request {
	t.Helper()
	ctx := t.Context()
	done := make(chan error, 1)
	go func() {
		err := c.Connect(ctx, "live", "rtmp://host/live")
		if err == nil {
			err = ask(ctx)
		}
		done <- err
	}()
	req, err := s.Accept(ctx)
	if err != nil {
		t.Fatal("accept:", err)
	}
	if err := accept(); err != nil {
		t.Fatal("reply:", err)
	}
	if err := <-done; err != nil {
		t.Fatal("client:", err)
	}
	return req
}

func TestPublish(t *testing.T) {
	withConns(t, 1<<20, Options{}, func(t *testing.T, s *ServerConn, c *ClientConn) {
		req := startPublish(t, s, c)
		want := &Request{
			Publish: true, App: "live", Name: "key", Query: "token=t", Token: "t", StreamID: 1,
			FlashVer:    "FMLE/3.0 (compatible; livego)",
			VideoCodecs: []string{"*"}, AudioCodecs: []string{"*"}, CapsEx: CapsMultitrack | CapsModEx | CapsTimestampOffset,
		}
		if !reflect.DeepEqual(req, want) {
			t.Errorf("got %+v\nwant %+v", req, want)
		}
		sent := []Message{
			{TypeData, 0, 1, amf0.Append(nil, "@setDataFrame", "onMetaData", amf0.ECMAArray{})},
			{TypeVideo, 0, 1, bytes.Repeat([]byte("v"), 300000)},
			{TypeAudio, 20, 1, []byte("a")},
			{TypeAudio, 0xfffffffe, 1, nil},
			{TypeVideo, 0xffffff, 1, bytes.Repeat([]byte("w"), OutChunkSize+1)},
		}
		go func() {
			for _, m := range sent {
				c.WriteMessage(m)
			}
			c.EndStream()
		}()
		for i, want := range sent {
			got, err := s.ReadMessage()
			if err != nil {
				t.Fatal(i, err)
			}
			if got.Type != want.Type || got.Timestamp != want.Timestamp || !bytes.Equal(got.Payload, want.Payload) {
				t.Errorf("message %d is not what was sent", i)
			}
			if cap(got.Payload) != len(want.Payload) {
				t.Errorf("message %d: capacity %d for %d bytes", i, cap(got.Payload), len(want.Payload))
			}
		}
		if _, err := s.ReadMessage(); err != ErrStreamEnded {
			t.Error(err)
		}
	})
}

// servePlayer reads what a player sends until it leaves, and pings it.
func servePlayer(s *ServerConn) error {
	s.src.startTicks(s.opt.PingInterval)
	for {
		if _, err := s.ReadMessage(); err != nil {
			return err
		}
	}
}

func TestPlay(t *testing.T) {
	withConns(t, 1<<20, Options{}, func(t *testing.T, s *ServerConn, c *ClientConn) {
		req := startPlay(t, s, c)
		if req.Publish || req.Name != "movie" || req.StreamID != 1 {
			t.Errorf("%+v", req)
		}
		left := make(chan error, 1)
		go func() { left <- servePlayer(s) }()
		bufs := net.Buffers(AppendMessage(nil, Header{TypeVideo, 7, 1}, []byte("head"), make([]byte, 100000)))
		if n, err := s.WriteMedia(&bufs); err != nil || n != 12+4+100000+1 {
			t.Error(n, err)
		}
		go s.endPlay("NetStream.Play.UnpublishNotify", "over")
		m, err := c.ReadMessage()
		if err != nil || m.Type != TypeVideo || m.Timestamp != 7 || len(m.Payload) != 100004 {
			t.Error(err, m.Type, m.Timestamp, len(m.Payload))
		}
		if _, err := c.ReadMessage(); err != io.EOF {
			t.Error(err)
		}
		c.EndStream()
		c.Close()
		if err := <-left; err == nil {
			t.Error("got no error")
		}
	})
}

func TestPlayerLeaves(t *testing.T) {
	withConns(t, 1<<20, Options{}, func(t *testing.T, s *ServerConn, c *ClientConn) {
		startPlay(t, s, c)
		go func() {
			c.send(c.command(1, "pause", nil, true, 0), c.command(1, "seek", nil, 1000), c.command(0, "play2", nil))
			c.EndStream()
		}()
		if err := servePlayer(s); err != ErrStreamEnded {
			t.Error(err)
		}
	})
}

func TestReject(t *testing.T) {
	want := &StatusError{"NetStream.Publish.BadName", "no such key"}
	withConns(t, 1<<20, Options{}, func(t *testing.T, s *ServerConn, c *ClientConn) {
		done := make(chan error, 1)
		go func() {
			c.Connect(t.Context(), "live", "rtmp://host/live")
			done <- c.Publish(t.Context(), "key")
			c.Close()
		}()
		if _, err := s.Accept(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := s.Reject(want.Code, want.Description); err != nil {
			t.Error(err)
		}
		if err := <-done; !reflect.DeepEqual(err, want) {
			t.Error(err)
		}
	})
}

// TestRevokedPublisherGetsStatus ends a publisher while the server reads from it.
func TestRevokedPublisherGetsStatus(t *testing.T) {
	withConns(t, 1<<20, Options{}, func(t *testing.T, s *ServerConn, c *ClientConn) {
		startPublish(t, s, c)
		read := make(chan error, 1)
		go func() {
			_, err := s.ReadMessage()
			read <- err
		}()
		synctest.Wait()
		go s.StatusError("NetStream.Publish.BadName", "revoked")
		var status *StatusError
		if _, err := c.ReadMessage(); !errors.As(err, &status) || status.Description != "revoked" {
			t.Error(err)
		}
		c.Close()
		if err := <-read; err == nil {
			t.Error("got no error")
		}
	})
}

func TestInvalidApp(t *testing.T) {
	o := Options{CheckApp: func(app string) error { return errors.New("no application " + app) }}
	withConns(t, 1<<20, o, func(t *testing.T, s *ServerConn, c *ClientConn) {
		go func() {
			s.Accept(t.Context())
			s.Close()
		}()
		err := c.Connect(t.Context(), "nowhere", "rtmp://host/nowhere")
		if want := (&StatusError{"NetConnection.Connect.InvalidApp", "no application nowhere"}); !reflect.DeepEqual(err,
			want) {
			t.Error(err)
		}
		c.Close()
	})
}

// TestHandshakeTimeout: single bytes do not extend the time.
func TestHandshakeTimeout(t *testing.T) {
	for _, bytesAtOnce := range []int{0, 1} {
		withConns(t, 1<<20, Options{}, func(t *testing.T, s *ServerConn, c *ClientConn) {
			start := time.Now()
			var drip sync.WaitGroup
			defer drip.Wait()
			drip.Go(func() {
				for range 8 {
					c.nc.Write(make([]byte, bytesAtOnce))
					time.Sleep(time.Second)
				}
			})
			_, err := s.Accept(t.Context())
			wantReason(t, err, "timeout")
			if d := time.Since(start); d != 5*time.Second {
				t.Errorf("it took %v", d)
			}
		})
	}
}

func TestCommandTimeout(t *testing.T) {
	withConns(t, 1<<20, Options{}, func(t *testing.T, s *ServerConn, c *ClientConn) {
		start := time.Now()
		go c.Connect(t.Context(), "live", "rtmp://host/live")
		_, err := s.Accept(t.Context())
		wantReason(t, err, "timeout")
		if d := time.Since(start); d != 10*time.Second {
			t.Errorf("it took %v", d)
		}
	})
}

func TestAcceptContext(t *testing.T) {
	withConns(t, 1<<20, Options{}, func(t *testing.T, s *ServerConn, c *ClientConn) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := s.Accept(ctx); err != context.DeadlineExceeded {
			t.Error(err)
		}
	})
}

// TestReadTimeout: single bytes and data messages are not media.
func TestReadTimeout(t *testing.T) {
	withConns(t, 1<<20, Options{}, func(t *testing.T, s *ServerConn, c *ClientConn) {
		startPublish(t, s, c)
		start := time.Now()
		s.SetReadTimeout(10 * time.Second)
		var drip sync.WaitGroup
		defer drip.Wait()
		drip.Go(func() {
			time.Sleep(9 * time.Second)
			c.WriteMessage(Message{Type: TypeAudio, Payload: []byte("a")})
			time.Sleep(time.Second)
			c.WriteMessage(Message{Type: TypeData, Payload: []byte("d")})
			c.nc.Write([]byte("\x04\x00\x00\x00\x00\x00\x64\x08\x01\x00\x00\x00"))
			for range 20 {
				time.Sleep(time.Second)
				c.nc.Write([]byte("x"))
			}
		})
		for _, want := range []uint8{TypeAudio, TypeData} {
			if m, err := s.ReadMessage(); err != nil || m.Type != want {
				t.Fatal(m, err)
			}
		}
		if _, err := s.ReadMessage(); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Error(err)
		}
		if d := time.Since(start); d != 19*time.Second {
			t.Errorf("it took %v", d)
		}
	})
}

// TestReadTimeoutAfterStoppedProcess: a process that had no CPU time reads what arrived meanwhile
// before it ends the publisher.
func TestReadTimeoutAfterStoppedProcess(t *testing.T) {
	for _, stopped := range []time.Duration{30 * time.Second, 10*time.Second + 200*time.Millisecond} {
		withConns(t, 1<<20, Options{}, func(t *testing.T, s *ServerConn, c *ClientConn) {
			startPublish(t, s, c)
			s.SetReadTimeout(10 * time.Second)
			c.WriteMessage(Message{Type: TypeAudio, Payload: []byte("a")})
			time.Sleep(stopped)
			if _, err := s.ReadMessage(); err != nil {
				t.Errorf("stopped for %v: %v", stopped, err)
			}
			if _, err := s.ReadMessage(); !errors.Is(err, os.ErrDeadlineExceeded) {
				t.Error(err)
			}
		})
	}
}

// TestReadTimeoutOnBusyMachine notices each deadline a little late, as on a machine that is always
// busy: a silent peer still times out.
func TestReadTimeoutOnBusyMachine(t *testing.T) {
	limit := time.Unix(1000, 0)
	s := &timedReader{deadline: limit}
	if s.shouldRetry(limit.Add(maxDeadlineDelay - 1)) {
		t.Error("continues after a deadline that was noticed in time")
	}
	if !s.shouldRetry(limit.Add(maxDeadlineDelay)) {
		t.Error("does not continue after a deadline that was noticed late")
	}
	if s.shouldRetry(s.deadline.Add(maxDeadlineDelay)) {
		t.Error("continues a second time")
	}
	if !s.shouldRetry(s.deadline.Add(lateGrace)) {
		t.Error("does not continue after a stop within the grace time")
	}
}

// TestCloseLingersAfterStreamEnd: a peer that has ended its stream may close first, but not keep
// the connection.
func TestCloseLingersAfterStreamEnd(t *testing.T) {
	withConns(t, 1<<20, Options{}, func(t *testing.T, s *ServerConn, c *ClientConn) {
		startPublish(t, s, c)
		c.EndStream()
		if _, err := s.ReadMessage(); err != ErrStreamEnded {
			t.Error(err)
		}
		start := time.Now()
		s.Close()
		if d := time.Since(start); d != time.Second {
			t.Errorf("it took %v", d)
		}
	})
}

// TestBothEndsPing: both sides ping and reply, and no side is closed for silence.
func TestBothEndsPing(t *testing.T) {
	withConns(t, 1<<20, Options{}, func(t *testing.T, s *ServerConn, c *ClientConn) {
		startPlay(t, s, c)
		go servePlayer(s)
		start, before := time.Now(), s.sent.Load()
		go func() {
			time.Sleep(time.Minute)
			c.Close()
		}()
		c.ReadMessage()
		if d := time.Since(start); d != time.Minute {
			t.Errorf("it took %v", d)
		}
		const each = 12 + 6
		if n := (s.sent.Load() - before) / each; n < 6 || n > 8 { // 4 pings and nearly as many replies
			t.Errorf("%d control messages in a minute", n)
		}
	})
}

func TestPingFlood(t *testing.T) {
	withConns(t, 1<<20, Options{}, func(t *testing.T, s *ServerConn, c *ClientConn) {
		startPlay(t, s, c)
		before := s.sent.Load()
		for range 1000 {
			c.ping()
		}
		c.EndStream()
		servePlayer(s)
		if n := s.sent.Load() - before; n != maxReplies*18 {
			t.Errorf("%d bytes of replies", n)
		}
	})
}

// TestRepliesDuringSlowWrite: reading continues while a write to the same peer is blocked, and the
// replies follow between messages.
func TestRepliesDuringSlowWrite(t *testing.T) {
	withConns(t, 4096, Options{}, func(t *testing.T, s *ServerConn, c *ClientConn) {
		startPlay(t, s, c)
		left := make(chan error, 1)
		go func() { left <- servePlayer(s) }()
		wrote := make(chan error, 1)
		go func() {
			bufs := net.Buffers(AppendMessage(nil, Header{TypeVideo, 0, 1}, make([]byte, 100000)))
			_, err := s.WriteMedia(&bufs)
			wrote <- err
		}()
		synctest.Wait() // blocked
		c.ping()
		c.EndStream()
		if err := <-left; err != ErrStreamEnded {
			t.Error(err)
		}
		if m, err := c.ReadMessage(); err != nil || len(m.Payload) != 100000 {
			t.Error(err)
		}
		if err := <-wrote; err != nil {
			t.Error(err)
		}
	})
}

// TestWriteTimeout: a slow reader stays connected; a peer that reads nothing is closed.
func TestWriteTimeout(t *testing.T) {
	withConns(t, 4096, Options{}, func(t *testing.T, s *ServerConn, c *ClientConn) {
		startPlay(t, s, c)
		c.nc.SetReadDeadline(time.Time{})
		start := time.Now()
		var sip sync.WaitGroup
		defer sip.Wait()
		sip.Go(func() {
			for range 4 {
				time.Sleep(9 * time.Second)
				c.nc.Read(make([]byte, 1))
			}
		})
		bufs := net.Buffers(AppendMessage(nil, Header{TypeVideo, 0, 1}, make([]byte, 100000)))
		if _, err := s.WriteMedia(&bufs); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Error(err)
		}
		if d := time.Since(start); d < 40*time.Second || d > 50*time.Second {
			t.Errorf("it took %v", d)
		}
		if _, err := s.WriteMedia(&bufs); err == nil {
			t.Error("a write after half a message succeeded")
		}
	})
}

// TestAcknowledgements requests a window of one byte: minWindow limits the acknowledgements.
func TestAcknowledgements(t *testing.T) {
	withConns(t, 1<<22, Options{}, func(t *testing.T, s *ServerConn, c *ClientConn) {
		startPublish(t, s, c)
		before := s.sent.Load()
		c.send(control(typeWindowAck, 1))
		for range 64 {
			c.WriteMessage(Message{Type: TypeVideo, Payload: make([]byte, 1<<14)})
		}
		c.nc.(*memConn).CloseWrite()
		for {
			if _, err := s.ReadMessage(); err != nil {
				break
			}
		}
		if n := (s.sent.Load() - before) / 16; n < 4 || n > 16 {
			t.Errorf("%d acknowledgements for 1 MiB", n)
		}
	})
}

func wantReason(t *testing.T, err error, reason string) {
	t.Helper()
	var pe *ProtocolError
	if !errors.As(err, &pe) || pe.Reason != reason {
		t.Errorf("error %v, want reason %s", err, reason)
	}
}

// TestSendWhileSendNow queues a reply while another goroutine is writing: only that one can send
// it.
func TestSendWhileSendNow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := pipe(1)
		defer a.Close()
		c := newConn(a, Options{})
		go func() { _ = c.sendNow(event(eventStreamBegin, 1)) }()
		synctest.Wait() // the goroutine is blocked, because b does not read
		if err := c.send(event(eventPingResponse, 2)); err != nil {
			t.Fatal(err)
		}
		const message = 12 + 6
		_ = b.SetReadDeadline(time.Now().Add(time.Second))
		if n, err := io.ReadFull(b, make([]byte, 2*message)); err != nil {
			t.Errorf("%d bytes arrived, %v; want two messages of %d", n, err, message)
		}
	})
}

// TestHTTPReply: a client that sends an HTTP request gets the reply; other text, or part of a
// method, does not.
func TestHTTPReply(t *testing.T) {
	reply := []byte("HTTP/1.1 400 Bad Request\r\n\r\n")
	for in, want := range map[string]string{
		"GET / HTTP/1.1\r\nHost: x\r\n\r\n": string(reply), "OPTIONS * HTTP/1.1\r\n": string(reply), "GET": "", "G": "",
		"GETTY /": "", "text in lines\r\n": "", "\x03GET ": "",
	} {
		synctest.Test(t, func(t *testing.T) {
			ours, theirs := pipe(1 << 10)
			c := NewServerConn(ours, Options{HTTPReply: reply})
			theirs.Write([]byte(in))
			done := make(chan error)
			go func() {
				_, err := c.Accept(t.Context())
				c.Close()
				done <- err
			}()
			synctest.Wait()
			theirs.out.close() // the client sends nothing more
			got, _ := io.ReadAll(theirs)
			if err := <-done; err == nil || string(got) != want {
				t.Errorf("%q: reply %q, %v", in, got, err)
			}
		})
	}
}
