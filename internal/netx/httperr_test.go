package netx

import (
	"errors"
	"net/http/httptest"
	"testing"

	"livego/internal/live"
)

func TestWriteError(t *testing.T) {
	for _, tt := range []struct {
		err    error
		status int
		body   string
	}{
		{live.Errorf(live.Invalid, "bad name"), 400, "bad name\n"},
		{live.Errorf(live.Denied, "no"), 403, "no\n"},
		{live.Errorf(live.NotFound, "nobody is publishing live/x"), 404, "nobody is publishing live/x\n"},
		{live.Errorf(live.Conflict, "in use"), 409, "in use\n"},
		{live.Errorf(live.Limit, "slowly"), 429, "slowly\n"},
		{live.Errorf(live.Unavailable, "stopping"), 503, "stopping\n"},
		{errors.New("open /etc/secret: no"), 500, "internal error\n"},
	} {
		w := httptest.NewRecorder()
		w.Header().Set("Content-Type", "video/x-flv")
		WriteError(w, tt.err)
		if w.Code != tt.status || w.Body.String() != tt.body || w.Header().Get("Content-Type") != "text/plain; charset=utf-8" {
			t.Errorf("%v: %d %q %v", tt.err, w.Code, w.Body, w.Header())
		}
	}
}

// TestRefusalCodes has programs told why a token is refused: by a header, and as RFC 6750 has it.
func TestRefusalCodes(t *testing.T) {
	for _, tt := range []struct {
		err       error
		status    int
		challenge string
	}{
		{live.Refuse(live.Denied, live.TokenMissing, "token missing"), 401, "Bearer"},
		{live.Refuse(live.Denied, live.TokenExpired, "token \"expired\"\n\\ é"), 401, `Bearer error="invalid_token", error_description="token expired "`},
		{live.Refuse(live.Denied, live.TokenUsed, "token used up"), 403, ""},
		{live.Refuse(live.Limit, live.TokenViewerLimit, "full"), 429, ""},
		{live.Errorf(live.Denied, "no"), 403, ""},
	} {
		w := httptest.NewRecorder()
		WriteError(w, tt.err)
		h := w.Header()
		if w.Code != tt.status || h.Get(CodeHeader) != string(live.CodeOf(tt.err)) || h.Get("WWW-Authenticate") != tt.challenge {
			t.Errorf("%v: %d %v", tt.err, w.Code, h)
		}
	}
}
