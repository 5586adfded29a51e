// Package auth decides who may publish and play (Gate) and who may manage (Door). It knows push keys only through live.Keys and
// no protocol of streams; what a stream does with a grant, and its revocation, are the hub's affair.
package auth

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"strings"
	"time"

	"livego/internal/live"
	"livego/internal/netx"
)

// App is what the Gate needs to know of a configured app.
type App struct {
	Live bool // takes publishers and players at all
}

// Options configure a Gate.
type Options struct {
	Apps   map[string]App // by name
	NoAuth bool           // a room name publishes, without a key

	Tokens  TokenOptions
	Private []string  // what takes a token to play: "app", "app/room" or "*" for all
	Once    live.Once // knows the tokens that were good once; nil: none of these is good

	// Ask must say yes as well, after the Gate has and before a token that is good once is used up. It may grant another room.
	// nil: nobody is asked.
	Ask func(context.Context, live.Request, live.Grant) (live.Grant, error)

	// Failures is how many refused keys a minute an address may try before its further tries are held up for up to 4 s.
	// 0 means no limit. IPv6 addresses count by /64.
	Failures int
	// LimitLoopback counts failures from loopback too.
	LimitLoopback bool
}

// Gate implements live.Gate over a store of keys. Everybody may play what is not private; to publish takes a key. A token does for
// both.
type Gate struct {
	keys     live.Keys
	apps     map[string]App
	names    string // of the apps, for refusals
	noAuth   bool
	tokens   *tokens // nil: there are none
	private  map[string]bool
	once     live.Once
	ask      func(context.Context, live.Request, live.Grant) (live.Grant, error)
	failures failures
	lookups  *netx.Shares
}

// maxLookups is how many keys of one address are looked up at a time. A classroom of encoders behind one address that all
// come back at once waits for a few round trips to the store; a flood of wrong keys waits in its own line.
const maxLookups = 32

// NewGate returns a Gate that looks keys up in keys.
func NewGate(keys live.Keys, o Options) *Gate {
	private := map[string]bool{}
	for _, p := range o.Private {
		private[p] = true
	}
	return &Gate{
		tokens:   newTokens(o.Tokens),
		private:  private,
		once:     o.Once,
		ask:      o.Ask,
		keys:     keys,
		apps:     maps.Clone(o.Apps),
		names:    strings.Join(slices.Sorted(maps.Keys(o.Apps)), ", "),
		noAuth:   o.NoAuth,
		failures: failures{limit: o.Failures, loopback: o.LimitLoopback},
		lookups:  netx.NewShares(maxLookups),
	}
}

// Allow implements live.Gate. An address that has had too many keys refused waits here before its next try is looked at. When
// the store cannot be reached nobody is let in: the error keeps the store's kind.
func (g *Gate) Allow(ctx context.Context, r live.Request) (live.Grant, error) {
	grant, c, err := g.judge(ctx, r)
	if err == nil && g.ask != nil {
		grant, err = g.ask(ctx, r, grant)
	}
	if err == nil {
		err = g.spend(ctx, c, r)
	}
	if err != nil {
		return live.Grant{}, err
	}
	return grant, nil
}

// judge is Allow as far as r itself says, with what its token says; the zero Claims where it needs none.
func (g *Gate) judge(ctx context.Context, r live.Request) (live.Grant, Claims, error) {
	if err := g.CheckApp(r.App); err != nil {
		return live.Grant{}, Claims{}, err
	}
	if r.Action == live.Play {
		name, err := live.ParseName(r.App, r.Name)
		if err == nil && g.Private(name) {
			return g.playByToken(ctx, name, r)
		}
		return live.Grant{Name: name}, Claims{}, err
	}
	if g.noAuth && !live.LooksLikeKey(r.Name) {
		name, err := live.ParseName(r.App, r.Name)
		return live.Grant{Name: name}, Claims{}, err
	}
	if r.Token != "" && g.tokens != nil && !live.LooksLikeKey(r.Name) {
		return g.publishByToken(ctx, r)
	}
	grant, err := g.byKey(ctx, r)
	return grant, Claims{}, err
}

// Private reports whether it takes a token to play name.
func (g *Gate) Private(name live.Name) bool {
	return g.private["*"] || g.private[name.App] || g.private[name.String()]
}

// byToken returns what the token of r allows. An address that has shown too many bad ones waits here.
func (g *Gate) byToken(ctx context.Context, r live.Request) (Claims, error) {
	addr := client(r.Remote)
	g.failures.wait(ctx, addr)
	switch {
	case r.Token == "": // has not guessed
		return Claims{}, live.Refuse(live.Denied, live.TokenMissing, "token missing: a token is required to %s this stream", r.Action)
	case g.tokens == nil:
		return Claims{}, invalid("no token key is configured on this server")
	}
	c, err := g.tokens.judge(ctx, r.Token, r, time.Now())
	if err != nil {
		g.failures.add(addr)
		return Claims{}, err
	}
	return c, nil
}

func (g *Gate) playByToken(ctx context.Context, name live.Name, r live.Request) (live.Grant, Claims, error) {
	c, err := g.byToken(ctx, r)
	if err != nil {
		return live.Grant{}, Claims{}, err
	}
	session := g.tokens.opt.Session
	if c.Session > 0 {
		session = min(session, c.Session)
	}
	grant := live.Grant{Name: name, Expires: time.Now().Add(session), Address: c.IP}
	if n := cmp.Or(c.Viewers, g.tokens.opt.Viewers); n > 0 {
		digest := live.Digest(r.Token)
		grant.Pass = live.Pass{ID: [16]byte(digest[:16]), Max: n}
	}
	return grant, c, nil
}

// publishByToken lets in who has a token for a room that has a default key. The stream is tied to that key: its reset or delete
// disconnects him, and tokens from before the reset are good no longer.
func (g *Gate) publishByToken(ctx context.Context, r live.Request) (live.Grant, Claims, error) {
	name, err := live.ParseName(r.App, r.Name)
	if err != nil {
		return live.Grant{}, Claims{}, err
	}
	c, err := g.byToken(ctx, r)
	if err != nil {
		return live.Grant{}, Claims{}, err
	}
	keys, err := g.keys.List(ctx, name.Room)
	if err != nil {
		return live.Grant{}, Claims{}, err
	}
	for _, k := range keys {
		if k.Label != "" || !k.Good(r.App, time.Now()) {
			continue
		}
		if c.Issued.IsZero() || c.Issued.Before(atPrecisionOf(c.Issued, k.Created)) {
			continue
		}
		g.touch(ctx, k.Ref())
		return live.Grant{Name: name, Key: k.Ref(), Role: k.Role, Expires: k.Expires}, c, nil
	}
	return live.Grant{}, Claims{}, live.Refuse(live.Denied, live.TokenRevoked, "token is older than the key of the room, or the room has no key")
}

// spend takes a token that is good once. It comes last, so that who is refused for another reason has it still. Who only looks is told
// what he would be told, and keeps it: players and proxies ask by HEAD before they play.
func (g *Gate) spend(ctx context.Context, c Claims, r live.Request) error {
	if !c.Once {
		return nil
	}
	if g.once == nil {
		return invalid("one-time tokens are not supported: this server has no store for them")
	}
	digest := live.Digest(r.Token)
	id, until := [16]byte(digest[:16]), c.Expires.Add(2*leeway) // of two clocks one may be behind the other
	var spent bool
	var err error
	if r.Look {
		spent, err = g.once.Spent(ctx, id, until)
	} else {
		var first bool
		first, err = g.once.Spend(ctx, id, until)
		spent = !first
	}
	if err == nil && spent {
		err = live.Refuse(live.Denied, live.TokenUsed, "token used up: it was good for one use")
	}
	return err
}

// touchWait is how long a publisher waits for the store to note when his key was last used.
const touchWait = time.Second

// touch notes that a key was used: that is worth knowing, not worth refusing a publisher for, nor holding him up for long.
func (g *Gate) touch(ctx context.Context, ref live.KeyRef) {
	ctx, cancel := context.WithTimeout(ctx, touchWait)
	defer cancel()
	_ = g.keys.Touch(ctx, ref, time.Now())
}

// atPrecisionOf returns t, in whole seconds where issued is: one who makes a token in the second in which the key was made may.
func atPrecisionOf(issued, t time.Time) time.Time {
	if issued.Nanosecond() == 0 {
		return t.Truncate(time.Second)
	}
	return t.Truncate(time.Millisecond)
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

// resolve looks up the key that r shows, as one of the share that its address has.
func (g *Gate) resolve(ctx context.Context, r live.Request) (live.Key, error) {
	release, err := g.lookups.Acquire(ctx, r.Remote)
	if err != nil {
		return live.Key{}, &live.Error{Kind: live.Unavailable, Err: err}
	}
	defer release()
	return g.keys.Resolve(ctx, r.App, r.Name)
}

// byKey lets in who shows a good key. What does not even look like one goes the same way: neither the time nor the text of the
// answer tells a room's name from a wrong key.
func (g *Gate) byKey(ctx context.Context, r live.Request) (live.Grant, error) {
	addr := client(r.Remote)
	g.failures.wait(ctx, addr)
	k, err := g.resolve(ctx, r)
	if live.KindOf(err) == live.Denied {
		g.failures.add(addr)
		return live.Grant{}, live.Errorf(live.Denied,
			"this is not a valid push key for app %s: the operator gets one by /control/get with room=NAME", r.App)
	}
	if err != nil {
		return live.Grant{}, err
	}
	g.touch(ctx, k.Ref())
	return live.Grant{Name: live.Name{App: r.App, Room: k.Room}, Key: k.Ref(), Role: k.Role, Expires: k.Expires}, nil
}
