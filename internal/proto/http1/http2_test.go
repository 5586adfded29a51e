package http1

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"maps"
	"net/http"
	"os"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

var boundary = regexp.MustCompile(`[0-9a-f]{60}`)

// newHTTP2Client returns a client that uses HTTP/2.
func newHTTP2Client(t *testing.T) *http.Client {
	transport := &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, ForceAttemptHTTP2: true}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport, Timeout: testTimeout}
}

// startHTTP2 serves handler with TLS, and returns the URL.
func startHTTP2(t *testing.T, srv server) string {
	return "https://" + strings.TrimPrefix(serveTLS(t, srv), tlsScheme)
}

// TestHTTP2MatchesNetHTTP sends requests by HTTP/2 to net/http and to a Server, and compares the
// responses.
func TestHTTP2MatchesNetHTTP(t *testing.T) {
	newServer := func() *http.Server { return &http.Server{Handler: http.HandlerFunc(testHandler)} }
	want, got := startHTTP2(t, newServer()), startHTTP2(t, New(newServer(), Options{StallTimeout: testTimeout}))
	client := newHTTP2Client(t)
	send := func(method, url, body string, fields http.Header) (status string, header http.Header, text string) {
		req, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		maps.Copy(req.Header, fields)
		req.Host = "example.com"
		resp, err := client.Do(req)
		if err != nil {
			return "failed", nil, ""
		}
		defer resp.Body.Close()
		b, err := io.ReadAll(resp.Body)
		if err != nil {
			status = " cut"
		}
		resp.Header.Del("Date")
		return resp.Proto + " " + resp.Status + status, resp.Header, boundary.ReplaceAllString(string(b), "boundary")
	}
	for _, path := range []string{"/echo", "/echo?a=b&c=%20", "/%c3%bc//x", "/range", "/nothing", "/untyped",
		"/short", "/200", "/404", "/599", "/close"} {
		for _, method := range []string{"GET", "HEAD", "POST", "OPTIONS"} {
			for name, fields := range map[string]http.Header{
				"none": nil, "range": {"Range": {"bytes=3-9"}}, "ranges": {"Range": {"bytes=0-1,4-5"}},
				"several": {"Cookie": {"a=b", "c=d"}, "X-Two": {"1", "2"}, "Accept-Encoding": {"br"}},
			} {
				if path != "/range" && strings.HasPrefix(name, "range") {
					continue
				}
				body := ""
				if method == "POST" {
					body = "body"
				}
				status, header, text := send(method, want+path, body, fields)
				status2, header2, text2 := send(method, got+path, body, fields)
				for _, h := range []http.Header{header, header2} {
					for k, v := range h {
						h[k] = []string{boundary.ReplaceAllString(strings.Join(v, "|"), "boundary")}
					}
				}
				if status != status2 || text != text2 || !maps.EqualFunc(header, header2, func(a, b []string) bool {
					return strings.Join(a, "|") == strings.Join(b, "|")
				}) {
					t.Errorf("%s %s, fields %s: net/http responds\n%s %q %.300q\nthis package\n%s %q %.300q", method, path, name,
						status, header, text, status2, header2, text2)
				}
			}
		}
	}
}

// TestHTTP2Disconnect: the contexts of requests end when the client closes or gives up.
func TestHTTP2Disconnect(t *testing.T) {
	h := newBlockingHandler()
	url := startHTTP2(t, New(&http.Server{Handler: h}, Options{StallTimeout: testTimeout}))
	client := newHTTP2Client(t)
	for range 3 {
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		for range cap(h.started) {
			wg.Go(func() {
				req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
				if err != nil {
					t.Error(err)
					return
				}
				if resp, err := client.Do(req); err == nil {
					resp.Body.Close()
					t.Errorf("%s", resp.Status)
				}
			})
		}
		for range cap(h.started) {
			<-h.started
		}
		cancel()
		for range cap(h.started) {
			<-h.gone
		}
		wg.Wait()
	}
}

// TestHTTP2Shutdown stops a server with an idle connection, and with one that waits for a response.
func TestHTTP2Shutdown(t *testing.T) {
	h := newBlockingHandler()
	srv := New(&http.Server{Handler: h}, Options{StallTimeout: testTimeout})
	url := startHTTP2(t, srv)
	idle := dialHTTP2(t, url)
	if _, err := io.ReadAtLeast(idle, make([]byte, 100), 9); err != nil { // its SETTINGS
		t.Fatal(err)
	}
	body := make(chan string)
	go func() {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
		if err != nil {
			t.Error(err)
		}
		resp, err := newHTTP2Client(t).Do(req)
		if err != nil {
			t.Error(err)
			body <- ""
			return
		}
		defer resp.Body.Close()
		b, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Error(err)
		}
		body <- string(b)
	}()
	<-h.started
	ended := make(chan error)
	go func() { ended <- srv.Shutdown(context.Background()) }()
	b, err := io.ReadAll(idle)
	const goAway = "\x00\x00\x08\x07\x00\x00\x00\x00\x00"
	if !bytes.Contains(b, []byte(goAway)) || err != nil && !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("idle connection: %x, %v", b, err)
	}
	close(h.free)
	if got := <-body; got != "the body" {
		t.Errorf("the response is %q", got)
	}
	if err := <-ended; err != nil {
		t.Errorf("Shutdown: %v", err)
	}
}

// TestHTTP2ShutdownBeforeClientHasRead stops a server after a handler has returned, while the kernel
// holds most of its response. The client goes on sending frames, and receives all of it.
func TestHTTP2ShutdownBeforeClientHasRead(t *testing.T) {
	const size = 1 << 20 // the kernel takes it, and a socket that is not read does not receive it
	written := make(chan error, 1)
	srv := New(&http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", strconv.Itoa(size))
		_, err := w.Write(make([]byte, size))
		written <- err
	})}, Options{StallTimeout: testTimeout})
	c := dialHTTP2(t, startHTTP2(t, srv))
	if _, err := io.WriteString(c, openWindows+getRequest); err != nil {
		t.Fatal(err)
	}
	if err := <-written; err != nil {
		t.Fatal(err)
	}
	ended := make(chan error)
	go func() { ended <- srv.Shutdown(context.Background()) }()
	piece, n := make([]byte, 16<<10), 0
	for n < size {
		wait(t, time.Millisecond) // the server stops before the client has read

		// WINDOW_UPDATE
		_, _ = io.WriteString(c, "\x00\x00\x04\x08\x00\x00\x00\x00\x00\x00\x00\x00\x01")
		k, err := c.Read(piece)
		if n += k; err != nil {
			t.Fatalf("after %d bytes: %v", n, err)
		}
	}
	c.Close()
	if err := <-ended; err != nil {
		t.Errorf("Shutdown: %v", err)
	}
}

// Frames of a client.
const (
	openWindows = "\x00\x00\x06\x04\x00\x00\x00\x00\x00\x00\x04\x7f\xff\xff\xff" + // SETTINGS
		"\x00\x00\x04\x08\x00\x00\x00\x00\x00\x7f\x00\x00\x00" // WINDOW_UPDATE
	getRequest = "\x00\x00\x06\x01\x05\x00\x00\x00\x01\x82\x87\x84\x01\x01a"
)

// dialHTTP2 opens a connection without a request.
func dialHTTP2(t *testing.T, url string) *tls.Conn {
	t.Helper()
	c, err := tls.Dial("tcp", strings.TrimPrefix(url, "https://"),
		&tls.Config{InsecureSkipVerify: true, NextProtos: []string{"h2"}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	if _, err := io.WriteString(c, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00"); err != nil {
		t.Fatal(err)
	}
	return c
}

// TestHTTP2StalledClient: clients open their windows and do not read, or read too slowly for the
// deadline of the handler.
func TestHTTP2StalledClient(t *testing.T) {
	const limit, size = 300 * time.Millisecond, 64 << 20 // more than the kernel buffers
	for name, o := range map[string]struct {
		stall time.Duration
		reads bool
	}{"stalled": {limit, false}, "slow": {testTimeout, true}} {
		t.Run(name, func(t *testing.T) {
			failed := make(chan error, 1)
			url := startHTTP2(t, New(&http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				if o.reads {
					_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(limit))
				}
				w.Header().Set("Content-Length", strconv.Itoa(size))
				_, err := w.Write(make([]byte, size))
				failed <- err
			})}, Options{StallTimeout: o.stall}))
			c := dialHTTP2(t, url)
			start := time.Now()
			if _, err := io.WriteString(c, openWindows+getRequest); err != nil {
				t.Fatal(err)
			}
			piece := make([]byte, 16<<10)
			for {
				select {
				case err := <-failed:
					if took := time.Since(start); !errors.Is(err, os.ErrDeadlineExceeded) || took < limit || took > testTimeout {
						t.Errorf("writing: %v after %v", err, took)
					}
					return
				default:
				}
				if wait(t, limit/30); o.reads {
					_ = c.SetReadDeadline(time.Now().Add(limit)) // nothing comes after the reset of the stream
					_, _ = c.Read(piece)
				}
			}
		})
	}
}
