package http1

import (
	"bufio"
	"errors"
	"io"
	"net/http"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"
)

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
	const limit = 300 * time.Millisecond // for a handshake too
	c := dial(t, serve(t, New(&http.Server{Handler: http.HandlerFunc(testHandler), ReadHeaderTimeout: limit,
		IdleTimeout: testTimeout}, Options{StallTimeout: testTimeout})))
	in := bufio.NewReader(c)
	for i := range 2 {
		if i > 0 {
			wait(t, 2*limit)
		}
		_, _ = io.WriteString(c, "GET /200 HTTP/1.1\r\nHost: a\r\n\r\n")
		resp, err := http.ReadResponse(in, nil)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.Copy(io.Discard, resp.Body)
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
