// Package rtmp is where encoders and players connect by RTMP: it maps the sessions of
// internal/proto/rtmp to the hub. It knows no store, no configuration and no other edge.
package rtmp

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"sync/atomic"
	"time"

	"livego/internal/container/flv"
	"livego/internal/deliver/fanout"
	"livego/internal/domain"
	"livego/internal/ops/logging"
	"livego/internal/ops/netx"
	"livego/internal/proto/rtmp"
	"livego/internal/stream"
)

// proto is how statistics and logs call what comes and goes here.
const proto = "rtmp"

// Options of a Server.
type Options struct {
	Conn        rtmp.Options
	ReadTimeout time.Duration  // the longest time without a complete media message from a publisher
	PlayWait    time.Duration  // how long a player waits for a publisher; 0 for ever
	Drain       time.Duration  // how long connections may take to end when the server stops
	GOPs        int            // how many keyframes back a player starts; 0 at the live edge
	Engine      *fanout.Engine // serves players on plain TCP; nil: each has a goroutine
	Fanout      fanout.Options
	Log         *slog.Logger
}

// A Server serves RTMP connections.
type Server struct {
	hub         *stream.Hub
	authorizer  domain.Authorizer
	opt         Options
	broadcaster *fanout.Broadcaster
	warnLimiter logging.Limiter // of log lines about peers that do it wrong
}

// New returns a Server of the streams of hub for those whom gate lets in.
func New(hub *stream.Hub, gate domain.Authorizer, o Options) *Server {
	return &Server{
		hub: hub, authorizer: gate, opt: o,
		broadcaster: fanout.New(hub, o.Engine, proto, func() fanout.Encoder { return new(encoder) }, o.Fanout),
		warnLimiter: logging.Limiter{Interval: time.Second},
	}
}

// Serve accepts connections of ln, which may be TLS, until ctx ends. Publishers and players then
// end with their streams, which is for who closes the hub; what is left after Options.Drain is cut.
func (s *Server) Serve(ctx context.Context, ln net.Listener) error {
	return netx.Serve(ctx, ln, s.opt.Drain, s.serveConn)
}

// session is one connection from its request on.
type session struct {
	*Server
	nc  net.Conn
	c   *rtmp.ServerConn
	req *rtmp.Request
	log *slog.Logger

	dialect     flv.Dialect        // of a player
	viewerLimit domain.ViewerLimit // of a player
	expires     time.Time          // of a player; zero: never
	skipped     *atomic.Uint64     // messages that were out of order and passed over
}

func (s *Server) serveConn(ctx context.Context, nc net.Conn) {
	log := s.opt.Log.With("proto", proto, "remote", nc.RemoteAddr().String())
	defer logging.Recover(log)
	skipped := new(atomic.Uint64)
	opt := s.opt.Conn
	opt.SkipCount = func(string) { skipped.Add(1) }
	c := rtmp.NewServerConn(nc, opt)
	handedOver := false
	defer func() {
		if !handedOver {
			c.Close()
		}
	}()

	// Until it publishes or plays nobody would miss the connection; after, it ends with its stream.
	req, err := c.Accept(ctx)
	if err != nil {
		s.logAcceptError(ctx, log, err)
		return
	}
	ss := &session{Server: s, nc: nc, c: c, req: req, log: log, dialect: dialectOf(req), skipped: skipped}
	if req.Publish {
		ss.publish(ctx)
	} else {
		handedOver = ss.play(ctx)
	}
}

// authRequest returns what the gate is asked.
func (ss *session) authRequest(a domain.Action) domain.AuthRequest {
	return domain.AuthRequest{
		Action: a, App: ss.req.App, Name: ss.req.Name, Token: ss.req.Token,
		Proto: proto, Remote: ss.nc.RemoteAddr().String(),
	}
}

// url is what statistics show: the address that viewers use, on the listener that was reached.
func (ss *session) url(n domain.Name) string {
	return "rtmp://" + ss.nc.LocalAddr().String() + "/" + n.String()
}

// logAcceptError logs that a connection came to nothing: quietly where the peer just left.
func (s *Server) logAcceptError(ctx context.Context, log *slog.Logger, err error) {
	var (
		bad     *rtmp.ProtocolError
		refused *rtmp.StatusError
		plain   tls.RecordHeaderError
	)
	switch {
	case ctx.Err() != nil:
	case errors.As(err, &bad):
		kind := bad.Reason
		if kind == "handshake" {
			kind = bad.Detail // a few sentences of ours that tell a TLS client from a web browser
		}
		s.warn(log, "connection closed", kind, bad.Detail)
	case errors.As(err, &refused):
		s.warn(log, "connection refused", refused.Code, refused.Description)
	case errors.As(err, &plain):
		const reason = "the client does not speak TLS on a port of RTMPS: plain RTMP has its own port"
		s.warn(log, "connection closed", reason, reason)
	default:
		log.Debug("connection closed", "reason", err)
	}
}

// warn logs what a peer did wrong, once a second for each kind of it: whoever repeats it does not
// fill the log, nor does he by words of his own that the reason quotes.
func (s *Server) warn(log *slog.Logger, what, kind, reason string, attrs ...any) {
	suppressed, ok := s.warnLimiter.Allow(what + " " + kind)
	if !ok {
		return
	}
	if suppressed > 0 {
		attrs = append(attrs, "suppressed", suppressed)
	}
	log.Warn(what, append([]any{"reason", reason}, attrs...)...)
}
