package http1

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"regexp"
	"strings"
	"sync"
	"testing"
)

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

// TestOtherClientsOverTLS: HTTP/2 is served, and a client without TLS gets a response that says so.
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
