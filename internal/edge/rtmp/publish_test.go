package rtmp

import (
	"context"
	"log/slog"
	"net"
	"strings"
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

// TestKeyRevokedDuringAuthorization revokes the key of an encoder when it has been found valid, and
// before the encoder publishes, as an operator may while a webhook is asked. The encoder is refused.
func TestKeyRevokedDuringAuthorization(t *testing.T) {
	hub := stream.NewHub(stream.Options{Hold: time.Minute, TrackWait: 1})
	defer hub.Close()
	grant := domain.Grant{Name: domain.Name{App: "live", Room: "movie"}, Key: domain.KeyRef{ID: "a", Generation: 1}}
	s := New(hub, authorizerFunc{authorize: func(domain.AuthRequest) (domain.Grant, error) {
		hub.EndOwners([]any{grant.Owner()}, false, domain.Errorf(domain.Denied, "the stream key was revoked"))
		return grant, nil
	}}, Options{ReadTimeout: time.Minute, Conn: rtmp.Options{MaxMessage: 1 << 20, LingerTimeout: time.Millisecond},
		Log: slog.New(slog.DiscardHandler)})
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	var serving sync.WaitGroup
	serving.Go(func() {
		if err := s.Serve(ctx, ln); err != nil {
			t.Error(err)
		}
	})
	defer serving.Wait()
	defer stop()
	nc, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	c := rtmp.NewClientConn(nc, rtmp.Options{MaxMessage: 1 << 20, LingerTimeout: time.Millisecond})
	defer c.Close()
	if err := c.Connect(t.Context(), "live", "rtmp://localhost/live"); err != nil {
		t.Fatal(err)
	}
	if err := c.Publish(t.Context(), "key"); err == nil || !strings.Contains(err.Error(), "the stream key was revoked") {
		t.Errorf("the encoder got %v", err)
	}
	if hub.Has(grant.Name) {
		t.Error("the stream has started")
	}
}
