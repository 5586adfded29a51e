package browser

import (
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/time/rate"

	"livego/e2e/harness"
	"livego/e2e/sample"
)

// testFallback opens the player page behind a proxy that forwards no WebSockets. Meanwhile
// the server is replaced by another version: the chunks that the page has loaded exist no more, and
// the engine that it needs now fails to load at first. The page plays by HLS, and so does that of an
// app with flv: false. Both try the WebSocket once.
func testFallback(t *testing.T, c *chrome) {
	harness.Need(t, "ffmpeg")
	dir := t.TempDir()
	const file = "server:\n- appname: live\n- appname: radio\n  flv: false\n"
	if err := os.WriteFile(filepath.Join(dir, "livego.yaml"), []byte(file), 0o600); err != nil {
		t.Fatal(err)
	}
	s := harness.Start(t, harness.Options{NoRace: true, Dir: dir})
	s.PushTo(sample.Small.File(t), s.RTMP(s.Key("movie")), "-stream_loop", "-1")
	s.AwaitLive("movie")
	target := &url.URL{Scheme: "http", Host: s.Addr("httpflv_addr")}
	forward := &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) {
		r.SetURL(target)
		r.Out.Host = r.In.Host
	}}
	var replaced atomic.Bool
	var failures atomic.Int32
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.Header.Get("Upgrade") != "":
			replaced.Store(true)
			http.Error(w, "no WebSockets here", http.StatusForbidden)
		case replaced.Load() && strings.HasPrefix(r.URL.Path, "/.livego/chunks/"):
			http.NotFound(w, r)
		case strings.HasPrefix(r.URL.Path, "/.livego/engines/hls.js") && failures.Add(1) < 2:
			http.Error(w, "the server restarts", http.StatusServiceUnavailable)
		default:
			forward.ServeHTTP(w, r)
		}
	}))
	t.Cleanup(proxy.Close)
	p := c.open(t, proxy.URL+"/live/movie", nil)
	got := p.awaitMoving("playing by HLS")
	got.Picture = ""
	if got.Protocol != "hls" || got.Switches == 0 || got.Sockets != 1 || !replaced.Load() || failures.Load() < 2 {
		t.Errorf("%+v after %d requests for the engine", got, failures.Load())
	}
	p.close()

	p = c.open(t, "http://"+s.Addr("httpflv_addr")+"/radio/song", nil)
	p.awaitText("The stream has not started yet.")
	s.PushTo(sample.Small.File(t), "rtmp://"+s.Addr("rtmp_addr")+"/radio/"+s.Key("song"), "-stream_loop", "-1")
	if got = p.awaitMoving("an app without FLV"); got.Protocol != "hls" || got.Sockets != 1 || got.Errors != 0 {
		got.Picture = ""
		t.Errorf("an app without FLV: %+v", got)
	}
	p.run("await page.evaluate(() => document.querySelector('livego-player').setAttribute('protocol', 'ws'))", nil)
	p.awaitText("The stream is not available by this protocol. Choose another one in the settings.")
}

const (
	linkChunk = 2 << 10  // bytes that a slow link passes on at once
	linkBurst = 16 << 10 // bytes that a slow link which has slept for too long may make up for
)

// startSlowLink starts a TCP proxy to addr that passes data on at the rate of limiter, which is of bytes, in
// the direction of the viewer. It returns its address.
func startSlowLink(t *testing.T, addr string, limiter *rate.Limiter) string {
	t.Helper()
	return harness.StartProxy(t, addr, func(near, far net.Conn) {
		_ = far.(*net.TCPConn).SetReadBuffer(32 << 10) // what the link cannot carry waits at the server
		_ = near.(*net.TCPConn).SetWriteBuffer(32 << 10)
		b := make([]byte, linkChunk)
		for {
			n, err := far.Read(b)
			if n > 0 && limiter.WaitN(t.Context(), n) == nil {
				_, _ = near.Write(b[:n])
			}
			if err != nil {
				return
			}
		}
	})
}

// testCatchUp plays over a connection that carries half of the bitrate for a while, and then
// nothing at all. Each time it carries everything again, the player is soon as close to the live
// picture as before, on the same connection or on a new one.
func testCatchUp(t *testing.T, c *chrome) {
	harness.Need(t, "ffmpeg")
	s := harness.Start(t, harness.Options{NoRace: true})
	s.PushTo(sample.HighBitrate.File(t), s.RTMP(s.Key("movie")), "-stream_loop", "-1")
	s.AwaitLive("movie")
	slowTime, minShare := 20*time.Second, 0.15 // longer than from one seek to the next
	if harness.Long() {
		slowTime, minShare = time.Minute, 0.3
	}
	// HLS plays faster when it is late, and seeks when it is 2 s behind its target.
	for protocol, delay := range map[string]float64{"ws": 1.3, "hls": 3.5} {
		t.Run(protocol, func(t *testing.T) {
			t.Parallel()
			limiter := rate.NewLimiter(rate.Inf, linkBurst)
			link := startSlowLink(t, s.Addr("httpflv_addr"), limiter)
			p := c.open(t, "http://"+link+"/live/movie?protocol="+protocol, nil)
			p.awaitMoving("playing")
			p.await("little delay at the start", func(w watched) bool { return w.Phase == "playing" && w.Behind < delay })
			for _, limit := range []rate.Limit{125_000, 1000} { // of 250 kB a second
				limiter.SetLimit(limit)
				p.await("the picture stands still", func(w watched) bool { return w.Phase != "playing" })
				if limit > 1000 {
					p.awaitText("The network is too slow for this stream.")
					share, behind := p.movingShare(slowTime), p.state().Behind
					t.Logf("half of the bitrate: the picture moves for %.0f %% of the time, %.1f s behind", share*100, behind)
					if share < minShare {
						t.Errorf("the picture moves for %.0f %% of the time", share*100)
					}
				} else {
					<-time.After(3 * time.Second)
				}
				limiter.SetLimit(rate.Inf)
				p.awaitMoving("all of the bitrate")
				got := p.await("little delay", func(w watched) bool { return w.Phase == "playing" && w.Behind < delay })
				t.Logf("%+v s behind after %d stalls of %.1f s", got.Behind, got.Stalls, got.StallTime)
			}
		})
	}
}

// movingShare returns for which share of a time the picture of p moved: a frame is shown until the
// next one, for at most a quarter of a second.
func (p page) movingShare(d time.Duration) float64 {
	p.t.Helper()
	var moved float64 // ms
	p.run(fmt.Sprintf(`return page.evaluate((ms) => new Promise((resolve) => {
		const video = document.querySelector('livego-player').shadowRoot.querySelector('video')
		let moved = 0, last = performance.now()
		const shown = (now) => {
			moved += Math.min(now - last, 250)
			last = now
			video.requestVideoFrameCallback(shown)
		}
		video.requestVideoFrameCallback(shown)
		setTimeout(() => resolve(moved), ms)
	}), %d)`, d.Milliseconds()), &moved)
	return moved / float64(d.Milliseconds())
}
