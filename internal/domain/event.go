package domain

import (
	"slices"
	"strings"
	"time"
)

// An EventType is what happened. The API and webhooks use the same words for it.
type EventType string

// Types of events. Each must also be in EventTypes.
const (
	EventDenied            EventType = "denied"         // a request was refused
	EventStreamStarted     EventType = "stream.started" // a publisher started a stream
	EventStreamHeld        EventType = "stream.held"    // the publisher was lost, and viewers wait
	EventStreamResumed     EventType = "stream.resumed" // a publisher continued a held stream, or took over
	EventStreamEnded       EventType = "stream.ended"
	EventViewerJoined      EventType = "viewer.joined"
	EventViewerLeft        EventType = "viewer.left"
	EventRelayStarted      EventType = "relay.started"   // a relay was created, or started again with the server
	EventRelayConnected    EventType = "relay.connected" // it sends or receives a stream
	EventRelayFailed       EventType = "relay.failed"    // its attempts fail repeatedly
	EventRelayStopped      EventType = "relay.stopped"   // it was deleted, or the stream of a static one has ended
	EventRecordingStarted  EventType = "recording.started"
	EventRecordingFinished EventType = "recording.finished" // its file was closed
	EventRecordingDeleted  EventType = "recording.deleted"
	EventFindingAppeared   EventType = "finding.appeared" // a stream has a problem
	EventFindingCleared    EventType = "finding.cleared"  // the problem is over
	EventServerStarted     EventType = "server.started"   // it serves
	EventConfigReloaded    EventType = "config.reloaded"  // the settings were loaded again
	EventConfigFailed      EventType = "config.failed"    // they are invalid, and nothing is changed
	EventServerStopping    EventType = "server.stopping"  // a graceful shutdown has started
)

// EventTypes returns all types.
func EventTypes() []EventType {
	return []EventType{
		EventDenied, EventStreamStarted, EventStreamHeld, EventStreamResumed, EventStreamEnded, EventViewerJoined,
		EventViewerLeft, EventRelayStarted, EventRelayConnected, EventRelayFailed, EventRelayStopped, EventRecordingStarted,
		EventRecordingFinished, EventRecordingDeleted, EventFindingAppeared, EventFindingCleared, EventConfigReloaded,
		EventConfigFailed, EventServerStarted, EventServerStopping,
	}
}

// Is reports whether t is the type what, or one of the types that start with what and a dot.
func (t EventType) Is(what string) bool {
	rest, ok := strings.CutPrefix(string(t), what)
	return ok && (rest == "" || rest[0] == '.')
}

// HasEventType reports whether a type Is what.
func HasEventType(what string) bool {
	return slices.ContainsFunc(EventTypes(), func(t EventType) bool { return t.Is(what) })
}

// An Event is one thing that happened on the server. It holds no key, no token and no query string.
type Event struct {
	// ID and At are set by the log of events.
	ID      uint64    `json:"id" doc:"Higher than the ID of every event before, also over a restart."`
	At      time.Time `json:"at" doc:"When it happened."`
	Type    EventType `json:"type" doc:"What happened: denied, stream.started, viewer.left, ..."`
	App     string    `json:"app,omitempty"`
	Room    string    `json:"room,omitempty"`
	Session string    `json:"session,omitempty" doc:"The session of the publisher or viewer."`
	Proto   string    `json:"proto,omitempty" doc:"The protocol of the client."`
	Remote  string    `json:"remote,omitempty" doc:"The address of the client, host:port."`
	Reason  string    `json:"reason,omitempty" doc:"Why it happened."`
	// Action, Path and Code are those of a refusal.
	Action string `json:"what,omitempty" enum:"publish,play,manage" doc:"The refused action."`
	Path   string `json:"path,omitempty" doc:"The path of the refused request to the operator's HTTP."`
	Code   Code   `json:"code,omitempty" enum:"token_missing,token_malformed,token_invalid,token_expired,token_not_yet_valid,token_used,token_wrong_stream,token_wrong_action,token_wrong_address,token_revoked,token_viewer_limit,session_missing,session_invalid,session_expired,session_ended,session_wrong_address,address_limit" doc:"The machine-readable reason, for refused tokens."`
	// Fields hold strings, numbers and booleans.
	Fields map[string]any `json:"fields,omitempty" doc:"Further facts, which depend on the type."`
}
