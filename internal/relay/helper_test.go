package relay

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"testing"
	"time"

	"livego/internal/container/flv"
	"livego/internal/domain"
	"livego/internal/media"
	"livego/internal/proto/rtmp"
	"livego/internal/stream"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var movie = domain.Name{App: "live", Room: "movie"}

const testTimeout = 10 * time.Second

// admit authorizes every pull, unless err is set.
type admit struct {
	domain.ViewerLimiter
	err error
}

func (a admit) Authorize(_ context.Context, r domain.AuthRequest) (domain.Grant, error) {
	return domain.Grant{Name: domain.Name{App: r.App, Room: r.Name}}, a.err
}

// newManager returns a hub and a Manager that may connect to this machine; change may modify its
// Options.
func newManager(t *testing.T, change func(*Options)) (*stream.Hub, *Manager) {
	t.Helper()
	hub := stream.NewHub(stream.Options{Hold: 20 * time.Second, TrackWait: 1, RAPWait: time.Second})
	o := Options{
		Max: 100, Allow: []string{"127.0.0.0/8"}, ReadTimeout: testTimeout, Failed: func(domain.RelayStatus) {},
		Authorizer: admit{}, Log: slog.New(slog.DiscardHandler),
		Conn: rtmp.Options{MaxMessage: 1 << 20, LingerTimeout: time.Millisecond},
	}
	if change != nil {
		change(&o)
	}
	m, err := New(hub, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		m.Close()
		hub.Close()
	})
	return hub, m
}

// runStatic runs the static relays of m until stop is called.
func runStatic(m *Manager) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		m.Run(ctx)
	}()
	return func() {
		cancel()
		<-done
	}
}

// publishAudio publishes an audio track, in which every frame is a random access point.
func publishAudio(t *testing.T, hub *stream.Hub) *stream.Publisher {
	t.Helper()
	p, err := hub.Publish(t.Context(), movie, stream.PublishOptions{Proto: "test"})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

var aac = &media.Track{Kind: media.Audio, Codec: media.AAC, Timescale: 44100, SampleRate: 44100, Channels: 2,
	FrameSamples: 1024, Config: []byte{0x12, 0x10}}

func audioFrame(n int) *media.Frame {
	at := time.Duration(n) * 23 * time.Millisecond
	return &media.Frame{Track: aac, Meta: &media.Meta{HasAudio: true}, DTS: at, PTS: at, RAP: media.Keyframe,
		Payload: []byte{0x21, byte(n)}, Arrived: time.Now()}
}

// A server is the remote server. It calls do for each connection.
type server struct {
	net.Listener
	conns sync.WaitGroup
}

func serve(t *testing.T, do func(context.Context, *rtmp.ServerConn, *rtmp.Request)) *server {
	t.Helper()
	return serveWith(t, rtmp.Options{}, do)
}

func serveWith(t *testing.T, o rtmp.Options, do func(context.Context, *rtmp.ServerConn, *rtmp.Request)) *server {
	t.Helper()
	o.LingerTimeout = time.Millisecond
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &server{Listener: ln}
	ctx, cancel := context.WithCancel(context.Background())
	s.conns.Go(func() {
		for {
			nc, err := ln.Accept()
			if err != nil {
				return
			}
			s.conns.Go(func() {
				stop := context.AfterFunc(ctx, func() { nc.Close() })
				defer stop()
				c := rtmp.NewServerConn(nc, o)
				defer c.Close()
				if req, err := c.Accept(ctx); err == nil {
					do(ctx, c, req)
				}
			})
		}
	})
	t.Cleanup(func() {
		cancel()
		ln.Close()
		s.conns.Wait()
	})
	return s
}

func (s *server) url(name string) string { return "rtmp://" + s.Addr().String() + "/app/" + name }

// awaitState waits until the status of the only relay satisfies want.
func awaitState(t *testing.T, m *Manager, want func(domain.RelayStatus) bool) domain.RelayStatus {
	t.Helper()
	var list []domain.RelayStatus
	await(t, func() bool {
		list = m.List()
		return len(list) == 1 && want(list[0])
	}, func() string { return fmt.Sprintf("%+v", list) })
	return list[0]
}

// await waits until done returns true. It fails with what state returns.
func await(t *testing.T, done func() bool, state func() string) {
	t.Helper()
	deadline, again := time.After(testTimeout), time.NewTicker(5*time.Millisecond)
	defer again.Stop()
	for !done() {
		select {
		case <-again.C:
		case <-deadline:
			t.Fatalf("after %v: %s", testTimeout, state())
		}
	}
}

// sendAudio sends this number of audio frames, or frames until ctx ends if it is negative.
func sendAudio(ctx context.Context, frames int, send func(flv.Tag) error) {
	if send(flv.Tag{Type: flv.TypeAudio, Body: []byte{0xaf, 0, 0x12, 0x10}}) != nil {
		return
	}
	every := time.NewTicker(5 * time.Millisecond)
	defer every.Stop()
	for n := 0; n != frames; n++ {
		if send(flv.Tag{Type: flv.TypeAudio, Timestamp: uint32(23 * n), Body: []byte{0xaf, 1, 0x21, byte(n)}}) != nil {
			return
		}
		select {
		case <-every.C:
		case <-ctx.Done():
			return
		}
	}
}
