// Package auth decides who may publish and play (Gate) and who may manage (Door). It knows push
// keys only through domain.KeyStore and no protocol of streams; what a stream does with a grant,
// and its revocation, are the hub's affair.
package auth

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"strings"
	"time"

	"livego/internal/domain"
	"livego/internal/ops/netx"
)

// App is what the Gate needs to know of a configured app.
type App struct {
	Live bool // takes publishers and players at all
}

// Options configure a Gate.
type Options struct {
	Apps   map[string]App // by name
	NoAuth bool           // a room name publishes, without a key

	Tokens        TokenOptions
	Private       []string                 // what takes a token to play: "app", "app/room" or "*" for all
	OneTimeTokens domain.OneTimeTokenStore // knows the tokens that were good once; nil: none of these is good

	// Webhook must say yes as well, after the Gate has and before a token that is good once is used
	// up. It may grant another room. nil: nobody is asked.
	Webhook func(context.Context, domain.AuthRequest, domain.Grant) (domain.Grant, error)

	// Failures is how many refused keys a minute an address may try before its further tries are held up for up to 4 s.
	// 0 means no limit. IPv6 addresses count by /64.
	Failures int
	// LimitLoopback counts failures from loopback too.
	LimitLoopback bool
}

// StreamAuth implements domain.Authorizer over a store of keys. Everybody may play what is not
// private; to publish takes a key. A token does for both.
type StreamAuth struct {
	keys          domain.KeyStore
	apps          map[string]App
	appNames      string // of the apps, for refusals
	noAuth        bool
	tokens        *tokenVerifier // nil: there are none
	private       map[string]bool
	oneTimeTokens domain.OneTimeTokenStore
	webhook       func(context.Context, domain.AuthRequest, domain.Grant) (domain.Grant, error)
	failures      failures
	lookups       *netx.AddressSemaphore
}

// maxLookups is how many keys of one address are looked up at a time. A classroom of encoders
// behind one address that all come back at once waits for a few round trips to the store; a flood
// of wrong keys waits in its own line.
const maxLookups = 32

// NewStreamAuth returns a Gate that looks keys up in keys.
func NewStreamAuth(keys domain.KeyStore, o Options) *StreamAuth {
	private := map[string]bool{}
	for _, p := range o.Private {
		private[p] = true
	}
	return &StreamAuth{
		tokens:        newTokenVerifier(o.Tokens),
		private:       private,
		oneTimeTokens: o.OneTimeTokens,
		webhook:       o.Webhook,
		keys:          keys,
		apps:          maps.Clone(o.Apps),
		appNames:      strings.Join(slices.Sorted(maps.Keys(o.Apps)), ", "),
		noAuth:        o.NoAuth,
		failures:      failures{limit: o.Failures, loopback: o.LimitLoopback},
		lookups:       netx.NewAddressSemaphore(maxLookups),
	}
}

// Authorize implements domain.Authorizer. An address that has had too many keys refused waits here
// before its next try is looked at. When the store cannot be reached nobody is let in: the error
// keeps the store's kind.
func (g *StreamAuth) Authorize(ctx context.Context, r domain.AuthRequest) (domain.Grant, error) {
	grant, c, err := g.authorizeLocal(ctx, r)
	if err == nil && g.webhook != nil {
		grant, err = g.webhook(ctx, r, grant)
	}
	if err == nil {
		err = g.consumeToken(ctx, c, r)
	}
	if err != nil {
		return domain.Grant{}, err
	}
	return grant, nil
}

// authorizeLocal is Allow as far as r itself says, with what its token says; the zero Claims where it needs none.
func (g *StreamAuth) authorizeLocal(ctx context.Context, r domain.AuthRequest) (domain.Grant, Claims, error) {
	if err := g.CheckApp(r.App); err != nil {
		return domain.Grant{}, Claims{}, err
	}
	if r.Action == domain.Play {
		name, err := domain.ParseName(r.App, r.Name)
		if err == nil && g.Private(name) {
			return g.playByToken(ctx, name, r)
		}
		return domain.Grant{Name: name}, Claims{}, err
	}
	if g.noAuth && !domain.LooksLikeKey(r.Name) {
		name, err := domain.ParseName(r.App, r.Name)
		return domain.Grant{Name: name}, Claims{}, err
	}
	if r.Token != "" && g.tokens != nil && !domain.LooksLikeKey(r.Name) {
		return g.publishByToken(ctx, r)
	}
	grant, err := g.publishByKey(ctx, r)
	return grant, Claims{}, err
}

// Private reports whether it takes a token to play name.
func (g *StreamAuth) Private(name domain.Name) bool {
	return g.private["*"] || g.private[name.App] || g.private[name.String()]
}

// verifyToken returns what the token of r allows. An address that has shown too many bad ones waits here.
func (g *StreamAuth) verifyToken(ctx context.Context, r domain.AuthRequest) (Claims, error) {
	addr := rateLimitAddr(r.Remote)
	g.failures.wait(ctx, addr)
	switch {
	case r.Token == "": // has not guessed
		return Claims{}, domain.CodeErrorf(domain.Denied, domain.TokenMissing,
			"token missing: a token is required to %s this stream", r.Action)
	case g.tokens == nil:
		return Claims{}, invalid("no token key is configured on this server")
	}
	c, err := g.tokens.verify(ctx, r.Token, r, time.Now())
	if err != nil {
		g.failures.add(addr)
		return Claims{}, err
	}
	return c, nil
}

func (g *StreamAuth) playByToken(ctx context.Context, name domain.Name, r domain.AuthRequest) (domain.Grant, Claims,
	error) {
	c, err := g.verifyToken(ctx, r)
	if err != nil {
		return domain.Grant{}, Claims{}, err
	}
	session := g.tokens.opt.Session
	if c.Session > 0 {
		session = min(session, c.Session)
	}
	grant := domain.Grant{Name: name, Expires: time.Now().Add(session), Address: c.IP}
	if n := cmp.Or(c.Viewers, g.tokens.opt.Viewers); n > 0 {
		digest := domain.Digest(r.Token)
		grant.ViewerLimit = domain.ViewerLimit{ID: [16]byte(digest[:16]), Max: n}
	}
	return grant, c, nil
}

// publishByToken lets in who has a token for a room that has a default key. The stream is tied to
// that key: its reset or delete disconnects him, and tokens from before the reset are good no
// longer.
func (g *StreamAuth) publishByToken(ctx context.Context, r domain.AuthRequest) (domain.Grant, Claims, error) {
	name, err := domain.ParseName(r.App, r.Name)
	if err != nil {
		return domain.Grant{}, Claims{}, err
	}
	c, err := g.verifyToken(ctx, r)
	if err != nil {
		return domain.Grant{}, Claims{}, err
	}
	keys, err := g.keys.List(ctx, name.Room)
	if err != nil {
		return domain.Grant{}, Claims{}, err
	}
	for _, k := range keys {
		if k.Label != "" || !k.ValidFor(r.App, time.Now()) {
			continue
		}
		if c.Issued.IsZero() || c.Issued.Before(truncateToPrecision(c.Issued, k.Created)) {
			continue
		}
		g.touchKey(ctx, k.Ref())
		return domain.Grant{Name: name, Key: k.Ref(), Role: k.Role, Expires: k.Expires}, c, nil
	}
	return domain.Grant{}, Claims{},
		domain.CodeErrorf(domain.Denied, domain.TokenRevoked,
			"token is older than the key of the room, or the room has no key")
}

// consumeToken takes a token that is good once. It comes last, so that who is refused for another
// reason has it still. Who only looks is told what he would be told, and keeps it: players and
// proxies ask by HEAD before they play.
func (g *StreamAuth) consumeToken(ctx context.Context, c Claims, r domain.AuthRequest) error {
	if !c.Once {
		return nil
	}
	if g.oneTimeTokens == nil {
		return invalid("one-time tokens are not supported: this server has no store for them")
	}
	digest := domain.Digest(r.Token)
	id, until := [16]byte(digest[:16]), c.Expires.Add(2*leeway) // of two clocks one may be behind the other
	var spent bool
	var err error
	if r.DryRun {
		spent, err = g.oneTimeTokens.Consumed(ctx, id, until)
	} else {
		var first bool
		first, err = g.oneTimeTokens.Consume(ctx, id, until)
		spent = !first
	}
	if err == nil && spent {
		err = domain.CodeErrorf(domain.Denied, domain.TokenUsed, "token used up: it was good for one use")
	}
	return err
}

// touchTimeout is how long a publisher waits for the store to note when his key was last used.
const touchTimeout = time.Second

// touchKey notes that a key was used: that is worth knowing, not worth refusing a publisher for,
// nor holding him up for long.
func (g *StreamAuth) touchKey(ctx context.Context, ref domain.KeyRef) {
	ctx, cancel := context.WithTimeout(ctx, touchTimeout)
	defer cancel()
	_ = g.keys.Touch(ctx, ref, time.Now())
}

// truncateToPrecision returns t, in whole seconds where issued is: one who makes a token in the
// second in which the key was made may.
func truncateToPrecision(issued, t time.Time) time.Time {
	if issued.Nanosecond() == 0 {
		return t.Truncate(time.Second)
	}
	return t.Truncate(time.Millisecond)
}

// CheckApp tells why nobody may publish or play under app: NotFound when it is not configured,
// Denied when it is switched off.
func (g *StreamAuth) CheckApp(app string) error {
	if err := domain.CheckApp(app); err != nil {
		return err
	}
	a, ok := g.apps[app]
	switch {
	case !ok:
		return domain.Errorf(domain.NotFound, "application %q is not configured here: there is %s", app, g.appNames)
	case !a.Live:
		return domain.Errorf(domain.Denied, "application %q is switched off: its live is false in the configuration", app)
	}
	return nil
}

// resolve looks up the key that r shows, as one of the share that its address has.
func (g *StreamAuth) resolve(ctx context.Context, r domain.AuthRequest) (domain.Key, error) {
	release, err := g.lookups.Acquire(ctx, r.Remote)
	if err != nil {
		return domain.Key{}, &domain.Error{Kind: domain.Unavailable, Err: err}
	}
	defer release()
	return g.keys.Resolve(ctx, r.App, r.Name)
}

// publishByKey lets in who shows a good key. What does not even look like one goes the same way:
// neither the time nor the text of the answer tells a room's name from a wrong key.
func (g *StreamAuth) publishByKey(ctx context.Context, r domain.AuthRequest) (domain.Grant, error) {
	addr := rateLimitAddr(r.Remote)
	g.failures.wait(ctx, addr)
	k, err := g.resolve(ctx, r)
	if domain.KindOf(err) == domain.Denied {
		g.failures.add(addr)
		return domain.Grant{}, domain.Errorf(domain.Denied,
			"this is not a valid push key for app %s: the operator gets one by /control/get with room=NAME", r.App)
	}
	if err != nil {
		return domain.Grant{}, err
	}
	g.touchKey(ctx, k.Ref())
	return domain.Grant{Name: domain.Name{App: r.App, Room: k.Room}, Key: k.Ref(), Role: k.Role, Expires: k.Expires}, nil
}
