// Package rtmp serves encoders and players over RTMP: it maps the sessions of internal/proto/rtmp
// to the hub. It knows no store, no configuration and no other edge.
package rtmp

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"livego/internal/deliver/fanout"
	"livego/internal/domain"
	"livego/internal/ops/logging"
	"livego/internal/ops/netx"
	"livego/internal/ops/tracing"
	"livego/internal/proto/rtmp"
	"livego/internal/stream"
)

// proto is the name of the protocol in statistics and logs.
const proto = "rtmp"

// Options are the settings of a Server.
type Options struct {
	Conn        rtmp.Options
	ReadTimeout time.Duration // longest time without a complete media message from a publisher
	PlayWait    time.Duration // how long a player waits for a publisher; 0: without limit
	Drain       time.Duration // how long connections may take to end when the server stops
	// ReconnectURL is the server that clients are asked to reconnect to when this one stops, to which
	// a slash and the app are added. "": clients are not asked, unless they can come back to a
	// listener that stays open.
	ReconnectURL string
	Engine       *fanout.Engine // nil: each player has a goroutine
	Fanout       fanout.Options
	Tracer       *tracing.Tracer // may be nil
	Log          *slog.Logger
}

// A Server serves RTMP connections.
type Server struct {
	hub         *stream.Hub
	authorizer  domain.Authorizer
	opt         atomic.Pointer[Options]
	broadcaster *fanout.Broadcaster
	warnLimiter logging.Limiter // limits log lines about faulty peers

	moving  chan struct{} // closed by MovePublishers
	move    func()
	movable atomic.Int64 // publishers that can be asked to reconnect
}

// New returns a Server for the streams of hub. authorizer decides about publish and play.
func New(hub *stream.Hub, authorizer domain.Authorizer, o Options) *Server {
	o.Fanout.Log = o.Log
	moving := make(chan struct{})
	s := &Server{
		hub: hub, authorizer: authorizer, broadcaster: fanout.New(hub, o.Engine, proto, o.Fanout),
		warnLimiter: logging.Limiter{Interval: time.Second},
		moving:      moving, move: sync.OnceFunc(func() { close(moving) }),
	}
	s.opt.Store(&o)
	return s
}

// SetOptions replaces the options, except Engine: Drain and those of the fan-out at once, the others for
// connections that are accepted from now on.
func (s *Server) SetOptions(o Options) {
	o.Fanout.Log = o.Log
	s.opt.Store(&o)
	s.broadcaster.SetOptions(o.Fanout)
}

// Serve accepts connections on ln, which may use TLS, until ctx ends. Publishers and players then
// end with their streams, which the owner of the hub ends; after Options.Drain, Serve closes the
// connections that are left. staysOpen reports that the system accepts connections for the next
// server when ln is closed: clients are asked to reconnect to the same address.
func (s *Server) Serve(ctx context.Context, ln net.Listener, staysOpen bool) error {
	drain := func() time.Duration { return s.opt.Load().Drain }
	return netx.Serve(ctx, ln, drain, func(ctx context.Context, nc net.Conn) {
		s.serveConn(ctx, nc, staysOpen)
	})
}

// MovePublishers asks publishers to reconnect to Options.ReconnectURL, those that come meanwhile
// too, and waits until they have left, or ctx ends. It does nothing without that URL.
func (s *Server) MovePublishers(ctx context.Context) {
	if s.opt.Load().ReconnectURL == "" {
		return
	}
	s.move()
	poll := time.NewTicker(movePoll)
	defer poll.Stop()
	for s.movable.Load() > 0 {
		select {
		case <-poll.C:
		case <-ctx.Done():
			return
		}
	}
}

const movePoll = 20 * time.Millisecond

// session is a connection with its request.
type session struct {
	*Server
	opt *Options // when the connection was accepted
	nc  net.Conn
	c   *rtmp.ServerConn
	req *rtmp.Request
	log *slog.Logger

	staysOpen bool           // its listener, when the server stops
	format    format         // of a player
	skipped   *atomic.Uint64 // number of invalid elements that were skipped
}

func (s *Server) serveConn(ctx context.Context, nc net.Conn, staysOpen bool) {
	options := s.opt.Load()
	log := options.Log.With("proto", proto, "remote", nc.RemoteAddr().String())
	defer logging.Recover(log)
	skipped := new(atomic.Uint64)
	opt := options.Conn
	opt.SkipCount = func(string) { skipped.Add(1) }
	c := rtmp.NewServerConn(nc, opt)
	defer c.Close()

	// Before it publishes or plays, a connection is closed when ctx ends; after that, it ends with
	// its stream.
	traced, connect := options.Tracer.Start(ctx, "connect")
	connect.Set("proto", proto)
	connect.Set("remote", nc.RemoteAddr().String())
	req, err := c.Accept(ctx)
	connect.End(err)
	if err != nil {
		s.logAcceptError(ctx, log, err)
		return
	}
	ss := &session{Server: s, opt: options, nc: nc, c: c, req: req, log: log, staysOpen: staysOpen,
		format: formatOf(req), skipped: skipped}
	if req.Publish {
		ss.publish(traced)
	} else {
		ss.play(traced)
	}
}

// authRequest returns the request for the authorizer.
func (ss *session) authRequest(a domain.Action) domain.AuthRequest {
	return domain.AuthRequest{
		Action: a, App: ss.req.App, Name: ss.req.Name, Token: ss.req.Token,
		Proto: proto, Remote: ss.nc.RemoteAddr().String(),
	}
}

// reconnectURL returns where the client can be asked to reconnect when the server stops, "" for the
// same address. ok is false if it would find no server there.
func (ss *session) reconnectURL() (tcURL string, ok bool) {
	if base := ss.opt.ReconnectURL; base != "" {
		return strings.TrimRight(base, "/") + "/" + ss.req.App, true
	}
	return "", ss.staysOpen
}

// url returns the URL for statistics: the public name on the listener that accepted the connection.
func (ss *session) url(n domain.Name) string {
	return "rtmp://" + ss.nc.LocalAddr().String() + "/" + n.String()
}

// isTLS reports whether the connection is encrypted.
func (ss *session) isTLS() bool {
	_, ok := ss.nc.(*tls.Conn)
	return ok
}

// logAcceptError logs why a connection has made no request; at the level Debug if the peer just
// closed it.
func (s *Server) logAcceptError(ctx context.Context, log *slog.Logger, err error) {
	var (
		violation *rtmp.ProtocolError
		refused   *rtmp.StatusError
		notTLS    tls.RecordHeaderError
	)
	switch {
	case ctx.Err() != nil:
	case errors.As(err, &violation):
		kind := violation.Reason
		if kind == "handshake" {
			kind = violation.Detail // one of few fixed texts, which distinguish TLS from HTTP clients
		}
		s.warn(log, "connection closed", kind, violation.Detail)
	case errors.As(err, &refused):
		s.warn(log, "connection refused", refused.Code, refused.Description)
	case errors.As(err, &notTLS):
		const reason = "the client does not use TLS on the RTMPS port: use the plain RTMP port"
		s.warn(log, "connection closed", reason, reason)
	default:
		log.Debug("connection closed", "reason", err)
	}
}

// warn logs a fault of a peer, at most once a second for each kind: neither repetition nor text
// from the peer, which a reason may quote, can fill the log.
func (s *Server) warn(log *slog.Logger, what, kind, reason string, attrs ...any) {
	suppressed, ok := s.warnLimiter.Allow(what + " " + kind)
	if !ok {
		return
	}
	if suppressed > 0 {
		attrs = append(attrs, "suppressed", suppressed)
	}
	log.Warn(what, append([]any{"reason", reason}, attrs...)...) //nolint:sloglint // what is a constant of the caller
}
