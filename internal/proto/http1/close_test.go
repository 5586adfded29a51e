package http1

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

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
