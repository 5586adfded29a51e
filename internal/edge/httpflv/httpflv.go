// Package httpflv serves live streams as endless FLV files, over HTTP and over WebSocket. It knows
// no store, no configuration and no other edge.
package httpflv

import (
	"log/slog"
	"maps"
	"net"
	"net/http"
	"net/url"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gorilla/websocket"

	"livego/internal/container/flv"
	"livego/internal/deliver/fanout"
	"livego/internal/domain"
	"livego/internal/ops/httpx"
	"livego/internal/ops/logging"
	"livego/internal/ops/netx"
	"livego/internal/ops/tracing"
	"livego/internal/proto/cmcd"
	"livego/internal/quality"
	"livego/internal/stream"
)

// Options are the settings of a Server.
type Options struct {
	// PlayWait is how long a WebSocket viewer waits for a publisher; 0: without limit.
	PlayWait time.Duration
	Engine   *fanout.Engine // nil: each viewer has a goroutine
	Fanout   fanout.Options
	Quality  *quality.Collector // of what players report; may be nil
	Tracer   *tracing.Tracer    // may be nil
	Log      *slog.Logger
}

// A Server serves HTTP-FLV and WebSocket-FLV.
type Server struct {
	hub        *stream.Hub
	authorizer domain.Authorizer
	opt        atomic.Pointer[Options]
	http       *fanout.Broadcaster
	webSocket  *fanout.Broadcaster
	upgrader   *websocket.Upgrader
	pieces     sync.Pool // of *[pieceSize]byte
}

// New returns a Server for the streams of hub. authorizer decides about play.
func New(hub *stream.Hub, authorizer domain.Authorizer, o Options) *Server {
	o.Fanout.Log = o.Log
	s := &Server{hub: hub, authorizer: authorizer, upgrader: newUpgrader(),
		pieces:    sync.Pool{New: func() any { return new([pieceSize]byte) }},
		http:      fanout.New(hub, o.Engine, protoHTTP, o.Fanout),
		webSocket: fanout.New(hub, o.Engine, protoWebSocket, o.Fanout)}
	s.opt.Store(&o)
	return s
}

// SetOptions replaces the options, except Engine: those of the fan-out at once, the others for
// requests from now on.
func (s *Server) SetOptions(o Options) {
	o.Fanout.Log = o.Log
	s.opt.Store(&o)
	s.http.SetOptions(o.Fanout)
	s.webSocket.SetOptions(o.Fanout)
}

// Serve answers a GET or HEAD for the stream of app and room. An HTTP/1 viewer gets the connection to
// itself, and may watch after Serve has returned. A WebSocket request is upgraded.
func (s *Server) Serve(w http.ResponseWriter, r *http.Request, app, room string) {
	proto := protoOf(r)
	r = s.opt.Load().Tracer.Connect(r, proto)
	token, err := httpx.Token(r)
	var grant domain.Grant
	if err == nil {
		grant, err = s.authorizer.Authorize(r.Context(), domain.AuthRequest{
			Action: domain.Play, App: app, Name: room, Token: token, Proto: proto, Remote: r.RemoteAddr,
			DryRun: r.Method == http.MethodHead,
		})
	}
	if err != nil {
		if proto == protoWebSocket && domain.CodeOf(err) != "" {
			s.refuseWebSocket(w, r, err)
			return
		}
		httpx.WriteError(w, err)
		return
	}
	log := s.opt.Load().Log.With("proto", proto, "remote", r.RemoteAddr).
		With(logging.StreamAttr(grant.Name, s.hub.Has(grant.Name)))
	w.Header().Set("Cache-Control", "no-store")
	if proto == protoWebSocket {
		s.serveWebSocket(w, r, grant, log)
		return
	}
	w.Header().Set("Content-Type", "video/x-flv")
	if r.Method == http.MethodHead {
		if !s.hub.Has(grant.Name) {
			httpx.WriteError(w, domain.Errorf(domain.NotFound, "nobody is publishing %s", grant.Name))
		}
		return
	}
	s.serveHTTP(w, r, grant, log)
}

func (s *Server) serveHTTP(w http.ResponseWriter, r *http.Request, grant domain.Grant, log *slog.Logger) {
	waited := !s.hub.Ready(grant.Name)
	err := s.hub.Await(r.Context(), grant.Name, 0)
	var v *stream.Viewer
	if err == nil {
		v, err = s.hub.Join(grant.Name, s.viewer(r, grant))
	}
	if err != nil {
		if r.Context().Err() == nil {
			httpx.WriteError(w, err)
		}
		return
	}
	c := fanout.Viewer{Name: grant.Name, Stats: v, Waited: waited}
	p := httpViewer{playing: playing{v, s.reporting(r, grant.Name), log}}
	c.Format = format{dialectOf(r), raw}
	if r.ProtoMajor != 1 {
		log.Info("playing")
		c.Protocol = p
		nc := netx.ConnOf(r.Context())
		defer netx.MarkStreaming(nc)()
		s.http.ServeWriter(r.Context(), nc, s.flushed(w), c)
		if nc != nil {
			netx.SetUnsentLimit(nc, netx.MaxUnsent)
		}
		return
	}
	nc, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		v.Leave()
		p.quality.Leave()
		log.Error("cannot take over the connection", "err", err)
		return
	}
	if p.chunked = r.ProtoAtLeast(1, 1); p.chunked {
		w.Header().Set("Transfer-Encoding", "chunked")
		c.Format = format{dialectOf(r), chunks}
	}
	c.Prefix, c.Protocol = responseHead(w.Header()), p
	netx.MarkStreaming(nc) // until the connection is closed
	log.Info("playing")
	s.http.Serve(nc, c)
}

// Protocol names in statistics and logs.
const (
	protoHTTP      = "flv"
	protoWebSocket = "ws"
)

func protoOf(r *http.Request) string {
	if r.Method == http.MethodGet && isWebSocketRequest(r) {
		return protoWebSocket
	}
	return protoHTTP
}

func (s *Server) viewer(r *http.Request, grant domain.Grant) stream.ViewerOptions {
	proto, scheme := protoOf(r), "http"
	if proto == protoWebSocket {
		scheme = "ws"
	}
	// Escape only what needs it: needless escapes of a client would triple the length.
	path := (&url.URL{Path: r.URL.Path}).EscapedPath()
	return stream.ViewerOptions{Proto: proto, Remote: r.RemoteAddr, URL: httpx.DisplayURL(r, scheme, path),
		Agent: r.UserAgent(), TLS: r.TLS != nil, Reserve: grant.Reservation(s.authorizer),
		Expires: grant.Expires, FirstMedia: s.opt.Load().Tracer.FirstFrame(r.Context(), grant.Name, proto)}
}

// dialectOf returns the dialect that a viewer asks for by the query of its URL. The default has no
// color information: mpegts.js fails on it, and decoders find it in the headers and frames too.
func dialectOf(r *http.Request) flv.Dialect {
	q := r.URL.Query()
	all := q.Get("tracks") == "all" // the viewer supports Enhanced RTMP v2
	return flv.Dialect{LegacyHEVC: q.Get("hevc") == "12", Multitrack: all, NoColorInfo: !all}
}

// reporting adds a viewer whose player has named its session in the URL to those that can report.
func (s *Server) reporting(r *http.Request, name domain.Name) *quality.Viewer {
	d, _ := cmcd.ParseQuery(r.URL.RawQuery)
	c := s.opt.Load().Quality
	return c.Join(c.ID(d.Session), name, protoOf(r), r.UserAgent())
}

// playing is the end of a viewer that plays.
type playing struct {
	viewer  *stream.Viewer
	quality *quality.Viewer // may be nil
	log     *slog.Logger
}

// Closed implements fanout.Protocol.
func (p playing) Closed(err error) {
	p.viewer.Leave()
	p.quality.Leave()
	logging.PlayerEnded(p.log, err)
}

// An httpViewer is the protocol of a viewer by HTTP: what it sends is ignored.
type httpViewer struct {
	playing
	chunked bool
}

// Receive implements fanout.Protocol.
func (httpViewer) Receive([]byte) ([]byte, error) { return nil, nil }

// Ping implements fanout.Protocol.
func (httpViewer) Ping(bool) ([]byte, error) { return nil, nil }

// Close implements fanout.Protocol.
func (p httpViewer) Close(error) []byte {
	if p.chunked {
		return []byte(lastChunk)
	}
	return nil
}

// pieceSize is how many bytes are written to a stream of an HTTP/2 connection at once: a usual batch,
// and small enough that a slow viewer makes progress.
const pieceSize = 32 << 10

// flushed returns a function that writes to a stream of an HTTP/2 connection. It joins the parts of a
// batch, because each write is sent by itself.
func (s *Server) flushed(w http.ResponseWriter) func(net.Buffers) error {
	rc := http.NewResponseController(w)
	write := func(piece []byte) error {
		if err := rc.SetWriteDeadline(time.Now().Add(s.opt.Load().Fanout.WriteTimeout)); err != nil {
			return err
		}
		_, err := w.Write(piece)
		return err
	}
	return func(batch net.Buffers) error {
		buf, _ := s.pieces.Get().(*[pieceSize]byte)
		defer s.pieces.Put(buf)
		n := 0
		for _, p := range batch {
			for len(p) > 0 {
				k := copy(buf[n:], p)
				if n, p = n+k, p[k:]; n < pieceSize {
					continue
				}
				if err := write(buf[:]); err != nil {
					return err
				}
				n = 0
			}
		}
		if n > 0 {
			if err := write(buf[:n]); err != nil {
				return err
			}
		}
		if err := rc.Flush(); err != nil {
			return err
		}
		// A deadline would end the stream while there is nothing to send.
		return rc.SetWriteDeadline(time.Time{})
	}
}

// responseHead returns the head of a response after which the connection is closed.
func responseHead(h http.Header) []byte {
	b := []byte("HTTP/1.1 200 OK\r\nConnection: close\r\nDate: " + time.Now().UTC().Format(http.TimeFormat) + "\r\n")
	for _, k := range slices.Sorted(maps.Keys(h)) {
		for _, v := range h[k] {
			b = append(b, k+": "+v+"\r\n"...)
		}
	}
	return append(b, "\r\n"...)
}
