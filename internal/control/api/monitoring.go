package api

import (
	"net/http"

	"livego/internal/ops/httpx"
)

// Monitoring returns the handler of a listener of its own for /metrics, which metrics serves, /healthz
// and /readyz. It needs no credential: any client that reaches the listener may read. ready is as in
// Options.Ready.
func Monitoring(metrics http.Handler, ready func() error) http.Handler {
	s := &server{Options: Options{Ready: ready}}
	mux := http.NewServeMux()
	mux.Handle("/metrics", readOnly(metrics.ServeHTTP))
	mux.Handle("/healthz", readOnly(serveHealth))
	mux.Handle("/readyz", readOnly(s.serveReady))
	mux.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) {
		writeText(w, statusOf(errNoRoute), clientMessage(errNoRoute))
	})
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		setSecurityHeaders(w.Header())
		switch err := httpx.CheckHost(r.Host); {
		case len(r.RequestURI) > maxURL:
			writeText(w, statusOf(errLongURL), clientMessage(errLongURL))
		case err != nil:
			writeText(w, statusOf(err), clientMessage(err))
		default:
			mux.ServeHTTP(w, r)
		}
	})
}
