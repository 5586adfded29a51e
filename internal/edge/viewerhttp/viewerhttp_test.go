package viewerhttp

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// TestInvalidViewerRequests checks the responses to requests that no viewer sends. A proxy that
// parses them differently must find nothing behind them (request smuggling).
func TestInvalidViewerRequests(t *testing.T) {
	for _, c := range []struct {
		name, method, target string
		body                 io.Reader
		status               int
		closes               bool
	}{
		{"body", "GET", "/live/movie.flv", strings.NewReader("hello"), 400, true},
		{"body without a length", "GET", "/live/movie.flv", io.MultiReader(strings.NewReader("hello")), 400, true},
		{"absolute URI", "GET", "http://evil.example/live/movie.flv", nil, 400, false},
		{"asterisk", "OPTIONS", "*", nil, 400, false},
		{"method", "POST", "/live/movie.flv", strings.NewReader("hello"), 405, true},
		{"long URL", "GET", "/live/" + strings.Repeat("x", maxURL), nil, 414, false},
		{"app", "GET", "/cinema/movie.flv", nil, 404, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := httptest.NewRecorder()
			New(Options{}).ServeHTTP(w, httptest.NewRequest(c.method, c.target, c.body))
			if w.Code != c.status {
				t.Errorf("HTTP %d, want %d: %s", w.Code, c.status, w.Body)
			}
			if closes := w.Header().Get("Connection") == "close"; closes != c.closes {
				t.Errorf("connection: close is %v, want %v", closes, c.closes)
			}
		})
	}
}

// TestRoutes checks which handler gets a request.
func TestRoutes(t *testing.T) {
	got := ""
	h := New(Options{
		Apps: map[string]App{"live": {FLV: true, HLS: true}, "flvonly": {FLV: true}, "hlsonly": {HLS: true}, "off": {}},
		FLV:  func(_ http.ResponseWriter, _ *http.Request, app, room string) { got = "FLV " + app + " " + room },
		HLS: http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			got = "HLS " + r.URL.Path
		}),
		Files: http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			got = "file " + r.URL.Path
		}),
		Thumbnail: func(_ http.ResponseWriter, _ *http.Request, app, room string) { got = "thumbnail " + app + " " + room },
		HasRoom:   func(_ *http.Request, app, room string) bool { return app+"/"+room == "live/cat.jpg" },
		Reports: http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			got = "report " + r.URL.RawQuery
		}),
		Page: func(_ http.ResponseWriter, _ *http.Request, app, room string) bool {
			if room == "" || slices.Contains([]string{".flv", ".m3u8", ".ts"}, path.Ext(room)) {
				return false
			}
			got = "page " + app + " " + room
			return true
		},
	})
	for _, c := range []struct{ path, want string }{
		{"/live/movie.flv", "FLV live movie"},
		{"/live/movie.m3u8", "HLS /live/movie.m3u8"},
		{"/live/movie/1-2.m4s", "HLS /live/movie/1-2.m4s"},
		{"/flvonly/movie.flv", "FLV flvonly movie"},
		{"/flvonly/movie.m3u8", ""},
		{"/flvonly/movie/1-2.m4s", ""},
		{"/hlsonly/movie.flv", ""},
		{"/hlsonly/movie.m3u8", "HLS /hlsonly/movie.m3u8"},
		{"/off/movie.flv", ""},
		{"/none/movie.flv", ""},
		{"/live/movie", "page live movie"},
		{"/live/movie.jpg", "thumbnail live movie"},
		{"/live/cat.jpg", "page live cat.jpg"},
		{"/live/cat.jpg.jpg", "thumbnail live cat.jpg"},
		{"/flvonly/movie.jpg", "thumbnail flvonly movie"},
		{"/off/movie.jpg", ""},
		{"/none/movie.jpg", ""},
		{"/flvonly/movie", "page flvonly movie"},
		{"/hlsonly/movie", "page hlsonly movie"},
		{"/off/movie", ""},
		{"/none/movie", ""},
		{"/live/movie.ts", ""},
		{"/live/", ""},
		{"/.livego/report?CMCD=bs", "report CMCD=bs"},
		{"/.livego/report/x", "file /.livego/report/x"},
		{"/.livego/player.js", "file /.livego/player.js"},
		{"/.livego/chunks/a.js", "file /.livego/chunks/a.js"},
		{"/live/a/b/c.flv", ""},
		{"/live", ""},
		{"/", ""},
	} {
		got = ""
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequest("GET", c.path, nil))
		if got != c.want || (c.want == "") != (w.Code == http.StatusNotFound) {
			t.Errorf("%s: %q, HTTP %d, want %q", c.path, got, w.Code, c.want)
		}
	}
}

// TestCORSPreflight checks the responses to preflight requests.
func TestCORSPreflight(t *testing.T) {
	var many []string
	for i := range 40 {
		many = append(many, fmt.Sprintf("x-header-%d", i))
	}
	for _, tt := range []struct {
		name  string
		asked []string
		want  string
	}{
		{"none", nil, "Authorization, Range"},
		{"hls.js with a header of its own", []string{"authorization,x-token"}, "authorization, x-token"},
		{"two lines", []string{"range", " x-a , x-b"}, "range, x-a, x-b"},
		{"what is no name", []string{"x-a, x b, , x:c, x-\u00e9, *, x-d"}, "x-a, *, x-d"},
		{"nothing but that", []string{"x b"}, "Authorization, Range"},
		{"line ends", []string{"x-a\r\nSet-Cookie: a"}, "Authorization, Range"},
		{"many", []string{strings.Join(many, ",")}, strings.Join(many[:32], ", ")},
		{"long", []string{strings.Repeat("x", 129) + ",range"}, "range"},
	} {
		r := httptest.NewRequest("OPTIONS", "/live/movie/index.m3u8", nil)
		r.Header["Access-Control-Request-Headers"] = tt.asked
		w := httptest.NewRecorder()
		New(Options{}).ServeHTTP(w, r)
		h := w.Header()
		if got := h.Get("Access-Control-Allow-Headers"); w.Code != 204 || got != tt.want {
			t.Errorf("%s: HTTP %d, allowed %q, want %q", tt.name, w.Code, got, tt.want)
		}
		if h.Get("Vary") != "Access-Control-Request-Headers" || h.Get("Access-Control-Max-Age") != "86400" ||
			h.Get("Access-Control-Allow-Origin") != "*" {
			t.Errorf("%s: %v", tt.name, h)
		}
	}
	w := httptest.NewRecorder()
	New(Options{}).ServeHTTP(w, httptest.NewRequest("GET", "/nowhere/movie.m3u8", nil))
	for _, name := range []string{"Date", "ETag", "Content-Range", "Retry-After"} {
		if exposed := w.Header().Get("Access-Control-Expose-Headers"); !strings.Contains(exposed, name) {
			t.Errorf("exposed are %s", exposed)
		}
	}
}

// TestRequestBodyNeverArrives sends requests that announce a body and send none: each gets a
// response, and the connection is closed.
func TestRequestBodyNeverArrives(t *testing.T) {
	srv := httptest.NewServer(New(Options{WriteTimeout: 10 * time.Second}))
	t.Cleanup(srv.Close)
	for _, method := range []string{"GET", "POST", "OPTIONS"} {
		t.Run(method, func(t *testing.T) {
			t.Parallel()
			c, err := net.Dial("tcp", srv.Listener.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			_ = c.SetDeadline(time.Now().Add(8 * time.Second))
			if _, err := io.WriteString(c,
				method+" /live/movie.flv HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n"); err != nil {
				t.Fatal(err)
			}
			br := bufio.NewReader(c)
			if line, err := br.ReadString('\n'); err != nil || !strings.HasPrefix(line, "HTTP/1.1 ") {
				t.Fatalf("response %q, %v", line, err)
			}
			if _, err := io.Copy(io.Discard, br); err != nil {
				t.Errorf("the connection stays: %v", err)
			}
		})
	}
}

// TestViewersThatReadNothing sends many requests with short responses and reads none: each
// connection is closed.
func TestViewersThatReadNothing(t *testing.T) {
	h := New(Options{WriteTimeout: 100 * time.Millisecond, Apps: map[string]App{"live": {HLS: true}}})
	for _, request := range []string{
		"GET /nothing HTTP/1.1", "GET /crossdomain.xml HTTP/1.1", "HEAD /nothing HTTP/1.1",
		"OPTIONS /live/movie.flv HTTP/1.1", "GET /x/movie.flv HTTP/1.1",
	} {
		t.Run(request, func(t *testing.T) {
			t.Parallel()
			srv := httptest.NewUnstartedServer(h)
			srv.Config.ConnContext = func(ctx context.Context, c net.Conn) context.Context {
				_ = c.(*net.TCPConn).SetWriteBuffer(16 << 10)
				return ctx
			}
			srv.Start()
			defer srv.Close()
			c, err := net.Dial("tcp", srv.Listener.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			_ = c.SetDeadline(time.Now().Add(20 * time.Second))
			many := []byte(strings.Repeat(request+"\r\nHost: localhost\r\n\r\n", 1000))
			for err == nil {
				_, err = c.Write(many)
			}
			if errors.Is(err, os.ErrDeadlineExceeded) {
				t.Error("the connection stays")
			}
		})
	}
}

// TestViewersArriveDuringWaitIdle starts and ends viewers while WaitIdle waits, as happens when a
// stream ends.
func TestViewersArriveDuringWaitIdle(t *testing.T) {
	h := New(Options{})
	h.streamStarted()
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	h.WaitIdle(ctx) // returns because ctx has ended
	h.streamEnded()

	var wg sync.WaitGroup
	ctx, cancel = context.WithTimeout(context.Background(), 100*time.Millisecond)
	defer cancel()
	for range 4 {
		wg.Go(func() {
			for ctx.Err() == nil {
				h.streamStarted()
				h.streamEnded()
			}
		})
	}
	for ctx.Err() == nil {
		h.WaitIdle(ctx)
	}
	wg.Wait()
	h.WaitIdle(context.Background())
}
