// Package app builds a server from a Config and runs it. It is the one place where stores, the hub
// and the edges are wired together. Its own logic is limited to the order of start and stop.
package app

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"livego/internal/cluster/node"
	"livego/internal/control/api"
	"livego/internal/control/auth"
	"livego/internal/control/events"
	"livego/internal/control/keys"
	"livego/internal/control/store/measured"
	"livego/internal/deliver/batching"
	"livego/internal/deliver/fanout"
	"livego/internal/deliver/segment"
	"livego/internal/domain"
	"livego/internal/edge/hls"
	edgeflv "livego/internal/edge/httpflv"
	"livego/internal/edge/report"
	edgertmp "livego/internal/edge/rtmp"
	"livego/internal/edge/thumbnail"
	"livego/internal/edge/viewerhttp"
	"livego/internal/health"
	"livego/internal/health/monitor"
	"livego/internal/ops/acme"
	"livego/internal/ops/admission"
	"livego/internal/ops/config"
	"livego/internal/ops/memlimit"
	"livego/internal/ops/netx"
	"livego/internal/ops/systemd"
	"livego/internal/ops/tracing"
	"livego/internal/quality"
	"livego/internal/record"
	"livego/internal/relay"
	"livego/internal/stream"
	"livego/web"
)

// An App is a server whose listeners are bound. Run serves and then closes it; call Close if Run is
// never called.
type App struct {
	cfg       config.Config
	log       *slog.Logger
	store     *measured.Store
	keys      domain.KeyStore
	hub       *stream.Hub
	rtmp      *edgertmp.Server
	hls       *hls.Server
	flv       *edgeflv.Server
	thumbs    *thumbnail.Server
	viewers   *viewerhttp.Handler
	web       *web.Files
	relays    *relay.Manager
	limits    *limiters
	engine    *fanout.Engine
	events    *events.Log
	batching  *batching.Policy
	memory    memlimit.Group
	sequences *segment.SequenceAllocator
	admission *admission.Controller
	acme      *acme.Manager // nil if off
	record    *record.Recorder
	systemd   systemd.Notifier
	health    *monitor.Monitor
	quality   *quality.Collector
	reports   *report.Handler
	tracer    *tracing.Tracer // nil if off
	node      *node.Node      // of a cluster; nil if off

	authorizer, pulls *auth.Chain // of clients, and of streams that the operator pulls

	settings *settings
	plan     atomic.Pointer[plan] // what is in use

	listeners
	background []func(context.Context) // run until the viewers have left
	stopping   atomic.Bool
	started    time.Time
}

// New opens the store and binds every listener. It serves nothing yet, so that a server either
// starts completely or not at all. Reloads set level, the level of log.
func New(loaded *config.Loaded, log *slog.Logger, level *slog.LevelVar) (_ *App, err error) {
	if err := loaded.CheckOverrides(); err != nil {
		return nil, err
	}
	cfg := loaded.Config
	a := &App{cfg: cfg, log: log, systemd: systemd.Notifier{Log: log}, settings: newSettings(loaded, level),
		started: time.Now()}
	defer func() {
		if err != nil {
			a.Close()
		}
	}()
	proxies, err := netx.ParseNetworks(cfg.TrustedProxies)
	if err != nil {
		return nil, fmt.Errorf("trusted_proxies: %w", err)
	}
	a.limits = newLimiters(cfg, proxies, log)
	if err := a.listeners.bind(cfg, a.tlsConfig(), a.limits); err != nil {
		return nil, err
	}
	store, err := openStore(cfg, log)
	if err != nil {
		return nil, err
	}
	a.store = measured.New(store)
	a.keys = keys.New(a.store)
	if cfg.FLVArchive { // report a wrong path at start
		if err := os.MkdirAll(cfg.FLVDir, record.DirMode(cfg.RecordMode.Perm())); err != nil {
			return nil, fmt.Errorf("flv_dir: %w", err)
		}
	}
	if err := a.build(); err != nil {
		return nil, err
	}
	if len(cfg.ACME.Domains) > 0 {
		a.acme = a.newACME()
		a.background = append(a.background, a.acme.Run)
	}
	return a, nil
}

// endedStreamsPercent is how much of the memory limit ended streams may keep for late HLS viewers.
// They do not count for admission.
const endedStreamsPercent = 10

// build creates the hub, the edges and the handlers, and connects them.
func (a *App) build() (err error) {
	cfg := a.cfg
	a.sequences = segment.NewSequenceAllocator(a.store)
	a.batching = batching.New(cfg.BatchWindow.Auto, cfg.BatchWindow.Fixed)
	a.hub = stream.NewHub(a.hubOptions(cfg))
	if a.tracer, err = newTracer(cfg, a.log); err != nil {
		return err
	}
	a.events = events.New()
	a.quality = quality.New()
	a.reports = report.New(a.quality, cfg.LimitLoopback)
	a.health = monitor.New(a.hub, monitor.Options{Event: a.events.Add, Playback: a.playback, Log: a.log})
	a.background = append(a.background, a.events.Observe(a.hub), a.health.Run, a.quality.Run)
	a.memory = memlimit.Find(os.DirFS("/"))
	a.admission = admission.New(a.memory, a.hub.Has, a.log)
	a.authorizer, a.pulls = auth.NewChain(a.events.Add), auth.NewChain(nil)
	if a.engine, err = fanout.NewEngine(runtime.GOMAXPROCS(0)); err != nil {
		return err
	}
	a.record = record.New(a.hub, record.Options{
		Dir: cfg.FLVDir, Mode: cfg.RecordMode.Perm(), Off: !cfg.FLVArchive, Limits: recordLimits(cfg),
		Finished: a.recordingFinished, Event: a.events.Add, Log: a.log,
	})
	a.background = append(a.background, a.record.Run)
	if a.relays, err = relay.New(a.hub, a.relayOptions(cfg)); err != nil {
		return err
	}
	if a.web, err = web.New(); err != nil {
		return err
	}
	if !a.web.Built() {
		a.log.Warn("built without the console and the player: plain pages are served; make build with Node includes them")
	}
	p, err := a.prepare(cfg)
	if err != nil {
		return err
	}
	if cfg.Thumbnails != "off" && p.thumbnails.FFmpeg == "" {
		a.log.Info("thumbnails are off: ffmpeg is not installed", "ffmpeg", cfg.FFmpeg)
	}
	clients := a.tracer.Authorizer(a.authorizer)
	a.rtmp = edgertmp.New(a.hub, clients, a.rtmpOptions(p))
	a.hls = hls.New(a.hub, clients, a.hlsOptions(p))
	a.flv = edgeflv.New(a.hub, clients, a.flvOptions(p))
	a.thumbs = thumbnail.New(a.hub, clients, p.thumbnails)
	a.viewers = viewerhttp.New(a.viewerOptions(p))
	if cfg.ClusterAddr != "" {
		if a.node, err = a.newNode(cfg); err != nil {
			return err
		}
		a.background = append(a.background, a.node.Run)
	}
	a.apply(p)
	a.background = append(a.background, a.hls.Run, a.thumbs.Run, a.relays.Run, a.sequences.Run, a.batching.Run,
		a.memory.TuneGC,
		func(ctx context.Context) {
			a.store.Run(ctx, auth.Revoker{Hub: a.hub}.Revoke, func(app, room string) { a.endSessions(app, room) })
		}, a.runReloads)
	return nil
}

// endSessions ends the viewers' sessions of a room on every protocol. It returns how many viewers
// were watching or waiting.
func (a *App) endSessions(app, room string) int {
	n := a.hub.EndViewers(app, room,
		domain.CodeErrorf(domain.Denied, domain.SessionEnded, "session ended by the operator"))
	a.hls.EndSessions(app, room)
	return n
}

// playback returns what the players of a stream report, for the doctor.
func (a *App) playback(name domain.Name) health.Playback {
	f := a.quality.Figures(name)
	return health.Playback{Players: f.Players, Stalled: f.Stalled, Slow: f.Slow, Most: f.Most()}
}

var errStopping = errors.New("the server is stopping")

func (a *App) ready() error {
	if a.stopping.Load() {
		return errStopping
	}
	if err := a.admission.Ready(); err != nil {
		return err
	}
	return a.store.Ready()
}

// Run serves until ctx ends or a listener fails. A graceful shutdown follows, see stop.
func (a *App) Run(ctx context.Context) error {
	defer a.Close()
	ctx, fail := context.WithCancelCause(ctx)
	defer fail(nil)
	var serving sync.WaitGroup
	try := func(what string, serve func() error) {
		serving.Go(func() {
			if err := serve(); err != nil {
				fail(fmt.Errorf("%s: %w", what, err))
			}
		})
	}
	late, stopLate := context.WithCancel(context.WithoutCancel(ctx))
	defer stopLate()
	accepting, stopAccepting := context.WithCancel(late)
	defer stopAccepting()
	for _, l := range a.rtmpListeners {
		try(l.String(), func() error { return a.rtmp.Serve(accepting, l, l.staysOpen) })
	}
	var servers []webServer
	serveHTTP := func(l listener, srv webServer) {
		servers = append(servers, srv)
		try(l.String(), func() error { return ignoreClosed(srv.Serve(l)) })
	}
	for _, l := range a.viewerListeners {
		serveHTTP(l, a.viewers.HTTP1Server(a.serverOptions(), a.logWrongProtocol(l)))
	}
	for _, l := range a.apiListeners {
		serveHTTP(l, a.operatorServer(http.HandlerFunc(a.serveAPI)))
	}
	for _, l := range a.metricsListeners {
		serveHTTP(l, a.operatorServer(api.Monitoring(http.HandlerFunc(a.serveMetrics), a.ready)))
	}
	for _, l := range a.acmeListeners {
		serveHTTP(l, a.acmeServer())
	}
	for _, l := range a.clusterListeners {
		try(l.String(), func() error { return a.node.Serve(late, l) })
	}
	for _, run := range a.background {
		serving.Go(func() { run(late) })
	}
	serving.Go(func() { a.systemd.Watchdog(late, a.checkSelf) })
	a.events.Add(domain.Event{Type: domain.EventServerStarted, Fields: map[string]any{"version": Version()}})
	a.logReady()
	a.systemd.Ready()

	<-ctx.Done()
	a.stop(stopAccepting, servers)
	stopLate()
	serving.Wait()
	if err := context.Cause(ctx); !errors.Is(err, context.Canceled) {
		return err
	}
	a.log.Info("stopped")
	return nil
}

// stopGrace is how much longer than shutdown_timeout the process may take to exit before systemd
// kills it: for a disk that is slow to close files.
const stopGrace = 10 * time.Second

// stop is the graceful shutdown: /readyz answers 503 first, while the server still serves for
// shutdown_delay. Then encoders move to another server if there is one, no more RTMP connections are
// accepted, and all streams end. Viewers receive the end, and recordings are closed. All of it takes
// at most shutdown_timeout.
func (a *App) stop(stopAccepting func(), servers []webServer) {
	a.log.Info("stopping")
	a.stopping.Store(true)
	a.events.Add(domain.Event{Type: domain.EventServerStopping})
	_, cfg := a.settings.current()
	a.systemd.Stopping(cfg.ShutdownTimeout + stopGrace)
	drain, cancel := context.WithTimeout(context.Background(), cfg.ShutdownTimeout)
	defer cancel()
	delay, move, _ := shutdownTimes(cfg)
	<-time.After(delay)
	moving, cancelMove := context.WithTimeout(drain, move)
	defer cancelMove()
	a.rtmp.MovePublishers(moving)
	stopAccepting()
	a.relays.Close()
	a.hub.Close()
	a.hls.Drain(drain)
	a.viewers.WaitIdle(drain)
	a.engine.Close(drain)
	a.events.Close()
	for _, srv := range servers {
		if srv.Shutdown(drain) != nil {
			_ = srv.Close()
		}
	}
	a.record.Drain(drain)
	a.tracer.Shutdown(drain)
}

// Close closes the listeners and the store.
func (a *App) Close() {
	a.listeners.close()
	if a.limits != nil {
		a.limits.close()
	}
	if a.relays != nil {
		a.relays.Close()
	}
	if a.engine != nil {
		now, cancel := context.WithCancel(context.Background())
		cancel()
		a.engine.Close(now)
	}
	if a.store != nil {
		if err := a.store.Close(); err != nil {
			a.log.Error("cannot close the store", "err", err)
		}
	}
}

func (a *App) logReady() {
	for _, l := range a.all() {
		a.log.Info("listening", "what", l.service, "addr", l.Addr().String())
	}
	//nolint:sloglint // a line for people, who copy the URL
	a.log.Info("ready: open " + scheme(a.cfg.UseAPIHTTPS) + displayAddr(a.apiListeners[0].Addr()) + "/ in a browser")
}

func ignoreClosed(err error) error {
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return err
}
