package hostile

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"livego/e2e/harness"
)

// An hlsClient requests playlists and segments from an address of this machine, with a Host header.
type hlsClient struct {
	host string
	http http.Client
}

// newHLSClient returns a client that keeps its connections; from "" is any address.
func newHLSClient(t *testing.T, from, host string) *hlsClient {
	t.Helper()
	dialer := &net.Dialer{}
	if from != "" {
		dialer.LocalAddr = &net.TCPAddr{IP: net.ParseIP(from)}
	}
	transport := &http.Transport{DialContext: dialer.DialContext, MaxIdleConnsPerHost: workers}
	t.Cleanup(transport.CloseIdleConnections)
	return &hlsClient{host, http.Client{Transport: transport, Timeout: longTimeout}}
}

// get returns the status, the error code, and the body.
func (c *hlsClient) get(target string) (status int, code, body string, err error) {
	r, err := http.NewRequest(http.MethodGet, target, nil)
	if err != nil {
		return 0, "", "", err
	}
	r.Host = c.host
	resp, err := c.http.Do(r)
	if err != nil {
		return 0, "", "", err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	return resp.StatusCode, resp.Header.Get("Livego-Error"), string(b), err
}

// follow returns the last URL in the playlist at target.
func (c *hlsClient) follow(target string) (string, error) {
	status, _, body, err := c.get(target)
	if err != nil || status != http.StatusOK {
		return "", fmt.Errorf("%s: %d %.200s %w", target, status, body, err)
	}
	base, err := url.Parse(target)
	if err != nil {
		return "", err
	}
	address := ""
	for line := range strings.Lines(body) {
		if line = strings.TrimSpace(line); line != "" && line[0] != '#' {
			address = line
		}
	}
	if address == "" {
		return "", fmt.Errorf("%s has no URL", target)
	}
	next, err := base.Parse(address)
	if err != nil {
		return "", err
	}
	return next.String(), nil
}

// TestManySessions opens thousands of HLS sessions with the longest valid host names, while the
// statistics are read all the time. The server's memory stays bounded, and no frame is late for
// others. A Host header of 15 kB opens no session.
func TestManySessions(t *testing.T) {
	sessions, addresses := 6_000, 1
	if harness.Long() {
		sessions, addresses = 24_000, 30
	}
	s := start(t, "--conns_per_ip=0")
	b := s.startBystander(t, "bystander")
	harness.Eventually(t, longTimeout, "a playlist", func() error {
		_, err := newHLSClient(t, "", "h").follow(s.HLS("bystander"))
		return err
	})
	before := s.MemoryMiB("VmRSS")

	ctx, stop := context.WithCancel(t.Context())
	var polling sync.WaitGroup
	var polls, most, slowest atomic.Int64
	polling.Go(func() {
		for ctx.Err() == nil {
			began := time.Now()
			resp, err := harness.Client().Get(s.API("/stat/livestat"))
			if err != nil {
				t.Error(err)
				return
			}
			var doc struct{ Data harness.Stat }
			err = json.NewDecoder(resp.Body).Decode(&doc)
			resp.Body.Close()
			if err != nil || len(doc.Data.Publishers) != 1 {
				t.Errorf("livestat: %d publishers, %v", len(doc.Data.Publishers), err)
			}
			polls.Add(1)
			most.Store(max(most.Load(), int64(len(doc.Data.Players))))
			slowest.Store(max(slowest.Load(), int64(time.Since(began))))
		}
	})

	long := newHLSClient(t, "", strings.Repeat("h", 15_000))
	for range 20 {
		if status, _, _, err := long.get(s.HLS("bystander")); err != nil || status != http.StatusBadRequest {
			t.Errorf("with a Host of 15 kB: %d %v", status, err)
		}
	}
	var clients []*hlsClient
	for n := range addresses {
		clients = append(clients, newHLSClient(t, fmt.Sprint("127.0.0.", n+1), strings.Repeat("h", 253)))
	}
	numbers := make([]int, sessions)
	for n := range numbers {
		numbers[n] = n
	}
	began := time.Now()
	inParallel(t, numbers, func(n, _ int) error {
		c := clients[n%addresses]
		media, err := c.follow(s.HLS("bystander"))
		if err != nil {
			return err
		}
		status, _, body, err := c.get(media)
		if err != nil || status != http.StatusOK {
			return fmt.Errorf("the media playlist: %d %.100s %w", status, body, err)
		}
		return nil
	})
	stop()
	polling.Wait()
	for _, c := range append(clients, long) {
		c.http.CloseIdleConnections()
	}
	b.finish()
	after, peak := s.MemoryMiB("VmRSS"), s.MemoryMiB("VmHWM")
	t.Logf("%d sessions in %v; memory %d MiB before, %d MiB after, %d MiB at most; %d times livestat, up to %d "+
		"players, %v at most",
		sessions, time.Since(began).Round(time.Millisecond), before, after, peak, polls.Load(), most.Load(),
		time.Duration(slowest.Load()).Round(time.Millisecond))
	// The server keeps 1,024 sessions of each address, each with at most 4 KiB including garbage.
	const share, each = 1024, 4 << 10
	if grew, most := peak-before, 24+min(sessions, addresses*share)*each>>20; grew > most {
		t.Errorf("the memory grew by %d MiB, want at most %d", grew, most)
	}
	if polls.Load() == 0 || most.Load() < 100 {
		t.Errorf("the statistics were read %d times and showed up to %d players", polls.Load(), most.Load())
	}
	s.audit(t, sessions)
}

// TestPlayerArguments has players send query parameters of the maximum length: the server does not
// keep them while they watch.
func TestPlayerArguments(t *testing.T) {
	const players = 300
	s := start(t, "--conns_per_ip=0")
	b := s.startBystander(t, "bystander")
	var peers []*peer
	// join returns how many bytes of the heap one more player takes.
	join := func(app, name string, more ...any) int {
		before := s.HeapBytes()
		for range players {
			p := s.dial(t)
			p.app = app
			p.advance(handshaken)
			if err := p.Connect(app, replyTimeout, more...); err != nil {
				t.Fatal(err)
			}
			p.play(name)
			p.await("onStatus", "NetStream.Play.Start")
			peers = append(peers, p)
		}
		return (s.HeapBytes() - before) / players
	}
	join("live", "bystander") // what the first players need, such as buffers that are shared
	plain := join("live", "bystander")
	long := join("live?a="+strings.Repeat("x", 3900), "bystander?token="+strings.Repeat("y", 4000))
	address := join("live", "bystander", "tcUrl", "rtmp://127.0.0.1/live?"+strings.Repeat("z", 3900), "pageUrl",
		strings.Repeat("p", 3900), "flashVer", strings.Repeat("f", 3900))
	t.Logf("a player takes %d bytes, one with long arguments %d, one with a long address %d", plain, long, address)
	if most := max(long, address) - plain; most > 6<<10 {
		t.Errorf("a player with 8 kB of arguments takes %d bytes more than one without", most)
	}
	for _, p := range peers {
		p.NetConn.Close()
	}
	b.finish()
	s.audit(t, len(peers))
}

// TestViewerHeaders has viewers send long headers: the server does not keep them while they watch.
func TestViewerHeaders(t *testing.T) {
	t.Parallel()
	const viewers = 300
	s := start(t, "--conns_per_ip=0")
	b := s.startBystander(t, "bystander")
	watch := map[string]func([]string){
		"FLV": func(headers []string) {
			nc := s.dialRaw(t, "127.0.0.1", "httpflv_addr", "")
			if status := getStatus(nc, "/live/bystander.flv", headers...); status != http.StatusOK {
				t.Fatalf("HTTP %d", status)
			}
		},
		"HLS": func(headers []string) { // whose session stays
			nc := s.dialRaw(t, "127.0.0.1", "hls_addr", "")
			defer nc.Close()
			if status := startHLSSession(nc, headers...); status != http.StatusOK {
				t.Fatalf("HTTP %d", status)
			}
		},
	}
	for name, join := range watch {
		// joinAll returns how many bytes of the heap one more viewer takes.
		joinAll := func(headers ...string) int {
			before := s.HeapBytes()
			for range viewers {
				join(append([]string{"Host: h"}, headers...))
			}
			return (s.HeapBytes() - before) / viewers
		}
		plain := joinAll()
		long := joinAll("User-Agent: "+strings.Repeat("u", 5000), "Referer: http://h/"+strings.Repeat("r", 5000),
			"X-Any: "+strings.Repeat("x", 4000))
		t.Logf("%s: a viewer takes %d bytes, one with long headers %d", name, plain, long)
		if long-plain > 6<<10 {
			t.Errorf("%s: a viewer with 14 kB of headers takes %d bytes more than one without", name, long-plain)
		}
	}
	b.finish()
}

// broadcast publishes a room until the test ends.
func (s *target) broadcast(t *testing.T, room string) {
	t.Helper()
	b := &bystander{t: t, encoder: s.dial(t), sending: make(chan struct{})}
	b.encoder.room = room
	b.encoder.advance(publishing)
	b.encoder.NetConn.SetDeadline(time.Time{})
	go io.Copy(io.Discard, b.encoder.NetConn) // acknowledgements and pings
	ctx, stop := context.WithCancel(context.Background())
	go b.send(ctx)
	t.Cleanup(func() {
		stop()
		<-b.sending
		b.encoder.NetConn.Close()
	})
}

// TestSharedSession has forty addresses use one session of a token for one viewer, and then opens
// more sessions than the session table holds: the limit holds, for segments too, and the first
// viewer continues.
func TestSharedSession(t *testing.T) {
	t.Parallel()
	asked := 2_000
	if harness.Long() {
		asked = 110_000
	}
	s := startTokens(t, "--conns_per_ip=0", "--limit_loopback=true")
	s.broadcast(t, "shut")
	token := func(claims string, args ...any) string {
		now := time.Now().Unix()
		return harness.JWT(tokenSecret, `{"alg":"HS256"}`,
			fmt.Sprintf(`{"act":"play","app":"live","room":"shut","iat":%d,"exp":%d,%s}`,
				now, now+3600, fmt.Sprintf(claims, args...)))
	}
	first := newHLSClient(t, "127.0.0.1", "h")
	one := s.HLS("shut") + "?token=" + token(`"viewers":1`)
	var media, segment string
	harness.Eventually(t, longTimeout, "a segment", func() (err error) {
		if media, err = first.follow(one); err == nil {
			segment, err = first.follow(media)
		}
		return err
	})
	wants := func(who string, c *hlsClient, target string, status int, code string) {
		t.Helper()
		if got, gotCode, body, err := c.get(target); err != nil || got != status || gotCode != code {
			t.Errorf("%s: %d %s, %v, want %d %s: %.100s", who, got, gotCode, err, status, code, body)
		}
	}
	for n := 2; n <= 40; n++ {
		other := newHLSClient(t, fmt.Sprint("127.0.0.", n), "h")
		status, code := http.StatusOK, ""
		if n > 3 {
			status, code = http.StatusTooManyRequests, "token_viewer_limit"
		}
		wants(fmt.Sprint("the segment from address ", n), other, segment, status, code)
		wants(fmt.Sprint("the playlist from address ", n), other, media, status, code)
	}
	wants("the first viewer's segment", first, segment, http.StatusOK, "")

	second, err := first.follow(one)
	if err != nil {
		t.Fatal(err)
	}
	path, _, _ := strings.Cut(segment, "?")
	_, session, _ := strings.Cut(second, "?")
	refused := func(when string) {
		t.Helper()
		wants("the playlist of a second session "+when, first, second, http.StatusTooManyRequests, "token_viewer_limit")
		wants("a segment with a guessed name "+when, first, path+"?"+session, http.StatusTooManyRequests,
			"token_viewer_limit")
		wants("the same without a session "+when, first, path, http.StatusForbidden, "session_missing")
		wants("the same with two "+when, first, segment+"&"+session, http.StatusBadRequest, "")
	}
	refused("at first")
	many := s.HLS("shut") + "?token=" + token(`"viewers":1000000,"jti":"many"`)
	inParallel(t, make([]int, asked), func(int, int) error {
		_, err := first.follow(many)
		return err
	})
	refused("after many sessions were asked for")
	wants("the first viewer's playlist", first, media, http.StatusOK, "")

	bound, err := first.follow(s.HLS("shut") + "?token=" + token(`"ip":"127.0.0.1"`))
	if err != nil {
		t.Fatal(err)
	}
	_, session, _ = strings.Cut(bound, "?")
	elsewhere := newHLSClient(t, "127.0.0.9", "h")
	wants("a bound session", first, bound, http.StatusOK, "")
	wants("a bound session from elsewhere", elsewhere, bound, http.StatusForbidden, "session_wrong_address")
	wants("its segment from elsewhere", elsewhere, path+"?"+session, http.StatusForbidden, "session_wrong_address")
}
