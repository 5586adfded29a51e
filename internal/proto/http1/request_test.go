package http1

import (
	"bufio"
	"bytes"
	"io"
	"net"
	"net/http"
	"reflect"
	"strings"
	"testing"
)

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
