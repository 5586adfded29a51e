// Package auth decides who may publish and play (Gate) and who may manage (Door). It knows push keys only through live.Keys and
// no protocol of streams; what a stream does with a grant, and its revocation, are the hub's affair.
package auth

import (
	"context"
	"maps"
	"slices"
	"strings"
	"time"

	"livego/internal/live"
)

// App is what the Gate needs to know of a configured app.
type App struct {
	Live bool // takes publishers and players at all
}

// Options configure a Gate.
type Options struct {
	Apps   map[string]App // by name
	NoAuth bool           // a room name publishes, without a key

	// Failures is how many refused keys a minute an address may try before its further tries are held up for up to 4 s.
	// 0 means no limit. IPv6 addresses count by /64.
	Failures int
	// LimitLoopback counts failures from loopback too.
	LimitLoopback bool
}

// Gate implements live.Gate over a store of keys. Everybody may play; to publish takes a key.
type Gate struct {
	keys     live.Keys
	apps     map[string]App
	names    string // of the apps, for refusals
	noAuth   bool
	failures failures
}

// NewGate returns a Gate that looks keys up in keys.
func NewGate(keys live.Keys, o Options) *Gate {
	return &Gate{
		keys:     keys,
		apps:     maps.Clone(o.Apps),
		names:    strings.Join(slices.Sorted(maps.Keys(o.Apps)), ", "),
		noAuth:   o.NoAuth,
		failures: failures{limit: o.Failures, loopback: o.LimitLoopback},
	}
}

// Allow implements live.Gate. An address that has had too many keys refused waits here before its next try is looked at. When
// the store cannot be reached nobody is let in: the error keeps the store's kind.
func (g *Gate) Allow(ctx context.Context, r live.Request) (live.Grant, error) {
	if err := g.CheckApp(r.App); err != nil {
		return live.Grant{}, err
	}
	if r.Action == live.Play {
		name, err := live.ParseName(r.App, r.Name)
		return live.Grant{Name: name}, err
	}
	if g.noAuth && !live.LooksLikeKey(r.Name) {
		name, err := live.ParseName(r.App, r.Name)
		return live.Grant{Name: name}, err
	}
	return g.byKey(ctx, r)
}

// CheckApp tells why nobody may publish or play under app: NotFound when it is not configured, Denied when it is switched off.
func (g *Gate) CheckApp(app string) error {
	if err := live.CheckApp(app); err != nil {
		return err
	}
	a, ok := g.apps[app]
	switch {
	case !ok:
		return live.Errorf(live.NotFound, "application %q is not configured here: there is %s", app, g.names)
	case !a.Live:
		return live.Errorf(live.Denied, "application %q is switched off: its live is false in the configuration", app)
	}
	return nil
}

// byKey lets in who shows a good key. What does not even look like one goes the same way: neither the time nor the text of the
// answer tells a room's name from a wrong key.
func (g *Gate) byKey(ctx context.Context, r live.Request) (live.Grant, error) {
	addr := client(r.Remote)
	g.failures.wait(ctx, addr)
	k, err := g.keys.Resolve(ctx, r.App, r.Name)
	if live.KindOf(err) == live.Denied {
		g.failures.add(addr)
		return live.Grant{}, live.Errorf(live.Denied,
			"this is not a valid push key for app %s: the operator gets one by /control/get with room=NAME", r.App)
	}
	if err != nil {
		return live.Grant{}, err
	}
	// When a key was last used is worth knowing, not worth refusing a publisher for.
	_ = g.keys.Touch(ctx, k.Ref(), time.Now())
	return live.Grant{Name: live.Name{App: r.App, Room: k.Room}, Key: k.Ref(), Role: k.Role, Expires: k.Expires}, nil
}
