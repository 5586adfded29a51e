package rtmp

import (
	"context"
	"log/slog"
	"net"
	"sync"
	"testing"
	"time"

	"livego/internal/domain"
	"livego/internal/proto/rtmp"
	"livego/internal/stream"
)

// An authorizerFunc is an Authorizer without viewer limits.
type authorizerFunc struct {
	domain.ViewerLimiter
	authorize func(domain.AuthRequest) (domain.Grant, error)
}

func (f authorizerFunc) Authorize(_ context.Context, r domain.AuthRequest) (domain.Grant, error) {
	return f.authorize(r)
}

// testOptions are those of both sides.
var testOptions = rtmp.Options{MaxMessage: 1 << 20, LingerTimeout: time.Millisecond}

// startServer serves the streams of hub until stop, which waits for the connections, or the end of
// the test.
func startServer(t *testing.T, hub *stream.Hub, log slog.Handler,
	authorize func(domain.AuthRequest) (domain.Grant, error)) (addr string, stop func()) {
	t.Helper()
	s := New(hub, authorizerFunc{authorize: authorize},
		Options{ReadTimeout: time.Minute, Conn: testOptions, Log: slog.New(log)})
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var serving sync.WaitGroup
	serving.Go(func() {
		if err := s.Serve(ctx, ln, false); err != nil {
			t.Error(err)
		}
	})
	stop = func() {
		cancel()
		serving.Wait()
	}
	t.Cleanup(stop)
	return ln.Addr().String(), stop
}

// connect returns a connection to the app live, which is closed at the end of the test.
func connect(t *testing.T, addr string) *rtmp.ClientConn {
	t.Helper()
	nc, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	c := rtmp.NewClientConn(nc, testOptions)
	t.Cleanup(func() { c.Close() })
	if err := c.Connect(t.Context(), "live", "rtmp://localhost/live"); err != nil {
		t.Fatal(err)
	}
	return c
}
