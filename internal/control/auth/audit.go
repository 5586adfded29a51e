package auth

import (
	"context"
	"sync"
	"time"

	"livego/internal/domain"
)

// maxRefusals is how many refusals are kept: about 300 kB.
const maxRefusals = 1000

// maxRefusalName is the longest name that is kept of who was refused. A push key that lost a
// character on the way is longer.
const maxRefusalName = 40

// A Refusal tells of somebody who was turned away. It holds no key, no token and no name that may be one.
type Refusal struct {
	At     time.Time   `json:"at"`
	Action string      `json:"what" enum:"publish,play,manage" doc:"What was wanted."`
	App    string      `json:"app,omitempty"`
	Room   string      `json:"room,omitempty" doc:"Of who wanted to play: who wants to publish shows a key."`
	Path   string      `json:"path,omitempty" doc:"Of who wanted to manage."`
	Proto  string      `json:"proto,omitempty"`
	Remote string      `json:"remote"`
	Reason string      `json:"reason"`
	Code   domain.Code `json:"code,omitempty" doc:"The same for programs, of refused tokens."`
}

// An Audit keeps the latest refusals. The zero Audit is empty. It is safe for concurrent use.
type Audit struct {
	mu   sync.Mutex
	ring []Refusal
	next int // where the next goes once ring is full
}

// Add keeps r, in the place of the oldest where there is no room.
func (a *Audit) Add(r Refusal) {
	r.At = time.Now().UTC()
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.ring) < maxRefusals {
		a.ring = append(a.ring, r)
		return
	}
	a.ring[a.next] = r
	a.next = (a.next + 1) % maxRefusals
}

// Latest returns up to limit refusals, the newest first.
func (a *Audit) Latest(limit int) []Refusal {
	a.mu.Lock()
	defer a.mu.Unlock()
	list := make([]Refusal, 0, min(limit, len(a.ring)))
	for i := range cap(list) {
		list = append(list, a.ring[(a.next+len(a.ring)-1-i)%len(a.ring)])
	}
	return list
}

// Wrap returns next with a note of all that it refuses.
func (a *Audit) Wrap(next domain.Authorizer) domain.Authorizer { return &auditedAuthorizer{next, a} }

type auditedAuthorizer struct {
	next  domain.Authorizer
	audit *Audit
}

// Authorize implements domain.Authorizer. Who is refused because something is away, or short, is
// noted too: he will tell the operator that he was.
func (g *auditedAuthorizer) Authorize(ctx context.Context, r domain.AuthRequest) (domain.Grant, error) {
	grant, err := g.next.Authorize(ctx, r)
	if kind := domain.KindOf(err); kind == domain.Denied || kind == domain.Unavailable && ctx.Err() == nil {
		n := Refusal{Action: r.Action.String(), Proto: r.Proto, Remote: r.Remote, Reason: domain.Reason(err),
			Code: domain.CodeOf(err)}
		if len(r.App) <= maxRefusalName && domain.CheckApp(r.App) == nil {
			n.App = r.App
		}
		if r.Action == domain.Play && len(r.Name) <= maxRefusalName && domain.CheckRoom(r.Name) == nil {
			n.Room = r.Name
		}
		g.audit.Add(n)
	}
	return grant, err
}
