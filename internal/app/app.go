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
	"path/filepath"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"livego/internal/control/api"
	"livego/internal/control/auth"
	"livego/internal/control/events"
	"livego/internal/control/keys"
	"livego/internal/control/store/measured"
	"livego/internal/control/webhook"
	"livego/internal/deliver/batching"
	"livego/internal/deliver/fanout"
	"livego/internal/deliver/segment"
	"livego/internal/domain"
	"livego/internal/edge/hls"
	edgeflv "livego/internal/edge/httpflv"
	edgertmp "livego/internal/edge/rtmp"
	"livego/internal/edge/viewerhttp"
	"livego/internal/health/monitor"
	"livego/internal/metrics"
	"livego/internal/ops/acme"
	"livego/internal/ops/admission"
	"livego/internal/ops/config"
	"livego/internal/ops/memlimit"
	"livego/internal/ops/netx"
	"livego/internal/ops/systemd"
	"livego/internal/proto/rtmp"
	"livego/internal/record"
	"livego/internal/relay"
	"livego/internal/stream"
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
	viewers   *viewerhttp.Handler
	relays    *relay.Manager
	api       http.Handler
	metrics   metrics.Options
	limits    *limiters
	proxies   netx.Proxies
	engine    *fanout.Engine
	events    *events.Log
	admission *admission.Controller
	acme      *acme.Manager // nil if off
	record    *record.Recorder
	systemd   systemd.Notifier
	health    *monitor.Monitor

	listeners
	background []func(context.Context) // run until the viewers have left
	stopping   atomic.Bool
}

// New opens the store and binds every listener. It serves nothing yet, so that a server either
// starts completely or not at all.
func New(cfg config.Config, log *slog.Logger) (_ *App, err error) {
	a := &App{cfg: cfg, log: log, systemd: systemd.Notifier{Log: log}}
	defer func() {
		if err != nil {
			a.Close()
		}
	}()
	secure, err := a.tlsConfig()
	if err != nil {
		return nil, err
	}
	if a.proxies, err = netx.ParseNetworks(cfg.TrustedProxies); err != nil {
		return nil, fmt.Errorf("trusted_proxies: %w", err)
	}
	a.limits = newLimiters(cfg, a.proxies, log)
	if err := a.listeners.bind(cfg, secure, a.limits); err != nil {
		return nil, err
	}
	store, err := openStore(cfg, log)
	if err != nil {
		return nil, err
	}
	a.store = measured.New(store)
	a.keys = keys.New(a.store)
	adminAuth, err := openAdminAuth(cfg)
	if err != nil {
		return nil, err
	}
	tokens, err := a.tokenOptions()
	if err != nil {
		return nil, err
	}
	if cfg.FLVArchive { // report a wrong path at start
		if err := os.MkdirAll(cfg.FLVDir, record.DirMode(cfg.RecordMode.Perm())); err != nil {
			return nil, fmt.Errorf("flv_dir: %w", err)
		}
	}
	if err := a.build(adminAuth, tokens); err != nil {
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
func (a *App) build(adminAuth *auth.AdminAuth, tokens auth.TokenOptions) (err error) {
	cfg, apps := a.cfg, viewerApps(a.cfg.Apps)
	sequences := segment.NewSequenceAllocator(a.store)
	batches := batching.New(cfg.BatchWindow.Auto, cfg.BatchWindow.Fixed)
	a.hub = stream.NewHub(stream.Options{
		Hold: cfg.PublishHold, HoldClean: cfg.PublishHoldClean, Idle: cfg.PublishIdle,
		FailbackDelay: cfg.BackupReturn, GOPs: cfg.GopNum, KeepTime: cfg.MaxLatency + time.Second,
		RingTime: cfg.RingTime, RingBytes: int(cfg.RingSize), TrackWait: max(cfg.TrackWait, 1), RAPWait: cfg.RAPWait,
		Epoch: sequences.Epoch,
	})
	a.events = events.New()
	a.health = monitor.New(a.hub, monitor.Options{Emit: a.events.Add, Log: a.log})
	a.background = append(a.background, a.events.Observe(a.hub), a.health.Run)
	memory := memlimit.Find(os.DirFS("/"))
	a.admission = admission.New(memory, a.hub.Has, a.log)
	hooks := webhook.NewAuthorizer(webhook.AuthorizerOptions{
		OnPublish: cfg.Hook.OnPublish, OnPlay: cfg.Hook.OnPlay, Secret: cfg.Hook.Secret, Timeout: cfg.Hook.Timeout,
		IsLive: a.hub.Has, Log: a.log,
	})
	streamAuth := auth.NewStreamAuth(a.keys, auth.Options{
		Apps: authApps(cfg.Apps), NoAuth: cfg.RTMPNoAuth, Failures: cfg.AuthFailures, LimitLoopback: cfg.LimitLoopback,
		Takeover: takeover(cfg.Takeover), Tokens: tokens, Private: cfg.Private, OneTimeTokens: a.store,
	})
	admit := func(_ context.Context, r domain.AuthRequest, grant domain.Grant) (domain.Grant, error) {
		return grant, a.admission.Admit(r.Action, grant.Name)
	}
	authorizer := auth.NewChain(a.events.Add,
		streamAuth.Authenticate,
		hooks.Authorize, // may grant another room
		admit,
		streamAuth.ConsumeToken, // and when a viewer joins, the limit of its token
	)
	engine, err := fanout.NewEngine(runtime.GOMAXPROCS(0))
	if err != nil {
		return err
	}
	a.engine = engine
	_, _, drain := shutdownTimes(cfg)
	fanoutOptions := fanout.Options{
		WriteTimeout: cfg.WriteTimeout, PingInterval: 15 * time.Second, LingerTimeout: time.Second,
		MaxLatency: cfg.MaxLatency, RingTime: cfg.RingTime, RingBytes: int(cfg.RingSize), GOPs: cfg.GopNum,
		BatchWindow: batches.Window,
	}
	a.rtmp = edgertmp.New(a.hub, authorizer, edgertmp.Options{
		Conn: rtmp.Options{
			HandshakeTimeout: cfg.HandshakeTimeout, CommandTimeout: cfg.CommandTimeout,
			WriteTimeout: cfg.WriteTimeout, MaxMessage: int(cfg.MaxMessage), CheckApp: streamAuth.CheckApp,
			HTTPReply: rtmpPortReply(a.viewerListeners),
		},
		ReadTimeout: cfg.ReadTimeout, PlayWait: cfg.PlayWait, Drain: drain,
		ReconnectURL: cfg.ReconnectURL, Engine: a.engine, Fanout: fanoutOptions, Log: a.log,
	})
	a.hls = hls.New(a.hub, authorizer, hls.Options{
		Segment: cfg.HLSSegment, Part: cfg.HLSPart, TrackWait: cfg.TrackWait, Window: cfg.HLSWindow,
		KeepAfterEnd: cfg.HLSKeepAfterEnd, FirstWait: cfg.HLSStartWait,
		KeepBytes:      int(min(memory.Share(endedStreamsPercent), 256<<20)),
		SessionTimeout: cfg.HLSSessionTimeout, AnswerTimeout: cfg.AnswerTimeout, LimitLoopback: cfg.LimitLoopback,
		Apps:     func(app string) bool { return apps[app].HLS },
		Private:  func(name domain.Name) bool { return cfg.Hook.OnPlay != "" || streamAuth.Private(name) },
		MarkUsed: sequences.MarkUsed, Log: a.log,
	})
	flv := edgeflv.New(a.hub, authorizer, edgeflv.Options{
		PlayWait: cfg.PlayWait, Engine: a.engine, Fanout: fanoutOptions, Log: a.log,
	})
	a.viewers = viewerhttp.New(viewerhttp.Options{
		Apps: apps, FLV: flv.Serve, HLS: a.hls, Proxies: a.proxies, WriteTimeout: cfg.WriteTimeout,
	})
	a.metrics = metrics.Options{
		Version: Version(), Ready: a.ready, Hub: a.hub, HLS: a.hls, Webhooks: hooks, Store: a.store, Authorizer: authorizer,
		AdminAuth: adminAuth, Events: a.events, MaxStreams: cfg.MetricsStreams, Log: a.log,
		Limiters: map[string]*netx.Limiter{"public": a.limits.public, "operator": a.limits.operator},
	}
	if err := a.buildConsumers(auth.NewChain(nil, streamAuth.AuthenticateOperator, admit)); err != nil {
		return err
	}
	a.buildAPI(adminAuth)
	a.background = append(a.background, a.hls.Run, a.relays.Run, sequences.Run, batches.Run, memory.TuneGC,
		func(ctx context.Context) {
			a.store.Run(ctx, auth.Revoker{Hub: a.hub}.Revoke, func(app, room string) { a.endSessions(app, room) })
		})
	return nil
}

// buildConsumers creates what else reads and writes streams: webhook events, relays and recordings.
func (a *App) buildConsumers(pulls domain.Authorizer) (err error) {
	cfg := a.cfg
	var relayFailed func(domain.RelayStatus)
	var recordingFinished func(domain.Recording)
	if cfg.Hook.Events != "" {
		outbox, err := webhook.OpenOutbox(a.hub, webhook.OutboxOptions{
			URL: cfg.Hook.Events, Secret: cfg.Hook.Secret, Dir: filepath.Join(cfg.DataDir, "outbox"), Viewers: cfg.Hook.Viewers,
			Timeout: cfg.Hook.Timeout, Log: a.log,
		})
		if err != nil {
			return fmt.Errorf("hook.events: open the webhook outbox: %w", err)
		}
		relayFailed, recordingFinished = outbox.RelayFailed, outbox.RecordingFinished
		a.background = append(a.background, outbox.Run)
		a.metrics.Outbox = outbox
	}
	if a.relays, err = relay.New(a.hub, a.relayOptions(pulls, relayFailed)); err != nil {
		return err
	}
	a.record = record.New(a.hub, record.Options{
		Dir: cfg.FLVDir, Mode: cfg.RecordMode.Perm(), Off: !cfg.FLVArchive, Keep: cfg.RecordKeep,
		KeepBytes: int64(cfg.RecordKeepSize),
		MinFree:   record.Space{Bytes: int64(cfg.RecordMinFree.Size), Percent: cfg.RecordMinFree.Percent},
		Finished:  recordingFinished, Event: a.events.Add, Log: a.log,
	})
	a.background = append(a.background, a.record.Run)
	a.metrics.Relays, a.metrics.Recorder = a.relays, a.record
	return nil
}

// buildAPI creates the operator's HTTP.
func (a *App) buildAPI(adminAuth *auth.AdminAuth) {
	cfg := a.cfg
	var metricsHandler http.Handler
	if cfg.MetricsAddr == "" {
		metricsHandler = metrics.NewHandler(a.metrics)
	}
	a.api = api.New(api.Options{
		Hub: a.hub, Keys: a.keys, Relays: a.relays, EndSessions: a.endSessions, Auth: adminAuth, Events: a.events,
		Health: a.health, Log: a.log,
		Apps:        apiApps(cfg.Apps),
		TokenIssuer: auth.TokenIssuer{Secret: cfg.Token.Secret, MaxAge: cfg.Token.MaxAge},
		RTMP:        "rtmp://" + cfg.RTMPAddr, FLV: "http://" + cfg.HTTPFLVAddr, HLS: scheme(cfg.UseHLSHTTPS) + cfg.HLSAddr,
		RTMPS:     baseURL(cfg.EnableRTMPS, "rtmps://", cfg.RTMPSAddr),
		HTTPS:     baseURL(cfg.EnableHTTPS, "https://", cfg.HTTPSAddr),
		PublicURL: cfg.PublicURL, StaticsDir: "statics", Ready: a.ready, Pprof: true, Version: Version(),
		Recordings: a.record,
		Metrics:    metricsHandler,
	})
}

// endSessions ends the viewers' sessions of a room on every protocol. It returns how many viewers
// were watching or waiting.
func (a *App) endSessions(app, room string) int {
	n := a.hub.EndViewers(app, room,
		domain.CodeErrorf(domain.Denied, domain.SessionEnded, "session ended by the operator"))
	a.hls.EndSessions(app, room)
	return n
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
		serveHTTP(l, a.operatorServer(a.api))
	}
	for _, l := range a.metricsListeners {
		serveHTTP(l, a.operatorServer(api.Monitoring(metrics.NewHandler(a.metrics), a.ready)))
	}
	for _, l := range a.acmeListeners {
		serveHTTP(l, a.acmeServer())
	}
	for _, run := range a.background {
		serving.Go(func() { run(late) })
	}
	serving.Go(func() { a.systemd.Watchdog(late, a.checkSelf) })
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
	a.systemd.Stopping(a.cfg.ShutdownTimeout + stopGrace)
	drain, cancel := context.WithTimeout(context.Background(), a.cfg.ShutdownTimeout)
	defer cancel()
	delay, move, _ := shutdownTimes(a.cfg)
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
	a.log.Info("ready: get a stream key with GET " + scheme(a.cfg.UseAPIHTTPS) + displayAddr(a.apiListeners[0].Addr()) +
		"/control/get?room=movie")
}

func ignoreClosed(err error) error {
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return err
}
