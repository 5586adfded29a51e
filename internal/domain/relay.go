package domain

import "time"

// Relay directions.
const (
	Push = "push" // from this server to another
	Pull = "pull" // from another server to this one
)

// A Relay sends a stream between this server and another.
type Relay struct {
	Direction string
	Name      Name   // the local stream
	URL       string // the remote stream; may hold secrets
}

// A RelayStatus describes a relay at one moment. It holds no secret.
type RelayStatus struct {
	ID        string    `json:"id" doc:"Identifies the relay as long as it exists: over a restart if it persists."`
	Direction string    `json:"direction" enum:"push,pull"`
	App       string    `json:"app"`
	Room      string    `json:"room"`
	URL       string    `json:"url" doc:"The remote URL, without secrets: user, password, and everything after the app."`
	Persist   bool      `json:"persist" doc:"It starts again when the server restarts."`
	Static    bool      `json:"static,omitempty" doc:"Started by static_push."`
	State     string    `json:"state" enum:"waiting,connecting,running,failed" doc:"waiting: there is no stream to push. failed: the relay retries after a delay."`
	Since     time.Time `json:"since" doc:"When this state started."`
	Attempts  int       `json:"attempts" doc:"Failed attempts since the relay last ran."`
	Error     string    `json:"error,omitempty" doc:"The error of the last failed attempt."`
	Bytes     uint64    `json:"bytes" doc:"Bytes of media sent or received since the relay or the server started."`
	Bitrate   uint64    `json:"bitrate" doc:"Over the last seconds, in kbit/s."`
	DelayMS   int64     `json:"delay_ms,omitempty" doc:"How far the remote end of a push is behind the stream."`
	Skips     uint64    `json:"skips,omitempty" doc:"How often a slow push has skipped frames since it connected."`
}

// Event returns an event about the relay.
func (s RelayStatus) Event(t EventType) Event {
	e := Event{Type: t, App: s.App, Room: s.Room,
		Fields: map[string]any{"relay": s.ID, "direction": s.Direction, "url": s.URL}}
	if t == EventRelayFailed {
		e.Reason, e.Fields["attempts"] = s.Error, s.Attempts
	}
	return e
}
