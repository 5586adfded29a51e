package app

import (
	"bufio"
	"context"
	"io"
	"net"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"
)

// TestViewersRefuse holds requests that are none of a viewer's to their replies. Whoever reads them in another way than we do must find
// nothing behind them.
func TestViewersRefuse(t *testing.T) {
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
			new(viewers).ServeHTTP(w, httptest.NewRequest(c.method, c.target, c.body))
			if w.Code != c.status {
				t.Errorf("HTTP %d, want %d: %s", w.Code, c.status, w.Body)
			}
			if closes := w.Header().Get("Connection") == "close"; closes != c.closes {
				t.Errorf("connection: close is %v, want %v", closes, c.closes)
			}
		})
	}
}

// TestViewersBodyNeverComes has requests announce a body and send none: they are answered, and the connection is closed.
func TestViewersBodyNeverComes(t *testing.T) {
	srv := httptest.NewServer(new(viewers))
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
			if _, err := io.WriteString(c, method+" /live/movie.flv HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n"); err != nil {
				t.Fatal(err)
			}
			br := bufio.NewReader(c)
			if line, err := br.ReadString('\n'); err != nil || !strings.HasPrefix(line, "HTTP/1.1 ") {
				t.Fatalf("answer %q, %v", line, err)
			}
			if _, err := io.Copy(io.Discard, br); err != nil {
				t.Errorf("the connection stays: %v", err)
			}
		})
	}
}

// TestViewersComeWhileWaitingForThem has viewers come and go while the server waits for them, as they do when a stream has ended.
func TestViewersComeWhileWaitingForThem(t *testing.T) {
	v := new(viewers)
	v.enter()
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	v.wait(ctx) // gives up
	v.leave()

	var wg sync.WaitGroup
	ctx, cancel = context.WithTimeout(context.Background(), 100*time.Millisecond)
	defer cancel()
	for range 4 {
		wg.Go(func() {
			for ctx.Err() == nil {
				v.enter()
				v.leave()
			}
		})
	}
	for ctx.Err() == nil {
		v.wait(ctx)
	}
	wg.Wait()
	v.wait(context.Background())
}
