package rtmp

import (
	"log/slog"
	"strings"
	"testing"
	"time"

	"livego/internal/domain"
	"livego/internal/stream"
)

// TestKeyRevokedDuringAuthorization revokes the key of an encoder when it has been found valid, and
// before the encoder publishes, as an operator may while a webhook is asked. The encoder is refused.
func TestKeyRevokedDuringAuthorization(t *testing.T) {
	hub := stream.NewHub(stream.Options{Hold: time.Minute, TrackWait: 1})
	defer hub.Close()
	grant := domain.Grant{Name: domain.Name{App: "live", Room: "movie"}, Key: domain.KeyRef{ID: "a", Generation: 1}}
	addr, _ := startServer(t, hub, slog.DiscardHandler, func(domain.AuthRequest) (domain.Grant, error) {
		hub.EndOwners([]any{grant.Owner()}, false, domain.Errorf(domain.Denied, "the stream key was revoked"))
		return grant, nil
	})
	c := connect(t, addr)
	if err := c.Publish(t.Context(), "key"); err == nil || !strings.Contains(err.Error(), "the stream key was revoked") {
		t.Errorf("the encoder got %v", err)
	}
	if hub.Has(grant.Name) {
		t.Error("the stream has started")
	}
}
