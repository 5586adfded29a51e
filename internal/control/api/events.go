package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"livego/internal/control/events"
	"livego/internal/domain"
)

const (
	eventsPath = v1 + "/events"
	// eventWriteTimeout is how long a client may take to accept a piece of a stream of events.
	eventWriteTimeout = 10 * time.Second
)

// routeEvents registers the routes for events.
func (s *server) routeEvents(api huma.API) {
	huma.Register(api, operation("GET", eventsPath, "list-events", "List the latest events, newest first"), s.listEvents)
	stream := operation("GET", eventsPath+"/stream", "stream-events",
		"Send events as they happen, as server-sent events", http.StatusTooManyRequests)
	stream.Responses = map[string]*huma.Response{"200": {
		Description: "Server-sent events. The data of each is an event in JSON, its id that of the event. " +
			"An event named lost says how many others were lost because the client was too slow: {\"events\":3}.",
		Content: map[string]*huma.MediaType{"text/event-stream": {Schema: &huma.Schema{Type: huma.TypeString}}},
	}}
	huma.Register(api, stream, s.streamEvents)
}

// An EventFilter selects events. It is exported to be embedded in inputs.
type EventFilter struct {
	Type []string `query:"type" maxItems:"16" doc:"Only events of these types: denied, stream.started, stream for all of stream."`
	App  string   `query:"app" maxLength:"128" doc:"Only events of this app."`
	Room string   `query:"room" maxLength:"128" doc:"Only events of this room."`
}

// check returns an error if the filter can never select an event.
func (f EventFilter) check() error {
	for _, t := range f.Type {
		if !domain.HasEventType(t) {
			return domain.Errorf(domain.Invalid, "invalid type: there is no such type of event")
		}
	}
	return nil
}

func (f EventFilter) selects(e domain.Event) bool {
	return (f.App == "" || e.App == f.App) && (f.Room == "" || e.Room == f.Room) &&
		(len(f.Type) == 0 || slices.ContainsFunc(f.Type, e.Type.Is))
}

type eventsInput struct {
	ListInput
	EventFilter
	Since time.Time `query:"since" doc:"Only events at or after this time."`
}

type eventList struct {
	Body struct {
		Events []domain.Event `json:"events"`
		Next   string         `json:"next,omitempty" doc:"Cursor of the next page; absent on the last page."`
	}
}

func eventFields() sortable[domain.Event] {
	return sortable[domain.Event]{"id": func(e *domain.Event) sortKey { return numberKey(e.ID) }}
}

func (s *server) listEvents(_ context.Context, in *eventsInput) (*eventList, error) {
	page, err := newPager(in.ListInput, eventFields(), "-id", "id")
	if err == nil {
		err = in.check()
	}
	if err != nil {
		return nil, humaError(err)
	}
	for _, e := range s.Events.Since(0) {
		if !e.At.Before(in.Since) && in.selects(e) {
			page.add(e)
		}
	}
	out := new(eventList)
	out.Body.Events, out.Body.Next = page.page()
	return out, nil
}

type eventStreamInput struct {
	EventFilter
	LastEventID string `header:"Last-Event-ID" maxLength:"32" doc:"Start after this event. Absent: start now."`
}

// streamEvents sends events until the client disconnects or loses its rights, or the server stops.
func (s *server) streamEvents(_ context.Context, in *eventStreamInput) (*huma.StreamResponse, error) {
	after := uint64(0)
	err := in.check()
	if in.LastEventID != "" && err == nil {
		if after, err = strconv.ParseUint(in.LastEventID, 10, 64); err != nil {
			err = domain.Errorf(domain.Invalid, "invalid Last-Event-ID: not a number")
		}
	}
	if err != nil {
		return nil, humaError(err)
	}
	sub, err := s.Events.Subscribe(after)
	if err != nil {
		return nil, humaError(err)
	}
	return &huma.StreamResponse{Body: func(ctx huma.Context) {
		defer sub.Close()
		r, w := humago.Unwrap(ctx)
		w.Header().Set("Content-Type", "text/event-stream")
		stream := eventStream{w, http.NewResponseController(w)}
		// The timeouts of the server are for short requests.
		if stream.control.SetReadDeadline(time.Time{}) == nil {
			stream.run(r, s, in.EventFilter, sub)
		}
	}}, nil
}

// An eventStream is the response to one client.
type eventStream struct {
	w       io.Writer
	control *http.ResponseController
}

// run sends events until one of them cannot be sent.
func (s eventStream) run(r *http.Request, srv *server, f EventFilter, sub *events.Subscription) {
	heartbeat := time.Now().Add(srv.HeartbeatInterval)
	err := s.send(nil) // the header
	for err == nil {
		ctx, cancel := context.WithDeadline(r.Context(), heartbeat)
		list, lost, nextErr := sub.Next(ctx)
		cancel()
		if nextErr != nil && !errors.Is(nextErr, context.DeadlineExceeded) {
			return
		}
		piece := appendEvents(nil, list, lost, f)
		if now := time.Now(); !now.Before(heartbeat) {
			if srv.Auth().Authorize(r, requiredAccess(r)) != nil {
				return
			}
			piece, heartbeat = append(piece, ": heartbeat\n\n"...), now.Add(srv.HeartbeatInterval)
		}
		err = s.send(piece)
	}
}

// send writes and flushes a piece of the response. Afterwards there is no deadline: over HTTP/2, one that passes ends
// the response, even if there is nothing to write.
func (s eventStream) send(piece []byte) error {
	if err := s.control.SetWriteDeadline(time.Now().Add(eventWriteTimeout)); err != nil {
		return err
	}
	if _, err := s.w.Write(piece); err != nil {
		return err
	}
	if err := s.control.Flush(); err != nil {
		return err
	}
	return s.control.SetWriteDeadline(time.Time{})
}

// appendEvents appends the events that f selects, and before them how many were lost.
func appendEvents(b []byte, list []domain.Event, lost uint64, f EventFilter) []byte {
	if lost > 0 {
		b = fmt.Appendf(b, "event: lost\ndata: {\"events\":%d}\n\n", lost)
	}
	for _, e := range list {
		if data, err := json.Marshal(e); err == nil && f.selects(e) {
			b = fmt.Appendf(b, "id: %d\ndata: %s\n\n", e.ID, data)
		}
	}
	return b
}
