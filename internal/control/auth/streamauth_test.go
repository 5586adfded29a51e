package auth

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"livego/internal/domain"
)

// fakeKeys is a store with one key. Methods that StreamAuth never calls are those of the nil
// interface.
type fakeKeys struct {
	domain.KeyStore
	key domain.Key
	err error // returned by Resolve

	mu       sync.Mutex
	resolved []string
	touched  []domain.KeyRef
}

func (f *fakeKeys) Resolve(_ context.Context, app, secret string) (domain.Key, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.resolved = append(f.resolved, secret)
	switch {
	case f.err != nil:
		return domain.Key{}, f.err
	case secret != f.key.Secret || f.key.App != "" && f.key.App != app:
		return domain.Key{}, domain.Errorf(domain.Denied, "unknown key")
	}
	return f.key, nil
}

func (f *fakeKeys) Touch(_ context.Context, k domain.Key, _ time.Time) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.touched = append(f.touched, k.Ref())
	return errors.New("the disk is full")
}

func newFakeKeys() *fakeKeys {
	return &fakeKeys{key: domain.Key{ID: "k1", Room: "movie", Role: domain.Backup, Generation: 3,
		Secret: domain.NewSecret(), Expires: time.Unix(1<<40, 0)}}
}

// newTestChain returns a Chain of a StreamAuth, with the given steps where the server has webhooks and
// admission control.
func newTestChain(keys domain.KeyStore, o Options, steps ...Step) *Chain {
	s := NewStreamAuth(keys, o)
	return NewChain(nil, slices.Concat([]Step{s.Authenticate}, steps, []Step{s.ConsumeToken})...)
}

var testApps = map[string]bool{"live": true, "vod": true, "closed": false}

func TestStreamAuth(t *testing.T) {
	keys := newFakeKeys()
	good := domain.Grant{Name: domain.Name{App: "live", Room: "movie"}, Key: keys.key.Ref(), Role: domain.Backup,
		Expires: keys.key.Expires}
	byName := domain.Grant{Name: domain.Name{App: "live", Room: "movie"}}
	secret := keys.key.Secret
	const push, play = domain.Publish, domain.Play
	for _, c := range []struct {
		name   string
		noAuth bool
		action domain.Action
		app    string
		as     string
		want   domain.Grant
		kind   domain.Kind
		text   string // must be in the refusal
	}{
		{"publish", false, push, "live", secret, good, 0, ""},
		{"publish with room name", false, push, "live", "movie", domain.Grant{}, domain.Denied,
			"invalid stream key for app live"},
		{"publish with wrong key", false, push, "live", domain.NewSecret(), domain.Grant{}, domain.Denied,
			"/control/get with room=NAME"},
		{"publish without name", false, push, "live", "", domain.Grant{}, domain.Denied, "invalid stream key"},
		{"publish to unknown app", false, push, "movies", secret, domain.Grant{}, domain.NotFound,
			`application "movies" is not configured: the applications are closed, live, vod`},
		{"publish to reserved app", false, push, "api", secret, domain.Grant{}, domain.Invalid, "reserved"},
		{"publish to invalid app", false, push, "a/b", secret, domain.Grant{}, domain.Invalid, "character"},
		{"publish to disabled app", false, push, "closed", secret, domain.Grant{}, domain.Denied, "disabled"},
		{"play", false, play, "live", "movie", byName, 0, ""},
		{"play with key", false, play, "live", secret, domain.Grant{}, domain.Invalid, "form of a stream key"},
		{"play invalid name", false, play, "live", "../x", domain.Grant{}, domain.Invalid, "character"},
		{"play from unknown app", false, play, "movies", "movie", domain.Grant{}, domain.NotFound, "not configured"},
		{"play from disabled app", false, play, "closed", "movie", domain.Grant{}, domain.Denied, "disabled"},
		{"noauth publish with room name", true, push, "live", "movie", byName, 0, ""},
		{"noauth publish with key", true, push, "live", secret, good, 0, ""},
		{"noauth publish with wrong key", true, push, "live", domain.NewSecret(), domain.Grant{}, domain.Denied,
			"invalid stream key"},
		{"noauth publish with invalid name", true, push, "live", ".hidden", domain.Grant{}, domain.Invalid, "dot"},
	} {
		t.Run(c.name, func(t *testing.T) {
			g := newTestChain(keys, Options{Apps: testApps, NoAuth: c.noAuth})
			grant, err := g.Authorize(t.Context(),
				domain.AuthRequest{Action: c.action, App: c.app, Name: c.as, Remote: "192.0.2.1:5000"})
			if grant != c.want {
				t.Errorf("granted %+v, want %+v", grant, c.want)
			}
			if (err == nil) != (c.want != domain.Grant{}) || err != nil &&
				(domain.KindOf(err) != c.kind || !strings.Contains(domain.Reason(err), c.text)) {
				t.Errorf("error %q of kind %v, want %v with %q", err, domain.KindOf(err), c.kind, c.text)
			}
			if err != nil && strings.Contains(err.Error(), secret) {
				t.Error("the error contains the key")
			}
		})
	}
}

func TestRoomNameIsRefusedLikeWrongKey(t *testing.T) {
	keys := newFakeKeys()
	g := newTestChain(keys, Options{Apps: testApps})
	wrong := domain.NewSecret()
	_, err1 := g.Authorize(t.Context(), domain.AuthRequest{Action: domain.Publish, App: "live", Name: "movie"})
	_, err2 := g.Authorize(t.Context(), domain.AuthRequest{Action: domain.Publish, App: "live", Name: wrong})
	if err1.Error() != err2.Error() {
		t.Errorf("the errors for a room name and a wrong key differ: %q, %q", err1, err2)
	}
	if len(keys.resolved) != 2 {
		t.Errorf("%d of 2 names were looked up", len(keys.resolved))
	}
}

func TestPublishTouchesKey(t *testing.T) {
	keys := newFakeKeys()
	g := newTestChain(keys, Options{Apps: testApps})
	if _, err := g.Authorize(t.Context(),
		domain.AuthRequest{Action: domain.Publish, App: "live", Name: keys.key.Secret}); err != nil {
		t.Errorf("a failing Touch refused the publisher: %v", err)
	}
	if len(keys.touched) != 1 || keys.touched[0] != keys.key.Ref() {
		t.Errorf("touched %v", keys.touched)
	}
}

func TestUnavailableStoreRefusesPublishers(t *testing.T) {
	keys := newFakeKeys()
	keys.err = domain.Errorf(domain.Unavailable, "key store unavailable")
	s := NewStreamAuth(keys, Options{Apps: testApps, Failures: 1})
	g := NewChain(nil, s.Authenticate)
	for range 3 { // an unavailable store is not the encoder's failure: none is counted
		_, err := g.Authorize(t.Context(),
			domain.AuthRequest{Action: domain.Publish, App: "live", Name: keys.key.Secret, Remote: "192.0.2.1:1"})
		if domain.KindOf(err) != domain.Unavailable {
			t.Errorf("without a store: %v", err)
		}
	}
	if len(s.failures.counts) != 0 {
		t.Errorf("counted %v", s.failures.counts)
	}
}

func TestWrongKeysAreDelayed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		keys := newFakeKeys()
		g := newTestChain(keys, Options{Apps: testApps, Failures: 10})
		try := func(remote, name string) time.Duration {
			start := time.Now()
			_, _ = g.Authorize(t.Context(), domain.AuthRequest{Action: domain.Publish, App: "live", Name: name, Remote: remote})
			return time.Since(start)
		}
		const guesser, neighbour, other, loop = "192.0.2.1:1", "192.0.2.1:2", "192.0.2.2:1", "127.0.0.1:1"
		for i := range 10 {
			if d := try(guesser, "guess"); d != 0 {
				t.Errorf("guess %d waited %v", i, d)
			}
			try(loop, "guess")
		}
		if d := try(guesser, "guess"); d == 0 || d > maxDelay {
			t.Errorf("guess 11 waited %v", d)
		}
		if d := try(neighbour, keys.key.Secret); d == 0 {
			t.Error("a valid key after many wrong ones is not delayed")
		}
		if d := try(other, "guess") + try(loop, "guess"); d != 0 {
			t.Errorf("others waited %v", d)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		start := time.Now()
		_, _ = g.Authorize(ctx, domain.AuthRequest{Action: domain.Publish, App: "live", Name: "x", Remote: guesser})
		if d := time.Since(start); d != 0 {
			t.Errorf("a client that has disconnected is delayed for %v", d)
		}
		<-time.After(failureWindow)
		if d := try(guesser, "guess"); d != 0 {
			t.Errorf("a minute later it is still delayed for %v", d)
		}
	})
}

func TestFailuresAreBounded(t *testing.T) {
	f := newFailures(1, false, nil)
	addr := netip.MustParseAddr("10.0.0.0")
	for range maxTracked + 100 {
		f.add(addr)
		addr = addr.Next()
	}
	if n := len(f.counts); n > maxTracked {
		t.Errorf("%d addresses are kept, more than %d", n, maxTracked)
	}
	if last := addr.Prev(); !f.over(last) {
		t.Error("the newest address is missing")
	}
}

func TestRateLimitAddr(t *testing.T) {
	for remote, want := range map[string]string{
		"192.0.2.1:1":              "192.0.2.1",
		"[::ffff:192.0.2.1]:1":     "192.0.2.1",
		"[2001:db8:1:2:3:4:5:6]:1": "2001:db8:1:2::",
		"[fe80::1%eth0]:1":         "fe80::",
		"[::1]:1":                  "::1",
		"pipe":                     "invalid IP",
		"":                         "invalid IP",
	} {
		if got := rateLimitAddr(remote).String(); got != want {
			t.Errorf("client(%q) = %s, want %s", remote, got, want)
		}
	}
}

// blockingKeys is a store whose lookups of one address wait until they are released.
type blockingKeys struct {
	domain.KeyStore
	running atomic.Int32
	release chan struct{}
}

func (b *blockingKeys) Resolve(ctx context.Context, _, secret string) (domain.Key, error) {
	if secret == "other" {
		return domain.Key{Room: "other"}, nil
	}
	b.running.Add(1)
	defer b.running.Add(-1)
	select {
	case <-b.release:
		return domain.Key{}, domain.Errorf(domain.Denied, "unknown key")
	case <-ctx.Done():
		return domain.Key{}, ctx.Err()
	}
}

func (b *blockingKeys) Touch(context.Context, domain.Key, time.Time) error { return nil }

// TestLookupsPerAddressAreBounded has one address send many keys while the store does not answer:
// only its share of lookups reaches the store, and another address is served.
func TestLookupsPerAddressAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		keys := &blockingKeys{release: make(chan struct{})}
		a := NewStreamAuth(keys, Options{Apps: testApps})
		ask := func(ctx context.Context, from, key string) error {
			_, err := a.Authenticate(ctx, domain.AuthRequest{Action: domain.Publish, App: "live", Name: key, Remote: from},
				domain.Grant{})
			return err
		}
		var flood sync.WaitGroup
		var denied atomic.Int32
		for range 10 * maxLookups {
			flood.Go(func() {
				if domain.KindOf(ask(t.Context(), "192.0.2.1:1000", domain.NewSecret())) == domain.Denied {
					denied.Add(1)
				}
			})
		}
		synctest.Wait()
		if n := keys.running.Load(); n != maxLookups {
			t.Errorf("%d lookups of one address are running, want %d", n, maxLookups)
		}
		if err := ask(t.Context(), "192.0.2.2:1000", "other"); err != nil {
			t.Errorf("another address: %v", err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if err := ask(ctx, "192.0.2.1:1000", domain.NewSecret()); domain.KindOf(err) != domain.Unavailable {
			t.Errorf("a publisher that left while it waited: %v", err)
		}
		close(keys.release)
		flood.Wait()
		if denied.Load() != 10*maxLookups {
			t.Errorf("%d of %d keys were refused as unknown", denied.Load(), 10*maxLookups)
		}
	})
}
