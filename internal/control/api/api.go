// Package api serves the operator's HTTP: the /control and /stat routes that scripts use, /api/v1,
// static files, health checks, profiles and a page that lists the live streams. It knows the hub
// and the key store, but no media protocol. Options.Auth decides which requests are allowed.
package api

import (
	"cmp"
	"context"
	"log/slog"
	"net/http"
	"net/http/pprof"
	"os"
	"slices"
	"strings"
	"time"

	"livego/internal/control/auth"
	"livego/internal/control/events"
	"livego/internal/domain"
	"livego/internal/health"
	"livego/internal/ops/config"
	"livego/internal/ops/httpx"
	"livego/internal/ops/logging"
	"livego/internal/quality"
	"livego/internal/stream"
)

// An Auth authenticates and authorizes requests: all except /healthz and /readyz, which reveal nothing.
type Auth interface {
	Authorize(*http.Request, auth.Access) error
	Login(r *http.Request, credential string) (auth.Session, error)
	Logout(r *http.Request, csrf string) error
	Session(*http.Request) (auth.Session, bool)
	Rights(*http.Request) auth.Rights
}

// Options configure the operator's HTTP. Fields without a remark are required.
type Options struct {
	Hub  *stream.Hub
	Keys domain.KeyStore
	// Relays push and pull streams to and from other servers. Start and Stop return the URL without
	// its secrets.
	Relays interface {
		Start(context.Context, domain.Relay) (shown string, err error)
		Stop(domain.Relay) (shown string, err error)
		List() []domain.RelayStatus
		Create(ctx context.Context, r domain.Relay, persist bool) (s domain.RelayStatus, created bool, err error)
		Get(id string) (domain.RelayStatus, error)
		Delete(id string) error
	}
	// Auth returns what authorizes requests now. Requests that last, such as streams of events, call it
	// again.
	Auth func() Auth
	// EndSessions ends the viewers' sessions of a room, in one app or for "" in every app. It
	// returns how many viewers were watching or waiting.
	EndSessions func(app, room string) int
	// TokenIssuer makes tokens. Without a secret it makes none.
	TokenIssuer auth.TokenIssuer
	// Settings are those of the running server. Errors have a line for each mistake; then nothing has
	// changed.
	Settings interface {
		SettingStates() []config.State
		Reload(context.Context) (config.Report, error)
		// CheckSettings returns the result of ChangeSettings, without the change.
		CheckSettings(changes map[string]*string) (config.Report, error)
		// ChangeSettings sets settings by key, and removes those that are nil from the settings of the API.
		ChangeSettings(ctx context.Context, changes map[string]*string) (config.Report, error)
	}
	// Events gets refused requests, and is listed.
	Events *events.Log
	// HeartbeatInterval is how often a stream of events sends a comment, and checks the rights of its
	// client again. Default 15 s.
	HeartbeatInterval time.Duration
	Log               *slog.Logger
	// Recordings are the current recordings and the files of earlier ones.
	Recordings interface {
		List(ctx context.Context, f domain.RecordingFilter, cursor string, limit int) (list []domain.Recording, next string,
			err error)
		Get(ctx context.Context, id string) (domain.Recording, error)
		Open(ctx context.Context, id string) (domain.Recording, *os.File, error)
		Delete(ctx context.Context, id string) error
	}
	// Health examines the live streams.
	Health interface {
		FindingsOf(domain.Name) []health.Finding
		History(domain.Name) []health.Sample
	}
	// Quality has the figures of what players report.
	Quality interface {
		Figures(domain.Name) quality.Figures
	}

	// Private reports whether the viewers of a stream need a credential. A nil func means that none do.
	Private func(domain.Name) bool

	Apps []App // apps that accept publishers, the main app first; may be empty

	// RTMP, FLV and HLS are base URLs of the listeners that the page links to: "rtmp://[::]:1935",
	// "http://127.0.0.1:7001". A missing or unspecified host stands for the host of the request. ""
	// means that there is no such listener.
	RTMP, FLV, HLS string
	RTMPS, HTTPS   string // the same over TLS; HTTPS serves both FLV and HLS
	// PublicURL is the URL at which a proxy serves the viewers' and the operator's HTTP. When it is
	// set, every HTTP link starts with it, and every RTMP link has its host.
	PublicURL string

	// Metrics serves /metrics. If it is nil, there is no such route.
	Metrics http.Handler

	// StaticsDir holds the files of /statics/. If the directory does not exist, the files in the
	// binary are served.
	StaticsDir string
	// Ready returns why the server cannot serve, or nil. A nil func means always ready.
	Ready   func() error
	Pprof   bool   // serve /debug/pprof/
	Version string // shown on the page
	Started time.Time

	// Console serves the console at /. If it is nil, a plain page is served.
	Console http.HandlerFunc
	// Files serves the files of the console and of the player, below /.livego/, which are public. nil means that there are
	// none.
	Files http.Handler

	Features    Features
	Listeners   []Listener
	MemoryLimit int64 // in bytes; 0 for none
}

// An App is a configured app, with the HTTP protocols that serve its viewers.
type App struct {
	Name     string
	FLV, HLS bool
	Relays   bool // relays are allowed
}

// New returns the handler of the operator's HTTP.
//
// /control and /stat answer {"status":int,"data":any} with the same HTTP status: 400 for invalid
// arguments, 403 for requests and relays that are not allowed, 404, 405, 409, 413 for a body above
// 64 KiB, 414 for a URL above 4 KiB, 415 for a compressed body, 429 for too many relays, 502 for a
// relay whose other end cannot be reached, and 503 while the key store is unavailable. /api/v1
// answers in JSON, with problem details (RFC 9457): 401 without a valid credential, 403 with one
// that lacks rights.
func New(o Options) http.Handler {
	o.HeartbeatInterval = cmp.Or(o.HeartbeatInterval, 15*time.Second)
	s := &server{Options: o, revoker: auth.Revoker{Hub: o.Hub}, mux: http.NewServeMux(), page: newPage(),
		refusalLimiter: logging.Limiter{Interval: time.Second}}
	s.mux.Handle("/control/get", s.enveloped(s.getKey))
	s.mux.Handle("/control/reset", s.enveloped(s.resetKey))
	s.mux.Handle("/control/delete", s.enveloped(s.controlDelete))
	s.mux.Handle("/control/push", s.enveloped(s.relay(domain.Push)))
	s.mux.Handle("/control/pull", s.enveloped(s.relay(domain.Pull)))
	s.mux.Handle("/stat/livestat", s.enveloped(s.liveStat))
	s.mux.Handle("/statics/", readOnly(s.serveStatic))
	if o.Metrics != nil {
		s.mux.Handle("/metrics", readOnly(o.Metrics.ServeHTTP))
	}
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
	revoker        auth.Revoker
	mux            *http.ServeMux
	page           *page
	refusalLimiter logging.Limiter // limits the log lines about refused requests
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
	if s.Files != nil && strings.HasPrefix(r.URL.Path, filesPath) {
		readOnly(s.Files.ServeHTTP).ServeHTTP(w, r)
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

// filesPath is the start of the paths of the files of the console and of the player.
const filesPath = "/.livego/"

func serveHealth(w http.ResponseWriter, _ *http.Request) { writeText(w, http.StatusOK, "ok") }

// serveReady does not say what is missing: the route needs no credential.
func (s *server) serveReady(w http.ResponseWriter, _ *http.Request) {
	if s.Ready != nil && s.Ready() != nil {
		writeText(w, http.StatusServiceUnavailable, "not ready")
		return
	}
	writeText(w, http.StatusOK, "ok")
}

// routeProfiles serves the profiles of net/http/pprof, except the command line: flags may hold
// secrets.
func (s *server) routeProfiles() {
	s.mux.HandleFunc("/debug/pprof/", pprof.Index)
	s.mux.HandleFunc("/debug/pprof/profile", pprof.Profile)
	s.mux.HandleFunc("/debug/pprof/symbol", pprof.Symbol)
	s.mux.HandleFunc("/debug/pprof/trace", pprof.Trace)
}

// app returns the configured app of that name, and false if there is none.
func (s *server) app(name string) (App, bool) {
	i := slices.IndexFunc(s.Apps, func(a App) bool { return a.Name == name })
	if i < 0 {
		return App{}, false
	}
	return s.Apps[i], true
}
