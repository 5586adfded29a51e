package domain

import (
	"context"
	"net/netip"
	"time"
)

// Action is the action that an AuthRequest is for.
type Action uint8

// Actions.
const (
	Play Action = iota
	Publish
)

func (a Action) String() string {
	if a == Publish {
		return "publish"
	}
	return "play"
}

// An AuthRequest is what an edge knows of a client that wants to publish or play.
type AuthRequest struct {
	Action Action
	App    string // as sent by the client, not checked
	Name   string // as sent by the client: a stream key to publish, a room to play
	// Token is from the query or a header, "" if there is none. It admits to a private room, and
	// replaces the key of a publisher.
	Token  string
	Proto  string // "rtmp", "flv", "ws", "hls", "thumbnail"
	Remote string // host:port
	// DryRun checks access only, as for HEAD and thumbnails: a one-time token is not used up.
	DryRun bool
}

// A Grant is the result of an Authorizer that allows the action.
type Grant struct {
	Name Name   // the stream; never taken from the request unchecked
	Key  KeyRef // the key that was used; zero if none was needed
	// Role and Takeover are those of a publisher.
	Role     Role
	Takeover Takeover
	// Expires is when the publisher's key or the viewer's session ends; zero: never.
	Expires time.Time
	// ViewerLimit is the limit of a viewer's token, zero if it has none.
	ViewerLimit ViewerLimit

	// Address is the only address from which a viewer may use the grant, as its token says; zero:
	// any. If more than one connection uses the grant, as in HLS, each request must be checked.
	Address netip.Addr
	// OneTimeUntil is how long the use of a one-time token must be remembered; zero for any other
	// token.
	OneTimeUntil time.Time
}

// Owner returns the owner of a publisher with this grant, a comparable value: its key or, without
// one, the stream's name.
func (g Grant) Owner() any {
	if g.Key == (KeyRef{}) {
		return g.Name
	}
	return g.Key
}

// Reservation returns a function that reserves a viewer of g's limit, for a viewer that joins; nil
// if there is no limit. The viewer calls release when it has left.
func (g Grant) Reservation(l ViewerLimiter) func() (release func(), err error) {
	if g.ViewerLimit.Max <= 0 {
		return nil
	}
	return func() (func(), error) {
		if err := l.ReserveViewers(g.ViewerLimit, 1); err != nil {
			return nil, err
		}
		return func() { l.ReleaseViewers(g.ViewerLimit, 1) }, nil
	}
}

// Takeover is the policy for a publisher that arrives while another with the same role is
// publishing.
type Takeover uint8

// Takeover policies.
const (
	TakeoverIdle   Takeover = iota // the new one wins if the old one is idle
	TakeoverAlways                 // the new one wins
	TakeoverNever                  // the old one stays
)

// A ViewerLimit lets at most Max viewers with the same ID watch at a time.
type ViewerLimit struct {
	ID  [16]byte
	Max int
}

// A ViewerLimiter counts the viewers of each ViewerLimit, over all protocols and streams.
type ViewerLimiter interface {
	// ReserveViewers reserves n viewers of l. If fewer are left, it reserves none and returns an
	// Error of kind Limit.
	ReserveViewers(l ViewerLimit, n int) error
	// ReleaseViewers gives back n viewers that ReserveViewers reserved.
	ReleaseViewers(l ViewerLimit, n int)
}

// An Authorizer decides who may publish and play.
type Authorizer interface {
	ViewerLimiter
	// Authorize returns a Grant, or an Error of kind Invalid, Denied, NotFound (no such app), Limit
	// or Unavailable.
	Authorize(ctx context.Context, r AuthRequest) (Grant, error)
}
