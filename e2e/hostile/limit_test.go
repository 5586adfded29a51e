package hostile

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"testing"
	"time"

	"livego/e2e/harness"
	"livego/e2e/rtmp"
)

// TestConnectionFloods opens thousands of idle connections from one address, and publishes with
// wrong keys from another. The limits by address stop both, and a valid client at a third address
// is not affected.
func TestConnectionFloods(t *testing.T) {
	t.Parallel()
	const (
		limit = 32
		good  = "127.0.0.2"
	)
	port := harness.FreePorts(t, 1)[0]
	s := start(t, "--limit_loopback=true", fmt.Sprintf("--conns_per_ip=%d", limit), "--enable_https=true",
		"--acme.domains=live.example.com", "--acme.ca=https://127.0.0.1:1/", fmt.Sprintf("--acme.http_port=%d", port))

	asked, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", port))
	if err != nil {
		t.Fatal(err)
	}
	defer asked.Close()
	fmt.Fprint(asked, "POST / HTTP/1.1\r\nHost: live.example.com\r\nContent-Length: 1000\r\n\r\n")

	t.Run("idle in the handshake", func(t *testing.T) {
		for range 5000 {
			nc, err := net.Dial("tcp", s.Addr("rtmp_addr"))
			if err != nil {
				t.Fatal(err)
			}
			defer nc.Close()
		}
		harness.Eventually(t, replyTimeout, "most of them refused", func() error {
			if n := s.WithT(t).OpenFiles() - s.fds; n > limit+5 {
				return fmt.Errorf("%d are open", n)
			}
			return nil
		})
		s.serves(t, good)
	})
	s.SetAddr("acme", fmt.Sprintf("127.0.0.1:%d", port))
	for i, to := range []string{"api_addr", "acme"} {
		t.Run([]string{"connections to the operator's listener", "connections to the ACME listener"}[i], func(t *testing.T) {
			const n = 200
			var parked []net.Conn
			for range n {
				parked = append(parked, s.dialRaw(t, fmt.Sprintf("127.0.0.%d", 4+i), to, ""))
			}
			keepsAtMost(t, limit+5, parked)
			s.serves(t, good)
		})
	}
	t.Run("connect and close", func(t *testing.T) {
		for range 2000 {
			nc, err := net.Dial("tcp", s.Addr("rtmp_addr"))
			if err != nil {
				t.Fatal(err)
			}
			nc.Write([]byte{3})
			nc.Close()
		}
		s.serves(t, good)
	})
	t.Run("a body that never comes, to the ACME listener", func(t *testing.T) {
		asked.SetReadDeadline(time.Now().Add(15 * time.Second))
		if _, err := io.Copy(io.Discard, asked); err != nil {
			t.Errorf("the connection stays open: %v", err)
		}
	})
	t.Run("wrong keys", func(t *testing.T) {
		const guesser = "127.0.0.3"
		for range 10 {
			s.guess(t, guesser)
		}
		// From now on each try waits for a random time up to four seconds. It is very unlikely that all
		// eight are short.
		var took [8]time.Duration
		t.Run("tries", func(t *testing.T) {
			for n := range took {
				t.Run(fmt.Sprint(n), func(t *testing.T) {
					t.Parallel()
					took[n] = s.guess(t, guesser)
				})
			}
		})
		longest := slices.Max(took[:])
		if longest < 500*time.Millisecond {
			t.Errorf("after ten wrong keys the longest wait is %v", longest)
		}
		s.serves(t, good)
	})
	s.audit(t, 7018)
}

// serves requires that a valid session from an address works in time.
func (s *target) serves(t *testing.T, from string) {
	t.Helper()
	began := harness.StartStopwatch()
	p := s.dialFrom(t, from)
	p.advance(publishing)
	if began.Exceeded(replyTimeout) {
		t.Errorf("a valid client needed more than %v to publish", replyTimeout)
	}
	p.NetConn.Close()
}

// guess publishes with a room's name instead of its key, and returns how long the refusal took.
func (s *target) guess(t *testing.T, from string) time.Duration {
	t.Helper()
	p := s.dialFrom(t, from)
	defer p.NetConn.Close()
	p.advance(connected)
	began := time.Now()
	p.publish("first")
	for {
		m, err := p.ReadMessage(longTimeout)
		if err != nil {
			t.Fatalf("no refusal: %v", err)
		}
		if m.IsCommand("onStatus") && bytes.Contains(m.Payload, []byte(badName)) {
			return time.Since(began)
		}
	}
}

// TestTimeouts has peers that start and do not continue. Timeouts count from the start, so slow
// bytes do not extend them.
func TestTimeouts(t *testing.T) {
	t.Parallel()
	cert, key, _ := harness.Certificate(t)
	s := start(t, "--handshake_timeout=4s", "--command_timeout=6s", "--read_timeout=6s", "--http_read_header_timeout=4s",
		"--http_idle_timeout=4s",
		"--enable_rtmps=true", "--rtmps_cert="+cert, "--rtmps_key="+key)
	// Long enough for a busy machine to reach the stage at which a peer stops.
	const most, longest = 4 * time.Second, 6 * time.Second // the shortest and the longest timeout
	for _, c := range []struct {
		name, listener string
		at             stage
		first, drip    []byte        // drip is sent repeatedly
		least          time.Duration // how long the connection must stay open
	}{
		{"RTMP client sends nothing", "rtmp_addr", fresh, nil, nil, most},
		{"slow bytes in the handshake", "rtmp_addr", fresh, []byte{3}, []byte{0}, most},
		{"RTMP on the TLS listener", "rtmps_addr", fresh, rtmp.ClientHandshake(3), nil, 0},
		{"TLS client sends nothing", "rtmps_addr", fresh, nil, nil, most},
		{"handshake only", "rtmp_addr", handshaken, nil, nil, most},
		{"handshake and pings only", "rtmp_addr", handshaken, nil, control(userControl, []byte{0, 6, 0, 0, 0, 0}), most},
		{"connect only", "rtmp_addr", connected, nil, nil, most},
		{"connect and a partial chunk", "rtmp_addr", connected, message{CSID: 3, Type: command}.Header(300),
			[]byte{0}, most},
		{"publish and pings only", "rtmp_addr", publishing, nil, control(userControl, []byte{0, 6, 0, 0, 0, 0}), most},
		{"publish and a partial frame", "rtmp_addr", publishing,
			message{CSID: 9, Type: video, StreamID: 1}.Header(100), []byte{0}, most},
		{"slow bytes in an HTTP header", "httpflv_addr", fresh, []byte("GET /live/x.flv HTTP/1.1\r\nHost: h\r\nX: "),
			[]byte("y"), most},
		{"HTTP client sends nothing", "httpflv_addr", fresh, nil, nil, 0},
		{"keep-alive without another request", "hls_addr", fresh, []byte("GET / HTTP/1.1\r\nHost: h\r\n\r\n"), nil, most},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			began := time.Now() // before the server's timer starts
			p := s.dialTo(t, c.listener)
			p.advance(c.at)
			p.send(c.first)
			stop := drip(p.NetConn, c.drip)
			defer stop()
			// Twice the longest timeout, and a reserve for a busy machine.
			p.NetConn.SetReadDeadline(time.Now().Add(2*longest + replyTimeout))
			var said bytes.Buffer
			if _, err := io.Copy(&said, p.Reader.R); errors.Is(err, os.ErrDeadlineExceeded) {
				t.Fatal("the connection was not closed")
			}
			if c.at == publishing && !bytes.Contains(said.Bytes(), []byte("NetStream.Publish.Idle")) {
				t.Errorf("the reply is %q", said.Bytes())
			}
			if took := time.Since(began); took < c.least {
				t.Errorf("the connection was closed after %v", took)
			}
		})
	}
	t.Cleanup(func() { s.audit(t, 13) })
}

// drip writes b to nc ten times a second, until stop is called.
func drip(nc net.Conn, b []byte) (stop func()) {
	done, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		tick := time.NewTicker(100 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				nc.Write(b)
			case <-done:
				return
			}
		}
	}()
	return func() {
		close(done)
		<-ended
	}
}
