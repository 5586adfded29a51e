package hls

import (
	"net/http"

	"livego/internal/domain"
)

// isPrivate reports whether every request for name requires a session, which a viewer gets at the
// multivariant playlist.
func (s *Server) isPrivate(name domain.Name) bool { return s.opt.Private != nil && s.opt.Private(name) }

// authorizeMedia returns the session of r, a request for media of a private stream, or the error
// for the client.
func (s *Server) authorizeMedia(r *http.Request, name domain.Name) (*sessionToken, error) {
	query, err := parseQuery(r.URL.RawQuery)
	if err != nil {
		return nil, err
	}
	token, err := s.registry.verifyToken(query.session, name)
	if err != nil {
		return nil, err
	}
	if err := s.registry.authorize(token, name, r); err != nil {
		return nil, err
	}
	if r.Method == http.MethodGet {
		err = s.registry.recordMedia(token, name, r)
	}
	return token, err
}

// EndSessions ends all sessions of a room so far, in app or in every app if that is "", and returns
// how many were in use. A viewer of a private room then needs a valid token to start again.
func (s *Server) EndSessions(app, room string) int { return s.registry.endSessions(app, room) }
