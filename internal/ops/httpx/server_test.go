package httpx

import (
	"bytes"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// TestPanicEndsOneRequest checks that a panic ends its request, that it is logged, and that the server
// goes on.
func TestPanicEndsOneRequest(t *testing.T) {
	var log bytes.Buffer
	srv := httptest.NewUnstartedServer(nil)
	srv.Config = NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/panic" {
			panic("oops")
		}
	}), ServerOptions{Log: slog.New(slog.NewTextHandler(&log, nil))})
	srv.Start()
	if _, err := http.Get(srv.URL + "/panic"); err == nil {
		t.Error("a request that panics got a response")
	}
	if resp, err := http.Get(srv.URL); err != nil || resp.StatusCode != http.StatusOK {
		t.Errorf("the next request: %v", err)
	}
	srv.Close()
	if text := log.String(); strings.Count(text, "oops") != 1 || !strings.Contains(text, "server_test.go") {
		t.Errorf("the log: %s", text)
	}
}
