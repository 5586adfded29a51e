package browser

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"livego/e2e/harness"
	"livego/e2e/sample"
)

// TestRandomNodes plays a stream by hls.js and ffmpeg. Each of their requests goes to a random node of a
// cluster. One node gets the stream 1.5 s late. No request fails, and no picture is missing.
func TestRandomNodes(t *testing.T) {
	harness.Need(t, "ffmpeg")
	const lag = 1500 * time.Millisecond
	watched := 10 * time.Second
	if harness.Long() {
		watched = 10 * time.Minute
	}
	nodes := harness.StartLateCluster(t, 3, lag, harness.Options{NoRace: true,
		// Each round trip to the late node takes 1.5 s. hls.js waits 0.8 target durations for a playlist.
		Flags: []string{"--handshake_timeout=20s", "--hls_segment=4s"}})
	owner := nodes[0]
	owner.PushTo(sample.Small.File(t), owner.RTMP(owner.Key("movie")), "-stream_loop", "-1")
	owner.AwaitLive("movie")
	b := startBalancer(t, nodes)
	for _, n := range nodes { // a replica starts with the first request
		awaitPlaylist(t, n.HLS("movie"))
	}

	ffmpeg := harness.FFmpeg(t, "-v", "error", "-i", b.url, "-t", strconv.Itoa(int(watched.Seconds())), "-map", "0:v",
		"-c", "copy", "-f", "framecrc", "-")
	p := play(t, b.url+"#behind=4") // farther than the late node
	first := p.await("playing", func(_ int, s playerState) bool { return s.Time > 1 && s.Frames > 20 })[0]
	last := p.awaitFor(2*watched+patience, "playing on", func(_ int, s playerState) bool {
		return s.Time >= first.Time+watched.Seconds()
	})[0]
	if len(last.Errors) > 0 {
		t.Errorf("hls.js reports %q", last.Errors)
	}
	if len(last.Widths) != 1 {
		t.Errorf("pictures have the widths %v", last.Widths)
	}
	ffmpeg.WaitOK(2*watched + patience)
	if ffmpeg.Stderr() != "" {
		t.Errorf("ffmpeg reports\n%s", ffmpeg.Stderr())
	}
	checkContinuous(t, ffmpeg.Stdout(), watched)
	b.check()
	t.Logf("hls.js played %.1f s in %v", last.Time-first.Time, time.Duration(last.Now-first.Now)*time.Millisecond)
}

// checkContinuous checks that no picture is missing in the output of ffmpeg's framecrc muxer. Where the file
// starts again, the distance of two pictures is 1.4 times as long.
func checkContinuous(t *testing.T, out string, long time.Duration) {
	t.Helper()
	var times []int
	for line := range strings.Lines(out) {
		fields := strings.Split(line, ",")
		if line[0] == '#' || len(fields) < 3 {
			continue
		}
		n, err := strconv.Atoi(strings.TrimSpace(fields[1]))
		if err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		times = append(times, n)
	}
	if least := int(long.Seconds()) * 20; len(times) < least {
		t.Fatalf("ffmpeg got %d pictures, want at least %d", len(times), least)
	}
	step := times[1] - times[0]
	for i := range times[1:] {
		if d := times[i+1] - times[i]; d < step-step/10 || d > step+step/2 {
			t.Errorf("picture %d comes %d ticks after the one before, want %d", i+1, d, step)
		}
	}
}

// A balancer sends each request to a random node.
type balancer struct {
	t   *testing.T
	url string // of the playlist of the movie

	mu     sync.Mutex
	served []int // by node
	faults []string
}

func startBalancer(t *testing.T, nodes []*harness.Server) *balancer {
	b := &balancer{t: t, served: make([]int, len(nodes))}
	var proxies []http.Handler
	for i, n := range nodes {
		target := &url.URL{Scheme: "http", Host: n.Addr("hls_addr")}
		proxy := httputil.NewSingleHostReverseProxy(target)
		proxy.ModifyResponse = func(r *http.Response) error {
			b.record(i, r.StatusCode < 400, "node %d responds to %s with %s", i, r.Request.URL, r.Status)
			return nil
		}
		proxy.ErrorHandler = func(w http.ResponseWriter, r *http.Request, err error) {
			if !errors.Is(err, context.Canceled) { // the player has canceled it
				b.record(i, false, "node %d does not respond to %s: %v", i, r.URL, err)
			}
			w.WriteHeader(http.StatusBadGateway)
		}
		proxies = append(proxies, proxy)
	}
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		proxies[rand.IntN(len(proxies))].ServeHTTP(w, r)
	}))
	t.Cleanup(srv.Close)
	b.url = srv.URL + "/live/movie.m3u8"
	return b
}

func (b *balancer) record(node int, ok bool, format string, args ...any) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.served[node]++; !ok {
		b.faults = append(b.faults, fmt.Sprintf(format, args...))
	}
}

// check checks that no request failed, and that each node had many.
func (b *balancer) check() {
	b.t.Helper()
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.faults) > 0 {
		b.t.Errorf("%d requests failed:\n%s", len(b.faults), strings.Join(b.faults[:min(len(b.faults), 20)], "\n"))
	}
	if slices.Min(b.served) < 10 {
		b.t.Errorf("the nodes had %v requests", b.served)
	}
	b.t.Logf("the nodes had %v requests", b.served)
}
