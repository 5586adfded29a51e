package api

import (
	"context"
	"net/http"

	"github.com/danielgtaylor/huma/v2"

	"livego/internal/domain"
)

// routeSessions registers the route that ends viewers' sessions.
func (s *server) routeSessions(api huma.API) {
	huma.Register(api, operation("DELETE", v1+"/sessions", "end-sessions",
		"End the sessions of a room's viewers: they are disconnected, and need a valid token to watch a private room again",
		http.StatusNotFound), s.endSessions)
}

type endSessionsInput struct {
	Room string `query:"room" required:"true" maxLength:"128"`
	App  string `query:"app" maxLength:"128" doc:"Only viewers of this app. Absent: of every app."`
}

type endedSessions struct {
	Body struct {
		Ended int `json:"ended" doc:"How many viewers were disconnected."`
	}
}

func (s *server) endSessions(_ context.Context, in *endSessionsInput) (*endedSessions, error) {
	err := domain.CheckRoom(in.Room)
	if err == nil {
		err = s.checkConfigured(in.App)
	}
	if err != nil {
		return nil, humaError(err)
	}
	out := new(endedSessions)
	out.Body.Ended = s.EndSessions(in.App, in.Room)
	s.Log.Info("control", "action", "end sessions", "app", in.App, "room", in.Room, "ended", out.Body.Ended)
	return out, nil
}
