package domain

import (
	"context"
	"net/netip"
	"time"
)

// Action is what a Request asks for.
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

// A AuthRequest is what an edge knows of somebody who wants in.
type AuthRequest struct {
	Action Action
	App    string // as given, not yet checked
	Name   string // as given: a push key to publish, a room to play
	// of the query or header, "" when none: lets in where a room is private, and publishes in the
	// place of a key
	Token  string
	Proto  string // "rtmp", "flv", "ws", "hls"
	Remote string // host:port
	DryRun bool   // he only asks whether he may, as by HEAD: what is good once stays good
}

// A Grant is the Gate's yes.
type Grant struct {
	Name        Name        // the stream; never taken from the request by itself
	Key         KeyRef      // the key it was granted for; zero when none was needed
	Role        Role        // for Publish
	Expires     time.Time   // for Publish of the key, for Play of the session: it ends then; zero: never
	ViewerLimit ViewerLimit // for Play: what the viewer came in by, where that limits how many may; else zero

	// Address is the only address that a viewer may use the grant from, as its token says; zero: any.
	// Where a connection does not hold it to that, as in HLS, each request must be checked.
	Address netip.Addr
}

// A ViewerLimit is something that lets a number of viewers in at a time.
type ViewerLimit struct {
	ID  [16]byte
	Max int
}

// A Authorizer decides who may publish and play.
type Authorizer interface {
	// Authorize returns a Grant or an Error of kind Invalid, Denied, NotFound (no such app), Limit or Unavailable.
	Authorize(ctx context.Context, r AuthRequest) (Grant, error)
}
