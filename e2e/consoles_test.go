package e2e

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"livego/e2e/harness"
)

// TestConsolesAndReports measures what 50 open consoles and 1,000 reports a second cost the server, and whether they
// delay frames: livego bench plays a stream without them, with them, and with as many reports of a client that watches
// nothing. A test that runs beside others is slowed down by them: with TEST_LONG=1 it measures for longer, with the
// limits of docs/performance.md.
func TestConsolesAndReports(t *testing.T) {
	window, maxCPU, leastRate := 2*time.Second, 0.15, 250
	if harness.Long() {
		window, maxCPU, leastRate = 30*time.Second, 0.05, 900
	} else {
		t.Parallel()
	}
	s := harness.Start(t, harness.Options{NoRace: true, Flags: []string{"--hls_session_timeout=5m"}})
	alone := playBeside(t, s, window, new(clients))
	for _, c := range []struct {
		name string
		with *clients
	}{
		{"consoles and players", &clients{consoles: 50, watching: true}},
		{"hostile reports", &clients{first: 1 << 20}},
	} {
		t.Run(c.name, func(t *testing.T) {
			with := c.with
			with.rate = 1000
			r := playBeside(t, s, window, with)
			cpu, delay := r.Server.CPU-alone.Server.CPU, r.Latency.P99-alone.Latency.P99
			t.Logf("%.1f %% of a core for %d reports and %d requests of consoles in %v (%.1f %% without); p99 of the delay "+
				"%.1f ms (%.1f ms without)", 100*cpu, with.reports.Load(), with.requests.Load(), window, 100*alone.Server.CPU,
				r.Latency.P99, alone.Latency.P99)
			if n, least := with.reports.Load(), int64(window.Seconds())*int64(leastRate); n < least {
				t.Errorf("%d reports, want at least %d", n, least)
			}
			if cpu > maxCPU {
				t.Errorf("%.1f %% of a core, want at most %.0f %%", 100*cpu, 100*maxCPU)
			}
			if delay > 50 && harness.Long() {
				t.Errorf("frames are %.0f ms later", delay)
			}
		})
	}
}

// A benchReport is a part of what livego bench reports.
type benchReport struct {
	Viewers  struct{ Wanted, Joined, Lost int }
	Delivery struct{ Missing, Repeats, Corrupt int }
	Latency  struct{ P99, Max float64 } `json:"latency_ms"`
	Server   struct{ CPU float64 }
}

// playBeside has livego bench play a stream while c makes its requests.
func playBeside(t *testing.T, s *harness.Server, window time.Duration, c *clients) benchReport {
	t.Helper()
	flv, join, settle := s.FLV("movie"), "500ms", "500ms"
	if harness.Long() {
		join, settle = "1s", "2s"
	}
	bench := harness.Livego(t, t.TempDir(), nil, "bench", "--publish", s.RTMP(s.Key("movie")), "--bitrate", "1000",
		"--play", flv, "--play", "ws"+strings.TrimPrefix(flv, "http"), "--play", "llhls+"+s.HLS("movie"), "-n", "30",
		"--join", join, "--settle", settle, "--pid", strconv.Itoa(s.PID()), "-d", window.String(), "--json")
	s.AwaitLive("movie")
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	report := c.connect(ctx, t, s)
	c.openConsoles(ctx, t, s)
	bench.AwaitStderr(patience, func(log string) bool { return strings.Contains(log, "measuring") || bench.Ended() })
	report()
	bench.Wait(window + patience) // its exit code also reports a busy machine
	stop()
	c.Wait()
	var r benchReport
	if err := json.Unmarshal([]byte(bench.Stdout()), &r); err != nil {
		t.Fatalf("livego bench: %v: %q\n%s", err, bench.Stdout(), bench.Stderr())
	}
	v, d := r.Viewers, r.Delivery
	if v.Joined != v.Wanted || v.Lost > 0 || d.Missing > 0 || d.Repeats > 0 || d.Corrupt > 0 {
		t.Errorf("%+v", r)
	}
	return r
}

// Clients make requests beside the viewers of a stream.
type clients struct {
	sync.WaitGroup
	rate     int  // reports in a second, each of another player
	watching bool // these players watch, by HLS; otherwise no viewer has their sessions
	consoles int
	first    int // number of the first player

	reports, requests atomic.Int64 // that were answered as they should be
}

// connect opens the connections of the players, and their sessions. The players report from when start is called until
// ctx ends.
func (c *clients) connect(ctx context.Context, t *testing.T, s *harness.Server) (start func()) {
	const each = 20 // players of a connection, which each report once a second
	started := make(chan struct{})
	var connecting sync.WaitGroup
	for n := range c.rate / each {
		connecting.Add(1)
		c.Go(func() {
			var p reportingConn
			err := p.open(ctx, s.Addr("httpflv_addr"))
			for i := 0; c.watching && err == nil && i < each; i++ {
				err = p.watch(c.first + n*each + i)
			}
			connecting.Done()
			if err == nil {
				defer p.nc.Close()
				select {
				case <-started:
					err = c.report(ctx, &p, c.first+n*each, each)
				case <-ctx.Done():
				}
			}
			if err != nil && ctx.Err() == nil {
				t.Error(err)
			}
		})
	}
	connecting.Wait()
	return func() { close(started) }
}

// report reports of the players from first to first+n, each once a second, until ctx ends.
func (c *clients) report(ctx context.Context, p *reportingConn, first, n int) error {
	want := http.StatusGone
	if c.watching {
		want = http.StatusNoContent
	}
	tick := time.NewTicker(time.Second / time.Duration(n))
	defer tick.Stop()
	for i := 0; ; i++ {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
		data := fmt.Sprintf("bsa=(%d),bsda=(%d),dfa=3,livego-frames=%d,livego-switches=0,ltc=830,msd=412,%s,v=2",
			i/1000, i, i*30, sid(first+i%n))
		if got, _, err := p.get("/.livego/report?CMCD=" + url.QueryEscape(data)); got != want {
			return fmt.Errorf("a report: HTTP %d, %w", got, err)
		}
		c.reports.Add(1)
	}
}

// sid returns the session of a player as CMCD.
func sid(player int) string { return fmt.Sprintf(`sid="%08x-c457-11e9-bb97-0800200c9a66"`, player) }

// A reportingConn is a connection of browsers.
type reportingConn struct {
	nc net.Conn
	in *bufio.Reader
}

func (p *reportingConn) open(ctx context.Context, addr string) (err error) {
	if p.nc, err = (&net.Dialer{}).DialContext(ctx, "tcp", addr); err != nil {
		return err
	}
	p.in = bufio.NewReader(p.nc)
	_, _, err = p.get("/crossdomain.xml") // a connection without a request is closed soon
	return err
}

// watch starts to watch by HLS as a player.
func (p *reportingConn) watch(player int) error {
	_, list, err := p.get("/live/movie.m3u8?CMCD=" + url.QueryEscape(sid(player)))
	if err != nil {
		return err
	}
	lines := strings.Fields(list)
	if status, _, err := p.get("/live/" + lines[len(lines)-1]); status != http.StatusOK {
		return fmt.Errorf("a media playlist: HTTP %d, %w", status, err)
	}
	return nil
}

func (p *reportingConn) get(target string) (status int, body string, err error) {
	if err := p.nc.SetDeadline(time.Now().Add(patience)); err != nil {
		return 0, "", err
	}
	head := "GET " + target + " HTTP/1.1\r\nHost: " + p.nc.RemoteAddr().String() + browserHeader
	if _, err := io.WriteString(p.nc, head); err != nil {
		return 0, "", err
	}
	resp, err := http.ReadResponse(p.in, nil)
	if err != nil {
		return 0, "", err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	return resp.StatusCode, string(text), err
}

// browserHeader is the header of a request as Chromium sends it, after Host.
const browserHeader = "\r\nConnection: keep-alive\r\nsec-ch-ua-platform: \"Linux\"\r\n" +
	"User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 " +
	"Safari/537.36\r\nsec-ch-ua: \"Chromium\";v=\"140\", \"Not=A?Brand\";v=\"24\"\r\nsec-ch-ua-mobile: ?0\r\n" +
	"Accept: */*\r\nOrigin: https://www.example.com\r\nSec-Fetch-Site: cross-site\r\nSec-Fetch-Mode: cors\r\n" +
	"Sec-Fetch-Dest: empty\r\nAccept-Encoding: gzip, deflate, br, zstd\r\nAccept-Language: en-GB,en;q=0.9\r\n\r\n"

// openConsoles makes the requests of consoles until ctx ends: half show the stream, the others the list of streams.
// Each has a connection for events.
func (c *clients) openConsoles(ctx context.Context, t *testing.T, s *harness.Server) {
	for n := range c.consoles {
		client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 4}}
		get := func(path string) {
			if err := readAll(ctx, client, s.API(path)); err == nil {
				c.requests.Add(1)
			} else if ctx.Err() == nil {
				t.Error(err)
			}
		}
		c.Go(func() { get("/api/v1/events/stream") })
		poll := func(path string, every time.Duration) {
			c.Go(func() {
				for tick := time.NewTicker(every); ctx.Err() == nil; {
					get(path)
					select {
					case <-tick.C:
					case <-ctx.Done():
					}
				}
			})
		}
		poll("/api/v1/rooms?prefix=movie&limit=1", 30*time.Second)
		if n%2 == 0 {
			poll("/api/v1/streams?app=live&room=movie", 2*time.Second)
			poll("/api/v1/streams/live/movie/history?seconds=30", 2*time.Second)
		} else {
			poll("/api/v1/streams?limit=100", 3*time.Second)
		}
	}
}

// readAll requests an address and reads the response to its end.
func readAll(ctx context.Context, client *http.Client, address string) error {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return err
	}
	resp, err := client.Do(r)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: HTTP %d", address, resp.StatusCode)
	}
	_, err = io.Copy(io.Discard, resp.Body)
	return err
}
