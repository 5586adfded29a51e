package relay

import (
	"context"
	"strings"
	"testing"
	"time"

	"livego/internal/container/flv"
	"livego/internal/proto/rtmp"
	"livego/internal/stream"
)

// TestStaticPushFollowsStream pushes a stream of an app each time it is live.
func TestStaticPushFollowsStream(t *testing.T) {
	names := make(chan string, 16)
	s := serve(t, func(_ context.Context, c *rtmp.ServerConn, req *rtmp.Request) {
		if c.AcceptPublish() != nil {
			return
		}
		for {
			m, err := c.ReadMessage()
			if err != nil {
				names <- err.Error()
				return
			}
			if m.Type == flv.TypeAudio && m.Payload[1] == 1 {
				names <- req.App + " " + req.Name
			}
		}
	})
	hub, m := newManager(t, func(o *Options) {
		o.Allow, o.Static = nil, map[string][]string{"live": {"rtmp://" + s.Addr().String() + "/app/?token=x"}}
	})
	defer runStatic(m)()
	for round := range 3 {
		p := publishAudio(t, hub)
		p.Write(audioFrame(0))
		await := func(want string) {
			t.Helper()
			select {
			case got := <-names:
				if got != want {
					t.Errorf("round %d: %q, want %q", round, got, want)
				}
			case <-time.After(testTimeout):
				t.Fatalf("round %d: no %q: %+v", round, want, m.List())
			}
		}
		await("app movie")
		p.End(stream.Clean)
		await(rtmp.ErrStreamEnded.Error())
	}
	m.Close()
	if list := m.List(); len(list) != 0 {
		t.Errorf("remaining: %+v", list)
	}
}

func TestInvalidStaticPush(t *testing.T) {
	hub := stream.NewHub(stream.Options{})
	defer hub.Close()
	_, err := New(hub, Options{Static: map[string][]string{"live": {"rtmp://h/a", "rtmp://h:0/s3cret"}}})
	if err == nil || !strings.Contains(err.Error(), "static_push of live, entry 2") ||
		strings.Contains(err.Error(), "s3cret") {
		t.Errorf("%v", err)
	}
}
