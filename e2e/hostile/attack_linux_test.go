package hostile

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"livego/e2e/harness"
	"livego/e2e/rtmp"
)

// An attack is what one client does to a server, and what it may cost.
type attack struct {
	name  string
	flags []string
	// prepare, if set, starts what the server needs and returns more flags.
	prepare func(*testing.T) []string
	files   int // limit of file descriptors; 0: that of this process
	// run attacks s and returns what the server refused. Its connections stay open until stop is
	// called.
	run func(t *testing.T, s *target) (refused string, stop func())
	// memory is how much the process may grow, and kernel how much the socket buffers of this
	// machine may, in MiB at the peak.
	memory, kernel int
}

// attackerAddr is the source of attacks. Well-behaved clients use 127.0.0.1.
const attackerAddr = "127.0.0.66"

// TestAttacks runs attacks that once worked, each on a server of its own with well-behaved clients.
// The clients must not be delayed by more than a second, and the memory must stay bounded. The long
// form runs one attack at a time and measures the machine's socket buffers too. With -v it prints
// the table of docs/reliability.md.
func TestAttacks(t *testing.T) {
	if !harness.Long() {
		t.Parallel()
	}
	perAddress := []string{"--conns_per_ip=64", "--play_wait=60s"}
	attacks := []attack{
		{name: "players announce large chunks", run: announceChunks("bystander"), memory: 40, kernel: 200},
		{name: "waiting players announce large chunks", flags: []string{"--play_wait=60s"}, run: announceChunks("absent"),
			memory: 40, kernel: 200},
		{name: "HLS sessions with a Host of 15 kB, then statistics", run: manyHosts(15_000), memory: 60, kernel: 64},
		{name: "HLS sessions with the longest Host, then statistics", run: manyHosts(253), memory: 120, kernel: 64},
		{name: "keep-alive connections after one request", flags: perAddress, run: idleConnections, memory: 60, kernel: 64},
		{name: "WebSockets that wait for absent rooms", flags: perAddress, run: absentWebSockets, memory: 60, kernel: 64},
		{name: "slow readers of HLS segments", run: slowSegments("hls_addr"), memory: 120, kernel: 200},
		{name: "slow readers of HLS segments over TLS", prepare: serveTLS, run: slowSegments("https_addr"), memory: 160,
			kernel: 200},
		{name: "slow readers of HLS segments over HTTP/2", prepare: serveTLS, run: readSlowlyByHTTP2, memory: 160,
			kernel: 200},
		{name: "requests over HTTP/2 that are reset at once", prepare: serveTLS, run: resetRequests, memory: 60, kernel: 200},
		{name: "WebSocket pings", run: pings, memory: 40, kernel: 64},
		{name: "wrong stream keys", run: wrongKeys, memory: 60, kernel: 64},
		{name: "wrong stream keys, with a Redis that is 40 ms away", flags: []string{"--auth_failures=0"}, prepare: farRedis,
			run: wrongKeysWithRedis, memory: 60, kernel: 64},
		{name: "requests of another site to delete a room", flags: []string{"--api_hosts=studio.example"}, run: crossSite,
			memory: 40, kernel: 64},
		{name: "requests for keys through a proxy that does not announce itself", run: throughProxy, memory: 40, kernel: 64},
		{name: "one session of a token for one viewer, from 40 addresses",
			flags: []string{"--private=live/shut", "--token.secret=" + tokenSecret, "--conns_per_ip=0"}, run: shareSession,
			memory: 60, kernel: 64},
		{name: "viewers of one address until descriptors are short", flags: []string{"--conn_burst=100ms"}, files: 600,
			run: useDescriptors, memory: 60, kernel: 200},
		{name: "forged X-Forwarded-For and PROXY headers",
			flags: slices.Concat(perAddress, []string{"--trusted_proxies=127.0.0.9", "--proxy_protocol=rtmp"}),
			run:   forgeAddresses, memory: 60, kernel: 64},
	}
	rows := make([]string, len(attacks)+1)
	t.Run("attack", func(t *testing.T) {
		run := func(i int, name string, measure func(*testing.T) string) {
			t.Run(name, func(t *testing.T) {
				if !harness.Long() {
					t.Parallel()
				}
				rows[i] = measure(t)
			})
		}
		for i, a := range attacks {
			run(i, a.name, a.measure)
		}
		run(len(attacks), "a webhook for each made-up room", unknownRooms)
	})
	t.Logf("\n| attack | refused | memory before, peak, after | socket buffers | longest stall "+
		"|\n|---|---|---|---|---|\n%s", strings.Join(rows, "\n"))
}

// measure runs the attack and returns its row of the table.
func (a attack) measure(t *testing.T) string {
	flags := append([]string{"--limit_loopback=true", "--publish_hold=20s"}, a.flags...)
	if a.prepare != nil {
		flags = append(flags, a.prepare(t)...)
	}
	s := startApps(t, harness.Options{Flags: flags, MaxOpenFiles: a.files})
	b := s.startBystander(t, "bystander")
	c := s.startSteadyClient(t, "bystander")
	harness.Eventually(t, longTimeout, "the stream's first segments", func() error {
		if c.playlists.Load() < 5 {
			return fmt.Errorf("%d playlists", c.playlists.Load())
		}
		return nil
	})
	before, kernelBefore := s.WithT(t).MemoryMiB("VmRSS"), socketMemory(t)
	s.resetPeak(t)
	kernel := watchSocketMemory(t)

	refused, stop := a.run(t, s)
	kernelPeak := kernel()
	peak := s.WithT(t).MemoryMiB("VmHWM")
	stop()
	b.finish()
	stall := max(c.finish(), b.worst)
	if harness.Long() {
		stall = max(stall, b.stall) // the attack's own work counts
	}
	harness.Eventually(t, 60*time.Second, "file descriptors as before", func() error {
		if n := s.WithT(t).OpenFiles(); n > s.fds+10 {
			return fmt.Errorf("%d file descriptors, there were %d", n, s.fds)
		}
		return nil
	})
	after := s.WithT(t).MemoryMiB("VmRSS")
	if peak > before+a.memory {
		t.Errorf("the process grew from %d to %d MiB, want at most %d more", before, peak, a.memory)
	}
	if harness.Long() && kernelPeak > kernelBefore+a.kernel {
		t.Errorf("socket buffers grew from %d to %d MiB, want at most %d more", kernelBefore, kernelPeak, a.kernel)
	}
	if stall > maxDelay {
		t.Errorf("a well-behaved client was delayed by %v", stall)
	}
	s.auditLog(t)
	return fmt.Sprintf("| %s | %s | %d, %d, %d MiB | %d MiB | %d ms |", a.name, refused, before, peak, after,
		kernelPeak-kernelBefore, stall.Milliseconds())
}

// scaled returns n in the long form, otherwise a tenth of it.
func scaled(n int) int {
	if harness.Long() {
		return n
	}
	return n / 10
}

// A steadyClient is well-behaved: it requests a room's playlist and /healthz ten times a second,
// and records the slowest response.
type steadyClient struct {
	t         *testing.T
	stop      context.CancelFunc
	done      sync.WaitGroup
	playlists atomic.Int64
	worst     atomic.Int64 // nanoseconds
}

func (s *target) startSteadyClient(t *testing.T, room string) *steadyClient {
	ctx, cancel := context.WithCancel(context.Background())
	c := &steadyClient{t: t, stop: cancel}
	t.Cleanup(cancel)
	for _, url := range []string{s.HLS(room), s.API("/healthz")} {
		playlist := strings.HasSuffix(url, ".m3u8")
		c.done.Go(func() {
			http := &http.Client{Transport: &http.Transport{}, Timeout: longTimeout}
			tick := time.NewTicker(100 * time.Millisecond)
			defer tick.Stop()
			for ctx.Err() == nil {
				watch := harness.StartStopwatch()
				ok, err := succeeds(ctx, http, url)
				all, took := watch.Elapsed()
				if harness.Long() {
					took = all
				}
				if ok && playlist {
					if c.playlists.Add(1) > 1 { // the first waits for the stream's first segment
						c.record(took)
					}
				} else if ok {
					c.record(took)
				} else if ctx.Err() == nil && (!playlist || c.playlists.Load() > 0) {
					t.Errorf("a well-behaved client of %s: %v", url, err)
				}
				select {
				case <-tick.C:
				case <-ctx.Done():
				}
			}
		})
	}
	return c
}

func (c *steadyClient) record(took time.Duration) {
	for {
		w := c.worst.Load()
		if int64(took) <= w || c.worst.CompareAndSwap(w, int64(took)) {
			return
		}
	}
}

func (c *steadyClient) finish() time.Duration {
	c.stop()
	c.done.Wait()
	return time.Duration(c.worst.Load())
}

// succeeds reports whether a GET of url returns 200.
func succeeds(ctx context.Context, c *http.Client, url string) (bool, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return false, err
	}
	resp, err := c.Do(req)
	if err != nil {
		return false, err
	}
	defer resp.Body.Close()
	io.Copy(io.Discard, resp.Body)
	if resp.StatusCode != http.StatusOK {
		return false, fmt.Errorf("HTTP %d", resp.StatusCode)
	}
	return true, nil
}

// resetPeak resets VmHWM to the resident memory (proc_pid_clear_refs(5)).
func (s *target) resetPeak(t *testing.T) {
	t.Helper()
	if err := os.WriteFile(fmt.Sprintf("/proc/%d/clear_refs", s.PID()), []byte("5"), 0); err != nil {
		t.Fatal(err)
	}
}

// socketMemory returns the memory of all TCP sockets of this machine, in MiB (proc_net_sockstat(5),
// in pages).
func socketMemory(t testing.TB) int {
	b, err := os.ReadFile("/proc/net/sockstat")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(b)) {
		if f := strings.Fields(line); len(f) > 0 && f[0] == "TCP:" {
			pages, err := strconv.Atoi(f[len(f)-1])
			if err != nil {
				t.Fatal(err)
			}
			return pages * os.Getpagesize() >> 20
		}
	}
	t.Fatal("/proc/net/sockstat has no TCP line")
	return 0
}

// watchSocketMemory records the highest socketMemory until the returned function is called.
func watchSocketMemory(t testing.TB) (peak func() int) {
	ctx, cancel := context.WithCancel(context.Background())
	var most int
	var done sync.WaitGroup
	done.Go(func() {
		tick := time.NewTicker(20 * time.Millisecond)
		defer tick.Stop()
		for ctx.Err() == nil {
			most = max(most, socketMemory(t))
			select {
			case <-tick.C:
			case <-ctx.Done():
			}
		}
	})
	return func() int {
		cancel()
		done.Wait()
		return most
	}
}

// attackConns holds the connections of an attacker.
type attackConns struct {
	t     *testing.T
	mu    sync.Mutex
	conns []net.Conn
}

// dial connects to a listener from attackerAddr. It returns nil if the server or the kernel
// refuses.
func (c *attackConns) dial(addr string) net.Conn {
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(attackerAddr)}, Timeout: longTimeout}
	nc, err := d.Dial("tcp", addr)
	if err != nil {
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.conns = append(c.conns, nc)
	return nc
}

func (c *attackConns) close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, nc := range c.conns {
		nc.Close()
	}
}

// each calls f n times from 32 goroutines and counts how often it returns true.
func (c *attackConns) each(n int, f func(i int) bool) int {
	var yes, next atomic.Int64
	var done sync.WaitGroup
	for range 32 {
		done.Go(func() {
			for i := int(next.Add(1)) - 1; i < n; i = int(next.Add(1)) - 1 {
				if f(i) {
					yes.Add(1)
				}
			}
		})
	}
	done.Wait()
	return int(yes.Load())
}

// webSocketRequest has the headers of a WebSocket request for getStatus.
var webSocketRequest = []string{"Host: h", "Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13",
	"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="}

// announceChunks has 60 RTMP players announce the largest chunk size and a message of 16 MB, and
// send most of it.
func announceChunks(room string) func(*testing.T, *target) (string, func()) {
	return func(t *testing.T, s *target) (string, func()) {
		c := &attackConns{t: t}
		body := make([]byte, 15<<20)
		ended := c.each(60, func(int) bool {
			nc := c.dial(s.Addr("rtmp_addr"))
			if nc == nil {
				return true
			}
			p, err := rtmp.OpenConn(nc, "live", longTimeout)
			if err != nil {
				return true
			}
			p.Play(room)
			if room == "bystander" {
				if p.AwaitStart("NetStream.Play.Start", longTimeout) != nil {
					return true
				}
			}
			go io.Copy(io.Discard, nc)
			nc.SetWriteDeadline(time.Now().Add(longTimeout))
			nc.Write(message{CSID: 2, Type: 1, Payload: []byte{0x7f, 0xff, 0xff, 0xff}}.DefaultChunks())
			nc.Write(message{CSID: 4, Type: rtmp.Command, StreamID: 1}.Header(0xffffff))
			_, err = nc.Write(body)
			return err != nil
		})
		return fmt.Sprintf("%d of 60 players ended", ended), c.close
	}
}

// manyHosts opens HLS sessions whose Host has that many letters, and then requests the statistics.
func manyHosts(letters int) func(*testing.T, *target) (string, func()) {
	return func(t *testing.T, s *target) (string, func()) {
		c := &attackConns{t: t}
		n := scaled(24_000)
		host := "Host: " + strings.Repeat("h", letters)
		refused := c.each(n, func(int) bool {
			nc := c.dial(s.Addr("hls_addr"))
			if nc == nil {
				return true
			}
			defer nc.Close()
			return startHLSSession(nc, host) != http.StatusOK
		})
		for range 2 {
			if ok, err := succeeds(t.Context(), http.DefaultClient, s.API("/stat/livestat")); !ok {
				t.Errorf("/stat/livestat: %v", err)
			}
		}
		return fmt.Sprintf("%d of %d requests", refused, n), c.close
	}
}

// idleConnections sends one request on each of many connections and leaves them open.
func idleConnections(t *testing.T, s *target) (string, func()) {
	c := &attackConns{t: t}
	const n = 300
	c.each(n, func(int) bool {
		if nc := c.dial(s.Addr("hls_addr")); nc != nil {
			getStatus(nc, "/crossdomain.xml")
		}
		return false
	})
	return c.checkPerAddress(n), c.close
}

// absentWebSockets opens WebSockets for rooms without a publisher.
func absentWebSockets(t *testing.T, s *target) (string, func()) {
	c := &attackConns{t: t}
	n := scaled(1700)
	c.each(n, func(i int) bool {
		if nc := c.dial(s.Addr("httpflv_addr")); nc != nil {
			getStatus(nc, fmt.Sprintf("/live/absent%d.flv", i), webSocketRequest...)
		}
		return false
	})
	return c.checkPerAddress(n), c.close
}

// checkPerAddress requires that the server, after a moment, leaves open no more of the n connections
// than conns_per_ip, and returns how many it closed.
func (c *attackConns) checkPerAddress(n int) string {
	c.t.Helper()
	var open atomic.Int64
	var done sync.WaitGroup
	for _, nc := range c.conns {
		done.Go(func() {
			nc.SetReadDeadline(time.Now().Add(replyTimeout))
			if _, err := io.Copy(io.Discard, nc); err != nil && os.IsTimeout(err) {
				open.Add(1)
			}
		})
	}
	done.Wait()
	left := int(open.Load())
	if left > 70 {
		c.t.Errorf("%d connections of one address stay open, want at most the 64 of conns_per_ip", left)
	}
	return fmt.Sprintf("%d of %d connections closed", n-left, n)
}

// slowSegments has connections to a listener request all segments of a playlist and read a kilobyte
// of the responses.
func slowSegments(flag string) func(*testing.T, *target) (string, func()) {
	return func(t *testing.T, s *target) (string, func()) {
		c := &attackConns{t: t}
		n := scaled(300)
		segments := s.segments(t)
		refused := c.each(n, func(int) bool {
			nc := c.dial(s.Addr(flag))
			if nc == nil {
				return true
			}
			if flag == "https_addr" {
				nc = tls.Client(nc, &tls.Config{InsecureSkipVerify: true})
			}
			for range 50 {
				for _, segment := range segments {
					nc.SetWriteDeadline(time.Now().Add(time.Second))
					if _, err := fmt.Fprintf(nc, "GET %s HTTP/1.1\r\nHost: h\r\n\r\n", segment); err != nil {
						return true
					}
				}
			}
			nc.SetReadDeadline(time.Now().Add(longTimeout))
			_, err := io.CopyN(io.Discard, nc, 1024)
			return err != nil
		})
		return fmt.Sprintf("%d of %d connections", refused, n), c.close
	}
}

// segments returns the paths of the bystander's segments in its playlist, the newest last.
func (s *target) segments(t *testing.T) (paths []string) {
	t.Helper()
	for _, uri := range uris(string(harness.Get(t, strings.TrimSuffix(s.HLS("bystander"), ".m3u8")+"/index.m3u8"))) {
		paths = append(paths, "/live/bystander/"+uri)
	}
	if paths == nil {
		t.Fatal("no segment in the playlist")
	}
	return paths
}

// pings sends pings over a WebSocket that plays.
func pings(t *testing.T, s *target) (string, func()) {
	c := &attackConns{t: t}
	n := scaled(1_000_000)
	nc := c.dial(s.Addr("httpflv_addr"))
	if nc == nil {
		t.Fatal("refused")
	}
	if status := getStatus(nc, "/live/bystander.flv", webSocketRequest...); status != http.StatusSwitchingProtocols {
		t.Fatalf("HTTP %d", status)
	}
	read := make(chan error)
	go func() {
		_, err := io.Copy(io.Discard, nc)
		read <- err
	}()
	ping, sent := masked(0x89, ""), 0
	for ; sent < n; sent += 1000 {
		nc.SetWriteDeadline(time.Now().Add(longTimeout))
		if _, err := nc.Write([]byte(strings.Repeat(string(ping), 1000))); err != nil {
			break
		}
	}
	nc.SetReadDeadline(time.Now().Add(replyTimeout))
	if err := <-read; os.IsTimeout(err) {
		t.Errorf("the connection is open after %d pings", sent)
	}
	return fmt.Sprintf("the connection, after at most %d of %d pings", sent, n), c.close
}

// unknownRooms requests rooms that do not exist, from a server with a webhook for players that
// refuses each.
func unknownRooms(t *testing.T) string {
	var calls atomic.Int64
	hook := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		if bytes.Contains(body, []byte("bystander")) {
			io.WriteString(w, `{"allow":true}`)
			return
		}
		calls.Add(1)
		io.WriteString(w, `{"allow":false,"reason":"no such room"}`)
	}))
	defer hook.Close()
	n := scaled(12_000)
	a := attack{name: "requests for made-up rooms, with a webhook",
		flags:  []string{"--hook.on_play=" + hook.URL, "--hook.secret=" + strings.Repeat("s", 32)},
		memory: 60, kernel: 64,
		run: func(t *testing.T, s *target) (string, func()) {
			c := &attackConns{t: t}
			refused := c.each(n, func(i int) bool {
				nc := c.dial(s.Addr("hls_addr"))
				if nc == nil {
					return true
				}
				defer nc.Close()
				return getStatus(nc, fmt.Sprintf("/live/made-up-%d.m3u8", i%(n/10))) != http.StatusOK
			})
			return fmt.Sprintf("%d of %d requests, with %d calls of the webhook", refused, n, calls.Load()), c.close
		}}
	row := a.measure(t)
	if got := int(calls.Load()); got > n/5 {
		t.Errorf("the webhook was called %d times for %d rooms", got, n/10)
	}
	return row
}

// wrongKeys publishes with invalid keys. From the eleventh on, each reply takes up to four seconds.
func wrongKeys(t *testing.T, s *target) (string, func()) {
	c := &attackConns{t: t}
	n := scaled(400)
	var accepted atomic.Int64
	c.each(n, func(i int) bool {
		nc := c.dial(s.Addr("rtmp_addr"))
		if nc == nil {
			return false
		}
		defer nc.Close()
		p, err := rtmp.OpenConn(nc, "live", longTimeout)
		if err != nil {
			return false
		}
		p.Publish(fmt.Sprintf("%048d", i))
		if p.AwaitStart("NetStream.Publish.Start", longTimeout) == nil {
			accepted.Add(1)
		}
		return false
	})
	if accepted.Load() > 0 {
		t.Errorf("%d wrong keys were accepted", accepted.Load())
	}
	return fmt.Sprintf("%d of %d publishers", n-int(accepted.Load()), n), c.close
}

// serveTLS returns the flags of a server with HTTPS.
func serveTLS(t *testing.T) []string {
	cert, key, _ := harness.Certificate(t)
	return []string{"--enable_https=true", "--rtmps_cert=" + cert, "--rtmps_key=" + key}
}

// farRedis returns the flags of a server with a Redis that is 40 ms away.
func farRedis(t *testing.T) []string {
	harness.Need(t, "redis-server", "redis-cli")
	return []string{"--redis_addr=" + harness.StartDelayProxy(t, harness.StartRedis(t).Addr(), 40*time.Millisecond)}
}

// wrongKeysWithRedis publishes with invalid keys, without a delay for each. Each is refused as
// wrong, and the server stays ready.
func wrongKeysWithRedis(t *testing.T, s *target) (string, func()) {
	c := &attackConns{t: t}
	n := scaled(4000)
	refused := c.each(n, func(i int) bool {
		nc := c.dial(s.Addr("rtmp_addr"))
		if nc == nil {
			return false
		}
		defer nc.Close()
		p, err := rtmp.OpenConn(nc, "live", longTimeout)
		if err != nil {
			return false
		}
		p.Publish(fmt.Sprintf("%048d", i))
		_, err = p.AwaitCommand(longTimeout, "onStatus", badName)
		if ok, unready := succeeds(t.Context(), http.DefaultClient, s.API("/readyz")); i%100 == 0 && !ok {
			t.Errorf("/readyz: %v", unready)
		}
		return err == nil
	})
	if refused != n {
		t.Errorf("%d of %d wrong keys were refused as wrong", refused, n)
	}
	return fmt.Sprintf("%d of %d publishers", refused, n), c.close
}

// requestKeys sends requests of the operator and requires that all are refused.
func requestKeys(t *testing.T, addr, path string, headers ...string) (string, func()) {
	c := &attackConns{t: t}
	n := scaled(5000)
	refused := c.each(n, func(int) bool {
		nc := c.dial(addr)
		if nc == nil {
			return true
		}
		defer nc.Close()
		return getStatus(nc, path, headers...) == http.StatusForbidden
	})
	if refused != n {
		t.Errorf("%d of %d requests were refused", refused, n)
	}
	return fmt.Sprintf("%d of %d requests", refused, n), c.close
}

// crossSite sends what a browser sends for a page of another site, over plain HTTP.
func crossSite(t *testing.T, s *target) (string, func()) {
	return requestKeys(t, s.Addr("api_addr"), "/control/delete?room=bystander", "Host: studio.example",
		"Referer: http://attacker.tld/", "User-Agent: Mozilla/5.0")
}

// throughProxy requests the key of the bystander through a proxy on this machine.
func throughProxy(t *testing.T, s *target) (string, func()) {
	harness.Need(t, "nginx")
	proxy := startProxy(t, wwwData, s.Addr("api_addr"),
		`proxy_http_version 1.1; proxy_set_header Connection ""; proxy_set_header Host localhost;`)
	return requestKeys(t, strings.TrimPrefix(proxy, "http://"), "/control/get?room=bystander", "Host: live.example")
}

// shareSession uses an HLS session of a token for one viewer from 40 addresses.
func shareSession(t *testing.T, s *target) (string, func()) {
	const addresses = 40
	s.broadcast(t, "shut")
	now := time.Now().Unix()
	token := harness.JWT(tokenSecret, `{"alg":"HS256"}`, fmt.Sprintf(
		`{"act":"play","app":"live","room":"shut","iat":%d,"exp":%d,"viewers":1}`, now, now+3600))
	var clients []*hlsClient
	for n := range addresses {
		clients = append(clients, newHLSClient(t, fmt.Sprint("127.0.1.", n+1), "h"))
	}
	var media string
	harness.Eventually(t, longTimeout, "a session", func() (err error) {
		if media, err = clients[0].follow(s.HLS("shut") + "?token=" + token); err == nil {
			_, err = clients[0].follow(media)
		}
		return err
	})
	c := &attackConns{t: t}
	n := scaled(20_000)
	refused := c.each(n, func(i int) bool {
		status, _, _, err := clients[i%addresses].get(media)
		return err == nil && status == http.StatusTooManyRequests
	})
	if refused < n*(addresses-3)/addresses {
		t.Errorf("%d of %d requests were refused, want those of all addresses but 3", refused, n)
	}
	if status, _, body, err := clients[0].get(media); status != http.StatusOK {
		t.Errorf("the first viewer: HTTP %d %s %v", status, body, err)
	}
	for _, client := range clients {
		client.http.CloseIdleConnections()
	}
	return fmt.Sprintf("%d of %d requests", refused, n), c.close
}

// useDescriptors opens viewers until the server refuses more.
func useDescriptors(t *testing.T, s *target) (string, func()) {
	c := &attackConns{t: t}
	const n = 600
	refused := c.each(n, func(int) bool {
		nc := c.dial(s.Addr("httpflv_addr"))
		if nc == nil || getStatus(nc, "/live/bystander.flv") != http.StatusOK {
			return true
		}
		nc.SetDeadline(time.Time{})
		go io.Copy(io.Discard, nc)
		return false
	})
	if refused == 0 || refused > n*2/3 {
		t.Errorf("%d of %d viewers were refused", refused, n)
	}
	return fmt.Sprintf("%d of %d viewers", refused, n), c.close
}

// forgeAddresses sends another address with each request, as if it came through a trusted proxy.
// The limits by address hold for the true one.
func forgeAddresses(t *testing.T, s *target) (string, func()) {
	c := &attackConns{t: t}
	n := scaled(1700)
	c.each(n, func(i int) bool {
		claimed := fmt.Sprintf("10.1.%d.%d", i/250, 1+i%250)
		if i%2 == 0 {
			if nc := c.dial(s.Addr("httpflv_addr")); nc != nil {
				getStatus(nc, fmt.Sprintf("/live/absent%d.flv", i),
					slices.Concat(webSocketRequest, []string{"X-Forwarded-For: " + claimed})...)
			}
		} else if nc := c.dial(s.Addr("rtmp_addr")); nc != nil {
			io.WriteString(nc, proxyV2(claimed))
		}
		return false
	})
	return c.checkPerAddress(n), c.close
}

// readSlowlyByHTTP2 has connections request segments on more streams than the server allows, with a
// window of a kilobyte for each response.
func readSlowlyByHTTP2(t *testing.T, s *target) (string, func()) {
	c := &attackConns{t: t}
	n := scaled(300)
	const streams, window = 100, 1024
	segments := s.segments(t)
	segment := segments[len(segments)-1] // the newest, which stays for a while
	refused := c.each(n, func(int) bool {
		nc := c.dial(s.Addr("https_addr"))
		if nc == nil {
			return true
		}
		secure := tls.Client(nc, &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"h2"}})
		secure.SetDeadline(time.Now().Add(longTimeout))
		b := []byte(http2Preface)
		b = append(b, http2Frame(4, 0, 0, append([]byte{0, 4}, be32(window)...))...) // SETTINGS_INITIAL_WINDOW_SIZE
		block := http2Request(segment)
		for i := range streams {
			b = append(b, http2Frame(1, 5, 2*i+1, block)...) // HEADERS: END_STREAM, END_HEADERS
		}
		if _, err := secure.Write(b); err != nil {
			return true
		}
		_, err := io.CopyN(io.Discard, secure, 20<<10) // less than the windows of 32 streams
		return err != nil
	})
	return fmt.Sprintf("%d of %d connections", refused, n), c.close
}

// resetRequests has connections request a segment thousands of times, and give up each request at once
// (CVE-2023-44487).
func resetRequests(t *testing.T, s *target) (string, func()) {
	c := &attackConns{t: t}
	n := scaled(300)
	const requests = 5000
	block := http2Request(s.segments(t)[0])
	b := append([]byte(http2Preface), http2Frame(4, 0, 0, nil)...)
	for i := range requests {
		b = append(b, http2Frame(1, 5, 2*i+1, block)...)
		b = append(b, http2Frame(3, 0, 2*i+1, be32(8))...) // RST_STREAM: CANCEL
	}
	refused := c.each(n, func(int) bool {
		nc := c.dial(s.Addr("https_addr"))
		if nc == nil {
			return true
		}
		secure := tls.Client(nc, &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"h2"}})
		secure.SetDeadline(time.Now().Add(longTimeout))
		secure.Write(b)                       // fails when the server closes
		_, err := io.Copy(io.Discard, secure) // may be reset
		return !errors.Is(err, os.ErrDeadlineExceeded)
	})
	if refused != n {
		t.Errorf("%d of %d connections were ended", refused, n)
	}
	return fmt.Sprintf("%d of %d connections", refused, n), c.close
}

const http2Preface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

// http2Request returns the header section of a GET request.
func http2Request(path string) []byte {
	b := []byte{0x82, 0x87, 0x01, 1, 'h', 0x04, byte(len(path))} // :method GET, :scheme https, :authority, :path
	return append(b, path...)
}

// http2Frame returns a frame of RFC 9113 section 4.1.
func http2Frame(typ, flags byte, stream int, payload []byte) []byte {
	return join(append24(nil, uint32(len(payload))), []byte{typ, flags}, be32(uint32(stream)), payload)
}
