package auth

import (
	"context"
	"sync"
	"time"

	"livego/internal/domain"
)

// maxRefusals is the number of refusals that are kept: about 300 kB.
const maxRefusals = 1000

// maxRefusalName is the longest app or room name that a Refusal keeps. A stream key that lost a
// character in transit is longer.
const maxRefusalName = 40

// A Refusal is one request that was refused. It holds no key, no token, and no name that may be
// one.
type Refusal struct {
	At     time.Time   `json:"at"`
	Action string      `json:"what" enum:"publish,play,manage" doc:"The refused action."`
	App    string      `json:"app,omitempty"`
	Room   string      `json:"room,omitempty" doc:"The room that was to be played; publishers send a key instead."`
	Path   string      `json:"path,omitempty" doc:"The path of the refused request to the operator's HTTP."`
	Proto  string      `json:"proto,omitempty"`
	Remote string      `json:"remote"`
	Reason string      `json:"reason"`
	Code   domain.Code `json:"code,omitempty" doc:"The machine-readable reason, for refused tokens."`
}

// An Audit keeps the latest refusals. The zero Audit is empty. It is safe for concurrent use.
type Audit struct {
	mu   sync.Mutex
	ring []Refusal
	next int // index of the oldest refusal once ring is full
}

// Add keeps r. It replaces the oldest refusal when maxRefusals are kept.
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

// Latest returns up to limit refusals, newest first.
func (a *Audit) Latest(limit int) []Refusal {
	a.mu.Lock()
	defer a.mu.Unlock()
	list := make([]Refusal, 0, min(limit, len(a.ring)))
	for i := range cap(list) {
		list = append(list, a.ring[(a.next+len(a.ring)-1-i)%len(a.ring)])
	}
	return list
}

// addRefusal keeps that r was refused for err. Refusals because a service is unavailable or a limit
// is reached count too: users report them to the operator.
func (a *Audit) addRefusal(ctx context.Context, r domain.AuthRequest, err error) {
	if kind := domain.KindOf(err); kind != domain.Denied && (kind != domain.Unavailable || ctx.Err() != nil) {
		return
	}
	n := Refusal{Action: r.Action.String(), Proto: r.Proto, Remote: r.Remote, Reason: domain.Reason(err),
		Code: domain.CodeOf(err)}
	if len(r.App) <= maxRefusalName && domain.CheckApp(r.App) == nil {
		n.App = r.App
	}
	if r.Action == domain.Play && len(r.Name) <= maxRefusalName && domain.CheckRoom(r.Name) == nil {
		n.Room = r.Name
	}
	a.Add(n)
}
