package httpx

import (
	"log/slog"
	"net/http"
	"runtime/debug"
	"time"
)

const (
	// maxHTTP2Streams is the maximum number of concurrent requests of an HTTP/2 connection. Each
	// takes about 13 KiB while the client reads no response. RFC 9113 section 5.1.2 recommends 100
	// or more for the sake of parallelism; a player has a few requests at a time.
	maxHTTP2Streams = 32
	// maxHeader is the maximum size of a request's header. net/http adds 4 KiB of slack.
	maxHeader = 16<<10 - 4096
)

// ServerOptions configure NewServer.
type ServerOptions struct {
	HeaderTimeout time.Duration // for the header of a request
	IdleTimeout   time.Duration // between requests
	Log           *slog.Logger
}

// NewServer returns a server with the limits that every HTTP listener has. A panic of handler ends
// its request only, as in net/http, and is logged.
func NewServer(handler http.Handler, o ServerOptions) *http.Server {
	return &http.Server{
		Handler:           recoverPanics(handler, o.Log),
		ReadHeaderTimeout: o.HeaderTimeout,
		IdleTimeout:       o.IdleTimeout,
		MaxHeaderBytes:    maxHeader,
		HTTP2:             &http.HTTP2Config{MaxConcurrentStreams: maxHTTP2Streams},
		ErrorLog:          slog.NewLogLogger(o.Log.Handler(), slog.LevelDebug),
	}
}

func recoverPanics(handler http.Handler, log *slog.Logger) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer func() {
			if p := recover(); p != nil {
				if p != http.ErrAbortHandler {
					log.Error("panic", "panic", p, "stack", string(debug.Stack()))
				}
				panic(http.ErrAbortHandler)
			}
		}()
		handler.ServeHTTP(w, r)
	})
}
