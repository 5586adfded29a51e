package http1

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"reflect"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"livego/internal/ops/netx"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// testTimeout limits how long a test waits for an event.
const testTimeout = 10 * time.Second

// heads are requests, some of which the fast path serves. They seed FuzzParse, and
// TestMatchesNetHTTP sends each.
var heads = []struct {
	name string
	head string
	fast bool // served by the fast path
}{
	{"GET", "GET /live/movie.m3u8 HTTP/1.1\r\nHost: localhost:7002\r\n\r\n", true},
	{"HEAD", "HEAD /200 HTTP/1.1\r\nHost: localhost\r\n\r\n", true},
	{"HEAD of an error", "HEAD /404 HTTP/1.1\r\nHost: localhost\r\n\r\n", true},
	{"fields", "GET /echo HTTP/1.1\r\nHost: [::1]:7002\r\nUser-Agent: hls.js \t\r\naccept-encoding: " +
		"gzip\r\nX:y\r\nCookie: a=b\r\ncookie: c\r\nEmpty:\r\n\r\n", true},
	{"keep-alive", "GET /echo HTTP/1.1\r\nHost: localhost\r\nConnection: Keep-Alive\r\n\r\n", true},
	{"pragma", "GET /echo HTTP/1.1\r\nHost: localhost\r\nPragma: no-cache\r\n\r\n", true},
	{"pragma and cache control", "GET /echo HTTP/1.1\r\nHost: localhost\r\nPragma: no-cache\r\nCache-Control: " +
		"max-age=0\r\n\r\n", true},
	{"range", "GET /range HTTP/1.1\r\nHost: localhost\r\nRange: bytes=2-5\r\n\r\n", true},
	{"ranges", "GET /range HTTP/1.1\r\nHost: localhost\r\nRange: bytes=2-5,7-8\r\n\r\n", true},
	{"range beyond", "GET /range HTTP/1.1\r\nHost: localhost\r\nRange: bytes=200000-\r\n\r\n", true},
	{"HEAD of a range", "HEAD /range HTTP/1.1\r\nHost: localhost\r\nRange: bytes=2-5\r\n\r\n", true},
	{"escapes", "GET /a%20b%2fc?q=%zz&s=1;2 HTTP/1.1\r\nHost: localhost\r\n\r\n", true},
	{"authority in the path", "GET //evil.example/x HTTP/1.1\r\nHost: localhost\r\n\r\n", true},
	{"fragment", "GET /a#b HTTP/1.1\r\nHost: localhost\r\n\r\n", true},
	{"not modified", "GET /304 HTTP/1.1\r\nHost: localhost\r\n\r\n", true},
	{"no content", "GET /204 HTTP/1.1\r\nHost: localhost\r\n\r\n", true},
	{"nothing", "GET /nothing HTTP/1.1\r\nHost: localhost\r\n\r\n", true},
	{"odd status", "GET /599 HTTP/1.1\r\nHost: localhost\r\n\r\n", true},
	{"no type", "GET /untyped HTTP/1.1\r\nHost: localhost\r\n\r\n", true},
	{"lines in a value", "GET /split HTTP/1.1\r\nHost: localhost\r\n\r\n", true},
	{"large", "GET /large HTTP/1.1\r\nHost: localhost\r\n\r\n", true},
	{"handler that closes", "GET /close HTTP/1.1\r\nHost: localhost\r\n\r\n", true},
	{"too short", "GET /short HTTP/1.1\r\nHost: localhost\r\n\r\n", true},

	{"bad escape", "GET /a%zz HTTP/1.1\r\nHost: localhost\r\n\r\n", false},
	{"close", "GET /echo HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n", false},
	{"upgrade", "GET /echo HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n", false},
	{"two connections", "GET /echo HTTP/1.1\r\nHost: localhost\r\nConnection: keep-alive\r\nConnection: close\r\n\r\n",
		false},
	{"HTTP/1.0", "GET /echo HTTP/1.0\r\nHost: localhost\r\n\r\n", false},
	{"HTTP/1.2", "GET /echo HTTP/1.2\r\nHost: localhost\r\n\r\n", false},
	{"POST", "POST /echo HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\nhi", false},
	{"length", "GET /echo HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\nhi", false},
	{"length of nothing", "GET /echo HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n", false},
	{"two lengths", "GET /echo HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nhi", false},
	{"chunks", "GET /echo HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", false},
	{"expectation", "GET /echo HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\n\r\n", false},
	{"absolute", "GET http://evil.example/x HTTP/1.1\r\nHost: localhost\r\n\r\n", false},
	{"asterisk", "OPTIONS * HTTP/1.1\r\nHost: localhost\r\n\r\n", false},
	{"no host", "GET /echo HTTP/1.1\r\n\r\n", false},
	{"two hosts", "GET /echo HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", false},
	{"odd host", "GET /echo HTTP/1.1\r\nHost: a/b\r\n\r\n", false},
	{"empty host", "GET /echo HTTP/1.1\r\nHost:\r\n\r\n", false},
	{"LF alone", "GET /echo HTTP/1.1\nHost: localhost\n\n", false},
	{"LF in a field", "GET /echo HTTP/1.1\r\nHost: localhost\nX: y\r\n\r\n", false},
	{"CR in a field", "GET /echo HTTP/1.1\r\nHost: localhost\r\nX: y\rz\r\n\r\n", false},
	{"folded", "GET /echo HTTP/1.1\r\nHost: localhost\r\nX: y\r\n z\r\n\r\n", false},
	{"space before the colon", "GET /echo HTTP/1.1\r\nHost: localhost\r\nX : y\r\n\r\n", false},
	{"no colon", "GET /echo HTTP/1.1\r\nHost: localhost\r\nX\r\n\r\n", false},
	{"NUL", "GET /echo HTTP/1.1\r\nHost: localhost\r\nX: \x00\r\n\r\n", false},
	{"UTF-8", "GET /echo HTTP/1.1\r\nHost: localhost\r\nX: \u00fc\r\n\r\n", false},
	{"UTF-8 in the path", "GET /\u00fc HTTP/1.1\r\nHost: localhost\r\n\r\n", false},
	{"two spaces", "GET  /echo HTTP/1.1\r\nHost: localhost\r\n\r\n", false},
	{"space in the path", "GET /a b HTTP/1.1\r\nHost: localhost\r\n\r\n", false},
	{"empty line first", "\r\nGET /echo HTTP/1.1\r\nHost: localhost\r\n\r\n", false},
	{"two at once", "GET /echo HTTP/1.1\r\nHost: localhost\r\n\r\nGET /404 HTTP/1.1\r\nHost: localhost\r\n\r\n", false},
	{"one and a half", "GET /echo HTTP/1.1\r\nHost: localhost\r\n\r\nGET /4", false},
	{"17 KiB", "GET /echo HTTP/1.1\r\nHost: localhost\r\nX: " + strings.Repeat("x", 17<<10) + "\r\n\r\n", false},
	{"TLS", "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", false},
	{"not HTTP", "hello\r\n\r\n", false},
}

// testHandler does what handlers may do.
func testHandler(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("Z-Last", "1")
	h.Set("Access-Control-Allow-Origin", "*")
	switch name := strings.TrimPrefix(r.URL.Path, "/"); name {
	case "echo":
		h.Set("Content-Type", "text/plain")
		fmt.Fprintf(w, "%s %s %q %s %q %v %d", r.Method, r.RequestURI, r.URL.Path, r.Host, r.Header, r.Close, r.ContentLength)
	case "range":
		http.ServeContent(w, r, "x.ts", time.Time{}, strings.NewReader(strings.Repeat("0123456789", 10_000)))
	case "204", "304":
		h.Set("Content-Type", "text/plain")
		h.Set("Content-Length", "3")
		h.Set("Etag", `"x"`)
		status, _ := strconv.Atoi(name)
		w.WriteHeader(status)
		if _, err := io.WriteString(w, "abc"); !errors.Is(err, http.ErrBodyNotAllowed) {
			panic("a body for a status without one")
		}
	case "nothing":
	case "untyped":
		io.WriteString(w, "<html>")
	case "split":
		h.Set("X", "a\r\nSet-Cookie: b\n")
		h["Y"] = []string{" 1 ", "2"}
		w.WriteHeader(http.StatusOK)
		h.Set("Late", "1")
	case "large":
		h.Set("Content-Type", "video/mp2t")
		h.Set("Content-Length", strconv.Itoa(3<<20))
		for i := range 3 {
			if _, err := w.Write(bytes.Repeat([]byte{byte('a' + i)}, 1<<20)); err != nil {
				panic(http.ErrAbortHandler)
			}
		}
		if _, err := w.Write([]byte("x")); !errors.Is(err, http.ErrContentLength) {
			panic("more than Content-Length")
		}
	case "close":
		h.Set("Connection", "close")
		io.WriteString(w, "closing")
	case "short":
		h.Set("Content-Length", "10")
		io.WriteString(w, "short")
	case "200", "404", "599":
		status, _ := strconv.Atoi(name)
		http.Error(w, "error text", status)
	default:
		http.Error(w, fmt.Sprintf("%q %q", r.URL, r.URL.RawQuery), http.StatusNotFound)
	}
}

type server interface {
	Serve(net.Listener) error
	Close() error
}

// serve serves by srv until the test ends, and returns the address.
func serve(t testing.TB, srv server) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return serveListener(t, srv, ln)
}

func serveListener(t testing.TB, srv server, ln net.Listener) string {
	t.Helper()
	done := make(chan error, 1)
	go func() { done <- srv.Serve(ln) }()
	t.Cleanup(func() {
		_ = srv.Close()
		if err := <-done; !errors.Is(err, http.ErrServerClosed) {
			t.Errorf("Serve: %v", err)
		}
	})
	return ln.Addr().String()
}

// tlsScheme starts the address of a server with TLS.
const tlsScheme = "tls://"

// serveTLS is serve with TLS, and with HTTP/2 for clients that ask for it.
func serveTLS(t testing.TB, srv server) string {
	t.Helper()
	s := httptest.NewUnstartedServer(nil)
	s.StartTLS()
	config := s.TLS
	s.Close()
	config.NextProtos = []string{"h2", "http/1.1"}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	limiter := netx.NewLimiter(netx.LimitOptions{})
	return tlsScheme + serveListener(t, srv, netx.ListenTLS(limiter.Listen(ln, netx.ListenOptions{}), config))
}

// eachTransport runs a test over TCP and TLS.
func eachTransport(t *testing.T, test func(t *testing.T, serve func(testing.TB, server) string)) {
	t.Run("TCP", func(t *testing.T) { test(t, serve) })
	t.Run("TLS", func(t *testing.T) { test(t, serveTLS) })
}

func dial(t testing.TB, addr string) net.Conn {
	t.Helper()
	var c net.Conn
	var err error
	if addr, secure := strings.CutPrefix(addr, tlsScheme); secure {
		c, err = tls.Dial("tcp", addr, &tls.Config{InsecureSkipVerify: true})
	} else {
		c, err = net.Dial("tcp", addr)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	_ = c.SetDeadline(time.Now().Add(testTimeout))
	return c
}

// exchange sends raw and returns the response. It reads until the server closes the connection:
// after the response it sends an invalid request, to which the server replies by closing.
func exchange(t *testing.T, addr, raw string) string {
	t.Helper()
	c := dial(t, addr)
	if _, err := io.WriteString(c, raw); err != nil {
		t.Fatal(err)
	}
	in := bufio.NewReader(c)
	var all bytes.Buffer
	resp, err := http.ReadResponse(bufio.NewReader(io.TeeReader(in, &all)),
		&http.Request{Method: raw[:strings.IndexAny(raw, " \r")]})
	if err == nil {
		_, _ = io.Copy(io.Discard, resp.Body)
	}
	_, _ = io.WriteString(c, "end\r\n\r\n") // the connection may be closed
	_, _ = io.Copy(&all, in)                // and may be reset
	head, body, _ := strings.Cut(all.String(), "\r\n\r\n")
	answer := regexp.MustCompile(`Date: [^\r]*`).ReplaceAllString(head, "Date: now") + "\r\n\r\n" + body
	if len(answer) > 64<<10 {
		return answer
	}
	return regexp.MustCompile(`[0-9a-f]{60}`).ReplaceAllString(answer, "boundary")
}

// TestMatchesNetHTTP sends each request to net/http and to a Server, and compares the bytes of the
// responses.
func TestMatchesNetHTTP(t *testing.T) { eachTransport(t, testMatchesNetHTTP) }

func testMatchesNetHTTP(t *testing.T, serve func(testing.TB, server) string) {
	newServer := func() *http.Server {
		return &http.Server{Handler: http.HandlerFunc(testHandler), ReadHeaderTimeout: testTimeout, IdleTimeout: testTimeout,
			MaxHeaderBytes: 12 << 10}
	}
	var mu sync.Mutex
	passed := 0
	fallback := newServer()
	fallback.ConnState = func(_ net.Conn, state http.ConnState) {
		mu.Lock()
		defer mu.Unlock()
		if state == http.StateHijacked {
			passed++
		}
	}
	plain, fast := serve(t, newServer()), serve(t, New(fallback, Options{StallTimeout: testTimeout}))
	for _, tt := range heads {
		t.Run(tt.name, func(t *testing.T) {
			mu.Lock()
			before := passed
			mu.Unlock()
			want, got := exchange(t, plain, tt.head), exchange(t, fast, tt.head)
			if want != got {
				t.Errorf("net/http responds with %d bytes\n%.500s\nthis package with %d\n%.500s", len(want), want, len(got), got)
			}
			mu.Lock()
			defer mu.Unlock()
			// On a connection that stays open, net/http refuses the request that ends it.
			staysOpen := strings.Contains(want, "400 Bad Request")
			if left := passed > before; tt.fast && left != staysOpen || !tt.fast && !left {
				t.Errorf("passed to net/http: %v\n%.500s", left, want)
			}
		})
	}
}

// newParser returns a conn that can only parse.
func newParser() *conn {
	return &conn{srv: New(new(http.Server), Options{}), req: new(http.Request)}
}

func TestParse(t *testing.T) {
	for _, tt := range heads {
		if got := len(tt.head) <= headSize && newParser().parse([]byte(tt.head)); got != tt.fast {
			t.Errorf("%s: parsed %v, want %v", tt.name, got, tt.fast)
		}
		for n := range len(tt.head) {
			if b := []byte(tt.head[:n]); tt.fast && !looksLikeRequest(b) {
				t.Errorf("%s: rejected after %q", tt.name, b)
			}
		}
	}
}

// FuzzParse compares parse with http.ReadRequest.
func FuzzParse(f *testing.F) {
	for _, tt := range heads {
		f.Add([]byte(tt.head))
	}
	f.Fuzz(func(t *testing.T, head []byte) {
		c := newParser()
		for range 2 { // the second time, the fields are compared and not parsed
			if !c.parse(head) {
				return
			}
			want, err := http.ReadRequest(bufio.NewReader(bytes.NewReader(head)))
			if err != nil {
				t.Fatalf("%q is parsed, and invalid for net/http: %v", head, err)
			}
			r := c.req
			if r.Method != want.Method || r.RequestURI != want.RequestURI || r.Host != want.Host ||
				!reflect.DeepEqual(r.URL, want.URL) || !reflect.DeepEqual(r.Header, want.Header) {
				t.Fatalf("%q: %+v\nnet/http: %+v", head, r, want)
			}
			if want.ContentLength != 0 || want.Close || want.Proto != "HTTP/1.1" || len(want.TransferEncoding) > 0 ||
				len(want.Trailer) > 0 {
				t.Fatalf("%q is parsed, and is %+v for net/http", head, want)
			}
		}
	})
}

// TestManyRequestsOnOneConnection sends many requests, some with heads in pieces, until one is
// passed to net/http.
func TestManyRequestsOnOneConnection(t *testing.T) { eachTransport(t, testManyRequestsOnOneConnection) }

func testManyRequestsOnOneConnection(t *testing.T, serve func(testing.TB, server) string) {
	var passed int
	fallback := &http.Server{Handler: http.HandlerFunc(testHandler), ConnState: func(_ net.Conn, s http.ConnState) {
		if s == http.StateHijacked {
			passed++
		}
	}}
	c := dial(t, serve(t, New(fallback, Options{StallTimeout: testTimeout})))
	in := bufio.NewReader(c)
	for i, raw := range []string{
		"GET /200 HTTP/1.1\r\nHost: a\r\n\r\n", "HEAD /range HTTP/1.1\r\nHost: a\r\n\r\n",
		"GET /range HTTP/1.1\r\nHost: a\r\nRange: bytes=0-0\r\n\r\n",
		"GET /|200 HTTP|/1.1\r|\nHost: a\r\n|\r|\n",
		"GET /range HTTP/1.1\r\nHost: a\r\nX: |" + strings.Repeat("x", 5000) + "|\r\n\r\n",
		"GET /304 HTTP/1.1\r\nHost: a\r\n\r\n",
		"POST /404 HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n|hi", "GET /200 HTTP/1.1\r\nHost: a\r\n\r\n",
	} {
		for piece := range strings.SplitSeq(raw, "|") {
			if _, err := io.WriteString(c, piece); err != nil {
				t.Fatal(err)
			}
		}
		resp, err := http.ReadResponse(in, &http.Request{Method: raw[:strings.IndexByte(raw, ' ')]})
		if err != nil {
			t.Fatalf("request %d: %v", i, err)
		}
		if n, err := io.Copy(io.Discard, resp.Body); err != nil || resp.ContentLength > 0 && resp.Request.Method != "HEAD" &&
			n != resp.ContentLength {
			t.Errorf("request %d: %d bytes, %v", i, n, err)
		}
	}
	if passed != 1 {
		t.Errorf("passed to net/http %d times, want 1", passed)
	}
}

// TestReadTimeouts: clients that start a request and do not finish it.
func TestReadTimeouts(t *testing.T) { eachTransport(t, testReadTimeouts) }

func testReadTimeouts(t *testing.T, serve func(testing.TB, server) string) {
	const limit = 300 * time.Millisecond
	srv := &http.Server{Handler: http.HandlerFunc(testHandler), ReadHeaderTimeout: limit, IdleTimeout: limit}
	addr := serve(t, New(srv, Options{StallTimeout: limit}))
	for _, tt := range []struct{ name, sent string }{
		{"nothing", ""},
		{"half a head", "GET /200 HTTP/1.1\r\nHost: a"},
		{"no second request", "GET /200 HTTP/1.1\r\nHost: a\r\n\r\n"},
		{"half a second head", "GET /200 HTTP/1.1\r\nHost: a\r\n\r\n|GET /"},
		{"half a head for net/http", "POST /200 HTTP/1.1\r\nHost: a"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			start := time.Now()
			c := dial(t, addr)
			first, second, _ := strings.Cut(tt.sent, "|")
			_, _ = io.WriteString(c, first)
			if second != "" {
				resp, err := http.ReadResponse(bufio.NewReader(c), nil)
				if err != nil {
					t.Fatal(err)
				}
				resp.Body.Close()
				_, _ = io.WriteString(c, second)
			}
			if _, err := io.Copy(io.Discard, c); err != nil {
				t.Fatalf("not closed: %v", err)
			}
			if took := time.Since(start); took < limit*3/4 {
				t.Errorf("closed after %v", took)
			}
		})
	}
}

// TestIdleBeyondHeaderTimeout: a client sends its next request after more than ReadHeaderTimeout.
func TestIdleBeyondHeaderTimeout(t *testing.T) { eachTransport(t, testIdleBeyondHeaderTimeout) }

func testIdleBeyondHeaderTimeout(t *testing.T, serve func(testing.TB, server) string) {
	const limit = 50 * time.Millisecond
	c := dial(t, serve(t, New(&http.Server{Handler: http.HandlerFunc(testHandler), ReadHeaderTimeout: limit,
		IdleTimeout: testTimeout}, Options{StallTimeout: testTimeout})))
	in := bufio.NewReader(c)
	for range 3 {
		_, _ = io.WriteString(c, "GET /200 HTTP/1.1\r\nHost: a\r\n\r\n")
		resp, err := http.ReadResponse(in, nil)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.Copy(io.Discard, resp.Body)
		wait(t, 3*limit)
	}
}

// TestStalledClientIsClosed: a client does not read the response.
func TestStalledClientIsClosed(t *testing.T) { eachTransport(t, testStalledClientIsClosed) }

func testStalledClientIsClosed(t *testing.T, serve func(testing.TB, server) string) {
	const stall = 300 * time.Millisecond
	failed := make(chan error, 1)
	h := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		body := make([]byte, 64<<20) // more than the kernel buffers for a client that does not read
		w.Header().Set("Content-Length", strconv.Itoa(len(body)))
		_, err := w.Write(body)
		failed <- err
	})
	c := dial(t, serve(t, New(&http.Server{Handler: h}, Options{StallTimeout: stall})))
	start := time.Now()
	_, _ = io.WriteString(c, "GET / HTTP/1.1\r\nHost: a\r\n\r\n")
	if err := <-failed; !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("writing: %v", err)
	}
	if took := time.Since(start); took < stall {
		t.Errorf("timed out after %v", took)
	}
	if n, err := io.Copy(io.Discard, c); n == 0 || n >= 64<<20 {
		t.Errorf("%d bytes arrived, %v", n, err)
	}
}

// TestWriteDeadline: a client reads the response, but too slowly for the deadline of the handler.
func TestWriteDeadline(t *testing.T) { eachTransport(t, testWriteDeadline) }

func testWriteDeadline(t *testing.T, serve func(testing.TB, server) string) {
	const limit = 300 * time.Millisecond
	failed := make(chan error, 1)
	h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/slow" {
			_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(limit))
		}
		body := make([]byte, 16<<20)
		w.Header().Set("Content-Length", strconv.Itoa(len(body)))
		_, err := w.Write(body)
		failed <- err
	})
	c := dial(t, serve(t, New(&http.Server{Handler: h}, Options{StallTimeout: testTimeout})))
	ask := func(path string) (piece []byte) {
		_, _ = io.WriteString(c, "GET "+path+" HTTP/1.1\r\nHost: a\r\n\r\n")
		return make([]byte, 64<<10)
	}
	start := time.Now()
	piece := ask("/slow")
	for {
		select {
		case err := <-failed:
			if took := time.Since(start); !errors.Is(err, os.ErrDeadlineExceeded) || took < limit || took > testTimeout/2 {
				t.Errorf("writing: %v after %v", err, took)
			}
			return
		default:
		}
		if _, err := io.ReadFull(c, piece); err != nil && !errors.Is(err, io.ErrUnexpectedEOF) && time.Since(start) < limit {
			t.Fatal(err)
		}
		wait(t, limit/30)
	}
}

// passHeader is a header for which a request is passed to net/http.
const passHeader = "Content-Length: 0\r\n"

// TestHijack: a handler that takes over the connection owns it after it has returned.
func TestHijack(t *testing.T) { eachTransport(t, testHijack) }

func testHijack(t *testing.T, serve func(testing.TB, server) string) {
	hijacked, states := make(chan net.Conn, 1), make(chan http.ConnState, 4)
	fallback := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/first" {
			return
		}
		nc, rw, err := http.NewResponseController(w).Hijack()
		if err != nil || rw.Reader.Buffered() > 0 {
			t.Errorf("%d bytes are buffered, %v", rw.Reader.Buffered(), err)
			return
		}
		if _, err := w.Write([]byte("x")); !errors.Is(err, http.ErrHijacked) {
			t.Errorf("writing: %v", err)
		}
		if _, _, err := http.NewResponseController(w).Hijack(); !errors.Is(err, http.ErrHijacked) {
			t.Errorf("hijacking again: %v", err)
		}
		hijacked <- nc
	}), ConnState: func(_ net.Conn, s http.ConnState) { states <- s }, ReadHeaderTimeout: testTimeout}
	srv := New(fallback, Options{StallTimeout: testTimeout})
	c := dial(t, serve(t, srv))
	in := bufio.NewReader(c)
	for _, path := range []string{"/first", "/take"} {
		_, _ = io.WriteString(c, "GET "+path+" HTTP/1.1\r\nHost: a\r\n\r\n")
		if path == "/first" {
			if _, err := http.ReadResponse(in, nil); err != nil {
				t.Fatal(err)
			}
		}
	}
	nc := <-hijacked
	if err := srv.Shutdown(t.Context()); err != nil { // waits for the goroutine of the connection
		t.Fatal(err)
	}
	if first, second := <-states, <-states; first != http.StateNew || second != http.StateHijacked || len(states) > 0 {
		t.Errorf("states %v, %v", first, second)
	}
	go func() {
		_, _ = io.Copy(nc, nc)
		nc.Close()
	}()
	_, _ = io.WriteString(c, "echo")
	got := make([]byte, 4)
	if _, err := io.ReadFull(in, got); err != nil || string(got) != "echo" {
		t.Errorf("%q, %v", got, err)
	}
}

// TestOtherClientsOverTLS: HTTP/2 is served by net/http, and a client without TLS gets a response
// that says so.
func TestOtherClientsOverTLS(t *testing.T) {
	protos := make(chan string, 1)
	addr := serveTLS(t, New(&http.Server{Handler: http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		protos <- fmt.Sprint(r.Proto, " ", r.TLS != nil)
	})}, Options{StallTimeout: testTimeout}))
	host := strings.TrimPrefix(addr, tlsScheme)
	for http2, want := range map[bool]string{true: "HTTP/2.0 true", false: "HTTP/1.1 true"} {
		for _, extra := range []string{"", "passed"} {
			transport := &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, ForceAttemptHTTP2: http2}
			req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://"+host, strings.NewReader(extra))
			if err != nil {
				t.Fatal(err)
			}
			resp, err := (&http.Client{Transport: transport, Timeout: testTimeout}).Do(req)
			if err != nil {
				t.Fatal(err)
			}
			resp.Body.Close()
			transport.CloseIdleConnections()
			if got := <-protos; got != want {
				t.Errorf("a request with body %q is served by %s, want %s", extra, got, want)
			}
		}
	}
	c := dial(t, host)
	_, _ = io.WriteString(c, "GET / HTTP/1.1\r\nHost: a\r\n\r\n")
	b, err := io.ReadAll(c)
	if err != nil || !strings.Contains(string(b), "Client sent an HTTP request to an HTTPS server.") {
		t.Errorf("without TLS: %q, %v", b, err)
	}
}

// wait sleeps for d.
func wait(t *testing.T, d time.Duration) {
	t.Helper()
	<-time.After(d)
}

// blockingHandler waits until the client disconnects or free is closed.
type blockingHandler struct {
	started, gone chan struct{}
	free          chan struct{}
}

func newBlockingHandler() *blockingHandler {
	return &blockingHandler{started: make(chan struct{}, 8), gone: make(chan struct{}, 8), free: make(chan struct{})}
}

func (h *blockingHandler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h.started <- struct{}{}
	select {
	case <-r.Context().Done():
		h.gone <- struct{}{}
	case <-h.free:
		io.WriteString(w, "the body")
	}
}

// TestClientDisconnectCancelsRequest: the context of a request ends when the client closes.
func TestClientDisconnectCancelsRequest(t *testing.T) {
	eachTransport(t, testClientDisconnectCancelsRequest)
}

func testClientDisconnectCancelsRequest(t *testing.T, serve func(testing.TB, server) string) {
	h := newBlockingHandler()
	addr := serve(t, New(&http.Server{Handler: h}, Options{StallTimeout: testTimeout}))
	for range 3 {
		c := dial(t, addr)
		_, _ = io.WriteString(c, "GET / HTTP/1.1\r\nHost: a\r\n\r\n")
		<-h.started
		c.Close()
		select {
		case <-h.gone:
		case <-time.After(testTimeout):
			t.Fatal("the request's context did not end")
		}
	}
}

// TestShutdown stops a server with an idle connection, one that waits for a response, and one that
// net/http serves.
func TestShutdown(t *testing.T) { eachTransport(t, testShutdown) }

func testShutdown(t *testing.T, serve func(testing.TB, server) string) {
	h := newBlockingHandler()
	fallback, stopping := &http.Server{Handler: h}, make(chan struct{})
	fallback.RegisterOnShutdown(func() { close(stopping) })
	srv := New(fallback, Options{StallTimeout: testTimeout})
	addr := serve(t, srv)
	idle, waits, other := dial(t, addr), dial(t, addr), dial(t, addr)
	_, _ = io.WriteString(waits, "GET / HTTP/1.1\r\nHost: a\r\n\r\n")
	_, _ = io.WriteString(other, "GET / HTTP/1.1\r\nHost: a\r\n"+passHeader+"\r\n")
	<-h.started
	<-h.started
	ended := make(chan error)
	go func() { ended <- srv.Shutdown(context.Background()) }()
	// With TLS the server may not have read the end of the handshake: then the connection is reset.
	closed := func(err error) bool { return errors.Is(err, net.ErrClosed) || errors.Is(err, syscall.ECONNRESET) }
	if n, err := io.Copy(io.Discard, idle); n != 0 || err != nil && !closed(err) {
		t.Errorf("idle connection: %d bytes, %v", n, err)
	}
	<-stopping // Shutdown of net/http comes last
	close(h.free)
	for name, c := range map[string]net.Conn{"the fast path": waits, "net/http": other} {
		b, err := io.ReadAll(c)
		if err != nil || !bytes.Contains(b, []byte("the body")) || !bytes.Contains(b, []byte("\r\nConnection: close\r\n")) {
			t.Errorf("%s: %v\n%s", name, err, b)
		}
	}
	if err := <-ended; err != nil {
		t.Errorf("Shutdown: %v", err)
	}
	if _, err := net.Dial("tcp", addr); err == nil {
		t.Error("the listener is still open")
	}
}

// TestShutdownAtAccept stops a server while it accepts a connection: the connection is closed, and
// Shutdown does not wait for it.
func TestShutdownAtAccept(t *testing.T) {
	came, goOn := make(chan struct{}), make(chan struct{})
	open := make(chan http.ConnState, 2)
	srv := New(&http.Server{Handler: http.HandlerFunc(testHandler), ConnState: func(_ net.Conn, state http.ConnState) {
		if open <- state; state == http.StateNew {
			close(came)
			<-goOn
		}
	}}, Options{StallTimeout: testTimeout})
	c := dial(t, serve(t, srv))
	<-came
	if err := srv.Shutdown(context.Background()); err != nil {
		t.Errorf("Shutdown: %v", err)
	}
	close(goOn)
	if n, err := io.Copy(io.Discard, c); n != 0 || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("%d bytes, %v", n, err)
	}
	if first, second := <-open, <-open; first != http.StateNew || second != http.StateClosed {
		t.Errorf("states %v and %v", first, second)
	}
}

// TestClose closes a server with a request in progress.
func TestClose(t *testing.T) { eachTransport(t, testClose) }

func testClose(t *testing.T, serve func(testing.TB, server) string) {
	h := newBlockingHandler()
	srv := New(&http.Server{Handler: h}, Options{StallTimeout: testTimeout})
	c := dial(t, serve(t, srv))
	_, _ = io.WriteString(c, "GET / HTTP/1.1\r\nHost: a\r\n\r\n")
	<-h.started
	now, cancel := context.WithCancel(context.Background())
	cancel()
	if err := srv.Shutdown(now); !errors.Is(err, context.Canceled) {
		t.Errorf("Shutdown: %v", err)
	}
	srv.Close()
	<-h.gone
}

// TestConnState: ConnState reports each connection once, and its end.
func TestConnState(t *testing.T) { eachTransport(t, testConnState) }

func testConnState(t *testing.T, serve func(testing.TB, server) string) {
	var mu sync.Mutex
	open, refused := map[net.Conn]bool{}, false
	srv := &http.Server{Handler: http.HandlerFunc(testHandler), ConnState: func(c net.Conn, state http.ConnState) {
		mu.Lock()
		defer mu.Unlock()
		switch state {
		case http.StateNew:
			open[c] = true
			if refused {
				c.Close()
			}
		case http.StateHijacked, http.StateClosed:
			delete(open, c)
		}
	}}
	addr := serve(t, New(srv, Options{StallTimeout: testTimeout}))
	waitOpen := func(want int) {
		t.Helper()
		for start := time.Now(); ; wait(t, time.Millisecond) {
			mu.Lock()
			n := len(open)
			mu.Unlock()
			if n == want {
				return
			}
			if time.Since(start) > testTimeout {
				t.Fatalf("%d open, want %d", n, want)
			}
		}
	}
	c := dial(t, addr)
	waitOpen(1)
	in := bufio.NewReader(c)
	for _, extra := range []string{"", "", "", passHeader} {
		_, _ = fmt.Fprintf(c, "GET /200 HTTP/1.1\r\nHost: a\r\n%s\r\n", extra)
		resp, err := http.ReadResponse(in, nil)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.Copy(io.Discard, resp.Body)
		waitOpen(1)
	}
	c.Close()
	waitOpen(0)
	mu.Lock()
	refused = true
	mu.Unlock()
	if n, err := io.Copy(io.Discard, dial(t, strings.TrimPrefix(addr, tlsScheme))); n != 0 ||
		err != nil && errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("refused connection: %d bytes, %v", n, err)
	}
	waitOpen(0)
}

// TestAllocations: parsing allocates the URI as a string, and nothing else.
func TestAllocations(t *testing.T) {
	c := newParser()
	head := []byte("GET /live/movie/index.m3u8?s=AAAA&_HLS_msn=100&_HLS_part=3 HTTP/1.1\r\nHost: " +
		"localhost\r\nUser-Agent: x\r\nAccept: */*\r\n\r\n")
	if n := testing.AllocsPerRun(100, func() {
		if !c.parse(head) {
			t.Error("not parsed")
		}
	}); n > 1 {
		t.Errorf("parsing takes %v allocations", n)
	}
}

// BenchmarkRequest compares the fast path with net/http for one client and several sizes.
func BenchmarkRequest(b *testing.B) {
	for _, size := range []int{2 << 10, 64 << 10, 512 << 10} {
		body, length := make([]byte, size), strconv.Itoa(size)
		handler := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "video/mp2t")
			w.Header().Set("Content-Length", length)
			_, _ = w.Write(body)
		})
		run := func(b *testing.B, addr string) {
			c := dial(b, addr)
			_ = c.SetDeadline(time.Time{})
			in := make([]byte, 1<<20)
			b.ReportAllocs()
			b.SetBytes(int64(size))
			for b.Loop() {
				if _, err := io.WriteString(c,
					"GET /live/movie/1-2.ts HTTP/1.1\r\nHost: localhost\r\nUser-Agent: x\r\nAccept: */*\r\n\r\n"); err != nil {
					b.Fatal(err)
				}
				for got, want := 0, size; got < want; {
					n, err := c.Read(in)
					if err != nil {
						b.Fatal(err)
					}
					if got == 0 {
						want += bytes.Index(in[:n], endOfHead) + len(endOfHead)
					}
					got += n
				}
			}
		}
		for name, serve := range map[string]func(testing.TB, server) string{"": serve, "tls/": serveTLS} {
			b.Run(fmt.Sprintf("%shttp1/%d", name, size), func(b *testing.B) {
				run(b, serve(b, New(&http.Server{Handler: handler}, Options{StallTimeout: testTimeout})))
			})
			b.Run(fmt.Sprintf("%snethttp/%d", name, size), func(b *testing.B) {
				run(b, serve(b, &http.Server{Handler: handler}))
			})
		}
	}
}
