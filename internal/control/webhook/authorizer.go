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

// AuthorizerOptions configure an Authorizer.
type AuthorizerOptions struct {
	OnPublish, OnPlay string // URLs; "": no webhook
	Secret            string // signs requests
	Timeout           time.Duration
	IsLive            func(domain.Name) bool // reports whether a stream is live; nil: every stream is
	Log               *slog.Logger
}

// An Authorizer asks the webhooks whether a client may publish or play. Without a valid response
// the client is refused.
type Authorizer struct {
	opt    AuthorizerOptions
	client *client
	asked  map[domain.Action]*requestCounter
	cache  decisionCache // decisions with Cache-Control

	// Concurrent requests. Those for publishers have their own limit: any client can cause one for
	// a player, of a made-up room.
	publishing, playing *netx.AddressSemaphore

	// recent caches other decisions about players for recentTTL, so that a player that repeats a
	// request, and is refused or finds no live stream, causes one webhook request. A decision to
	// allow is used only while its room is not live, where it leads to "not found".
	recent decisionCache
}

// NewAuthorizer returns an Authorizer with empty caches.
func NewAuthorizer(o AuthorizerOptions) *Authorizer {
	return &Authorizer{
		opt: o, client: newClient(o.Secret, o.Timeout), publishing: netx.NewFairAddressSemaphore(maxRequests),
		playing: netx.NewFairAddressSemaphore(maxRequests),
		asked:   map[domain.Action]*requestCounter{domain.Publish: newRequestCounter(), domain.Play: newRequestCounter()},
	}
}

// With returns an Authorizer with other options and empty caches. It counts requests together with w.
func (w *Authorizer) With(o AuthorizerOptions) *Authorizer {
	next := NewAuthorizer(o)
	next.asked = w.asked
	return next
}

// Statistics returns what was counted of the requests about an action.
func (w *Authorizer) Statistics(a domain.Action) RequestStatistics { return w.asked[a].statistics() }

// decisionRequest is the body of a request. It contains no key and no token.
type decisionRequest struct {
	Action string `json:"action"` // "publish" or "play"
	App    string `json:"app"`
	Room   string `json:"room"`
	Proto  string `json:"proto"`
	Remote string `json:"remote"` // host:port
	Role   string `json:"role,omitempty"`
	KeyID  string `json:"key_id,omitempty"` // of the publisher's key
}

// decision is the body of a response with status 200: allow, and optionally another room or the
// reason of a refusal.
type decision struct {
	Allow  *bool  `json:"allow"`
	Room   string `json:"room"`
	Reason string `json:"reason"`
}

// Authorize returns grant, the grant of r so far, with the room that the webhook names, if any.
// Errors are of kind Denied, Limit or Unavailable.
func (w *Authorizer) Authorize(ctx context.Context, r domain.AuthRequest, grant domain.Grant) (domain.Grant, error) {
	url, slots := w.opt.OnPlay, w.playing
	if r.Action == domain.Publish {
		url, slots = w.opt.OnPublish, w.publishing
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
	a, ok := w.cached(q, grant.Name)
	if !ok {
		done, err := w.acquire(ctx, slots, r.Remote)
		if err != nil {
			return domain.Grant{}, err
		}
		defer done()
		if a, ok = w.cached(q, grant.Name); !ok { // it may have arrived during the wait
			start := time.Now()
			a, err = w.request(ctx, url, q)
			w.asked[r.Action].observe(start, err == nil)
			if err != nil {
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
			w.opt.Log.Warn("webhook returned an invalid room", "action", q.Action, "err", err)
			return domain.Grant{}, errInvalidResponse()
		}
		grant.Name = name
	}
	return grant, nil
}

// cached returns the cached decision for q. name is the stream of q.
func (w *Authorizer) cached(q decisionRequest, name domain.Name) (decision, bool) {
	now := time.Now()
	if a, ok := w.cache.get(q, now); ok {
		return a, true
	}
	a, ok := w.recent.get(q, now)
	if !ok || !*a.Allow {
		return a, ok
	}
	if a.Room != "" {
		name.Room = a.Room
	}
	return a, w.opt.IsLive != nil && !w.opt.IsLive(name)
}

// acquire waits for one of the concurrent requests, within the shares of the client's address and
// of all: many viewers may connect at once. The caller must call done.
func (w *Authorizer) acquire(ctx context.Context, slots *netx.AddressSemaphore, remote string) (done func(),
	err error) {
	bounded, cancel := context.WithTimeout(ctx, w.opt.Timeout)
	defer cancel()
	done, err = slots.Acquire(bounded, remote)
	switch {
	case err == nil:
		return done, nil
	case ctx.Err() != nil:
		return nil, &domain.Error{Kind: domain.Unavailable, Err: ctx.Err()}
	}
	return nil, domain.Errorf(domain.Limit, "too many concurrent webhook requests")
}

// maxReason is the longest reason that is passed on to the client, in bytes.
const maxReason = 200

// request returns the webhook's decision. Every response that is not a valid decision is an error.
func (w *Authorizer) request(ctx context.Context, url string, q decisionRequest) (decision, error) {
	resp, err := w.client.post(ctx, url, newID(), mustJSON(q))
	var a decision
	d := json.NewDecoder(bytes.NewReader(resp.body))
	switch {
	case err != nil:
		w.opt.Log.Warn("webhook did not respond", "action", q.Action, "err", err)
		return a, errInvalidResponse()
	case resp.status == 401 || resp.status == 403:
		a.Allow = new(bool)
	case resp.status != 200 || d.Decode(&a) != nil || a.Allow == nil || d.More():
		w.opt.Log.Warn("webhook returned an invalid response", "action", q.Action, "status", resp.status)
		return a, errInvalidResponse()
	case len(a.Room) > domain.MaxName: // before it is cached
		w.opt.Log.Warn("webhook returned an invalid room", "action", q.Action, "length", len(a.Room))
		return a, errInvalidResponse()
	}
	// A copy, so that the cache does not hold the whole response.
	a.Reason = strings.Clone(domain.Shorten(a.Reason, maxReason))
	switch {
	case resp.maxAge > 0 && resp.status == 200:
		w.cache.put(q, a, time.Now(), resp.maxAge)
	case !resp.hasMaxAge && q.Action == domain.Play.String():
		w.recent.put(q, a, time.Now(), recentTTL)
	}
	return a, nil
}

// refusal returns an error if the decision is not to allow.
func (a decision) refusal() error {
	switch {
	case *a.Allow:
		return nil
	case a.Reason != "":
		return domain.Errorf(domain.Denied, "%s", a.Reason)
	}
	return domain.Errorf(domain.Denied, "refused by the operator")
}

func errInvalidResponse() error {
	return domain.Errorf(domain.Unavailable, "the authorization webhook did not return a valid response")
}
