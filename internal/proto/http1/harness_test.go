package http1

import (
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"livego/internal/ops/netx"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// testTimeout limits how long a test waits for an event.
const testTimeout = 10 * time.Second

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

// passHeader is a header for which a request is passed to net/http.
const passHeader = "Content-Length: 0\r\n"

// wait sleeps for d.
func wait(t *testing.T, d time.Duration) {
	t.Helper()
	<-time.After(d)
}
