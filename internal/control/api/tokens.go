package api

import (
	"context"
	"net/url"
	"slices"
	"strings"
	"time"

	"livego/internal/control/auth"
	"livego/internal/domain"
)

const tokensPath = v1 + "/tokens"

type tokenInput struct {
	HostInput
	Body struct {
		Action  string `json:"action" enum:"play,publish"`
		App     string `json:"app" maxLength:"128"`
		Room    string `json:"room" maxLength:"128" doc:"* is every room of the app."`
		For     string `json:"for,omitempty" maxLength:"32" default:"1h" doc:"Lifetime of the token: 90s, 30m, 12h."`
		IP      string `json:"ip,omitempty" minLength:"1" maxLength:"64" doc:"The only address that the token is valid from."`
		Viewers int    `json:"viewers,omitempty" minimum:"0" maximum:"1000000" doc:"Maximum number of viewers at a time."`
		Once    bool   `json:"once,omitempty" doc:"The token is valid once."`
		Session string `json:"session,omitempty" maxLength:"32" doc:"Maximum duration of a session that starts with the token: 90m, 12h. Absent: token.session."`
		Signed  bool   `json:"signed,omitempty" doc:"Make a token for a signed URL, which is shorter than a JWT."`
	}
}

type madeToken struct {
	Body struct {
		Token   string    `json:"token"`
		Expires time.Time `json:"expires"`
		URLs    []string  `json:"urls" doc:"URLs with the token, as seen from the client. Empty if room is *."`
	}
}

func (s *server) makeToken(ctx context.Context, in *tokenInput) (*madeToken, error) {
	b := in.Body
	w := auth.TokenRequest{App: b.App, Room: b.Room, IP: b.IP, Viewers: b.Viewers, Once: b.Once, Signed: b.Signed}
	if b.Action == domain.Publish.String() {
		w.Action = domain.Publish
	}
	var err error
	if w.Lifetime, err = time.ParseDuration(b.For); err != nil {
		return nil, humaError(domain.Errorf(domain.Invalid, "invalid for: must be a duration such as 90s, 30m or 12h"))
	}
	if b.Session != "" {
		if w.Session, err = time.ParseDuration(b.Session); err != nil || w.Session == 0 {
			return nil, humaError(domain.Errorf(domain.Invalid, "invalid session: must be a duration such as 90m or 12h"))
		}
	}
	out := new(madeToken)
	if out.Body.Token, out.Body.Expires, err = s.TokenIssuer.Issue(w, time.Now()); err != nil {
		return nil, humaError(err)
	}
	if err := s.checkConfigured(b.App); err != nil {
		return nil, humaError(err)
	}
	if w.Action == domain.Publish && b.Room != "*" {
		if err := s.checkDefaultKey(ctx, b.App, b.Room); err != nil {
			return nil, humaError(err)
		}
	}
	out.Body.URLs = []string{}
	if app, _ := s.app(b.App); b.Room != "*" {
		for _, l := range s.links(app, domain.Name{App: b.App, Room: b.Room}, in.host) {
			if w.Action == domain.Play || strings.HasPrefix(string(l.URL), "rtmp") {
				out.Body.URLs = append(out.Body.URLs, string(l.URL)+"?token="+url.QueryEscape(out.Body.Token))
			}
		}
	}
	s.Log.Info("control", "action", "make token", "what", b.Action, "app", b.App, "room", b.Room)
	return out, nil
}

// checkDefaultKey returns an error if the room has no valid default key, to which a publish token
// is tied.
func (s *server) checkDefaultKey(ctx context.Context, app, room string) error {
	keys, err := s.Keys.List(ctx, room)
	if err != nil {
		return s.storeError("make token", app, room, err)
	}
	if !slices.ContainsFunc(keys, func(k domain.Key) bool { return k.Label == "" && k.ValidFor(app, time.Now()) }) {
		return domain.Errorf(domain.NotFound,
			"room has no stream key, which a publish token needs: create it with /control/get")
	}
	return nil
}
