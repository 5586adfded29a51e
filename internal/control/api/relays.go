package api

import (
	"context"
	"fmt"
	"net/http"
	"net/url"

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
	if w.Name, err = domain.ParseName(w.Name.App, w.Name.Room); err != nil {
		return "", w, err
	}
	if err := s.checkConfigured(w.Name.App); err != nil {
		return "", w, err
	}
	if app, _ := s.app(w.Name.App); !app.Relays {
		return "", w, domain.Errorf(domain.Denied, "relays are disabled for app %q (api: false)", w.Name.App)
	}
	return oper, w, nil
}

type relayList struct {
	Body struct {
		Relays []domain.RelayStatus `json:"relays"`
	}
}

func (s *server) listRelays(context.Context, *struct{}) (*relayList, error) {
	out := new(relayList)
	out.Body.Relays = s.Relays.List()
	return out, nil
}
