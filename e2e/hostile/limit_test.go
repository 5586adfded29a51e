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

// TestConnectionFloods has thousands of connections from one address of which none gets to the
// point, and wrong keys from another. The limits by address stop both, and a good client at a third
// does not notice.
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

	t.Run("H13 parked in the handshake", func(t *testing.T) {
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
		t.Run([]string{"connections to the operator", "connections where an authority asks"}[i], func(t *testing.T) {
			const n = 200
			var parked []net.Conn
			for range n {
				parked = append(parked, s.dialRaw(t, fmt.Sprintf("127.0.0.%d", 4+i), to, ""))
			}
			keepsAtMost(t, limit+5, parked)
			s.serves(t, good)
		})
	}
	t.Run("S20 connect and close", func(t *testing.T) {
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
	t.Run("a body that never comes, where an authority asks", func(t *testing.T) {
		asked.SetReadDeadline(time.Now().Add(15 * time.Second))
		if _, err := io.Copy(io.Discard, asked); err != nil {
			t.Errorf("it waits: %v", err)
		}
	})
	t.Run("S11 wrong keys", func(t *testing.T) {
		const guesser = "127.0.0.3"
		for range 10 {
			s.guess(t, guesser)
		}
		// From now on each try waits for up to four seconds, by chance: that eight have all but no luck
		// is not to be expected.
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

// serves wants a session from an address to work within the second, or what goes for one here.
func (s *target) serves(t *testing.T, from string) {
	t.Helper()
	began := harness.StartStopwatch()
	p := s.dialFrom(t, from)
	p.advance(publishing)
	if began.Exceeded(replyTimeout) {
		t.Errorf("a good client needed more than %v to publish", replyTimeout)
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

// TestTimeouts has peers that begin and do not go on. Time-outs count from the beginning: who sends
// a byte now and then gains nothing.
func TestTimeouts(t *testing.T) {
	t.Parallel()
	cert, key, _ := harness.Certificate(t)
	s := start(t, "--handshake_timeout=4s", "--command_timeout=6s", "--read_timeout=6s", "--http_read_header_timeout=4s",
		"--http_idle_timeout=4s",
		"--enable_rtmps=true", "--rtmps_cert="+cert, "--rtmps_key="+key)
	// Long enough for a busy machine to come to the stage from which a peer does not go on.
	const most, longest = 4 * time.Second, 6 * time.Second // the shortest time-out, and the longest
	for _, c := range []struct {
		name, listener string
		at             stage
		first, drip    []byte        // drip again and again
		least          time.Duration // how long the connection must be left alone
	}{
		{"H01 nothing", "rtmp_addr", fresh, nil, nil, most},
		{"H02 a byte now and then", "rtmp_addr", fresh, []byte{3}, []byte{0}, most},
		{"H06 RTMP for TLS", "rtmps_addr", fresh, rtmp.ClientHandshake(3), nil, 0},
		{"H06 nothing for TLS", "rtmps_addr", fresh, nil, nil, most},
		{"H14 handshake and no more", "rtmp_addr", handshaken, nil, nil, most},
		{"H14 handshake and pings", "rtmp_addr", handshaken, nil, control(userControl, []byte{0, 6, 0, 0, 0, 0}), most},
		{"H14 connect and no more", "rtmp_addr", connected, nil, nil, most},
		{"H14 connect and a chunk's beginning", "rtmp_addr", connected, message{CSID: 3, Type: command}.Header(300),
			[]byte{0}, most},
		{"S17 publish and pings", "rtmp_addr", publishing, nil, control(userControl, []byte{0, 6, 0, 0, 0, 0}), most},
		{"S17 publish and a frame's beginning", "rtmp_addr", publishing,
			message{CSID: 9, Type: video, StreamID: 1}.Header(100), []byte{0}, most},
		{"W01 a byte of a header now and then", "httpflv_addr", fresh, []byte("GET /live/x.flv HTTP/1.1\r\nHost: h\r\nX: "),
			[]byte("y"), most},
		{"W01 nothing for HTTP", "httpflv_addr", fresh, nil, nil, 0},
		{"W11 keep-alive without another request", "hls_addr", fresh, []byte("GET / HTTP/1.1\r\nHost: h\r\n\r\n"), nil, most},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			began := time.Now() // before the server's clock
			p := s.dialTo(t, c.listener)
			p.advance(c.at)
			p.send(c.first)
			stop := drip(p.NetConn, c.drip)
			defer stop()
			// Twice the longest time-out, and the rest for the machine.
			p.NetConn.SetReadDeadline(time.Now().Add(2*longest + replyTimeout))
			var said bytes.Buffer
			if _, err := io.Copy(&said, p.Reader.R); errors.Is(err, os.ErrDeadlineExceeded) {
				t.Fatal("the connection was not closed")
			}
			if c.at == publishing && !bytes.Contains(said.Bytes(), []byte("NetStream.Publish.Idle")) {
				t.Errorf("it was told %q", said.Bytes())
			}
			if took := time.Since(began); took < c.least {
				t.Errorf("it was closed after %v", took)
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
