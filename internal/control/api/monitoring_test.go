package api

import (
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// TestMonitoring requests the routes of a listener for metrics, which has no others.
func TestMonitoring(t *testing.T) {
	var notReady error
	h := Monitoring(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, "samples")
	}), func() error { return notReady })
	for _, c := range []struct {
		method, path, host string
		notReady           error
		status             int
		body               string
	}{
		{"GET", "/metrics", "10.0.0.5:9091", nil, 200, "samples"},
		{"HEAD", "/metrics", "", nil, 200, ""},
		{"POST", "/metrics", "", nil, 405, "method not allowed"},
		{"GET", "/healthz", "", nil, 200, "ok"},
		{"GET", "/readyz", "", nil, 200, "ok"},
		{"GET", "/readyz", "", errors.New("no"), 503, "not ready"},
		{"GET", "/", "", nil, 404, "no such route"},
		{"GET", "/control/get?room=movie", "", nil, 404, "no such route"},
		{"GET", "/debug/pprof/", "", nil, 404, "no such route"},
		{"GET", "/metrics", "a b", nil, 400, ""},
		{"GET", "/metrics?x=" + strings.Repeat("x", maxURL), "", nil, 414, ""},
	} {
		notReady = c.notReady
		r := httptest.NewRequest(c.method, c.path, nil)
		if c.host != "" {
			r.Host = c.host
		}
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		if w.Code != c.status || c.method != "HEAD" && !strings.Contains(w.Body.String(), c.body) {
			t.Errorf("%s %.40s of %s: %d %s", c.method, c.path, c.host, w.Code, w.Body)
		}
		if w.Header().Get("X-Content-Type-Options") != "nosniff" {
			t.Errorf("%s %.40s: headers %v", c.method, c.path, w.Header())
		}
	}
}
