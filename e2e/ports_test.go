package e2e

import (
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"livego/e2e/harness"
	"livego/e2e/rtmp"
)

// TestWrongPort sends each protocol to a listener of another: an HTTP client gets the right
// port, and the log names protocol and listener.
func TestWrongPort(t *testing.T) {
	t.Parallel()
	cert, key, _ := tlsCertificate(t)
	s := harness.Start(t, harness.Options{Flags: []string{"--enable_rtmps=true", "--rtmps_cert=" + cert,
		"--rtmps_key=" + key}})
	logged := func(words ...string) {
		t.Helper()
		harness.Eventually(t, patience, fmt.Sprintf("%q in the log", words), func() error {
			for line := range strings.Lines(s.Stderr() + s.Stdout()) {
				found := strings.Contains(line, "level=WARN")
				for _, w := range words {
					found = found && strings.Contains(line, w)
				}
				if found {
					return nil
				}
			}
			return io.EOF
		})
	}
	port := func(flag string) string {
		_, port, err := net.SplitHostPort(s.Addr(flag))
		if err != nil {
			t.Fatal(err)
		}
		return port
	}

	for _, method := range []string{"GET", "POST", "OPTIONS"} {
		req, err := http.NewRequestWithContext(t.Context(), method, "http://"+s.Addr("rtmp_addr")+"/live/movie.m3u8",
			strings.NewReader(strings.Repeat("x", 100_000)))
		if err != nil {
			t.Fatal(err)
		}
		resp, err := harness.Client().Do(req)
		if err != nil {
			t.Fatalf("%s: %v", method, err)
		}
		body, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil || resp.StatusCode != http.StatusBadRequest || !resp.Close ||
			!strings.Contains(string(body), "http://HOST:"+port("httpflv_addr")+"/APP/ROOM.flv") ||
			!strings.Contains(string(body), "http://HOST:"+port("hls_addr")+"/APP/ROOM.m3u8") {
			t.Errorf("%s on the RTMP port: %d %q, %v", method, resp.StatusCode, body, err)
		}
	}
	logged("the client uses HTTP or another text protocol on the RTMP port")

	send := func(flag string, b []byte) net.Conn {
		t.Helper()
		nc, err := net.Dial("tcp", s.Addr(flag))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { nc.Close() })
		nc.SetDeadline(time.Now().Add(patience))
		if _, err := nc.Write(b); err != nil {
			t.Fatal(err)
		}
		return nc
	}
	for _, flag := range []string{"httpflv_addr", "hls_addr"} {
		answer, _ := io.ReadAll(send(flag, rtmp.ClientHandshake(3)))
		if !strings.HasPrefix(string(answer), "HTTP/1.1 400") || !strings.Contains(string(answer), "not RTMP") {
			t.Errorf("the answer to RTMP on %s is %q", flag, answer)
		}
		logged("the client speaks RTMP on an HTTP port", port(flag))
	}

	for _, flag := range []string{"rtmp_addr", "hls_addr"} {
		nc := tls.Client(send(flag, nil), &tls.Config{InsecureSkipVerify: true})
		if err := nc.Handshake(); err == nil {
			t.Errorf("%s accepts TLS", flag)
		}
	}
	logged("the client uses TLS on the plain RTMP port")
	logged("the client speaks TLS on an HTTP port")
	io.Copy(io.Discard, send("rtmps_addr", rtmp.ClientHandshake(3)))
	logged("does not use TLS on the RTMPS port")
}
