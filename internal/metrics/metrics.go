// Package metrics shows the state of a server to Prometheus. It counts nothing itself: at each scrape
// a Collector reads the counts of the other packages, none of which knows it. A scrape takes no lock
// that a frame waits for.
package metrics

import (
	"log/slog"
	"net/http"
	"runtime"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"livego/internal/control/auth"
	"livego/internal/control/events"
	"livego/internal/control/store/measured"
	"livego/internal/control/webhook"
	"livego/internal/edge/hls"
	"livego/internal/edge/report"
	"livego/internal/edge/thumbnail"
	"livego/internal/health/monitor"
	"livego/internal/ops/netx"
	"livego/internal/quality"
	"livego/internal/record"
	"livego/internal/relay"
	"livego/internal/stream"
)

// Options are the parts of a server that are shown. Fields without a remark are required.
type Options struct {
	Version    string
	Ready      func() error // why the server cannot serve, or nil
	Hub        *stream.Hub
	HLS        *hls.Server
	Thumbnails *thumbnail.Server
	Health     *monitor.Monitor
	Quality    *quality.Collector
	Reports    *report.Handler
	Relays     *relay.Manager
	Recorder   *record.Recorder
	Webhooks   *webhook.Authorizer
	Outbox     *webhook.Outbox // nil if hook.events is not set
	Store      *measured.Store
	Authorizer *auth.Chain
	AdminAuth  *auth.AdminAuth
	Events     *events.Log
	// Limiters count connections, by the name of their listeners.
	Limiters map[string]*netx.Limiter

	// MaxStreams is how many streams have series of their own, those that started first.
	MaxStreams int
	Log        *slog.Logger
}

// maxRequests bounds the scrapes at the same time.
const maxRequests = 8

// NewHandler returns a handler of /metrics, in the text format of Prometheus or in that of
// OpenMetrics, whichever the client prefers. It authorizes nobody.
func NewHandler(o Options) http.Handler {
	reg := prometheus.NewRegistry()
	reg.MustRegister(
		&collector{Options: o, desc: descriptions()},
		collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
	)
	return promhttp.HandlerFor(reg, promhttp.HandlerOpts{
		EnableOpenMetrics: true, MaxRequestsInFlight: maxRequests,
		ErrorLog: slog.NewLogLogger(o.Log.Handler(), slog.LevelError),
	})
}

// goVersion returns the version of Go that built the server.
func goVersion() string { return runtime.Version() }
