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

// maxURL is the maximum length of a request target, in bytes.
const maxURL = 4 << 10

// bodyWait is how long the response to a request with a body waits for the body, which the server
// does not use. Without it net/http, which reads the rest of a body before it closes, would wait
// without a limit.
const bodyWait = time.Second

// maxHTTP2Streams is the maximum number of concurrent requests of an HTTP/2 connection: the minimum
// that RFC 9113 section 5.1.2 recommends. Each may keep its header in memory while the client reads
// no response.
const maxHTTP2Streams = 100

// viewerHandler is the HTTP handler of all viewers' listeners.
type viewerHandler struct {
	flv          *edgeflv.Server
	hls          *hls.Server
	apps         map[string]config.App
	proxies      netx.Proxies
	writeTimeout time.Duration // maximum time without write progress

	// There is no WaitGroup: viewers whose stream ended return at once, and WaitGroup.Add
	// concurrent with Wait panics when the counter is zero.
	mu        sync.Mutex
	openEnded int           // number of open-ended responses in progress
	idle      chan struct{} // closed when openEnded becomes 0; nil if nothing waits
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

// waitIdle waits until no open-ended responses are in progress, or ctx ends. Only one goroutine may
// call it.
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

// ServeHTTP routes /{app}/{room}.flv, over HTTP and WebSocket, and /{app}/{room}.m3u8 with the
// resources of HLS. CORS allows pages of every site, without credentials.
func (v *viewerHandler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if _, own := w.(*http1.Response); own { // http1 limits the time without progress itself
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
	if r.ContentLength != 0 { // -1 for an unknown length
		h.Set("Connection", "close") // the rest of the connection cannot be trusted
		_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(bodyWait))
	}
	if r.URL.Host != "" || !strings.HasPrefix(r.URL.Path, "/") {
		http.Error(w, "not a proxy: the request target must be a path", http.StatusBadRequest)
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
		h.Set("Connection", "close") // the body is not read
		http.Error(w, "method not allowed: use GET or HEAD", http.StatusMethodNotAllowed)
		return
	}
	if r.ContentLength != 0 {
		http.Error(w, "request body not allowed", http.StatusBadRequest)
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

// assignConn counts the connection of r for its client instead of the proxy that forwarded it,
// until done is called. An HTTP/2 connection carries requests of many clients, and counts for the
// proxy.
func (v *viewerHandler) assignConn(r *http.Request) (done func(), err error) {
	if r.ProtoMajor != 1 {
		return func() {}, nil
	}
	return netx.AssignClient(netx.ConnOf(r.Context()), netx.ClientAddr(r))
}

// Header values that all responses share. They are never modified.
var (
	anyOrigin      = []string{"*"}
	noSniff        = []string{"nosniff"}
	exposedHeaders = []string{"Content-Length, Content-Range, Date, ETag, " + httpx.CodeHeader + ", WWW-Authenticate"}
)

const (
	// maxCORSHeaders and maxCORSHeader limit what a response repeats of a preflight request: the
	// number of names, and the bytes of each.
	maxCORSHeaders = 32
	maxCORSHeader  = 128
	// defaultCORSHeaders are the headers that players send besides the CORS-safelisted ones.
	defaultCORSHeaders = "Authorization, Range"
)

// allowedHeaders returns the value of Access-Control-Allow-Headers for a preflight request: the
// requested names, because * does not include Authorization and old browsers do not support it.
// Invalid names are left out.
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

// isToken reports whether s is a token (RFC 9110 section 5.6.2), as header names are.
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
		http.Error(w, "no such app", http.StatusNotFound)
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
		http.Error(w, "not found: streams are at /APP/ROOM.flv and /APP/ROOM.m3u8", http.StatusNotFound)
	}
}

const crossdomain = `<?xml version="1.0"?>
<cross-domain-policy>
	<allow-access-from domain="*"/>
	<allow-http-request-headers-from domain="*" headers="*"/>
</cross-domain-policy>
`

// progressWriter extends the write deadline while the client makes progress, or until a deadline
// for the whole response. Without it a client that requests and reads nothing would hold its
// connection, or its HTTP/2 streams, without a limit.
type progressWriter struct {
	http.ResponseWriter
	rc       *http.ResponseController
	timeout  time.Duration
	deadline time.Time // zero for none
	hijacked bool      // by the handler
}

// SetWriteDeadline sets a deadline for the whole response, whatever the progress. A zero t means
// none.
func (p *progressWriter) SetWriteDeadline(t time.Time) error {
	p.deadline = t
	return p.rc.SetWriteDeadline(t)
}

func (p *progressWriter) Write(b []byte) (int, error) {
	const piece = 64 << 10 // small enough that a viewer with 64 kbit/s makes progress
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

// extendDeadline gives the client the timeout from now on.
func (p *progressWriter) extendDeadline() {
	deadline := time.Now().Add(p.timeout)
	if !p.deadline.IsZero() && p.deadline.Before(deadline) {
		deadline = p.deadline
	}
	_ = p.rc.SetWriteDeadline(deadline) // the connection fails anyway
}

// finish gives the client time to read what net/http sends after the handler.
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

// Unwrap implements the interface of http.ResponseController.
func (p *progressWriter) Unwrap() http.ResponseWriter { return p.ResponseWriter }

// A webServer is an http.Server or an http1.Server.
type webServer interface {
	Serve(net.Listener) error
	Shutdown(context.Context) error
	Close() error
}

// http1Server returns the HTTP/1.1 server of l, a plain TCP listener for viewers.
func (a *App) http1Server(l listener) *http1.Server {
	return http1.New(a.viewerServer(), http1.Options{
		Bypass: func(path string) bool { return strings.HasSuffix(path, ".flv") }, StallTimeout: a.cfg.WriteTimeout,
		OtherProtocol: a.logWrongProtocol(l),
	})
}

// viewerServer returns the net/http server of a viewers' listener.
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

// tcpHijacker makes Hijack return the TCP connection itself.
type tcpHijacker struct{ http.ResponseWriter }

// Hijack implements http.Hijacker.
func (w tcpHijacker) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	c, rw, err := http.NewResponseController(w.ResponseWriter).Hijack()
	return http1.TCPConn(c), rw, err
}

// Unwrap implements the interface of http.ResponseController.
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
	srv.ReadTimeout = 2 * a.cfg.HeaderTimeout // request bodies are small
	srv.WriteTimeout = 2 * time.Minute        // so are responses, except for profiles, which take as long as requested
	return srv
}

// acmeServer returns the HTTP server for ACME HTTP-01 challenges. It is public; requests and
// responses are small.
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

// recoverPanics limits a panic to its request, as net/http does, and logs it.
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
