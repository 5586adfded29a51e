// Package viewerhttp is the HTTP of all viewers' listeners: it checks requests, answers CORS, and
// routes each to the handler of its protocol by app and suffix. It knows no protocol of streams.
package viewerhttp

import (
	"context"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"livego/internal/ops/httpx"
	"livego/internal/ops/netx"
	"livego/internal/proto/http1"
	"livego/internal/proto/http2"
)

// maxURL is the maximum length of a request target, in bytes.
const maxURL = 4 << 10

// bodyWait is how long the response to a request with a body waits for the body, which the server
// does not use. Without it net/http, which reads the rest of a body before it closes, would wait
// without a limit.
const bodyWait = time.Second

// thumbnailExt is the suffix of thumbnails.
const thumbnailExt = ".jpg"

// App says by which protocols the streams of an app are served.
type App struct{ FLV, HLS bool }

// Options configure a Handler.
type Options struct {
	Apps map[string]App // by name
	// FLV serves a stream as FLV, over HTTP or WebSocket. Its requests last as long as the stream.
	FLV   func(w http.ResponseWriter, r *http.Request, app, room string)
	HLS   http.Handler // playlists, segments and parts
	Files http.Handler // the files of the player, below /.livego/
	// Thumbnail serves a picture of a stream.
	Thumbnail func(w http.ResponseWriter, r *http.Request, app, room string)
	// HasRoom reports whether there is a room of that name, which ends in .jpg. Such a room has a player
	// page at the address that would be that of a thumbnail.
	HasRoom func(r *http.Request, app, room string) bool
	// Reports receives what players report about playback, at /.livego/report.
	Reports http.Handler
	// Page serves the player page of a room. It reports false if no room may have this name.
	Page         func(w http.ResponseWriter, r *http.Request, app, room string) bool
	Proxies      netx.Proxies
	WriteTimeout time.Duration // maximum time without write progress
}

// A Handler is the HTTP handler of all viewers' listeners.
type Handler struct {
	opt atomic.Pointer[Options]

	// There is no WaitGroup: viewers whose stream ended return at once, and WaitGroup.Add
	// concurrent with Wait panics when the counter is zero.
	mu        sync.Mutex
	openEnded int           // number of open-ended responses in progress
	idle      chan struct{} // closed when openEnded becomes 0; nil if nothing waits
}

// New returns a Handler.
func New(o Options) *Handler {
	h := new(Handler)
	h.opt.Store(&o)
	return h
}

// SetOptions replaces the options for requests from now on. WriteTimeout keeps its value for HTTP/1.1.
func (h *Handler) SetOptions(o Options) { h.opt.Store(&o) }

func (h *Handler) streamStarted() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.openEnded++
}

func (h *Handler) streamEnded() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.openEnded--; h.openEnded == 0 && h.idle != nil {
		close(h.idle)
		h.idle = nil
	}
}

// WaitIdle waits until no open-ended responses are in progress, or ctx ends. Only one goroutine may
// call it.
func (h *Handler) WaitIdle(ctx context.Context) {
	h.mu.Lock()
	idle := make(chan struct{})
	if h.openEnded == 0 {
		close(idle)
	} else {
		h.idle = idle
	}
	h.mu.Unlock()
	select {
	case <-idle:
	case <-ctx.Done():
	}
}

// ServeHTTP routes /{app}/{room}.flv, over HTTP and WebSocket, /{app}/{room}.m3u8 with the resources of
// HLS, /{app}/{room}.jpg, the thumbnail, and /{app}/{room}, the player page, with its files and its reports
// below /.livego/. CORS allows pages of every site, without credentials.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch w.(type) {
	case *http1.Response, *http2.Response: // they limit the time without progress themselves
		h.serve(w, r)
		return
	}
	p := &progressWriter{ResponseWriter: w, rc: http.NewResponseController(w), timeout: h.opt.Load().WriteTimeout}
	h.serve(p, r)
	p.finish()
}

func (h *Handler) serve(w http.ResponseWriter, r *http.Request) {
	if client, claimed := h.opt.Load().Proxies.WithClientAddr(r); claimed {
		done, err := h.assignConn(client)
		if err != nil {
			httpx.WriteError(w, err)
			return
		}
		defer done()
		r = client
	}
	header := w.Header()
	header["Access-Control-Allow-Origin"] = anyOrigin
	header["X-Content-Type-Options"] = noSniff
	if r.ContentLength != 0 { // -1 for an unknown length
		header.Set("Connection", "close") // the rest of the connection cannot be trusted
		_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(bodyWait))
	}
	if r.URL.Host != "" || !strings.HasPrefix(r.URL.Path, "/") {
		http.Error(w, "not a proxy: the request target must be a path", http.StatusBadRequest)
		return
	}
	switch r.Method {
	case http.MethodGet, http.MethodHead:
	case http.MethodOptions:
		header.Set("Access-Control-Allow-Methods", "GET, HEAD, OPTIONS")
		header.Set("Access-Control-Allow-Headers", allowedHeaders(r.Header["Access-Control-Request-Headers"]))
		header.Set("Access-Control-Max-Age", "86400")
		header.Set("Vary", "Access-Control-Request-Headers")
		w.WriteHeader(http.StatusNoContent)
		return
	default:
		header.Set("Allow", "GET, HEAD, OPTIONS")
		header.Set("Connection", "close") // the body is not read
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
	header["Access-Control-Expose-Headers"] = exposedHeaders
	h.route(w, r)
}

// assignConn counts the connection of r for its client instead of the proxy that forwarded it,
// until done is called. An HTTP/2 connection carries requests of many clients, and counts for the
// proxy.
func (h *Handler) assignConn(r *http.Request) (done func(), err error) {
	if r.ProtoMajor != 1 {
		return func() {}, nil
	}
	return netx.AssignClient(netx.ConnOf(r.Context()), netx.ClientAddr(r))
}

// Header values that all responses share. They are never modified.
var (
	anyOrigin      = []string{"*"}
	noSniff        = []string{"nosniff"}
	exposedHeaders = []string{"Content-Length, Content-Range, Date, ETag, " + httpx.CodeHeader +
		", Retry-After, WWW-Authenticate"}
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

func (h *Handler) route(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path == "/crossdomain.xml" {
		w.Header().Set("Content-Type", "application/xml")
		io.WriteString(w, crossdomain)
		return
	}
	opt := h.opt.Load()
	if r.URL.Path == "/.livego/report" && opt.Reports != nil {
		opt.Reports.ServeHTTP(w, r)
		return
	}
	if strings.HasPrefix(r.URL.Path, "/.livego/") && opt.Files != nil {
		opt.Files.ServeHTTP(w, r)
		return
	}
	name, rest, within := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
	app, known := opt.Apps[name]
	slashes := strings.Count(rest, "/")
	switch {
	case !known && within:
		http.Error(w, "no such app", http.StatusNotFound)
	case slashes == 0 && strings.HasSuffix(rest, ".flv") && app.FLV:
		h.streamStarted()
		defer h.streamEnded()
		if r.ProtoMajor == 1 {
			w = tcpHijacker{w}
		}
		opt.FLV(w, r, name, strings.TrimSuffix(rest, ".flv"))
	case slashes == 0 && strings.HasSuffix(rest, ".m3u8") && app.HLS, slashes == 1 && app.HLS:
		opt.HLS.ServeHTTP(w, r)
	case slashes == 0 && strings.HasSuffix(rest, thumbnailExt) && (app.FLV || app.HLS) && !opt.HasRoom(r, name, rest):
		opt.Thumbnail(w, r, name, strings.TrimSuffix(rest, thumbnailExt))
	case slashes == 0 && (app.FLV || app.HLS) && opt.Page != nil && opt.Page(w, r, name, rest):
		// served
	default:
		http.Error(w, "not found: streams are at /APP/ROOM.flv and /APP/ROOM.m3u8, the player at /APP/ROOM, "+
			"a picture at /APP/ROOM.jpg",
			http.StatusNotFound)
	}
}

const crossdomain = `<?xml version="1.0"?>
<cross-domain-policy>
	<allow-access-from domain="*"/>
	<allow-http-request-headers-from domain="*" headers="*"/>
</cross-domain-policy>
`

// Server returns the net/http server of viewers.
func (h *Handler) Server(o httpx.ServerOptions) *http.Server {
	srv := httpx.NewServer(h, o)
	srv.DisableGeneralOptionsHandler = true
	srv.ConnContext = func(ctx context.Context, c net.Conn) context.Context {
		netx.SetUnsentLimit(c, netx.MaxUnsent)
		return netx.WithConn(ctx, c)
	}
	return srv
}

// HTTP1Server returns the server of a viewers' listener, plain or TLS: http1, with http2 for HTTP/2, and
// Server for the connections that it passes on. otherProtocol is called for clients that speak another protocol.
func (h *Handler) HTTP1Server(o httpx.ServerOptions,
	otherProtocol func(protocol string, client net.Addr)) *http1.Server {
	return http1.New(h.Server(o), http1.Options{
		StallTimeout: h.opt.Load().WriteTimeout, OtherProtocol: otherProtocol,
	})
}
