package app

import (
	"io"
	"net/http/httptest"
	"strings"
	"testing"
)

// TestViewersRefuse holds requests that are none of a viewer's to their replies. Whoever reads them in another way than we do must find
// nothing behind them.
func TestViewersRefuse(t *testing.T) {
	for _, c := range []struct {
		name, method, target string
		body                 io.Reader
		status               int
		closes               bool
	}{
		{"body", "GET", "/live/movie.flv", strings.NewReader("hello"), 400, true},
		{"body without a length", "GET", "/live/movie.flv", io.MultiReader(strings.NewReader("hello")), 400, true},
		{"absolute URI", "GET", "http://evil.example/live/movie.flv", nil, 400, false},
		{"asterisk", "OPTIONS", "*", nil, 400, false},
		{"method", "POST", "/live/movie.flv", strings.NewReader("hello"), 405, true},
		{"long URL", "GET", "/live/" + strings.Repeat("x", maxURL), nil, 414, false},
		{"app", "GET", "/cinema/movie.flv", nil, 404, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := httptest.NewRecorder()
			new(viewers).ServeHTTP(w, httptest.NewRequest(c.method, c.target, c.body))
			if w.Code != c.status {
				t.Errorf("HTTP %d, want %d: %s", w.Code, c.status, w.Body)
			}
			if closes := w.Header().Get("Connection") == "close"; closes != c.closes {
				t.Errorf("connection: close is %v, want %v", closes, c.closes)
			}
		})
	}
}
