package domain

import "time"

// Directions of a relay.
const (
	Push = "push" // a stream of this server goes to another
	Pull = "pull" // a stream of another comes to this one
)

// A Relay moves a stream between this server and another.
type Relay struct {
	Direction string
	Name      Name   // of the stream here
	URL       string // of the stream there; may hold secrets
}

// A RelayStatus is what is known of a relay at one moment. It holds no secret.
type RelayStatus struct {
	Direction string    `json:"direction" enum:"push,pull"`
	App       string    `json:"app"`
	Room      string    `json:"room"`
	URL       string    `json:"url" doc:"Where to or from, without what may be secret: user, password, and all behind the app."`
	State     string    `json:"state" enum:"waiting,connecting,running,failed" doc:"waiting: there is no stream to push. failed: it is tried again in a while."`
	Since     time.Time `json:"since" doc:"Of this state."`
	Attempts  int       `json:"attempts" doc:"How many have failed since it last ran well."`
	Error     string    `json:"error,omitempty" doc:"Why the last of them did."`
	DelayMS   int64     `json:"delay_ms,omitempty" doc:"How far the other end is behind the stream, for one that pushes."`
	Skips     uint64    `json:"skips,omitempty" doc:"How often it has lost what memory no longer held, being slower than the stream, since it connected."`
	Static    bool      `json:"static,omitempty" doc:"By static_push."`
}
