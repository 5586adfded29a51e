package relay

import (
	"bytes"
	"context"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"livego/internal/container/flv"
	"livego/internal/domain"
	"livego/internal/proto/rtmp"
	"livego/internal/stream"
)

// TestPushReconnectsAndEndsStream pushes a stream, loses the server, and pushes again. The end of
// the stream and a stop end it on the server.
func TestPushReconnectsAndEndsStream(t *testing.T) {
	type message struct {
		conn int
		rtmp.Message
		err error
	}
	got := make(chan message, 1<<10)
	var conns atomic.Int64
	s := serve(t, func(_ context.Context, c *rtmp.ServerConn, req *rtmp.Request) {
		n := int(conns.Add(1))
		if !req.Publish || req.App != "app" || req.Name != "key" || c.AcceptPublish() != nil {
			t.Errorf("asked for %+v", req)
			return
		}
		for {
			m, err := c.ReadMessage()
			got <- message{n, m, err}
			if err != nil || n == 1 && m.Type == flv.TypeAudio && m.Payload[1] == 1 {
				return // the first connection is lost at its second audio frame
			}
		}
	})
	hub, m := newManager(t, nil)
	w := domain.Relay{Direction: domain.Push, Name: movie, URL: s.url("key")}
	shown, err := m.Start(t.Context(), w)
	if err != nil || shown != "rtmp://"+s.Addr().String()+"/app/***" {
		t.Fatalf("%q, %v", shown, err)
	}
	awaitState(t, m, func(s domain.RelayStatus) bool { return s.State == stateWaiting })
	p := publishAudio(t, hub)
	stop, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		every := time.NewTicker(5 * time.Millisecond)
		defer every.Stop()
		for n := 0; ; n++ {
			select {
			case <-every.C:
				p.Write(audioFrame(n))
			case <-stop:
				return
			}
		}
	}()
	await := func(what string, want func(message) bool) {
		t.Helper()
		deadline := time.After(testTimeout)
		for {
			select {
			case m := <-got:
				if want(m) {
					return
				}
			case <-deadline:
				t.Fatalf("%s: not received", what)
			}
		}
	}
	onAir := func(n int) func(message) bool {
		return func(m message) bool { return m.conn == n && m.Type == flv.TypeAudio && m.Payload[1] == 1 }
	}
	await("audio", onAir(1))
	await("audio after the loss", onAir(2))
	status := awaitState(t, m, func(s domain.RelayStatus) bool { return s.State == stateRunning && s.Attempts == 1 })
	if status.Error != "the remote server closed the connection" || status.Room != "movie" || status.URL != shown {
		t.Errorf("status %+v", status)
	}
	close(stop)
	<-done
	p.End(stream.Lost)
	p = publishAudio(t, hub)
	f := audioFrame(0)
	f.Payload = []byte("after the hold")
	p.Write(f)
	await("the same connection after a hold",
		func(m message) bool { return m.conn == 2 && bytes.HasSuffix(m.Payload, []byte("after the hold")) })
	p.End(stream.Clean)
	await("end of stream after the publisher's end",
		func(m message) bool { return m.conn == 2 && m.err == rtmp.ErrStreamEnded })
	if s := awaitState(t, m, func(s domain.RelayStatus) bool { return s.State == stateWaiting }); s.Attempts != 0 ||
		s.Error != "" {
		t.Errorf("after the stream ended: %+v", s)
	}

	p = publishAudio(t, hub)
	p.Write(audioFrame(0))
	await("audio of the next stream", func(m message) bool { return m.conn == 3 && m.Type == flv.TypeAudio })
	if _, err := m.Stop(w); err != nil {
		t.Error(err)
	}
	await("end of stream after Stop", func(m message) bool { return m.conn == 3 && m.err == rtmp.ErrStreamEnded })
	if _, err := m.Stop(w); domain.KindOf(err) != domain.NotFound || len(m.List()) != 0 {
		t.Errorf("second Stop: %v, %v", err, m.List())
	}
}

// TestStalledServerDoesNotBlockPublisher pushes to a server that reads nothing: the publisher
// continues, and the relay disconnects and retries.
func TestStalledServerDoesNotBlockPublisher(t *testing.T) {
	s := serve(t, func(ctx context.Context, c *rtmp.ServerConn, _ *rtmp.Request) {
		if c.AcceptPublish() == nil {
			<-ctx.Done()
		}
	})
	hub, m := newManager(t, func(o *Options) { o.Conn.WriteTimeout = time.Second })
	if _, err := m.Start(t.Context(), domain.Relay{Direction: domain.Push, Name: movie, URL: s.url("key")}); err != nil {
		t.Fatal(err)
	}
	p := publishAudio(t, hub)
	longest, stop, done := time.Duration(0), make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		every := time.NewTicker(time.Millisecond)
		defer every.Stop()
		for n := 0; ; n++ {
			select {
			case <-every.C:
			case <-stop:
				return
			}
			f := audioFrame(n)
			f.Payload = make([]byte, 256<<10)
			began := time.Now()
			p.Write(f)
			longest = max(longest, time.Since(began))
		}
	}()
	status := awaitState(t, m, func(s domain.RelayStatus) bool { return s.Attempts > 0 })
	close(stop)
	<-done
	if longest > 900*time.Millisecond || !strings.Contains(status.Error, "timeout") {
		t.Errorf("Publisher.Write blocked for %v; status %+v", longest, status)
	}
}

// TestSlowServerReportsDelayAndSkips pushes to a server that is slower than the stream: the
// status has its delay and its skips.
func TestSlowServerReportsDelayAndSkips(t *testing.T) {
	begun, wake := make(chan struct{}), make(chan struct{})
	s := serve(t, func(ctx context.Context, c *rtmp.ServerConn, _ *rtmp.Request) {
		if c.AcceptPublish() != nil {
			return
		}
		for first := true; ; {
			m, err := c.ReadMessage()
			if err != nil {
				return
			}
			if !first || m.Payload[1] != 1 {
				continue
			}
			first = false
			close(begun)
			select {
			case <-wake:
			case <-ctx.Done():
			}
		}
	})
	hub, m := newManager(t, nil)
	p := publishAudio(t, hub)
	p.Write(audioFrame(0))
	p.Write(audioFrame(1))
	if _, err := m.Start(t.Context(), domain.Relay{Direction: domain.Push, Name: movie, URL: s.url("key")}); err != nil {
		t.Fatal(err)
	}
	<-begun
	payload, n := make([]byte, 256<<10), 2
	write := func(frames int) {
		for range frames {
			f := audioFrame(n)
			f.Payload = payload
			p.Write(f)
			n++
		}
	}
	write(200) // 50 MiB: more than socket buffers, less than the ring
	if late := awaitState(t, m, func(s domain.RelayStatus) bool { return s.DelayMS > 0 }); late.State != stateRunning ||
		late.Skips != 0 {
		t.Errorf("while the server reads nothing: %+v", late)
	}
	write(400)
	close(wake)
	awaitState(t, m, func(s domain.RelayStatus) bool { return s.Skips > 0 && s.DelayMS == 0 && s.Attempts == 0 })
}
