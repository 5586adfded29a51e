package api

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"reflect"

	"github.com/danielgtaylor/huma/v2"

	"livego/internal/domain"
)

// relay serves /control/push and /control/pull: oper=start|stop&app=A&name=N&url=U. Without oper it
// starts the relay.
func (s *server) relay(direction string) func(*http.Request, url.Values) (any, error) {
	return func(r *http.Request, args url.Values) (any, error) {
		oper, w, err := s.relayOf(direction, r.URL.Path, args)
		if err != nil {
			return nil, err
		}
		var shown string
		if oper == "start" {
			shown, err = s.Relays.Start(r.Context(), w)
		} else {
			shown, err = s.Relays.Stop(w)
		}
		if domain.KindOf(err) == domain.Unavailable {
			err = &httpError{http.StatusBadGateway, domain.Reason(err)}
		}
		if err != nil {
			return nil, err
		}
		s.logControl(oper+" "+direction, w.Name.App, w.Name.Room, r)
		return fmt.Sprintf("<h1>%s url %s %s ok</h1></br>", direction, oper, shown), nil
	}
}

// relayOf returns the operation and the relay of a request.
func (s *server) relayOf(direction, path string, args url.Values) (oper string, w domain.Relay, err error) {
	w.Direction = direction
	for name, to := range map[string]*string{"oper": &oper, "app": &w.Name.App, "name": &w.Name.Room, "url": &w.URL} {
		if *to, _, err = argument(args, name); err != nil {
			return "", w, err
		}
	}
	if oper == "" {
		oper = "start" // compatible with scripts for the earlier server of this name
	}
	if oper != "start" && oper != "stop" || w.Name.App == "" || w.Name.Room == "" || w.URL == "" {
		return "", w, domain.Errorf(domain.Invalid, "url: %s?oper=start|stop&app=<APP>&name=<ROOM_NAME>&url=<URL>", path)
	}
	return oper, w, s.checkRelay(w)
}

// checkRelay returns an error for a relay of an invalid stream, or of an app that may have none.
func (s *server) checkRelay(w domain.Relay) error {
	if _, err := domain.ParseName(w.Name.App, w.Name.Room); err != nil {
		return err
	}
	if err := s.checkConfigured(w.Name.App); err != nil {
		return err
	}
	if app, _ := s.app(w.Name.App); !app.Relays {
		return domain.Errorf(domain.Denied, "relays are disabled for app %q (api: false)", w.Name.App)
	}
	return nil
}

const relaysPath = v1 + "/relays"

// routeRelays registers the routes for relays. No response contains a remote URL with its secrets.
func (s *server) routeRelays(api huma.API) {
	huma.Register(api, operation("GET", relaysPath, "list-relays", "List relays, also those of static_push"), s.listRelays)
	create := operation("POST", relaysPath, "create-relay", "Create a relay, or get the one that exists already",
		http.StatusNotFound, http.StatusConflict, http.StatusTooManyRequests)
	create.DefaultStatus = http.StatusCreated
	create.Responses = map[string]*huma.Response{"200": {
		Description: "The relay exists already",
		Content: map[string]*huma.MediaType{"application/json": {
			Schema: api.OpenAPI().Components.Schemas.Schema(reflect.TypeFor[domain.RelayStatus](), true, "RelayStatus")}},
	}}
	huma.Register(api, create, s.createRelay)
	huma.Register(api, operation("GET", relaysPath+"/{id}", "get-relay", "Get a relay", http.StatusNotFound), s.getRelay)
	huma.Register(api, operation("DELETE", relaysPath+"/{id}", "delete-relay",
		"Stop a relay and delete it. The stream ends on the other server.", http.StatusNotFound, http.StatusConflict),
		s.deleteRelay)
}

func relayFields() sortable[domain.RelayStatus] {
	type status = domain.RelayStatus
	return sortable[status]{
		"id":        func(r *status) sortKey { return textKey(r.ID) },
		"app":       func(r *status) sortKey { return textKey(r.App) },
		"room":      func(r *status) sortKey { return textKey(r.Room) },
		"direction": func(r *status) sortKey { return textKey(r.Direction) },
		"url":       func(r *status) sortKey { return textKey(r.URL) },
		"state":     func(r *status) sortKey { return textKey(r.State) },
		"since":     func(r *status) sortKey { return timeKey(r.Since) },
		"attempts":  func(r *status) sortKey { return numberKey(r.Attempts) },
		"bytes":     func(r *status) sortKey { return numberKey(r.Bytes) },
		"bitrate":   func(r *status) sortKey { return numberKey(r.Bitrate) },
		"delay_ms":  func(r *status) sortKey { return numberKey(r.DelayMS) },
		"skips":     func(r *status) sortKey { return numberKey(r.Skips) },
	}
}

type relaysInput struct {
	ListInput
	App       string `query:"app" maxLength:"128" doc:"Only relays of this app."`
	Room      string `query:"room" maxLength:"128" doc:"Only relays of this room."`
	Direction string `query:"direction" enum:"push,pull" doc:"Only relays in this direction."`
	State     string `query:"state" enum:"waiting,connecting,running,failed" doc:"Only relays in this state."`
}

type relayList struct {
	Body struct {
		Relays []domain.RelayStatus `json:"relays"`
		Next   string               `json:"next,omitempty" doc:"Cursor of the next page; absent on the last page."`
	}
}

func (s *server) listRelays(_ context.Context, in *relaysInput) (*relayList, error) {
	page, err := newPager(in.ListInput, relayFields(), "app,room,direction,url", "id")
	if err != nil {
		return nil, humaError(err)
	}
	is := func(want, have string) bool { return want == "" || want == have }
	for _, r := range s.Relays.List() {
		if is(in.App, r.App) && is(in.Room, r.Room) && is(in.Direction, r.Direction) && is(in.State, r.State) {
			page.add(r)
		}
	}
	out := new(relayList)
	out.Body.Relays, out.Body.Next = page.page()
	return out, nil
}

type createRelayInput struct {
	Body struct {
		Direction string `json:"direction" enum:"push,pull" doc:"push: to the URL; pull: from the URL."`
		App       string `json:"app" maxLength:"128" doc:"The app of the stream on this server."`
		Room      string `json:"room" maxLength:"128" doc:"The room of the stream on this server."`
		URL       string `json:"url" maxLength:"2048" doc:"The URL on the other server: rtmp:// or rtmps://; to pull also http:// or https:// for HTTP-FLV."`
		Persist   *bool  `json:"persist,omitempty" doc:"Start the relay again when the server restarts. Absent: true. false has no effect on a relay that persists already."`
	}
}

type oneRelay struct {
	Status int
	Body   domain.RelayStatus
}

func (s *server) createRelay(ctx context.Context, in *createRelayInput) (*oneRelay, error) {
	b := in.Body
	w := domain.Relay{Direction: b.Direction, Name: domain.Name{App: b.App, Room: b.Room}, URL: b.URL}
	if err := s.checkRelay(w); err != nil {
		return nil, humaError(err)
	}
	r, created, err := s.Relays.Create(context.WithoutCancel(ctx), w, b.Persist == nil || *b.Persist)
	if err != nil {
		return nil, humaError(err)
	}
	if !created {
		return &oneRelay{http.StatusOK, r}, nil
	}
	s.Log.Info("control", "action", "create "+r.Direction, "app", r.App, "room", r.Room, "relay", r.ID)
	return &oneRelay{http.StatusCreated, r}, nil
}

type relayInput struct {
	ID string `path:"id" maxLength:"64"`
}

func (s *server) getRelay(_ context.Context, in *relayInput) (*oneRelay, error) {
	r, err := s.Relays.Get(in.ID)
	if err != nil {
		return nil, humaError(err)
	}
	return &oneRelay{http.StatusOK, r}, nil
}

func (s *server) deleteRelay(_ context.Context, in *relayInput) (*struct{}, error) {
	if err := s.Relays.Delete(in.ID); err != nil {
		return nil, humaError(err)
	}
	s.Log.Info("control", "action", "delete relay", "relay", in.ID)
	return nil, nil
}
