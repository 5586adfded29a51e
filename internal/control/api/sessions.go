package api

import (
	"context"

	"livego/internal/domain"
)

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
