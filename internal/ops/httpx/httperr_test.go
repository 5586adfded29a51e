package httpx

import (
	"errors"
	"net/http/httptest"
	"testing"

	"livego/internal/domain"
)

func TestWriteError(t *testing.T) {
	for _, tt := range []struct {
		err    error
		status int
		body   string
	}{
		{domain.Errorf(domain.Invalid, "bad name"), 400, "bad name\n"},
		{domain.Errorf(domain.Denied, "no"), 403, "no\n"},
		{domain.Errorf(domain.NotFound, "nobody is publishing live/x"), 404, "nobody is publishing live/x\n"},
		{domain.Errorf(domain.Conflict, "in use"), 409, "in use\n"},
		{domain.Errorf(domain.Limit, "too many requests"), 429, "too many requests\n"},
		{domain.Errorf(domain.Unavailable, "stopping"), 503, "stopping\n"},
		{errors.New("open /etc/secret: no"), 500, "internal error\n"},
	} {
		w := httptest.NewRecorder()
		w.Header().Set("Content-Type", "video/x-flv")
		WriteError(w, tt.err)
		if w.Code != tt.status || w.Body.String() != tt.body ||
			w.Header().Get("Content-Type") != "text/plain; charset=utf-8" {
			t.Errorf("%v: %d %q %v", tt.err, w.Code, w.Body, w.Header())
		}
	}
}

// TestRefusalCodes: the reason for a refused token is in CodeHeader, and in WWW-Authenticate as in
// RFC 6750.
func TestRefusalCodes(t *testing.T) {
	for _, tt := range []struct {
		err       error
		status    int
		challenge string
	}{
		{domain.CodeErrorf(domain.Denied, domain.TokenMissing, "token missing"), 401, "Bearer"},
		{domain.CodeErrorf(domain.Denied, domain.TokenExpired, "token \"expired\"\n\\ é"), 401,
			`Bearer error="invalid_token", error_description="token expired "`},
		{domain.CodeErrorf(domain.Denied, domain.TokenUsed, "token used up"), 403, ""},
		{domain.CodeErrorf(domain.Limit, domain.TokenViewerLimit, "full"), 429, ""},
		{domain.Errorf(domain.Denied, "no"), 403, ""},
	} {
		w := httptest.NewRecorder()
		WriteError(w, tt.err)
		h := w.Header()
		if w.Code != tt.status || h.Get(CodeHeader) != string(domain.CodeOf(tt.err)) ||
			h.Get("WWW-Authenticate") != tt.challenge {
			t.Errorf("%v: %d %v", tt.err, w.Code, h)
		}
	}
}
