package app

import (
	"bufio"
	"context"
	"io"
	"log/slog"
	"net"
	"net/http"
	"runtime/debug"
	"strings"
	"sync"
	"time"

	"livego/internal/edge/hls"
	edgeflv "livego/internal/edge/httpflv"
	"livego/internal/ops/config"
	"livego/internal/ops/httpx"
	"livego/internal/ops/netx"
	"livego/internal/ops/peeruser"
	"livego/internal/proto/http1"
)

// maxURL is the longest request target that is looked at, in bytes.
const maxURL = 4 << 10

// bodyWait is how long an answer to a request with a body, which nobody here reads, waits for that
// body: net/http takes what is left of it before it closes, and would wait for ever for a sender
// who does not send.
const bodyWait = time.Second

// maxHTTP2Streams is how many requests of one connection by HTTP/2 are under way at a time: the
// least that RFC 9113 section 5.1.2 recommends. Each may hold its header in memory while the client
// takes no answer.
const maxHTTP2Streams = 100

// viewerHandler is the one handler behind every viewerHandler' listener.
type viewerHandler struct {
	flv          *edgeflv.Server
	hls          *hls.Server
	apps         map[string]config.App
	proxies      netx.Proxies
	writeTimeout time.Duration // the longest time without write progress

	// No WaitGroup: viewers who saw the end come again at once, and one that is added to while it wakes who waits panics.
	mu        sync.Mutex
	openEnded int           // answers without an end that are under way
	idle      chan struct{} // closed when there is none; nil when nobody waits for that
}

func (v *viewerHandler) streamStarted() {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.openEnded++
}

func (v *viewerHandler) streamEnded() {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.openEnded--; v.openEnded == 0 && v.idle != nil {
		close(v.idle)
		v.idle = nil
	}
}

// waitIdle waits until there are no viewers of endless answers, or ctx ends. It is for one goroutine.
func (v *viewerHandler) waitIdle(ctx context.Context) {
	v.mu.Lock()
	idle := make(chan struct{})
	if v.openEnded == 0 {
		close(idle)
	} else {
		v.idle = idle
	}
	v.mu.Unlock()
	select {
	case <-idle:
	case <-ctx.Done():
	}
}

// ServeHTTP routes /{app}/{room}.flv, by HTTP and by WebSocket, /{app}/{room}.m3u8 and what the
// latter leads to. Media is for every page of the web, without credentials.
func (v *viewerHandler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if _, own := w.(*http1.Response); own { // the front sees to progress by itself
		v.serve(w, r)
		return
	}
	p := &progressWriter{ResponseWriter: w, rc: http.NewResponseController(w), timeout: v.writeTimeout}
	v.serve(p, r)
	p.finish()
}

func (v *viewerHandler) serve(w http.ResponseWriter, r *http.Request) {
	if client, claimed := v.proxies.WithClientAddr(r); claimed {
		done, err := v.assignConn(client)
		if err != nil {
			httpx.WriteError(w, err)
			return
		}
		defer done()
		r = client
	}
	h := w.Header()
	h["Access-Control-Allow-Origin"] = anyOrigin
	h["X-Content-Type-Options"] = noSniff
	if r.ContentLength != 0 { // nor -1, of a length not known
		h.Set("Connection", "close") // where the body ends, and what is behind it, is not looked at
		_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(bodyWait))
	}
	if r.URL.Host != "" || !strings.HasPrefix(r.URL.Path, "/") {
		http.Error(w, "this is no proxy: ask for a path", http.StatusBadRequest)
		return
	}
	switch r.Method {
	case http.MethodGet, http.MethodHead:
	case http.MethodOptions:
		h.Set("Access-Control-Allow-Methods", "GET, HEAD, OPTIONS")
		h.Set("Access-Control-Allow-Headers", allowedHeaders(r.Header["Access-Control-Request-Headers"]))
		h.Set("Access-Control-Max-Age", "86400")
		h.Set("Vary", "Access-Control-Request-Headers")
		w.WriteHeader(http.StatusNoContent)
		return
	default:
		h.Set("Allow", "GET, HEAD, OPTIONS")
		h.Set("Connection", "close") // whatever body there is stays unread
		http.Error(w, "only GET and HEAD are served here", http.StatusMethodNotAllowed)
		return
	}
	if r.ContentLength != 0 {
		http.Error(w, "a request here has no body", http.StatusBadRequest)
		return
	}
	if err := httpx.CheckHost(r.Host); err != nil {
		httpx.WriteError(w, err)
		return
	}
	if len(r.RequestURI) > maxURL {
		http.Error(w, "the URL is longer than 4096 bytes", http.StatusRequestURITooLong)
		return
	}
	h["Access-Control-Expose-Headers"] = exposedHeaders
	v.route(w, r)
}

// assignConn makes the connection of r, which a proxy has passed on, one of its client until done
// is called. A connection by HTTP/2 carries the requests of many clients at once, and stays one of
// the proxy.
func (v *viewerHandler) assignConn(r *http.Request) (done func(), err error) {
	if r.ProtoMajor != 1 {
		return func() {}, nil
	}
	return netx.AssignClient(netx.ConnOf(r.Context()), netx.ClientAddr(r))
}

// Values of headers that all answers share: they are never modified.
var (
	anyOrigin      = []string{"*"}
	noSniff        = []string{"nosniff"}
	exposedHeaders = []string{"Content-Length, Content-Range, Date, ETag, " + httpx.CodeHeader + ", WWW-Authenticate"}
)

const (
	// maxCORSHeaders and maxCORSHeader bound what an answer repeats of a preflight request: names, and bytes of one.
	maxCORSHeaders = 32
	maxCORSHeader  = 128
	// defaultCORSHeaders is what players send besides what every page may send.
	defaultCORSHeaders = "Authorization, Range"
)

// allowedHeaders returns which headers a page may send that has asked for some: those, since * does
// not stand for Authorization, nor for any with old browsers. What is no name of a header is left
// out.
func allowedHeaders(asked []string) string {
	var names []string
	for _, line := range asked {
		for name := range strings.SplitSeq(line, ",") {
			name = strings.TrimSpace(name)
			if len(names) < maxCORSHeaders && len(name) <= maxCORSHeader && isToken(name) {
				names = append(names, name)
			}
		}
	}
	if len(names) == 0 {
		return defaultCORSHeaders
	}
	return strings.Join(names, ", ")
}

// isToken reports whether s is a token (RFC 9110 section 5.6.2), as the name of a header is.
func isToken(s string) bool {
	return s != "" && !strings.ContainsFunc(s, func(c rune) bool {
		return (c < '0' || c > '9') && (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') &&
			!strings.ContainsRune("!#$%&'*+-.^_`|~", c)
	})
}

func (v *viewerHandler) route(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path == "/crossdomain.xml" {
		w.Header().Set("Content-Type", "application/xml")
		io.WriteString(w, crossdomain)
		return
	}
	path := strings.Split(strings.TrimPrefix(r.URL.Path, "/"), "/")
	app, known := v.apps[path[0]]
	switch {
	case !known && len(path) > 1:
		http.Error(w, "there is no such application here", http.StatusNotFound)
	case len(path) == 2 && strings.HasSuffix(path[1], ".flv") && app.FLV:
		v.streamStarted()
		defer v.streamEnded()
		if r.ProtoMajor == 1 {
			w = tcpHijacker{w}
		}
		v.flv.Serve(w, r, path[0], strings.TrimSuffix(path[1], ".flv"))
	case len(path) == 2 && strings.HasSuffix(path[1], ".m3u8") && app.HLS, len(path) == 3 && app.HLS:
		v.hls.ServeHTTP(w, r)
	default:
		http.Error(w, "nothing is here: watch at /APP/ROOM.flv or /APP/ROOM.m3u8", http.StatusNotFound)
	}
}

const crossdomain = `<?xml version="1.0"?>
<cross-domain-policy>
	<allow-access-from domain="*"/>
	<allow-http-request-headers-from domain="*" headers="*"/>
</cross-domain-policy>
`

// progressWriter lets an answer take as long as it takes while the client takes it, or until a
// deadline for all of it. Whatever the answer is: a client that asks and takes nothing would hold
// its connection, or the streams of one by HTTP/2, without end.
type progressWriter struct {
	http.ResponseWriter
	rc       *http.ResponseController
	timeout  time.Duration
	deadline time.Time // zero: no deadline
	hijacked bool      // the connection, by the handler
}

// SetWriteDeadline has the client take all of the answer by t, whatever its progress. The zero time
// is for an answer that goes on later.
func (p *progressWriter) SetWriteDeadline(t time.Time) error {
	p.deadline = t
	return p.rc.SetWriteDeadline(t)
}

func (p *progressWriter) Write(b []byte) (int, error) {
	const piece = 64 << 10 // small enough that a viewer on a line of 64 kbit/s shows progress
	total := 0
	for {
		p.extendDeadline()
		n, err := p.ResponseWriter.Write(b[:min(piece, len(b))])
		total += n
		if b = b[n:]; err != nil || len(b) == 0 {
			return total, err
		}
	}
}

// extendDeadline gives the client time to take something.
func (p *progressWriter) extendDeadline() {
	deadline := time.Now().Add(p.timeout)
	if !p.deadline.IsZero() && p.deadline.Before(deadline) {
		deadline = p.deadline
	}
	_ = p.rc.SetWriteDeadline(deadline) // of a connection that fails anyway
}

// finish gives the client time to take what net/http sends after the handler.
func (p *progressWriter) finish() {
	if !p.hijacked {
		p.extendDeadline()
	}
}

// Hijack implements http.Hijacker.
func (p *progressWriter) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	p.hijacked = true
	return p.rc.Hijack()
}

// Unwrap is for http.ResponseController.
func (p *progressWriter) Unwrap() http.ResponseWriter { return p.ResponseWriter }

// A webServer is an http.Server, or one with a front.
type webServer interface {
	Serve(net.Listener) error
	Shutdown(context.Context) error
	Close() error
}

// http1Server returns the server of l, a viewers' listener of plain TCP.
func (a *App) http1Server(l listener) *http1.Server {
	return http1.New(a.viewerServer(), http1.Options{
		Bypass: func(path string) bool { return strings.HasSuffix(path, ".flv") }, StallTimeout: a.cfg.WriteTimeout,
		OtherProtocol: a.logWrongProtocol(l),
	})
}

// viewerServer returns the HTTP server of one viewers' listener.
func (a *App) viewerServer() *http.Server {
	srv := a.server(a.viewers)
	srv.DisableGeneralOptionsHandler = true
	srv.HTTP2.WriteByteTimeout = a.cfg.WriteTimeout
	srv.ConnContext = func(ctx context.Context, c net.Conn) context.Context {
		netx.SetUnsentLimit(c, netx.MaxUnsent)
		return netx.WithConn(ctx, c)
	}
	return srv
}

// tcpHijacker gives who takes a connection over the TCP connection itself.
type tcpHijacker struct{ http.ResponseWriter }

// Hijack implements http.Hijacker.
func (w tcpHijacker) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	c, rw, err := http.NewResponseController(w.ResponseWriter).Hijack()
	return http1.TCPConn(c), rw, err
}

// Unwrap is for http.ResponseController.
func (w tcpHijacker) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// apiServer returns the HTTP server of the operator.
func (a *App) apiServer() *http.Server {
	srv := a.server(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		r, _ = a.proxies.WithClientAddr(r)
		a.api.ServeHTTP(w, r)
	}))
	srv.ConnContext = func(ctx context.Context, c net.Conn) context.Context {
		netx.SetUnsentLimit(c, netx.MaxUnsent)
		return netx.WithConn(peeruser.WithConn(ctx, netx.Socket(c)), c)
	}
	srv.ReadTimeout = 2 * a.cfg.HeaderTimeout // its bodies are small
	srv.WriteTimeout = 2 * time.Minute        // its answers too, but for profiles, which take as long as is asked for
	return srv
}

// acmeServer returns the HTTP server of an authority's questions. It is open to everybody, and what
// it takes and gives is small.
func (a *App) acmeServer() *http.Server {
	srv := a.server(a.acme.Handler())
	srv.ReadTimeout, srv.WriteTimeout = 2*a.cfg.HeaderTimeout, a.cfg.WriteTimeout
	return srv
}

func (a *App) server(h http.Handler) *http.Server {
	return &http.Server{
		Handler:           a.recoverPanics(h),
		ReadHeaderTimeout: a.cfg.HeaderTimeout,
		IdleTimeout:       a.cfg.IdleTimeout,
		MaxHeaderBytes:    16<<10 - 4096, // net/http adds 4 KiB of slack
		HTTP2:             &http.HTTP2Config{MaxConcurrentStreams: maxHTTP2Streams},
		ErrorLog:          slog.NewLogLogger(a.log.Handler(), slog.LevelDebug),
	}
}

// recoverPanics keeps a panic to its request, as net/http does, but says so in the log.
func (a *App) recoverPanics(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer func() {
			if p := recover(); p != nil {
				if p != http.ErrAbortHandler {
					a.log.Error("panic", "panic", p, "stack", string(debug.Stack()))
				}
				panic(http.ErrAbortHandler)
			}
		}()
		h.ServeHTTP(w, r)
	})
}
