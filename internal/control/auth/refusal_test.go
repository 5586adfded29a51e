package auth

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"livego/internal/domain"
)

// TestRefusalRecordsNoSecrets checks that refused requests are recorded without keys and tokens.
func TestRefusalRecordsNoSecrets(t *testing.T) {
	var got []domain.Event
	keys := newFakeKeys()
	g := NewChain(func(e domain.Event) { got = append(got, e) },
		NewStreamAuth(keys, Options{Apps: testApps, Private: []string{"live"}}).Authenticate)
	wrong := domain.NewSecret()
	for _, r := range []domain.AuthRequest{
		{Action: domain.Publish, App: "live", Name: wrong, Token: "t0k3n", Proto: "rtmp", Remote: "192.0.2.1:1"},
		{Action: domain.Publish, App: "live", Name: wrong[1:]},
		{Action: domain.Publish, App: wrong[1:], Name: wrong},
		{Action: domain.Play, App: "live", Name: "movie", Token: "t0k3n", Proto: "flv"},
		{Action: domain.Play, App: "live", Name: wrong[1:]},
		{Action: domain.Play, App: "live", Name: wrong},              // an invalid name: not a refusal
		{Action: domain.Publish, App: "live", Name: keys.key.Secret}, // valid
	} {
		_, _ = g.Authorize(t.Context(), r)
	}
	if len(got) != 4 || got[0].Action != "publish" || got[0].Remote != "192.0.2.1:1" ||
		got[0].Proto != "rtmp" || got[2].Room != "movie" || got[3].Room != "" {
		t.Errorf("recorded %+v", got)
	}
	if text := fmt.Sprintf("%+v", got); strings.Contains(text, wrong[1:]) || strings.Contains(text, "t0k3n") {
		t.Errorf("a secret is recorded: %s", text)
	}
}

// TestRefusalRecordsUnavailableStore checks that refusals during a store outage are recorded, except
// those of clients that have disconnected.
func TestRefusalRecordsUnavailableStore(t *testing.T) {
	var got []domain.Event
	g := NewChain(func(e domain.Event) { got = append(got, e) },
		func(context.Context, domain.AuthRequest, domain.Grant) (domain.Grant, error) {
			return domain.Grant{}, domain.Errorf(domain.Unavailable, "store unavailable")
		})
	left, leave := context.WithCancel(t.Context())
	leave()
	for _, ctx := range []context.Context{t.Context(), left} {
		_, _ = g.Authorize(ctx, domain.AuthRequest{Action: domain.Play, App: "live", Name: "movie"})
	}
	if len(got) != 1 || got[0].Room != "movie" || got[0].Reason != "store unavailable" {
		t.Errorf("recorded %+v", got)
	}
}
