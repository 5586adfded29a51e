// Package auth authorizes publishers and viewers (StreamAuth) and operators (AdminAuth). It knows
// stream keys only through domain.KeyStore, and no stream protocol. A Chain is all that a publisher
// or viewer must pass, and a Revoker disconnects publishers whose right has ended.
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

// Options configure a StreamAuth.
type Options struct {
	Apps   map[string]bool // by name: whether it accepts publishers and viewers
	NoAuth bool            // a room name is enough to publish, without a key
	// Takeover is the policy for publishers that arrive while another is publishing.
	Takeover domain.Takeover

	Tokens        TokenOptions
	Private       []string                 // what needs a token to play: "app", "app/room" or "*" for all
	OneTimeTokens domain.OneTimeTokenStore // nil: one-time tokens are refused

	// Failures is the number of refused keys per minute and address after which further attempts
	// are delayed for up to 4 s. 0 means no limit. IPv6 addresses count by /64.
	Failures int
	// LimitLoopback counts failures from loopback addresses too.
	LimitLoopback bool
}

// StreamAuth authenticates publishers and viewers, as steps of a Chain. Rooms that are not private
// need no credential to play; publishing needs a stream key. A token is accepted for both.
type StreamAuth struct {
	opt      Options
	keys     domain.KeyStore
	tokens   *tokenVerifier // nil: tokens are not configured
	failures failures
	lookups  *netx.AddressSemaphore
}

// maxLookups is the number of concurrent key lookups for one address. A classroom of encoders
// behind one address that reconnects at once waits for a few round trips to the store; a flood of
// wrong keys waits in its own queue.
const maxLookups = 32

// NewStreamAuth returns a StreamAuth that looks keys up in keys.
func NewStreamAuth(keys domain.KeyStore, o Options) *StreamAuth {
	return &StreamAuth{
		opt:      o,
		keys:     keys,
		tokens:   newTokenVerifier(o.Tokens),
		failures: newFailures(o.Failures, o.LimitLoopback, nil),
		lookups:  netx.NewAddressSemaphore(maxLookups),
	}
}

// With returns a StreamAuth with other options that shares the state of s: failures are counted
// together.
func (s *StreamAuth) With(o Options) *StreamAuth {
	return &StreamAuth{
		opt: o, keys: s.keys, tokens: newTokenVerifier(o.Tokens),
		failures: newFailures(o.Failures, o.LimitLoopback, s.failures.failureCounts), lookups: s.lookups,
	}
}

// Authenticate is the Step that finds out what the credentials of a request grant. Requests from an
// address with too many refused keys are delayed before they are checked. When the store is
// unavailable every request is refused, with the store's kind of error.
func (s *StreamAuth) Authenticate(ctx context.Context, r domain.AuthRequest, _ domain.Grant) (domain.Grant, error) {
	if err := s.CheckApp(r.App); err != nil {
		return domain.Grant{}, err
	}
	if r.Action == domain.Play {
		name, err := domain.ParseName(r.App, r.Name)
		if err == nil && s.Private(name) {
			return s.playByToken(ctx, name, r)
		}
		return domain.Grant{Name: name}, err
	}
	grant, err := s.authenticatePublisher(ctx, r)
	grant.Takeover = s.opt.Takeover
	return grant, err
}

func (s *StreamAuth) authenticatePublisher(ctx context.Context, r domain.AuthRequest) (domain.Grant, error) {
	switch {
	case domain.LooksLikeKey(r.Name):
	case s.opt.NoAuth:
		name, err := domain.ParseName(r.App, r.Name)
		return domain.Grant{Name: name}, err
	case r.Token != "" && s.tokens != nil:
		return s.publishByToken(ctx, r)
	}
	return s.publishByKey(ctx, r)
}

// AuthenticateOperator is the Step for a stream that the operator pulls from another server: it needs
// no credential.
func (s *StreamAuth) AuthenticateOperator(_ context.Context, r domain.AuthRequest, _ domain.Grant) (domain.Grant,
	error) {
	return domain.Grant{Name: domain.Name{App: r.App, Room: r.Name}, Takeover: s.opt.Takeover}, nil
}

// Private reports whether playing name needs a token.
func (s *StreamAuth) Private(name domain.Name) bool {
	full := name.String()
	return slices.ContainsFunc(s.opt.Private, func(p string) bool { return p == "*" || p == name.App || p == full })
}

// verifyToken returns the claims of the request's token. Requests from an address with too many
// invalid tokens are delayed.
func (s *StreamAuth) verifyToken(ctx context.Context, r domain.AuthRequest) (Claims, error) {
	addr := rateLimitAddr(r.Remote)
	s.failures.wait(ctx, addr)
	switch {
	case r.Token == "": // not a guess
		return Claims{}, domain.CodeErrorf(domain.Denied, domain.TokenMissing,
			"token missing: a token is required to %s this stream", r.Action)
	case s.tokens == nil:
		return Claims{}, invalid("this server has no key for tokens")
	}
	c, err := s.tokens.verify(ctx, r.Token, r, time.Now())
	if err != nil {
		s.failures.add(addr)
		return Claims{}, err
	}
	return c, nil
}

func (s *StreamAuth) playByToken(ctx context.Context, name domain.Name, r domain.AuthRequest) (domain.Grant, error) {
	c, err := s.verifyToken(ctx, r)
	if err != nil {
		return domain.Grant{}, err
	}
	session := s.tokens.opt.Session
	if c.Session > 0 {
		session = min(session, c.Session)
	}
	grant := domain.Grant{Name: name, Expires: time.Now().Add(session), Address: c.IP, OneTimeUntil: c.oneTimeUntil()}
	if n := cmp.Or(c.Viewers, s.tokens.opt.Viewers); n > 0 {
		digest := domain.Digest(r.Token)
		grant.ViewerLimit = domain.ViewerLimit{ID: [16]byte(digest[:16]), Max: n}
	}
	return grant, nil
}

// oneTimeUntil returns how long the use of a one-time token must be remembered; zero for any other.
func (c Claims) oneTimeUntil() time.Time {
	if !c.Once {
		return time.Time{}
	}
	return c.Expires.Add(2 * leeway) // either clock may be behind the other
}

// publishByToken grants a publisher that has a token for a room with a default key. The stream is
// bound to that key: resetting or deleting the key disconnects the publisher, and tokens that were
// issued before the reset are refused.
func (s *StreamAuth) publishByToken(ctx context.Context, r domain.AuthRequest) (domain.Grant, error) {
	name, err := domain.ParseName(r.App, r.Name)
	if err != nil {
		return domain.Grant{}, err
	}
	c, err := s.verifyToken(ctx, r)
	if err != nil {
		return domain.Grant{}, err
	}
	keys, err := s.keys.List(ctx, name.Room)
	if err != nil {
		return domain.Grant{}, err
	}
	for _, k := range keys {
		if k.Label != "" || !k.ValidFor(r.App, time.Now()) {
			continue
		}
		if c.Issued.IsZero() || c.Issued.Before(truncateToPrecision(c.Issued, k.Created)) {
			continue
		}
		s.touchKey(ctx, k)
		return domain.Grant{Name: name, Key: k.Ref(), Role: k.Role, Expires: k.Expires,
			OneTimeUntil: c.oneTimeUntil()}, nil
	}
	return domain.Grant{}, domain.CodeErrorf(domain.Denied, domain.TokenRevoked,
		"token revoked: it is older than the room's key, or the room has no key")
}

// ConsumeToken is the Step that consumes a one-time token. It must be the last, so that a request
// that is refused for another reason keeps its token. A dry run gets the same result and keeps the
// token: players and proxies send HEAD before they play.
func (s *StreamAuth) ConsumeToken(ctx context.Context, r domain.AuthRequest, grant domain.Grant) (domain.Grant, error) {
	if grant.OneTimeUntil.IsZero() {
		return grant, nil
	}
	if s.opt.OneTimeTokens == nil {
		return grant, invalid("one-time tokens are not supported on this server")
	}
	digest := domain.Digest(r.Token)
	id := [16]byte(digest[:16])
	var spent bool
	var err error
	if r.DryRun {
		spent, err = s.opt.OneTimeTokens.IsConsumed(ctx, id, grant.OneTimeUntil)
	} else {
		var first bool
		first, err = s.opt.OneTimeTokens.Consume(ctx, id, grant.OneTimeUntil)
		spent = !first
	}
	if err == nil && spent {
		err = domain.CodeErrorf(domain.Denied, domain.TokenUsed, "token already used: it is a one-time token")
	}
	return grant, err
}

// touchTimeout bounds how long a publisher waits for the store to record when the key was last
// used.
const touchTimeout = time.Second

// touchKey records that a key was used. Errors are ignored: they are no reason to refuse or delay a
// publisher.
func (s *StreamAuth) touchKey(ctx context.Context, k domain.Key) {
	ctx, cancel := context.WithTimeout(ctx, touchTimeout)
	defer cancel()
	_ = s.keys.Touch(ctx, k, time.Now())
}

// truncateToPrecision returns t in whole seconds if issued is, so that a token from the second in
// which the key was created is accepted.
func truncateToPrecision(issued, t time.Time) time.Time {
	if issued.Nanosecond() == 0 {
		return t.Truncate(time.Second)
	}
	return t.Truncate(time.Millisecond)
}

// CheckApp returns why app accepts no publishers and viewers: NotFound when it is not configured,
// Denied when it is disabled.
func (s *StreamAuth) CheckApp(app string) error {
	if err := domain.CheckApp(app); err != nil {
		return err
	}
	live, ok := s.opt.Apps[app]
	switch {
	case !ok:
		return domain.Errorf(domain.NotFound, "application %q is not configured: the applications are %s", app,
			strings.Join(slices.Sorted(maps.Keys(s.opt.Apps)), ", "))
	case !live:
		return domain.Errorf(domain.Denied, "application %q is disabled: its setting live is false", app)
	}
	return nil
}

// HasRoom reports whether room has a key, as far as the store knows now. It is within the share of
// lookups of the client at remote.
func (s *StreamAuth) HasRoom(ctx context.Context, room, remote string) bool {
	release, err := s.lookups.Acquire(ctx, remote)
	if err != nil {
		return false
	}
	defer release()
	keys, err := s.keys.List(ctx, room)
	return err == nil && len(keys) > 0
}

// resolve looks up the key of r within its address's share of lookups.
func (s *StreamAuth) resolve(ctx context.Context, r domain.AuthRequest) (domain.Key, error) {
	release, err := s.lookups.Acquire(ctx, r.Remote)
	if err != nil {
		return domain.Key{}, &domain.Error{Kind: domain.Unavailable, Err: err}
	}
	defer release()
	return s.keys.Resolve(ctx, r.App, r.Name)
}

// publishByKey grants a publisher with a valid stream key. Names that do not look like a key take
// the same path, so that neither the time nor the text of the reply tells a room's name from a
// wrong key.
func (s *StreamAuth) publishByKey(ctx context.Context, r domain.AuthRequest) (domain.Grant, error) {
	addr := rateLimitAddr(r.Remote)
	s.failures.wait(ctx, addr)
	k, err := s.resolve(ctx, r)
	if domain.KindOf(err) == domain.Denied {
		s.failures.add(addr)
		return domain.Grant{}, domain.Errorf(domain.Denied,
			"invalid stream key for app %s: the operator gets one from /control/get with room=NAME", r.App)
	}
	if err != nil {
		return domain.Grant{}, err
	}
	s.touchKey(ctx, k)
	return domain.Grant{Name: domain.Name{App: r.App, Room: k.Room}, Key: k.Ref(), Role: k.Role, Expires: k.Expires}, nil
}
