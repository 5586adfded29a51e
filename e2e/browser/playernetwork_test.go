package browser

import (
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
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
// the engine that it needs now fails to load at first. The page plays by HLS.
func testFallback(t *testing.T, c *chrome) {
	harness.Need(t, "ffmpeg")
	s := harness.Start(t, harness.Options{NoRace: true})
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
	if got.Protocol != "hls" || got.Switches == 0 || !replaced.Load() || failures.Load() < 2 {
		t.Errorf("%+v after %d requests for the engine", got, failures.Load())
	}
}

// A slowLink is a TCP proxy that passes data on at a limited rate in the direction of the viewer.
type slowLink struct {
	limiter *rate.Limiter // of bytes
	addr    string
}

const linkChunk = 2 << 10 // bytes that are passed on at once

// startSlowLink starts a proxy to addr, without a limit.
func startSlowLink(t *testing.T, addr string) *slowLink {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	link := &slowLink{limiter: rate.NewLimiter(rate.Inf, linkChunk), addr: l.Addr().String()}
	go func() {
		for {
			near, err := l.Accept()
			if err != nil {
				return
			}
			far, err := net.Dial("tcp", addr)
			if err != nil {
				near.Close()
				continue
			}
			_ = far.(*net.TCPConn).SetReadBuffer(8 << 10) // what the link cannot carry waits at the server
			_ = near.(*net.TCPConn).SetWriteBuffer(8 << 10)
			go link.copy(t, far, near, rate.NewLimiter(rate.Inf, linkChunk))
			go link.copy(t, near, far, link.limiter)
		}
	}()
	return link
}

func (l *slowLink) copy(t *testing.T, dst, src net.Conn, limiter *rate.Limiter) {
	defer dst.Close()
	b := make([]byte, linkChunk)
	for {
		n, err := src.Read(b)
		if n > 0 && limiter.WaitN(t.Context(), n) == nil {
			_, _ = dst.Write(b[:n])
		}
		if err != nil {
			return
		}
	}
}

// testCatchUp plays over a connection that carries half of the bitrate for a while, and then
// nothing at all. Each time it carries everything again, the player is soon as close to the live
// picture as before, on the same connection or on a new one.
func testCatchUp(t *testing.T, c *chrome) {
	harness.Need(t, "ffmpeg")
	s := harness.Start(t, harness.Options{NoRace: true})
	s.PushTo(sample.HighBitrate.File(t), s.RTMP(s.Key("movie")), "-stream_loop", "-1")
	s.AwaitLive("movie")
	// HLS plays faster when it is late, and seeks when it is 2 s behind its target.
	for protocol, delay := range map[string]float64{"ws": 1.3, "hls": 3.5} {
		t.Run(protocol, func(t *testing.T) {
			t.Parallel()
			link := startSlowLink(t, s.Addr("httpflv_addr"))
			p := c.open(t, "http://"+link.addr+"/live/movie?protocol="+protocol, nil)
			p.awaitMoving("playing")
			p.await("little delay at the start", func(w watched) bool { return w.Phase == "playing" && w.Behind < delay })
			for _, limit := range []rate.Limit{125_000, 1000} { // of 250 kB a second
				link.limiter.SetLimit(limit)
				p.await("the picture stands still", func(w watched) bool { return w.Phase != "playing" })
				if limit > 1000 && protocol == "ws" { // the server skips to newer keyframes
					p.awaitMoving("half of the bitrate")
				} else {
					<-time.After(3 * time.Second)
				}
				link.limiter.SetLimit(rate.Inf)
				p.awaitMoving("all of the bitrate")
				got := p.await("little delay", func(w watched) bool { return w.Phase == "playing" && w.Behind < delay })
				t.Logf("%+v s behind after %d stalls of %.1f s", got.Behind, got.Stalls, got.StallTime)
			}
		})
	}
}
