package auth

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"livego/internal/domain"
)

func TestAuditKeepsLatest(t *testing.T) {
	var a Audit
	if got := a.Latest(10); len(got) != 0 {
		t.Errorf("an empty audit has %v", got)
	}
	for i := range maxRefusals + 5 {
		a.Add(Refusal{Remote: fmt.Sprint(i)})
	}
	got := a.Latest(2 * maxRefusals)
	if len(got) != maxRefusals || got[0].Remote != fmt.Sprint(maxRefusals+4) || got[maxRefusals-1].Remote != "5" {
		t.Errorf("%d refusals, from %s to %s", len(got), got[0].Remote, got[len(got)-1].Remote)
	}
	if got := a.Latest(2); len(got) != 2 || got[1].Remote != fmt.Sprint(maxRefusals+3) {
		t.Errorf("the latest two are %v", got)
	}
}

// TestAuditRecordsNoSecrets checks that refused requests are recorded without keys and tokens.
func TestAuditRecordsNoSecrets(t *testing.T) {
	var a Audit
	keys := newFakeKeys()
	g := NewChain(&a, NewStreamAuth(keys, Options{Apps: testApps, Private: []string{"live"}}).Authenticate)
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
	got := a.Latest(100)
	if len(got) != 4 || got[3].Action != "publish" || got[3].Remote != "192.0.2.1:1" || got[3].Proto != "rtmp" ||
		got[1].Room != "movie" || got[0].Room != "" {
		t.Errorf("recorded %+v", got)
	}
	if text := fmt.Sprintf("%+v", got); strings.Contains(text, wrong[1:]) || strings.Contains(text, "t0k3n") {
		t.Errorf("a secret is recorded: %s", text)
	}
}

// TestAuditRecordsUnavailableStore checks that refusals during a store outage are recorded, except
// those of clients that have disconnected.
func TestAuditRecordsUnavailableStore(t *testing.T) {
	var a Audit
	g := NewChain(&a, func(context.Context, domain.AuthRequest, domain.Grant) (domain.Grant, error) {
		return domain.Grant{}, domain.Errorf(domain.Unavailable, "store unavailable")
	})
	left, leave := context.WithCancel(t.Context())
	leave()
	for _, ctx := range []context.Context{t.Context(), left} {
		_, _ = g.Authorize(ctx, domain.AuthRequest{Action: domain.Play, App: "live", Name: "movie"})
	}
	if got := a.Latest(10); len(got) != 1 || got[0].Room != "movie" || got[0].Reason != "store unavailable" {
		t.Errorf("recorded %+v", got)
	}
}
