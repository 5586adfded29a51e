package auth

import (
	"context"
	"strings"
	"sync"
	"testing"
	"time"

	"livego/internal/domain"
)

// TestIssueToken tries valid and invalid token requests.
func TestIssueToken(t *testing.T) {
	m := TokenIssuer{Secret: tokenSecret, MaxAge: 24 * time.Hour}
	good := TokenRequest{App: "live", Room: "movie", Lifetime: time.Hour}
	for name, c := range map[string]struct {
		change func(*TokenRequest)
		ok     bool
	}{
		"plain":                {func(*TokenRequest) {}, true},
		"every room":           {func(w *TokenRequest) { w.Room = "*" }, true},
		"publish":              {func(w *TokenRequest) { w.Action = domain.Publish }, true},
		"address":              {func(w *TokenRequest) { w.IP = "::ffff:192.0.2.1" }, true},
		"longest lifetime":     {func(w *TokenRequest) { w.Lifetime = 24 * time.Hour }, true},
		"signed":               {func(w *TokenRequest) { w.Signed = true }, true},
		"lifetime too long":    {func(w *TokenRequest) { w.Lifetime = 24*time.Hour + 1 }, false},
		"no lifetime":          {func(w *TokenRequest) { w.Lifetime = 0 }, false},
		"no app":               {func(w *TokenRequest) { w.App = "" }, false},
		"every app":            {func(w *TokenRequest) { w.App = "*" }, false},
		"invalid room":         {func(w *TokenRequest) { w.Room = "a\nb" }, false},
		"key as a room":        {func(w *TokenRequest) { w.Room = strings.Repeat("a", 48) }, false},
		"invalid address":      {func(w *TokenRequest) { w.IP = "192.0.2.1:80" }, false},
		"negative viewers":     {func(w *TokenRequest) { w.Viewers = -1 }, false},
		"publish with viewers": {func(w *TokenRequest) { w.Action, w.Viewers = domain.Publish, 1 }, false},
		"session":              {func(w *TokenRequest) { w.Session = time.Hour }, true},
		"session too short":    {func(w *TokenRequest) { w.Session = time.Millisecond }, false},
		"negative session":     {func(w *TokenRequest) { w.Session = -time.Hour }, false},
		"publish, session":     {func(w *TokenRequest) { w.Action, w.Session = domain.Publish, time.Hour }, false},
		"signed, session":      {func(w *TokenRequest) { w.Signed, w.Session = true, time.Hour }, false},
		"signed, every room":   {func(w *TokenRequest) { w.Signed, w.Room = true, "*" }, false},
		"signed, viewers":      {func(w *TokenRequest) { w.Signed, w.Viewers = true, 1 }, false},
		"signed, once":         {func(w *TokenRequest) { w.Signed, w.Once = true, true }, false},
	} {
		w := good
		c.change(&w)
		if token, _, err := m.Issue(w, time.Now()); (err == nil) != c.ok || (token != "") != c.ok || err != nil &&
			domain.KindOf(err) != domain.Invalid {
			t.Errorf("%s: %q %v", name, token, err)
		}
	}
	if _, _, err := (TokenIssuer{MaxAge: time.Hour}).Issue(good, time.Now()); domain.KindOf(err) != domain.Conflict {
		t.Errorf("without a secret: %v", err)
	}
}

// fakeTokenStore is a domain.OneTimeTokenStore.
type fakeTokenStore struct {
	mu       sync.Mutex
	consumed map[[16]byte]time.Time
	err      error
}

func (o *fakeTokenStore) Consume(_ context.Context, id [16]byte, until time.Time) (bool, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.err != nil {
		return false, o.err
	}
	_, had := o.consumed[id]
	o.consumed[id] = until
	return !had, nil
}

func (o *fakeTokenStore) IsConsumed(_ context.Context, id [16]byte, _ time.Time) (bool, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	_, had := o.consumed[id]
	return had, o.err
}

// TestOneTimeToken checks that a one-time token is accepted once, and that a request that is
// refused for another reason does not consume it.
func TestOneTimeToken(t *testing.T) {
	o := &fakeTokenStore{consumed: map[[16]byte]time.Time{}}
	keys := publishKeys{newFakeKeys()}
	keys.key.Created = time.Now().Add(-time.Minute).UTC()
	var webhookErr error
	calls := 0
	g := newTestChain(keys, Options{
		Apps: testApps, Private: []string{"*"}, OneTimeTokens: o,
		Tokens: TokenOptions{Secret: tokenSecret, MaxAge: 24 * time.Hour},
	}, func(_ context.Context, _ domain.AuthRequest, grant domain.Grant) (domain.Grant, error) {
		calls++
		return grant, webhookErr
	})
	m := TokenIssuer{Secret: tokenSecret, MaxAge: 24 * time.Hour}
	now := time.Now()
	make := func(w TokenRequest) string {
		token, _, err := m.Issue(w, now)
		if err != nil {
			t.Fatal(err)
		}
		return token
	}
	for _, action := range []domain.Action{domain.Play, domain.Publish} {
		w := TokenRequest{Action: action, App: "live", Room: keys.key.Room, Lifetime: time.Hour, IP: "192.0.2.1", Once: true}
		token, twin := make(w), make(w)
		r := domain.AuthRequest{Action: action, App: "live", Name: keys.key.Room, Token: token, Remote: "192.0.2.9:1"}
		if _, err := g.Authorize(t.Context(), r); domain.KindOf(err) != domain.Denied {
			t.Errorf("%v from another address: %v", action, err)
		}
		if calls > 0 {
			t.Errorf("%v: the webhook is called for a refused request", action)
		}
		r.Remote = "192.0.2.1:1"
		webhookErr = domain.Errorf(domain.Limit, "no")
		if _, err := g.Authorize(t.Context(), r); domain.KindOf(err) != domain.Limit {
			t.Errorf("%v, refused by the webhook: %v", action, err)
		}
		webhookErr = nil
		o.err = domain.Errorf(domain.Unavailable, "key store unavailable")
		if _, err := g.Authorize(t.Context(), r); domain.KindOf(err) != domain.Unavailable {
			t.Errorf("%v without a store: %v", action, err)
		}
		look := r
		look.DryRun = true
		if _, err := g.Authorize(t.Context(), look); domain.KindOf(err) != domain.Unavailable {
			t.Errorf("dry run of %v without a store: %v", action, err)
		}
		o.err = nil
		for range 2 {
			if _, err := g.Authorize(t.Context(), look); err != nil {
				t.Errorf("dry run of %v: %v", action, err)
			}
		}
		if _, err := g.Authorize(t.Context(), r); err != nil {
			t.Errorf("first %v: %v", action, err)
		}
		if _, err := g.Authorize(t.Context(), r); domain.KindOf(err) != domain.Denied {
			t.Errorf("second %v: %v", action, err)
		}
		if _, err := g.Authorize(t.Context(), look); domain.KindOf(err) != domain.Denied {
			t.Errorf("dry run of %v after that: %v", action, err)
		}
		r.Token += "\n"
		if _, err := g.Authorize(t.Context(), r); domain.KindOf(err) != domain.Denied {
			t.Errorf("second %v with another form of the token: %v", action, err)
		}
		r.Token = twin
		if _, err := g.Authorize(t.Context(), r); err != nil {
			t.Errorf("%v with another token of the same time: %v", action, err)
		}
		calls = 0
	}
	for _, until := range o.consumed {
		if d := until.Sub(now); d < time.Hour+leeway || d > 2*time.Hour {
			t.Errorf("a consumed token of an hour is stored for %v", d)
		}
	}
}
