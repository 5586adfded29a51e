package relay

import (
	"context"
	"slices"
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

// TestNewStaticPushes changes the static pushes of a live stream: an unchanged one stays connected, one
// that is gone ends, and a new one starts.
func TestNewStaticPushes(t *testing.T) {
	connected := make(chan string, 16)
	serveApp := func(name string) string {
		s := serve(t, func(_ context.Context, c *rtmp.ServerConn, _ *rtmp.Request) {
			if c.AcceptPublish() != nil {
				return
			}
			connected <- name + " starts"
			for {
				if _, err := c.ReadMessage(); err != nil {
					connected <- name + " ends"
					return
				}
			}
		})
		return "rtmp://" + s.Addr().String() + "/app"
	}
	kept, old, added := serveApp("kept"), serveApp("old"), serveApp("added")
	options := Options{}
	hub, m := newManager(t, func(o *Options) {
		o.Allow, o.Static = nil, map[string][]string{"live": {kept, old}}
		options = *o
	})
	defer runStatic(m)()
	p := publishAudio(t, hub)
	defer p.End(stream.Clean)
	p.Write(audioFrame(0))
	await := func(want ...string) {
		t.Helper()
		var got []string
		for range want {
			select {
			case s := <-connected:
				got = append(got, s)
			case <-time.After(testTimeout):
				t.Fatalf("got %q, want %q: %+v", got, want, m.List())
			}
		}
		slices.Sort(got)
		if !slices.Equal(got, want) {
			t.Errorf("got %q, want %q", got, want)
		}
	}
	await("kept starts", "old starts")
	options.Static = map[string][]string{"live": {kept, added}}
	m.SetOptions(options)
	await("added starts", "old ends")
	options.Static = map[string][]string{"live": {kept, added, old}}
	m.SetOptions(options)
	await("old starts")
}
