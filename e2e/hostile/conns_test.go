package hostile

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"livego/e2e/harness"
)

const webSocketHeaders = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: " +
	"dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"

// dialRaw connects to a listener from an address of this machine, and sends b.
func (s *target) dialRaw(t *testing.T, from, flag, b string) net.Conn {
	t.Helper()
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}, Timeout: replyTimeout}
	nc, err := d.Dial("tcp", s.Addr(flag))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { nc.Close() })
	io.WriteString(nc, b)
	return nc
}

// countOpen returns how many of conns the server has not closed. It reads what the server has sent.
func countOpen(conns []net.Conn) (n int) {
	for _, nc := range conns {
		nc.SetReadDeadline(time.Now().Add(time.Millisecond))
		if _, err := io.Copy(io.Discard, nc); errors.Is(err, os.ErrDeadlineExceeded) {
			n++
		}
	}
	return n
}

// keepsAtMost requires that the server leaves at most so many of conns open.
func keepsAtMost(t *testing.T, most int, conns []net.Conn) {
	t.Helper()
	harness.Eventually(t, longTimeout, "idle connections are closed", func() error {
		if n := countOpen(conns); n > most {
			return fmt.Errorf("%d of %d are open, want at most %d", n, len(conns), most)
		}
		return nil
	})
}

// TestIdleConnectionsAreLimited has one address open connections that get no media: after one
// response, or while they wait for rooms that do not exist. Their number stays limited, the newest
// is always served, and a viewer at that address stays.
func TestIdleConnectionsAreLimited(t *testing.T) {
	t.Parallel()
	const limit, many, from = 8, 100, "127.0.0.2"
	s := start(t, "--limit_loopback=true", fmt.Sprintf("--conns_per_ip=%d", limit), "--conn_burst=100ms", "--conn_idle=2s",
		"--play_wait=1m", "--http_idle_timeout=1m")
	b := s.startBystander(t, "bystander")
	viewer := s.dialRaw(t, from, "httpflv_addr", get("/live/bystander.flv"))
	if _, err := io.ReadFull(viewer, make([]byte, 1000)); err != nil {
		t.Fatal(err)
	}
	inputs := 0
	for name, request := range map[string]string{
		"static file":        get("/crossdomain.xml"),
		"absent room":        get("/live/none.flv"),
		"no request":         "",
		"waiting WebSockets": "GET /live/none.flv HTTP/1.1\r\nHost: h\r\n" + webSocketHeaders + "\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			var conns []net.Conn
			for range many {
				conns = append(conns, s.dialRaw(t, from, "httpflv_addr", request))
				inputs++
			}
			if resp, body := doRequest(t, "",
				operatorCall{method: "GET", target: "http://" + s.Addr("httpflv_addr") +
					"/crossdomain.xml"}); resp.StatusCode != http.StatusOK {
				t.Errorf("a valid client: HTTP %d %s", resp.StatusCode, body)
			}
			keepsAtMost(t, limit, conns)
		})
	}
	t.Run("waiting players", func(t *testing.T) {
		var conns []net.Conn
		for range 3 * limit {
			p := s.dialFrom(t, from)
			p.advance(connected)
			p.play("none")
			conns = append(conns, p.NetConn)
			inputs++
		}
		keepsAtMost(t, limit, conns)
	})
	t.Run("idle HLS viewer", func(t *testing.T) {
		master, media, _ := mediaPlaylist(t, s, "bystander", "")
		_, text, _ := strings.Cut(media, "#EXT-X-TARGETDURATION:")
		text, _, _ = strings.Cut(text, "\n")
		target, err := strconv.Atoi(text)
		if err != nil {
			t.Fatalf("%v: %s", err, media)
		}
		keeps := 3 * time.Duration(target) * time.Second // longer than conn_idle
		lines := strings.Split(strings.TrimSpace(master), "\n")
		began := time.Now()
		watched := []net.Conn{s.dialRaw(t, from, "hls_addr", get("/live/"+lines[len(lines)-1]))}
		if countOpen(watched) == 0 {
			t.Fatal("the connection is closed at once")
		}
		flood := func() {
			var conns []net.Conn
			for range 2 * limit {
				conns = append(conns, s.dialRaw(t, from, "hls_addr", get("/crossdomain.xml")))
			}
			inputs += len(conns)
			keepsAtMost(t, limit, conns)
			for _, nc := range conns {
				nc.Close()
			}
		}
		for countOpen(watched) > 0 {
			flood()
			if time.Since(began) > keeps+longTimeout {
				t.Fatal("an idle connection stays open, though its address opens others")
			}
		}
		if took := time.Since(began); took < keeps {
			t.Errorf("the connection was closed %v after its playlist, want 3 target durations (%v)", took, keeps)
		}
	})
	viewer.SetReadDeadline(time.Now().Add(longTimeout))
	if _, err := io.ReadFull(viewer, make([]byte, 100_000)); err != nil {
		t.Errorf("a viewer at that address: %v", err)
	}
	b.finish()
	s.WithT(t).AwaitLog(longTimeout, "conns_per_ip") // why connections were closed
	s.audit(t, inputs)
}

// TestDescriptors has one address open viewers until the server refuses more, because descriptors
// run short. Encoders, the operator and viewers at other addresses are accepted, and no viewer is
// ended.
func TestDescriptors(t *testing.T) {
	t.Parallel()
	const files, from = 600, "127.0.0.2"
	s := startWith(t, harness.Options{MaxOpenFiles: files,
		Flags: []string{"--limit_loopback=true", "--conn_burst=100ms", "--play_wait=1m"}})
	b := s.startBystander(t, "bystander")
	viewers, refused := 0, 0
	var ended atomic.Int64
	var reading sync.WaitGroup
	for range files {
		nc := s.dialRaw(t, from, "httpflv_addr", get("/live/bystander.flv"))
		nc.SetReadDeadline(time.Now().Add(replyTimeout))
		if _, err := io.ReadFull(nc, make([]byte, 1000)); err != nil {
			refused++
			nc.Close()
			continue
		}
		nc.SetReadDeadline(time.Time{})
		viewers++
		reading.Go(func() {
			io.Copy(io.Discard, nc)
			ended.Add(1)
		})
	}
	if refused == 0 || viewers < files/3 {
		t.Errorf("%d viewers of one address were accepted and %d refused", viewers, refused)
	}
	// More connections that neither publish nor play, from many addresses.
	for i := range 300 {
		s.dialRaw(t, fmt.Sprintf("127.0.1.%d", 1+i%50), "rtmp_addr", "\x03")
	}
	for i := range 3 {
		s.serves(t, fmt.Sprintf("127.0.2.%d", 1+i))
	}
	for i := range 3 {
		nc := s.dialRaw(t, fmt.Sprintf("127.0.3.%d", 1+i), "httpflv_addr", get("/live/bystander.flv"))
		nc.SetReadDeadline(time.Now().Add(replyTimeout))
		if _, err := io.ReadFull(nc, make([]byte, 1000)); err != nil {
			t.Errorf("a viewer at another address: %v", err)
		}
	}
	for range 100 {
		s.dialRaw(t, from, "api_addr", "")
	}
	if resp, body := doRequest(t, s.API(""),
		operatorCall{method: "GET", target: "/healthz"}); resp.StatusCode != http.StatusOK {
		t.Errorf("/healthz: %d %s", resp.StatusCode, body)
	}
	if n := ended.Load(); n > 0 {
		t.Errorf("%d of %d viewers were ended", n, viewers)
	}
	b.finish()
	reading.Wait()
	s.WithT(t).AwaitLog(longTimeout, "a quarter of them") // why connections were refused
	if log := s.Stdout() + s.Stderr(); strings.Contains(log, "too many open files") {
		t.Error("descriptors ran out")
	}
}

// TestDescriptorsOfRecordings uses up the shares of viewers, encoders, undecided connections and the
// operator, from many addresses, on a server that records every stream and has its keys in Redis.
// Descriptors are left for each recording and for the connections to Redis.
func TestDescriptorsOfRecordings(t *testing.T) {
	t.Parallel()
	harness.Need(t, "redis-server", "redis-cli")
	const files = 600
	dir := t.TempDir()
	s := startWith(t, harness.Options{MaxOpenFiles: files,
		Flags: []string{"--limit_loopback=true", "--conn_burst=100ms", "--play_wait=1m", "--flv_archive", "--flv_dir=" + dir,
			"--redis_addr=" + harness.StartRedis(t).Addr(), "--publish_hold=0s"}})
	first := s.dial(t)
	first.room = "first"
	first.advance(publishing)
	from := func(kind, n int) string { return fmt.Sprintf("127.0.%d.%d", kind, 1+n%200) }
	viewers := 0
	for n := range files {
		nc := s.dialRaw(t, from(1, n), "httpflv_addr", get("/live/first.flv"))
		nc.SetReadDeadline(time.Now().Add(replyTimeout))
		if _, err := io.ReadFull(nc, make([]byte, 20)); err != nil {
			nc.Close()
			break
		}
		viewers++
	}
	for n := range 100 { // undecided
		s.dialRaw(t, from(2, n), "rtmp_addr", "\x03")
		s.dialRaw(t, from(2, n), "api_addr", "")
	}
	var publishers []*peer
	for n := range 200 {
		p := s.dialFrom(t, from(3, n))
		p.room = fmt.Sprint("room", n)
		p.advance(connected)
		p.publish(p.streamKey())
		if m := p.await("onStatus", "NetStream.Publish."); !bytes.Contains(m.Payload, []byte("Publish.Start")) {
			if !bytes.Contains(m.Payload, []byte("connection limit reached")) {
				t.Errorf("a publisher is refused with %q", m.Payload)
			}
			break
		}
		p.announceVideo()
		p.newKeyFrame()
		publishers = append(publishers, p)
	}
	t.Logf("%d viewers and %d publishers", viewers, len(publishers)+1)
	if viewers < files/3 || len(publishers) < files/10 {
		t.Errorf("only %d viewers and %d publishers were accepted", viewers, len(publishers)+1)
	}
	harness.Eventually(t, longTimeout, "a recording of each stream", func() error {
		list, err := filepath.Glob(filepath.Join(dir, "live", "*.flv"))
		if err == nil && len(list) != len(publishers)+1 {
			err = fmt.Errorf("%d recordings of %d streams", len(list), len(publishers)+1)
		}
		return err
	})
	if log := s.Stdout() + s.Stderr(); strings.Contains(log, "too many open files") ||
		strings.Contains(log, "key store unavailable") {
		t.Error("descriptors ran out")
	}
	s.auditLog(t)
}

// proxyV2 returns a header of the PROXY protocol, version 2, for a client at an IPv4 address.
func proxyV2(source string) string {
	b := append([]byte("\r\n\r\n\x00\r\nQUIT\n\x21\x11\x00\x0c"), net.ParseIP(source).To4()...)
	b = append(b, 127, 0, 0, 1)
	b = binary.BigEndian.AppendUint16(b, 4711)
	return string(binary.BigEndian.AppendUint16(b, 1935))
}

// TestProxies has a trusted proxy send the addresses of its clients, and others claim to be a
// proxy. Limits by address and the log use the client's address, and no client becomes the
// operator.
func TestProxies(t *testing.T) {
	t.Parallel()
	const proxy, limit = "127.0.0.9", 8
	s := start(t, "--trusted_proxies=127.0.0.9", "--proxy_protocol=rtmp,hls,api", fmt.Sprintf("--conns_per_ip=%d", limit),
		"--conn_burst=100ms", "--play_wait=1m",
		"--private=live/shut", "--token.secret="+tokenSecret, "--api_allow=192.0.2.0/24")
	b := s.startBystander(t, "bystander")
	logs := func(t *testing.T, remote, message string) {
		t.Helper()
		harness.Eventually(t, longTimeout, "a line of the log of "+remote, func() error {
			for line := range strings.SplitSeq(s.Stdout()+s.Stderr(), "\n") {
				if strings.Contains(line, message) && strings.Contains(line, "remote="+remote) {
					return nil
				}
			}
			return errors.New("no such line")
		})
	}
	publishFrom := func(t *testing.T, header, room string) {
		t.Helper()
		p := s.dialFrom(t, proxy)
		p.room = room
		p.send([]byte(header))
		p.advance(publishing)
	}
	t.Run("RTMP by version 1", func(t *testing.T) {
		publishFrom(t, "PROXY TCP4 192.0.2.1 127.0.0.1 4711 1935\r\n", "one")
		logs(t, "192.0.2.1:4711", "publishing")
	})
	t.Run("RTMP by version 2", func(t *testing.T) {
		publishFrom(t, proxyV2("192.0.2.2"), "two")
		logs(t, "192.0.2.2:4711", "publishing")
	})
	t.Run("FLV by X-Forwarded-For", func(t *testing.T) {
		s.dialRaw(t, proxy, "httpflv_addr", get("/live/bystander.flv", "X-Forwarded-For: 1.2.3.4, 192.0.2.3"))
		logs(t, "192.0.2.3:0", "playing")
	})
	t.Run("FLV by both headers", func(t *testing.T) {
		s.dialRaw(t, proxy, "hls_addr",
			"PROXY TCP4 127.0.0.9 127.0.0.1 1 1\r\n"+get("/live/bystander.flv", "X-Forwarded-For: 192.0.2.4"))
		s.dialRaw(t, proxy, "hls_addr", proxyV2("192.0.2.5")+get("/live/bystander.flv", "X-Forwarded-For: 1.2.3.4"))
		logs(t, "192.0.2.5:4711", "playing") // a client that is no proxy cannot set its address
	})
	t.Run("tokens that are bound to an address", func(t *testing.T) {
		shut := s.dial(t)
		shut.room = "shut"
		shut.advance(publishing)
		token := harness.JWT(tokenSecret, `{"alg":"HS256"}`,
			fmt.Sprintf(`{"act":"play","app":"live","room":"shut","ip":"192.0.2.20","iat":%d,"exp":%d}`, time.Now().Unix(),
				time.Now().Unix()+600))
		for _, c := range []struct {
			from, client, status string
		}{
			{proxy, "192.0.2.20", "200"}, {proxy, "192.0.2.21", "403"}, {proxy, "192.0.2.20, 192.0.2.21", "403"},
			{"127.0.0.8", "192.0.2.20", "403"},
		} {
			nc := s.dialRaw(t, c.from, "httpflv_addr", get("/live/shut.flv?token="+token, "X-Forwarded-For: "+c.client))
			nc.SetReadDeadline(time.Now().Add(longTimeout))
			line := make([]byte, len("HTTP/1.1 200"))
			if _, err := io.ReadFull(nc, line); err != nil || string(line) != "HTTP/1.1 "+c.status {
				t.Errorf("from %s for %s: %q %v, want %s", c.from, c.client, line, err, c.status)
			}
		}
	})
	t.Run("untrusted proxy", func(t *testing.T) {
		s.dialRaw(t, "127.0.0.8", "httpflv_addr", get("/live/bystander.flv", "X-Forwarded-For: 192.0.2.6"))
		logs(t, "127.0.0.8:", "playing")
		if n := countOpen([]net.Conn{s.dialRaw(t, "127.0.0.8", "rtmp_addr",
			"PROXY TCP4 192.0.2.6 127.0.0.1 4711 1935\r\n"+strings.Repeat("x", 2000))}); n > 0 {
			keepsAtMost(t, 0, []net.Conn{s.dialRaw(t, "127.0.0.8", "rtmp_addr",
				"PROXY TCP4 192.0.2.6 127.0.0.1 4711 1935\r\n"+strings.Repeat("x", 2000))})
		}
	})
	t.Run("limits", func(t *testing.T) {
		var conns []net.Conn
		for range 4 * limit {
			conns = append(conns, s.dialRaw(t, proxy, "rtmp_addr", proxyV2("192.0.2.7")+"\x03"),
				s.dialRaw(t, proxy, "httpflv_addr",
					get("/live/none.flv", "X-Forwarded-For: 192.0.2.7", strings.TrimSuffix(webSocketHeaders, "\r\n"))))
		}
		keepsAtMost(t, limit, conns)
		other := s.dialRaw(t, proxy, "httpflv_addr", get("/live/bystander.flv", "X-Forwarded-For: 192.0.2.8"))
		other.SetReadDeadline(time.Now().Add(longTimeout))
		if _, err := io.ReadFull(other, make([]byte, 1000)); err != nil {
			t.Errorf("another client of the proxy: %v", err)
		}
	})
	t.Run("no client becomes the operator", func(t *testing.T) {
		for name, r := range map[string]struct{ from, header, request string }{
			"version 1":          {proxy, "PROXY TCP4 127.0.0.1 127.0.0.1 4711 8090\r\n", get("/control/get?room=x")},
			"version 1, unknown": {proxy, "PROXY UNKNOWN\r\n", get("/control/get?room=x")},
			"version 2":          {proxy, proxyV2("127.0.0.1"), get("/control/get?room=x")},
			"X-Forwarded-For":    {"127.0.0.8", "", get("/control/get?room=x", "X-Forwarded-For: 127.0.0.1")},
			"both": {proxy, "PROXY TCP4 127.0.0.9 127.0.0.1 1 1\r\n",
				get("/control/get?room=x", "X-Forwarded-For: 127.0.0.1")},
			"from another machine": {proxy, proxyV2("192.0.2.9"), get("/control/get?room=x")},
		} {
			nc := s.dialRaw(t, r.from, "api_addr", r.header+strings.Replace(r.request, "Host: h", "Host: localhost", 1))
			nc.SetReadDeadline(time.Now().Add(longTimeout))
			line := make([]byte, len("HTTP/1.1 403"))
			if _, err := io.ReadFull(nc, line); err != nil || string(line) != "HTTP/1.1 403" {
				t.Errorf("%s: %q %v, want a refusal", name, line, err)
			}
		}
	})
	b.finish()
	s.audit(t, 0)
}
