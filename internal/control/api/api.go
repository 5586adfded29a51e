// Package api is the operator's HTTP: the /control and /stat routes that scripts and pages rely on,
// /api/v1, static files, health, profiles and a plain page of what is live. It sees the hub and the
// keys. It knows no media protocol, and who may ask is decided by the Door it is given.
package api

import (
	"context"
	"log/slog"
	"net/http"
	"net/http/pprof"
	"slices"
	"time"

	"livego/internal/control/auth"
	"livego/internal/domain"
	"livego/internal/ops/httpx"
	"livego/internal/ops/logging"
	"livego/internal/stream"
)

// Options of the operator's HTTP. What has no remark must be set.
type Options struct {
	Hub  *stream.Hub
	Keys domain.KeyStore
	// Relays move streams between this server and others. Start and Stop return the URL as it may be shown.
	Relays interface {
		Start(context.Context, domain.Relay) (shown string, err error)
		Stop(domain.Relay) (shown string, err error)
		List() []domain.RelayStatus
	}
	// Auth decides who may ask. Every request passes it except /healthz and /readyz, which tell nothing.
	Auth interface {
		Authorize(*http.Request, auth.Access) error
		Login(r *http.Request, credential string) (auth.Session, error)
		Logout(r *http.Request, csrf string) error
		Session(*http.Request) (auth.Session, bool)
	}
	// EndSessions ends the sessions of those who watch a room, or may, in app or for "" in every one,
	// and returns how many watched or waited.
	EndSessions func(app, room string) int
	// TokenIssuer makes tokens; without a secret it makes none.
	TokenIssuer auth.TokenIssuer
	// Audit has who was refused, at the gate and here.
	Audit *auth.Audit
	Log   *slog.Logger
	// Recordings returns what is recorded, and was lately; nil where nothing is.
	Recordings func() []domain.Recording

	Apps []App // that may be published to, the main one first; may be empty

	// Base URLs of the listeners that the page links to: "rtmp://[::]:1935", "http://127.0.0.1:7001".
	// A host that stands for every address, or is missing, means the host by which the page was asked
	// for. "" where there is no such listener.
	RTMP, FLV, HLS string
	RTMPS, HTTPS   string // the same by TLS; HTTPS has both FLV and HLS
	// PublicURL is where a proxy serves all this. When it is set, every link starts with it, or with
	// its host where it is of RTMP.
	PublicURL string

	// StaticsDir holds the files of /statics/. Where there is no such directory the files of the binary are served.
	StaticsDir string
	// Ready tells why the server cannot serve, nil when it can; nil stands for a server that always can.
	Ready   func() error
	Pprof   bool   // serve /debug/pprof/
	Version string // shown on the page
}

// An App is one app of the configuration and by what it may be watched over HTTP.
type App struct {
	Name     string
	FLV, HLS bool
	Relays   bool // has relays
}

// New returns the handler of the operator's HTTP.
//
// /control and /stat answer {"status":int,"data":any} with the same HTTP status: 400 for arguments
// that break a rule, 403 from the door and for relays that may not be, 404, 405, 409, 413 for a
// body above 64 KiB, 414 for a URL above 4 KiB, 415 for a coded body, 429 for too many relays, 502
// for one whose other end cannot be reached, and 503 while the key store is away. /api/v1 answers
// in JSON, and with problems of RFC 9457: 401 without a good credential, 403 with one that does not
// allow enough.
func New(o Options) http.Handler {
	s := &server{Options: o, mux: http.NewServeMux(), page: newPage(),
		refusalLimiter: logging.Limiter{Interval: time.Second}}
	s.mux.Handle("/control/get", s.enveloped(s.getKey))
	s.mux.Handle("/control/reset", s.enveloped(s.resetKey))
	s.mux.Handle("/control/delete", s.enveloped(s.deleteRoom))
	s.mux.Handle("/control/push", s.enveloped(s.relay(domain.Push)))
	s.mux.Handle("/control/pull", s.enveloped(s.relay(domain.Pull)))
	s.mux.Handle("/stat/livestat", s.enveloped(s.liveStat))
	s.mux.Handle("/statics/", readOnly(s.serveStatic))
	s.routeV1()
	s.mux.Handle("/{$}", readOnly(s.servePage))
	s.mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) { writeError(w, r, errNoRoute) })
	if o.Pprof {
		s.routeProfiles()
	}
	return s
}

type server struct {
	Options
	mux            *http.ServeMux
	page           *page
	refusalLimiter logging.Limiter // of log lines about who is turned away at the door
}

// ServeHTTP implements http.Handler.
func (s *server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	setSecurityHeaders(w.Header())
	if len(r.RequestURI) > maxURL {
		writeError(w, r, errLongURL)
		return
	}
	if err := httpx.CheckHost(r.Host); err != nil {
		writeError(w, r, err)
		return
	}
	switch r.URL.Path {
	case "/healthz":
		readOnly(serveHealth).ServeHTTP(w, r)
		return
	case "/readyz":
		readOnly(s.serveReady).ServeHTTP(w, r)
		return
	case "/login":
		s.serveLogin(w, r)
		return
	case "/logout":
		s.serveLogout(w, r)
		return
	}
	if err := s.authorize(w, r); err != nil {
		if s.showsLogin(r, err) {
			s.writeLogin(w, r, loginData{Next: r.URL.Path, Hint: auth.Hint(err)})
			return
		}
		writeError(w, r, err)
		return
	}
	s.mux.ServeHTTP(w, r)
}

func serveHealth(w http.ResponseWriter, _ *http.Request) { writeText(w, http.StatusOK, "ok") }

// serveReady does not say what is missing: anybody may ask.
func (s *server) serveReady(w http.ResponseWriter, _ *http.Request) {
	if s.Ready != nil && s.Ready() != nil {
		writeText(w, http.StatusServiceUnavailable, "not ready")
		return
	}
	writeText(w, http.StatusOK, "ok")
}

// routeProfiles serves the profiles of net/http/pprof, except the command line: flags may hold secrets.
func (s *server) routeProfiles() {
	s.mux.HandleFunc("/debug/pprof/", pprof.Index)
	s.mux.HandleFunc("/debug/pprof/profile", pprof.Profile)
	s.mux.HandleFunc("/debug/pprof/symbol", pprof.Symbol)
	s.mux.HandleFunc("/debug/pprof/trace", pprof.Trace)
}

// app returns the configured app of that name; false when there is none.
func (s *server) app(name string) (App, bool) {
	i := slices.IndexFunc(s.Apps, func(a App) bool { return a.Name == name })
	if i < 0 {
		return App{}, false
	}
	return s.Apps[i], true
}
