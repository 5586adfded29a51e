package auth

import (
	"context"
	"strings"
	"sync"
	"testing"
	"time"

	"livego/internal/live"
)

// TestMint makes what may be made.
func TestMint(t *testing.T) {
	m := Mint{Secret: tokenSecret, MaxAge: 24 * time.Hour}
	good := Wish{App: "live", Room: "movie", For: time.Hour}
	for name, c := range map[string]struct {
		change func(*Wish)
		ok     bool
	}{
		"plain":              {func(*Wish) {}, true},
		"every room":         {func(w *Wish) { w.Room = "*" }, true},
		"publish":            {func(w *Wish) { w.Action = live.Publish }, true},
		"address":            {func(w *Wish) { w.IP = "::ffff:192.0.2.1" }, true},
		"the longest":        {func(w *Wish) { w.For = 24 * time.Hour }, true},
		"signed":             {func(w *Wish) { w.Signed = true }, true},
		"too long":           {func(w *Wish) { w.For = 24*time.Hour + 1 }, false},
		"no time":            {func(w *Wish) { w.For = 0 }, false},
		"no app":             {func(w *Wish) { w.App = "" }, false},
		"every app":          {func(w *Wish) { w.App = "*" }, false},
		"bad room":           {func(w *Wish) { w.Room = "a\nb" }, false},
		"key as a room":      {func(w *Wish) { w.Room = strings.Repeat("a", 48) }, false},
		"bad address":        {func(w *Wish) { w.IP = "192.0.2.1:80" }, false},
		"viewers below none": {func(w *Wish) { w.Viewers = -1 }, false},
		"publish by viewers": {func(w *Wish) { w.Action, w.Viewers = live.Publish, 1 }, false},
		"session":            {func(w *Wish) { w.Session = time.Hour }, true},
		"no session":         {func(w *Wish) { w.Session = time.Millisecond }, false},
		"session below none": {func(w *Wish) { w.Session = -time.Hour }, false},
		"publish, session":   {func(w *Wish) { w.Action, w.Session = live.Publish, time.Hour }, false},
		"signed, session":    {func(w *Wish) { w.Signed, w.Session = true, time.Hour }, false},
		"signed, every room": {func(w *Wish) { w.Signed, w.Room = true, "*" }, false},
		"signed, viewers":    {func(w *Wish) { w.Signed, w.Viewers = true, 1 }, false},
		"signed, once":       {func(w *Wish) { w.Signed, w.Once = true, true }, false},
	} {
		w := good
		c.change(&w)
		if token, _, err := m.Make(w, time.Now()); (err == nil) != c.ok || (token != "") != c.ok || err != nil && live.KindOf(err) != live.Invalid {
			t.Errorf("%s: %q %v", name, token, err)
		}
	}
	if _, _, err := (Mint{MaxAge: time.Hour}).Make(good, time.Now()); live.KindOf(err) != live.Conflict {
		t.Errorf("without a secret: %v", err)
	}
}

// once is a live.Once.
type once struct {
	mu    sync.Mutex
	spent map[[16]byte]time.Time
	err   error
}

func (o *once) Spend(_ context.Context, id [16]byte, until time.Time) (bool, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.err != nil {
		return false, o.err
	}
	_, had := o.spent[id]
	o.spent[id] = until
	return !had, nil
}

func (o *once) Spent(_ context.Context, id [16]byte, _ time.Time) (bool, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	_, had := o.spent[id]
	return had, o.err
}

// TestOnce lets in who shows a token that is good one time, and nobody after him (T10). Who is refused for another reason has not used
// it up.
func TestOnce(t *testing.T) {
	o := &once{spent: map[[16]byte]time.Time{}}
	keys := publishKeys{newFake()}
	keys.key.Created = time.Now().Add(-time.Minute).UTC()
	var hook error
	asked := 0
	g := NewGate(keys, Options{
		Apps: testApps, Private: []string{"*"}, Once: o, Tokens: TokenOptions{Secret: tokenSecret, MaxAge: 24 * time.Hour},
		Ask: func(_ context.Context, _ live.Request, grant live.Grant) (live.Grant, error) {
			asked++
			return grant, hook
		},
	})
	m := Mint{Secret: tokenSecret, MaxAge: 24 * time.Hour}
	now := time.Now()
	make := func(w Wish) string {
		token, _, err := m.Make(w, now)
		if err != nil {
			t.Fatal(err)
		}
		return token
	}
	for _, action := range []live.Action{live.Play, live.Publish} {
		w := Wish{Action: action, App: "live", Room: keys.key.Room, For: time.Hour, IP: "192.0.2.1", Once: true}
		token, twin := make(w), make(w)
		r := live.Request{Action: action, App: "live", Name: keys.key.Room, Token: token, Remote: "192.0.2.9:1"}
		if _, err := g.Allow(t.Context(), r); live.KindOf(err) != live.Denied {
			t.Errorf("%v from another address: %v", action, err)
		}
		if asked > 0 {
			t.Errorf("%v: somebody else is asked about who is refused", action)
		}
		r.Remote = "192.0.2.1:1"
		hook = live.Errorf(live.Limit, "no")
		if _, err := g.Allow(t.Context(), r); live.KindOf(err) != live.Limit {
			t.Errorf("%v where somebody else says no: %v", action, err)
		}
		hook = nil
		o.err = live.Errorf(live.Unavailable, "key store unavailable")
		if _, err := g.Allow(t.Context(), r); live.KindOf(err) != live.Unavailable {
			t.Errorf("%v without a store: %v", action, err)
		}
		look := r
		look.Look = true
		if _, err := g.Allow(t.Context(), look); live.KindOf(err) != live.Unavailable {
			t.Errorf("a look to %v without a store: %v", action, err)
		}
		o.err = nil
		for range 2 {
			if _, err := g.Allow(t.Context(), look); err != nil {
				t.Errorf("a look to %v: %v", action, err)
			}
		}
		if _, err := g.Allow(t.Context(), r); err != nil {
			t.Errorf("%v for the first time: %v", action, err)
		}
		if _, err := g.Allow(t.Context(), r); live.KindOf(err) != live.Denied {
			t.Errorf("%v for the second time: %v", action, err)
		}
		if _, err := g.Allow(t.Context(), look); live.KindOf(err) != live.Denied {
			t.Errorf("a look to %v after that: %v", action, err)
		}
		r.Token += "\n"
		if _, err := g.Allow(t.Context(), r); live.KindOf(err) != live.Denied {
			t.Errorf("%v for the second time, written otherwise: %v", action, err)
		}
		r.Token = twin
		if _, err := g.Allow(t.Context(), r); err != nil {
			t.Errorf("%v with another, made at the same moment: %v", action, err)
		}
		asked = 0
	}
	for _, until := range o.spent {
		if d := until.Sub(now); d < time.Hour+leeway || d > 2*time.Hour {
			t.Errorf("a token of an hour is remembered for %v", d)
		}
	}
}
