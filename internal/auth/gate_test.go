package auth

import (
	"context"
	"errors"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"livego/internal/live"
)

// fakeKeys is a store with one key. Calls that a Gate never makes are those of the nil interface.
type fakeKeys struct {
	live.Keys
	key live.Key
	err error // of Resolve

	mu      sync.Mutex
	asked   []string
	touched []live.KeyRef
}

func (f *fakeKeys) Resolve(_ context.Context, app, secret string) (live.Key, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.asked = append(f.asked, secret)
	switch {
	case f.err != nil:
		return live.Key{}, f.err
	case secret != f.key.Secret || f.key.App != "" && f.key.App != app:
		return live.Key{}, live.Errorf(live.Denied, "unknown key")
	}
	return f.key, nil
}

func (f *fakeKeys) Touch(_ context.Context, ref live.KeyRef, _ time.Time) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.touched = append(f.touched, ref)
	return errors.New("the disk is full")
}

func newFake() *fakeKeys {
	return &fakeKeys{key: live.Key{ID: "k1", Room: "movie", Role: live.Backup, Generation: 3, Secret: live.NewSecret(), Expires: time.Unix(1<<40, 0)}}
}

var testApps = map[string]App{"live": {Live: true}, "vod": {Live: true}, "closed": {}}

func TestGate(t *testing.T) {
	keys := newFake()
	good := live.Grant{Name: live.Name{App: "live", Room: "movie"}, Key: keys.key.Ref(), Role: live.Backup, Expires: keys.key.Expires}
	byName := live.Grant{Name: live.Name{App: "live", Room: "movie"}}
	secret := keys.key.Secret
	const push, play = live.Publish, live.Play
	for _, c := range []struct {
		name   string
		noAuth bool
		action live.Action
		app    string
		as     string
		want   live.Grant
		kind   live.Kind
		text   string // that the refusal holds
	}{
		{"push", false, push, "live", secret, good, 0, ""},
		{"push by room", false, push, "live", "movie", live.Grant{}, live.Denied, "not a valid push key for app live"},
		{"push by wrong key", false, push, "live", live.NewSecret(), live.Grant{}, live.Denied, "/control/get with room=NAME"},
		{"push nothing", false, push, "live", "", live.Grant{}, live.Denied, "not a valid push key"},
		{"push to unknown app", false, push, "movies", secret, live.Grant{}, live.NotFound, `application "movies" is not configured here: there is closed, live, vod`},
		{"push to reserved app", false, push, "api", secret, live.Grant{}, live.Invalid, "reserved"},
		{"push to bad app", false, push, "a/b", secret, live.Grant{}, live.Invalid, "character"},
		{"push to closed app", false, push, "closed", secret, live.Grant{}, live.Denied, "switched off"},
		{"play", false, play, "live", "movie", byName, 0, ""},
		{"play by key", false, play, "live", secret, live.Grant{}, live.Invalid, "form of a push key"},
		{"play bad name", false, play, "live", "../x", live.Grant{}, live.Invalid, "character"},
		{"play in unknown app", false, play, "movies", "movie", live.Grant{}, live.NotFound, "not configured"},
		{"play in closed app", false, play, "closed", "movie", live.Grant{}, live.Denied, "switched off"},
		{"open push by room", true, push, "live", "movie", byName, 0, ""},
		{"open push by key", true, push, "live", secret, good, 0, ""},
		{"open push by wrong key", true, push, "live", live.NewSecret(), live.Grant{}, live.Denied, "not a valid push key"},
		{"open push by bad name", true, push, "live", ".hidden", live.Grant{}, live.Invalid, "dot"},
	} {
		t.Run(c.name, func(t *testing.T) {
			g := NewGate(keys, Options{Apps: testApps, NoAuth: c.noAuth})
			grant, err := g.Allow(t.Context(), live.Request{Action: c.action, App: c.app, Name: c.as, Remote: "192.0.2.1:5000"})
			if grant != c.want {
				t.Errorf("granted %+v, want %+v", grant, c.want)
			}
			if (err == nil) != (c.want != live.Grant{}) || err != nil && (live.KindOf(err) != c.kind || !strings.Contains(live.Reason(err), c.text)) {
				t.Errorf("error %q of kind %v, want %v with %q", err, live.KindOf(err), c.kind, c.text)
			}
			if err != nil && strings.Contains(err.Error(), secret) {
				t.Error("the refusal shows the key")
			}
		})
	}
}

func TestGateTreatsNamesLikeWrongKeys(t *testing.T) {
	keys := newFake()
	g := NewGate(keys, Options{Apps: testApps})
	wrong := live.NewSecret()
	_, err1 := g.Allow(t.Context(), live.Request{Action: live.Publish, App: "live", Name: "movie"})
	_, err2 := g.Allow(t.Context(), live.Request{Action: live.Publish, App: "live", Name: wrong})
	if err1.Error() != err2.Error() {
		t.Errorf("a room and a wrong key are told apart: %q, %q", err1, err2)
	}
	if len(keys.asked) != 2 {
		t.Errorf("the store was asked for %d of 2", len(keys.asked))
	}
}

func TestGateTouches(t *testing.T) {
	keys := newFake()
	g := NewGate(keys, Options{Apps: testApps})
	if _, err := g.Allow(t.Context(), live.Request{Action: live.Publish, App: "live", Name: keys.key.Secret}); err != nil {
		t.Errorf("a failing Touch refused the publisher: %v", err)
	}
	if len(keys.touched) != 1 || keys.touched[0] != keys.key.Ref() {
		t.Errorf("touched %v", keys.touched)
	}
}

func TestGateFailsClosed(t *testing.T) {
	keys := newFake()
	keys.err = live.Errorf(live.Unavailable, "key store unavailable")
	g := NewGate(keys, Options{Apps: testApps, Failures: 1})
	for range 3 { // and counts no failure: it is not the encoder's
		_, err := g.Allow(t.Context(), live.Request{Action: live.Publish, App: "live", Name: keys.key.Secret, Remote: "192.0.2.1:1"})
		if live.KindOf(err) != live.Unavailable {
			t.Errorf("without a store: %v", err)
		}
	}
	if len(g.failures.seen) != 0 {
		t.Errorf("it counted %v", g.failures.seen)
	}
}

func TestGateSlowsGuessers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		keys := newFake()
		g := NewGate(keys, Options{Apps: testApps, Failures: 10})
		try := func(remote, name string) time.Duration {
			start := time.Now()
			_, _ = g.Allow(t.Context(), live.Request{Action: live.Publish, App: "live", Name: name, Remote: remote})
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
			t.Error("a right key behind many wrong ones is answered sooner than a wrong one")
		}
		if d := try(other, "guess") + try(loop, "guess"); d != 0 {
			t.Errorf("others waited %v", d)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		start := time.Now()
		_, _ = g.Allow(ctx, live.Request{Action: live.Publish, App: "live", Name: "x", Remote: guesser})
		if d := time.Since(start); d != 0 {
			t.Errorf("who has left is held for %v", d)
		}
		<-time.After(window)
		if d := try(guesser, "guess"); d != 0 {
			t.Errorf("a minute later it still waits %v", d)
		}
	})
}

func TestFailuresAreBounded(t *testing.T) {
	f := failures{limit: 1}
	addr := netip.MustParseAddr("10.0.0.0")
	for range maxTracked + 100 {
		f.add(addr)
		addr = addr.Next()
	}
	if n := len(f.seen); n > maxTracked {
		t.Errorf("%d addresses are kept, more than %d", n, maxTracked)
	}
	if last := addr.Prev(); !f.over(last) {
		t.Error("the newest is not among them")
	}
}

func TestClient(t *testing.T) {
	for remote, want := range map[string]string{
		"192.0.2.1:1":              "192.0.2.1",
		"[::ffff:192.0.2.1]:1":     "192.0.2.1",
		"[2001:db8:1:2:3:4:5:6]:1": "2001:db8:1:2::",
		"[fe80::1%eth0]:1":         "fe80::",
		"[::1]:1":                  "::1",
		"pipe":                     "invalid IP",
		"":                         "invalid IP",
	} {
		if got := client(remote).String(); got != want {
			t.Errorf("client(%q) = %s, want %s", remote, got, want)
		}
	}
}
