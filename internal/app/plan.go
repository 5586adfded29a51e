package app

import (
	"context"
	"fmt"
	"net/http"
	"path/filepath"
	"time"

	"livego/internal/cluster/node"
	"livego/internal/control/api"
	"livego/internal/control/auth"
	"livego/internal/control/webhook"
	"livego/internal/deliver/fanout"
	"livego/internal/domain"
	"livego/internal/edge/hls"
	edgeflv "livego/internal/edge/httpflv"
	edgertmp "livego/internal/edge/rtmp"
	"livego/internal/edge/thumbnail"
	"livego/internal/edge/viewerhttp"
	"livego/internal/metrics"
	"livego/internal/ops/certfile"
	"livego/internal/ops/config"
	"livego/internal/ops/ffmpeg"
	"livego/internal/ops/netx"
	"livego/internal/proto/rtmp"
	"livego/internal/stream"
	"livego/web"
)

// A plan is what the server makes of a Config and can replace while it runs. To make one may fail; to
// apply it cannot. It is immutable once it is applied.
type plan struct {
	cfg        config.Config
	proxies    netx.Proxies
	cert       *certfile.Certificate // nil for none, or by ACME
	jwks       *auth.JWKS            // nil for none
	streamAuth *auth.StreamAuth
	adminAuth  *auth.AdminAuth
	hooks      *webhook.Authorizer
	outbox     *webhook.Outbox // nil for none
	thumbnails thumbnail.Options

	api, metrics http.Handler // set by apply
}

// prepare makes the plan for cfg. Parts that have state share it with the plan in use.
func (a *App) prepare(cfg config.Config) (*plan, error) {
	old := a.plan.Load()
	if old == nil {
		old = new(plan)
	}
	p := &plan{cfg: cfg, outbox: old.outbox}
	var err error
	if p.proxies, err = netx.ParseNetworks(cfg.TrustedProxies); err != nil {
		return nil, fmt.Errorf("trusted_proxies: %w", err)
	}
	if p.adminAuth, err = openAdminAuth(cfg, old.adminAuth); err != nil {
		return nil, err
	}
	if cfg.ServesTLS() && len(cfg.ACME.Domains) == 0 {
		p.cert = old.cert
		if p.cert == nil || cfg.RTMPSCert != old.cfg.RTMPSCert || cfg.RTMPSKey != old.cfg.RTMPSKey {
			if p.cert, err = certfile.Load(cfg.RTMPSCert, cfg.RTMPSKey, a.log); err != nil {
				return nil, fmt.Errorf("rtmps_cert and rtmps_key: %w", err)
			}
		}
	}
	tokens, err := a.tokenOptions(cfg, old.jwks)
	if err != nil {
		return nil, err
	}
	p.jwks = tokens.JWKS
	o := auth.Options{
		Apps: authApps(cfg.Apps), NoAuth: cfg.RTMPNoAuth, Failures: cfg.AuthFailures, LimitLoopback: cfg.LimitLoopback,
		Takeover: takeover(cfg.Takeover), Tokens: tokens, Private: cfg.Private, OneTimeTokens: a.store,
	}
	if old.streamAuth == nil {
		p.streamAuth = auth.NewStreamAuth(a.keys, o)
	} else {
		p.streamAuth = old.streamAuth.With(o)
	}
	if p.hooks = old.hooks; p.hooks == nil || cfg.Hook != old.cfg.Hook { // forgets the decisions of other webhooks
		o := webhook.AuthorizerOptions{
			OnPublish: cfg.Hook.OnPublish, OnPlay: cfg.Hook.OnPlay, Secret: cfg.Hook.Secret, Timeout: cfg.Hook.Timeout,
			IsLive: a.hub.Has, Log: a.log,
		}
		if p.hooks == nil {
			p.hooks = webhook.NewAuthorizer(o)
		} else {
			p.hooks = p.hooks.With(o)
		}
	}
	p.thumbnails = a.thumbnailOptions(p)
	relays := a.relayOptions(cfg)
	if err := relays.Check(); err != nil {
		return nil, err
	}
	// The outbox is opened last, so that no error leaves it open.
	switch {
	case cfg.Hook.Events == "":
		p.outbox = nil
	case p.outbox == nil:
		if p.outbox, err = webhook.OpenOutbox(a.hub, a.outboxOptions(cfg)); err != nil {
			return nil, fmt.Errorf("hook.events: open the webhook outbox: %w", err)
		}
	}
	return p, nil
}

// discard closes what p, which is not applied, does not share with the plan in use.
func (p *plan) discard(inUse *plan) {
	if p.outbox != nil && p.outbox != inUse.outbox {
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		p.outbox.Run(ctx) // stores what has happened since, and closes
	}
}

// apply makes p the plan in use. No connection is closed.
func (a *App) apply(p *plan) {
	admit := func(_ context.Context, r domain.AuthRequest, grant domain.Grant) (domain.Grant, error) {
		if a.node != nil && r.Action == domain.Publish {
			if err := a.node.CheckPublish(grant.Name); err != nil {
				return grant, err
			}
		}
		return grant, a.admission.Admit(r.Action, grant.Name)
	}
	a.authorizer.SetSteps(
		p.streamAuth.Authenticate,
		p.hooks.Authorize, // may grant another room
		admit,
		p.streamAuth.ConsumeToken, // and when a viewer joins, the limit of its token
	)
	a.pulls.SetSteps(p.streamAuth.AuthenticateOperator, admit)
	a.limits.set(p.cfg, p.proxies)
	a.hub.SetOptions(a.hubOptions(p.cfg))
	a.quality.SetOn(p.cfg.PlayerReports)
	a.batching.Set(p.cfg.BatchWindow.Auto, p.cfg.BatchWindow.Fixed)
	a.rtmp.SetOptions(a.rtmpOptions(p))
	a.hls.SetOptions(a.hlsOptions(p))
	a.flv.SetOptions(a.flvOptions(p))
	a.thumbs.SetOptions(p.thumbnails)
	a.viewers.SetOptions(a.viewerOptions(p))
	a.relays.SetOptions(a.relayOptions(p.cfg))
	if a.node != nil {
		a.node.SetSettings(nodeSettings(p.cfg))
	}
	a.record.SetLimits(recordLimits(p.cfg))
	if p.outbox != nil {
		p.outbox.SetOptions(a.outboxOptions(p.cfg))
	}
	a.settings.setLevel(p.cfg.Level)
	p.metrics = metrics.NewHandler(a.metricsOptions(p))
	p.api = a.newAPI(p)
	a.plan.Store(p)
}

// A runner is a part of a plan that has a goroutine while the plan is in use.
type runner interface{ Run(context.Context) }

func (p *plan) runners() []runner {
	var list []runner
	if p.cert != nil {
		list = append(list, p.cert)
	}
	if p.jwks != nil {
		list = append(list, p.jwks)
	}
	if p.outbox != nil {
		list = append(list, p.outbox)
	}
	return list
}

func (a *App) hubOptions(cfg config.Config) stream.Options {
	o := stream.Options{
		Hold: cfg.PublishHold, HoldClean: cfg.PublishHoldClean, Idle: cfg.PublishIdle,
		FailbackDelay: cfg.BackupReturn, GOPs: cfg.GopNum, KeepTime: cfg.MaxLatency + time.Second,
		RingTime: cfg.RingTime, RingBytes: int(cfg.RingSize), TrackWait: max(cfg.TrackWait, 1), RAPWait: cfg.RAPWait,
		Epoch: a.sequences.Epoch,
	}
	if a.node != nil {
		o.Search = a.node.Search
	}
	return o
}

// minReplicaHold is how long a replicated stream outlives the connection to its owner even if publish_hold is
// shorter: time to connect again.
const minReplicaHold = time.Second

func nodeSettings(cfg config.Config) node.Settings {
	return node.Settings{Idle: cfg.ClusterIdle, Hold: max(cfg.PublishHold, minReplicaHold), GOPs: cfg.GopNum}
}

func (a *App) fanoutOptions(cfg config.Config) fanout.Options {
	return fanout.Options{
		WriteTimeout: cfg.WriteTimeout, PingInterval: 15 * time.Second, LingerTimeout: time.Second,
		MaxLatency: cfg.MaxLatency, RingTime: cfg.RingTime, RingBytes: int(cfg.RingSize), GOPs: cfg.GopNum,
		BatchWindow: a.batching.Window,
	}
}

func (a *App) rtmpOptions(p *plan) edgertmp.Options {
	cfg := p.cfg
	_, _, drain := shutdownTimes(cfg)
	return edgertmp.Options{
		Conn: rtmp.Options{
			HandshakeTimeout: cfg.HandshakeTimeout, CommandTimeout: cfg.CommandTimeout,
			WriteTimeout: cfg.WriteTimeout, MaxMessage: int(cfg.MaxMessage), CheckApp: p.streamAuth.CheckApp,
			HTTPReply: rtmpPortReply(a.viewerListeners),
		},
		ReadTimeout: cfg.ReadTimeout, PlayWait: cfg.PlayWait, Drain: drain, ReconnectURL: cfg.ReconnectURL,
		Engine: a.engine, Fanout: a.fanoutOptions(cfg), Tracer: a.tracer, Log: a.log,
	}
}

func (a *App) hlsOptions(p *plan) hls.Options {
	cfg, apps := p.cfg, viewerApps(p.cfg.Apps)
	o := hls.Options{
		Segment: cfg.HLSSegment, Part: cfg.HLSPart, TrackWait: cfg.TrackWait, Window: cfg.HLSWindow,
		KeepAfterEnd: cfg.HLSKeepAfterEnd, FirstWait: cfg.HLSStartWait,
		KeepBytes:      int(min(a.memory.Share(endedStreamsPercent), 256<<20)),
		SessionTimeout: cfg.HLSSessionTimeout, AnswerTimeout: cfg.AnswerTimeout, LimitLoopback: cfg.LimitLoopback,
		NoSessions: !cfg.HLSSessions, Secrets: clusterSecrets(cfg),
		Apps:     func(app string) bool { return apps[app].HLS },
		Private:  p.private,
		MarkUsed: a.sequences.MarkUsed, Quality: a.quality, Tracer: a.tracer, Log: a.log,
	}
	if a.node != nil {
		o.Fetch = func(ctx context.Context, name domain.Name, uri string) (hls.Answer, error) {
			f, err := a.node.Fetch(ctx, name, uri)
			return hls.Answer(f), err
		}
	}
	return o
}

// private reports whether the viewers of a stream need a token, or the permission of the webhook.
func (p *plan) private(name domain.Name) bool {
	return p.cfg.Hook.OnPlay != "" || p.streamAuth.Private(name)
}

func (a *App) flvOptions(p *plan) edgeflv.Options {
	return edgeflv.Options{PlayWait: p.cfg.PlayWait, Engine: a.engine, Fanout: a.fanoutOptions(p.cfg),
		Quality: a.quality, Tracer: a.tracer, Log: a.log}
}

func (a *App) thumbnailOptions(p *plan) thumbnail.Options {
	o := thumbnail.Options{Interval: p.cfg.ThumbnailInterval, Timeout: p.cfg.ThumbnailTimeout, Private: p.private,
		Log: a.log}
	if p.cfg.Thumbnails == "off" {
		o.Reason = "this server has no thumbnails: its setting thumbnails is off"
		return o
	}
	var err error
	if o.FFmpeg, err = ffmpeg.Find(p.cfg.FFmpeg); err != nil {
		o.FFmpeg, o.Reason = "", "this server has no thumbnails: ffmpeg is not installed"
	}
	return o
}

func (a *App) viewerOptions(p *plan) viewerhttp.Options {
	return viewerhttp.Options{
		Apps: viewerApps(p.cfg.Apps), FLV: a.flv.Serve, HLS: a.hls, Reports: a.reports, Files: a.web,
		Thumbnail: a.thumbs.Serve,
		HasRoom: func(r *http.Request, app, room string) bool {
			name, err := domain.ParseName(app, room)
			return err == nil && (a.hub.Has(name) || p.streamAuth.HasRoom(r.Context(), room, r.RemoteAddr))
		},
		Page: func(w http.ResponseWriter, r *http.Request, app, room string) bool {
			if _, err := domain.ParseName(app, room); err != nil {
				return false
			}
			a.web.ServePlayer(w, r, web.PlayerOptions{EmbedOrigins: p.cfg.EmbedOrigins, PublicURL: p.cfg.PublicURL})
			return true
		},
		Proxies: p.proxies, WriteTimeout: p.cfg.WriteTimeout,
	}
}

func (a *App) outboxOptions(cfg config.Config) webhook.OutboxOptions {
	return webhook.OutboxOptions{
		URL: cfg.Hook.Events, Secret: cfg.Hook.Secret, Dir: filepath.Join(cfg.DataDir, "outbox"), Viewers: cfg.Hook.Viewers,
		Timeout: cfg.Hook.Timeout, Log: a.log,
	}
}

// relayFailed sends the event that a relay keeps failing to the webhook.
func (a *App) relayFailed(s domain.RelayStatus) {
	if o := a.plan.Load().outbox; o != nil {
		o.RelayFailed(s)
	}
}

// recordingFinished sends the event that a recording's file was closed to the webhook.
func (a *App) recordingFinished(r domain.Recording) {
	if o := a.plan.Load().outbox; o != nil {
		o.RecordingFinished(r)
	}
}

func (a *App) metricsOptions(p *plan) metrics.Options {
	return metrics.Options{
		Version: Version(), Ready: a.ready, Hub: a.hub, HLS: a.hls, Thumbnails: a.thumbs, Health: a.health,
		Quality: a.quality, Reports: a.reports, Relays: a.relays,
		Recorder: a.record, Webhooks: p.hooks,
		Outbox: p.outbox, Store: a.store, Authorizer: a.authorizer, AdminAuth: p.adminAuth, Events: a.events,
		Limiters:   map[string]*netx.Limiter{"public": a.limits.public, "operator": a.limits.operator},
		MaxStreams: p.cfg.MetricsStreams, Log: a.log,
	}
}

func (a *App) serveAPI(w http.ResponseWriter, r *http.Request) { a.plan.Load().api.ServeHTTP(w, r) }
func (a *App) serveMetrics(w http.ResponseWriter, r *http.Request) {
	a.plan.Load().metrics.ServeHTTP(w, r)
}

// newAPI returns the operator's HTTP for p.
func (a *App) newAPI(p *plan) http.Handler {
	cfg := p.cfg
	var metrics http.Handler
	if cfg.MetricsAddr == "" {
		metrics = p.metrics
	}
	var console http.HandlerFunc
	if a.web.Built() {
		console = a.web.ServeConsole
	}
	var listeners []api.Listener
	for _, l := range a.all() {
		listeners = append(listeners, api.Listener{Service: l.service, Address: l.Addr().String(), TLS: l.secure})
	}
	return api.New(api.Options{
		Hub: a.hub, Keys: a.keys, Relays: a.relays, EndSessions: a.endSessions, Events: a.events,
		Auth:   func() api.Auth { return a.plan.Load().adminAuth },
		Health: a.health, Quality: a.quality, Log: a.log, Settings: a, Apps: apiApps(cfg.Apps),
		TokenIssuer: auth.TokenIssuer{Secret: cfg.Token.Secret, MaxAge: cfg.Token.MaxAge},
		RTMP:        "rtmp://" + cfg.RTMPAddr, FLV: "http://" + cfg.HTTPFLVAddr, HLS: scheme(cfg.UseHLSHTTPS) + cfg.HLSAddr,
		RTMPS:     baseURL(cfg.EnableRTMPS, "rtmps://", cfg.RTMPSAddr),
		HTTPS:     baseURL(cfg.EnableHTTPS, "https://", cfg.HTTPSAddr),
		PublicURL: cfg.PublicURL, StaticsDir: "statics", Ready: a.ready, Pprof: true, Version: Version(),
		Recordings: a.record, Metrics: metrics, Private: p.private, Started: a.started, Console: console, Files: a.web,
		Features: api.Features{Tokens: cfg.Token.Secret != "", Recordings: cfg.FLVArchive,
			Thumbnails: p.thumbnails.FFmpeg != "", Redis: cfg.RedisAddr != ""},
		Listeners: listeners, MemoryLimit: a.memory.Share(100),
	})
}
