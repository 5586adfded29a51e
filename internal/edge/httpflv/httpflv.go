// Package httpflv serves live streams as endless FLV files, over HTTP and over WebSocket. It knows
// no store, no configuration and no other edge.
package httpflv

import (
	"bufio"
	"context"
	"errors"
	"io"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"time"

	"github.com/gorilla/websocket"

	"livego/internal/container/flv"
	"livego/internal/deliver/fanout"
	"livego/internal/domain"
	"livego/internal/media"
	"livego/internal/ops/httpx"
	"livego/internal/ops/logging"
	"livego/internal/ops/netx"
	"livego/internal/stream"
)

// Options are the settings of a Server.
type Options struct {
	WriteTimeout time.Duration // longest time without write progress
	// PlayWait is how long a WebSocket viewer waits for a publisher; 0: without limit.
	PlayWait time.Duration
	GOPs     int            // keyframe at which a viewer starts, counted back; 0: the live edge
	Engine   *fanout.Engine // serves viewers on plain TCP; nil: each has a goroutine
	Fanout   fanout.Options
	Log      *slog.Logger
}

// A Server serves HTTP-FLV and WebSocket-FLV.
type Server struct {
	hub         *stream.Hub
	authorizer  domain.Authorizer
	opt         Options
	broadcaster *fanout.Broadcaster
	upgrader    *websocket.Upgrader
}

// New returns a Server for the streams of hub. authorizer decides about play.
func New(hub *stream.Hub, authorizer domain.Authorizer, o Options) *Server {
	b := fanout.New(hub, o.Engine, protoHTTP,
		func() fanout.Encoder { return &encoder{pre: flv.Preamble{Dialect: defaultDialect()}} }, o.Fanout)
	return &Server{hub, authorizer, o, b, newUpgrader()}
}

// Serve answers a GET or HEAD for the stream of app and room, until the stream or the request ends.
// An HTTP/1 viewer gets the connection to itself. A WebSocket request is upgraded.
func (s *Server) Serve(w http.ResponseWriter, r *http.Request, app, room string) {
	proto := protoOf(r)
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
	log := s.opt.Log.With("proto", proto, "remote", r.RemoteAddr).
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
	if s.joinFanout(w, r, grant, log) {
		return
	}
	sub, err := s.hub.Subscribe(r.Context(), grant.Name, stream.SubscribeOptions{
		Viewer: s.viewer(r, grant), GOPs: s.opt.GOPs, AllTracks: dialectOf(r).Multitrack,
	})
	if err != nil {
		if r.Context().Err() == nil {
			httpx.WriteError(w, err)
		}
		return
	}
	defer sub.Leave()
	log.Info("playing")

	defer netx.MarkStreaming(netx.ConnOf(r.Context()))()
	ctx, out := r.Context(), s.flushed(w)
	// An HTTP/2 connection serves this viewer only, and small files of a page.
	if nc := netx.ConnOf(ctx); nc != nil && r.ProtoMajor == 2 {
		limitUnsent(nc, sub.Viewer)
		defer netx.SetUnsentLimit(nc, netx.MaxUnsent)
	}
	if r.ProtoMajor == 1 {
		if ctx, out, err = s.hijack(w, r, sub.Viewer); err != nil {
			log.Error("cannot take over the connection", "err", err)
			return
		}
	}
	defer out.close()
	if err = send(ctx, out.write, sub, dialectOf(r)); errors.Is(err, io.EOF) || domain.KindOf(err) != domain.Internal {
		out.end()
	}
	logging.PlayerEnded(log, err)
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
		Reserve: grant.Reservation(s.authorizer), Expires: grant.Expires}
}

// dialectOf returns the dialect that a viewer asks for by the query of its URL.
func dialectOf(r *http.Request) flv.Dialect {
	q, d := r.URL.Query(), defaultDialect()
	d.LegacyHEVC = q.Get("hevc") == "12"
	if q.Get("tracks") == "all" { // the viewer supports Enhanced RTMP v2
		d.Multitrack, d.NoColorInfo = true, false
	}
	return d
}

// defaultDialect is the dialect of viewers that ask for none. It has no color information:
// mpegts.js fails on it, and decoders find it in the headers and frames too.
func defaultDialect() flv.Dialect { return flv.Dialect{NoColorInfo: true} }

// A sink writes the stream to one viewer.
type sink struct {
	write func(batch net.Buffers) error // batch[0] is a free slot for the sink
	end   func()                        // tells the viewer that the stream has ended
	close func()
}

// batchFrames is the most frames in a write: a second of video and audio.
const batchFrames = 128

// send writes frames to a viewer until the stream or the connection ends. The first slot of each
// batch is free for write.
func send(ctx context.Context, write func(batch net.Buffers) error, sub *stream.Subscriber, d flv.Dialect) error {
	var (
		pre      = flv.Preamble{Dialect: d}
		tags     []flv.Tag
		parts    [][]byte
		declared *media.Program
		buf      [batchFrames]*media.Frame

		shared = d == defaultDialect()
	)
	for {
		n, err := sub.Next(ctx, buf[:])
		if err != nil {
			return err
		}
		parts = append(parts[:0], nil)
		if declared == nil {
			declared = sub.Program().With(buf[0].Track)
			parts = append(parts, fileHeader(declared))
		}
		for _, f := range buf[:n] {
			if !declares(declared, f.Track) {
				return domain.Errorf(domain.Unavailable, "new track is not in the FLV file header")
			}
			if !pre.Ready(f) {
				tags = pre.Append(tags[:0], f, sub.Program())
				parts = append(parts, appendTags(nil, tags))
			}
			if shared {
				parts = append(parts, f.Wire(media.FormFLV, flv.EncodeTag).Parts...)
			} else {
				parts = append(parts, d.EncodeTag(f)...)
			}
		}
		if err := write(parts); err != nil {
			return err
		}
		sub.ObserveWritten(buf[:n])
		clear(buf[:n])
		clear(parts)
	}
}

// fileHeader returns a file header that declares the kinds of p's tracks.
func fileHeader(p *media.Program) []byte {
	return flv.FileHeader(p.Has(media.Video), p.Has(media.Audio))
}

// declares reports whether the file header of p allows t. Players create their pipeline from the
// header, and ignore tracks of a kind that it lacks.
func declares(p *media.Program, t *media.Track) bool { return t.Kind == media.Data || p.Has(t.Kind) }

// hijack takes over the connection for one viewer: one writev for a batch on plain TCP, full
// records over TLS. ctx ends when the viewer leaves.
func (s *Server) hijack(w http.ResponseWriter, r *http.Request, v *stream.Viewer) (ctx context.Context, out sink,
	err error) {
	nc, rw, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return nil, sink{}, err
	}
	nc.SetDeadline(time.Time{})
	limitUnsent(nc, v)
	ctx, cancel := context.WithCancel(context.Background())
	gone := make(chan struct{})
	go func() { // detects a viewer that leaves, also while there is nothing to send
		defer close(gone)
		defer cancel()
		discardInput(rw.Reader, nc)
	}()
	raw := func(b net.Buffers) error {
		_, err := netx.WriteBuffers(nc, &b, s.opt.WriteTimeout)
		return err
	}
	out = sink{write: raw, end: func() {}, close: func() {
		nc.Close()
		<-gone
	}}
	if r.ProtoAtLeast(1, 1) {
		w.Header().Set("Transfer-Encoding", "chunked")
		out.write = chunked(out.write)
		out.end = func() { _ = raw(net.Buffers{[]byte(lastChunk)}) } // the viewer may have left
	}
	if err := raw(net.Buffers{responseHead(w.Header())}); err != nil {
		out.close()
		return nil, sink{}, err
	}
	return ctx, out, nil
}

// limitUnsent limits what the kernel holds unsent for v on nc, and lets v measure it.
func limitUnsent(nc net.Conn, v *stream.Viewer) {
	netx.SetUnsentLimit(nc, v.UnsentLimit())
	v.AttachSocket(func() int { return netx.Queued(nc) }, func(n int) { netx.SetUnsentLimit(nc, n) })
}

// chunked writes each batch as one chunk (RFC 9112 section 7.1), so that a viewer can distinguish
// the end of the stream from a lost connection.
func chunked(write func(net.Buffers) error) func(net.Buffers) error {
	var head [10]byte
	crlf := []byte("\r\n")
	return func(batch net.Buffers) error {
		size := 0
		for _, p := range batch {
			size += len(p)
		}
		batch[0] = append(strconv.AppendInt(head[:0], int64(size), 16), crlf...)
		return write(append(batch, crlf))
	}
}

// flushed returns a sink for a stream of an HTTP/2 connection.
func (s *Server) flushed(w http.ResponseWriter) sink {
	const piece = 16 << 10 // small enough that a slow viewer makes progress
	rc := http.NewResponseController(w)
	write := func(batch net.Buffers) error {
		left := 0 // bytes of the piece
		for _, p := range batch {
			for len(p) > 0 {
				if left == 0 {
					if err := rc.SetWriteDeadline(time.Now().Add(s.opt.WriteTimeout)); err != nil {
						return err
					}
					left = piece
				}
				n, err := w.Write(p[:min(left, len(p))])
				if err != nil {
					return err
				}
				p, left = p[n:], left-n
			}
		}
		if err := rc.Flush(); err != nil {
			return err
		}
		// A deadline would end the stream while there is nothing to send.
		return rc.SetWriteDeadline(time.Time{})
	}
	return sink{write: write, end: func() {}, close: func() {}}
}

// discardInput discards what a viewer sends until it closes the connection.
func discardInput(buffered *bufio.Reader, nc net.Conn) {
	buffered.Discard(buffered.Buffered())
	var b [64]byte
	for {
		if _, err := nc.Read(b[:]); err != nil {
			return
		}
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
