package api

import (
	"strings"
	"testing"
)

// TestEndSessions checks that the sessions of a room are ended by the API and by deletion of the
// room, but not by a reset.
func TestEndSessions(t *testing.T) {
	s := newFixture(t, nil)
	for _, c := range []struct {
		method, target string
		status         int
		ended          string // "" for none
	}{
		{"DELETE", "/api/v1/sessions?room=movie", 200, "/movie"},
		{"DELETE", "/api/v1/sessions?room=movie&app=live", 200, "live/movie"},
		{"DELETE", "/api/v1/sessions", 400, ""},
		{"DELETE", "/api/v1/sessions?room=..", 400, ""},
		{"DELETE", "/api/v1/sessions?room=a&room=b", 400, ""},
		{"DELETE", "/api/v1/sessions?room=movie&app=nothing", 404, ""},
		{"GET", "/api/v1/sessions?room=movie", 405, ""},
		{"GET", "/control/get?room=movie", 200, ""},
		{"GET", "/control/reset?room=movie", 200, ""},
		{"GET", "/control/delete?room=nobody", 404, ""},
		{"GET", "/control/delete?room=movie", 200, "/movie"},
	} {
		s.ended = nil
		w := s.do(c.method, c.target, "")
		if w.Code != c.status || strings.Join(s.ended, " ") != c.ended {
			t.Errorf("%s %s: %d %s, ended %q", c.method, c.target, w.Code, w.Body, s.ended)
		}
		if c.method == "DELETE" && c.status == 200 && !strings.Contains(w.Body.String(), `"ended":3`) {
			t.Errorf("%s: %s", c.target, w.Body)
		}
	}
}
