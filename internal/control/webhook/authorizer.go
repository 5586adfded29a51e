package webhook

import (
	"bytes"
	"context"
	"encoding/json"
	"log/slog"
	"strings"
	"time"

	"livego/internal/domain"
	"livego/internal/ops/netx"
)

// AuthorizerOptions say whom to ask.
type AuthorizerOptions struct {
	OnPublish, OnPlay string // URLs; "": nobody is asked
	Secret            string // signs the questions
	Timeout           time.Duration
	IsLive            func(domain.Name) bool // whether a stream is live; nil: all are taken to be
	Log               *slog.Logger
}

// A Authorizer asks who else must say yes. No answer, or one that is not understood, is a no.
type Authorizer struct {
	opt    AuthorizerOptions
	client *client
	cache  decisionCache // that say how long they hold

	// Turns to ask. Questions about publishers have their own: everybody can cause one about a player,
	// of a room that is made up.
	publishing, playing *netx.AddressSemaphore

	// recent are other answers to players, for a moment: so a player that asks for the same again and
	// again, and is refused or finds nothing live, costs one question. A yes counts only while its
	// room is not live, where it leads to "not found".
	recent decisionCache
}

// NewAuthorizer returns a Gate with nothing known.
func NewAuthorizer(o AuthorizerOptions) *Authorizer {
	return &Authorizer{
		opt: o, client: newClient(o.Secret, o.Timeout), publishing: netx.NewFairAddressSemaphore(maxRequests),
		playing: netx.NewFairAddressSemaphore(maxRequests),
	}
}

// decisionRequest is what is asked. It holds no key and no token.
type decisionRequest struct {
	Action string `json:"action"` // "publish" or "play"
	App    string `json:"app"`
	Room   string `json:"room"`
	Proto  string `json:"proto"`
	Remote string `json:"remote"` // host:port
	Role   string `json:"role,omitempty"`
	KeyID  string `json:"key_id,omitempty"` // of the key that he came with
}

// decision is what must come back, with a status of 200: allow, and maybe another room, or why not.
type decision struct {
	Allow  *bool  `json:"allow"`
	Room   string `json:"room"`
	Reason string `json:"reason"`
}

// Authorize returns grant, what r has been granted so far, with another room where that is the
// answer. Errors are of kind Denied, Limit or Unavailable.
func (g *Authorizer) Authorize(ctx context.Context, r domain.AuthRequest, grant domain.Grant) (domain.Grant, error) {
	url, turns := g.opt.OnPlay, g.playing
	if r.Action == domain.Publish {
		url, turns = g.opt.OnPublish, g.publishing
	}
	if url == "" {
		return grant, nil
	}
	q := decisionRequest{
		Action: r.Action.String(), App: grant.Name.App, Room: grant.Name.Room, Proto: r.Proto, Remote: r.Remote,
		KeyID: grant.Key.ID,
	}
	if r.Action == domain.Publish {
		q.Role = grant.Role.String()
	}
	a, ok := g.cached(q, grant.Name)
	if !ok {
		done, err := g.acquire(ctx, turns, r.Remote)
		if err != nil {
			return domain.Grant{}, err
		}
		defer done()
		if a, ok = g.cached(q, grant.Name); !ok { // what came while this one waited
			if a, err = g.request(ctx, url, q); err != nil {
				return domain.Grant{}, err
			}
		}
	}
	if err := a.refusal(); err != nil {
		return domain.Grant{}, err
	}
	if a.Room != "" {
		name, err := domain.ParseName(grant.Name.App, a.Room)
		if err != nil {
			g.opt.Log.Warn("a hook names a room that cannot be", "action", q.Action, "err", err)
			return domain.Grant{}, errInvalidResponse()
		}
		grant.Name = name
	}
	return grant, nil
}

// cached returns the answer to q that need not be asked for again. name is the room that q is about.
func (g *Authorizer) cached(q decisionRequest, name domain.Name) (decision, bool) {
	now := time.Now()
	if a, ok := g.cache.get(q, now); ok {
		return a, true
	}
	a, ok := g.recent.get(q, now)
	if !ok || !*a.Allow {
		return a, ok
	}
	if a.Room != "" {
		name.Room = a.Room
	}
	return a, g.opt.IsLive != nil && !g.opt.IsLive(name)
}

// acquire waits until one more may ask, of its address and of all: many viewers come at once. The caller calls done.
func (g *Authorizer) acquire(ctx context.Context, turns *netx.AddressSemaphore, remote string) (done func(),
	err error) {
	bounded, cancel := context.WithTimeout(ctx, g.opt.Timeout)
	defer cancel()
	done, err = turns.Acquire(bounded, remote)
	switch {
	case err == nil:
		return done, nil
	case ctx.Err() != nil:
		return nil, &domain.Error{Kind: domain.Unavailable, Err: ctx.Err()}
	}
	return nil, domain.Errorf(domain.Limit, "too many are coming at once")
}

// maxReason bounds what a hook says to who is refused, in bytes.
const maxReason = 200

// request returns a yes or a no in so many words; anything else is an error.
func (g *Authorizer) request(ctx context.Context, url string, q decisionRequest) (decision, error) {
	said, err := g.client.post(ctx, url, newID(), mustJSON(q))
	var a decision
	d := json.NewDecoder(bytes.NewReader(said.body))
	switch {
	case err != nil:
		g.opt.Log.Warn("a hook does not answer", "action", q.Action, "err", err)
		return a, errInvalidResponse()
	case said.status == 401 || said.status == 403:
		a.Allow = new(bool)
	case said.status != 200 || d.Decode(&a) != nil || a.Allow == nil || d.More():
		g.opt.Log.Warn("a hook gives an answer that is none", "action", q.Action, "status", said.status)
		return a, errInvalidResponse()
	case len(a.Room) > domain.MaxName: // before it is kept
		g.opt.Log.Warn("a hook names a room that cannot be", "action", q.Action, "length", len(a.Room))
		return a, errInvalidResponse()
	}
	a.Reason = strings.Clone(domain.Shorten(a.Reason, maxReason)) // what is kept does not hold all that was sent
	switch {
	case said.maxAge > 0 && said.status == 200:
		g.cache.put(q, a, time.Now(), said.maxAge)
	case !said.hasMaxAge && q.Action == domain.Play.String():
		g.recent.put(q, a, time.Now(), recentTTL)
	}
	return a, nil
}

// refusal returns a no as an error.
func (a decision) refusal() error {
	switch {
	case *a.Allow:
		return nil
	case a.Reason != "":
		return domain.Errorf(domain.Denied, "%s", a.Reason)
	}
	return errRefused()
}

func errRefused() error { return domain.Errorf(domain.Denied, "refused by the operator") }

func errInvalidResponse() error {
	return domain.Errorf(domain.Unavailable, "who decides about this does not answer")
}
