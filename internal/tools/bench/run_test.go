package bench

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"livego/internal/container/flv"
	"livego/internal/proto/rtmp"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// A testServer is a minimal server: players receive what is published, from the newest keyframe on.
type testServer struct {
	mu      sync.Mutex
	headers []rtmp.Message
	gop     []rtmp.Message
	players map[chan rtmp.Message]bool
	wg      sync.WaitGroup
	conns   []net.Conn
}

// publish distributes one message.
func (r *testServer) publish(m rtmp.Message) {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case m.Type == flv.TypeScriptData || isHeader(m.Type, m.Payload):
		r.headers = append(r.headers, m)
		return
	case m.Type == flv.TypeVideo && m.Payload[0]>>4 == 1:
		r.gop = nil
	}
	r.gop = append(r.gop, m)
	for p := range r.players {
		p <- m
	}
}

// play sends a player the stored messages and all that follow.
func (r *testServer) play(ctx context.Context, send func(rtmp.Message) error) {
	live := make(chan rtmp.Message, 1<<12)
	r.mu.Lock()
	start := slices.Concat(r.headers, r.gop)
	r.players[live] = true
	r.mu.Unlock()
	defer func() {
		r.mu.Lock()
		delete(r.players, live)
		r.mu.Unlock()
	}()
	for _, m := range start {
		if send(m) != nil {
			return
		}
	}
	for {
		select {
		case m := <-live:
			if send(m) != nil {
				return
			}
		case <-ctx.Done():
			return
		}
	}
}

func (r *testServer) rtmp(ctx context.Context, nc net.Conn) {
	c := rtmp.NewServerConn(nc, rtmp.Options{LingerTimeout: time.Millisecond})
	defer c.Close()
	req, err := c.Accept(ctx)
	switch {
	case err != nil:
	case req.Publish:
		if c.AcceptPublish() != nil {
			return
		}
		for {
			m, err := c.ReadMessage()
			if err != nil {
				return
			}
			r.publish(m)
		}
	case req.Name != "bench":
		c.Reject("NetStream.Play.StreamNotFound", "stream not found")
	default:
		if c.AcceptPlay() != nil {
			return
		}
		ctx, cancel := context.WithCancel(ctx)
		r.wg.Go(func() {
			defer cancel()
			for err := error(nil); err == nil; {
				_, err = c.ReadMessage()
			}
		})
		r.play(ctx, func(m rtmp.Message) error {
			bufs := net.Buffers(rtmp.AppendMessage(nil,
				rtmp.Header{Type: m.Type, Timestamp: m.Timestamp, StreamID: req.StreamID}, m.Payload))
			_, err := c.WriteMedia(&bufs)
			return err
		})
	}
}

// http serves FLV over HTTP and WebSocket.
func (r *testServer) http(ctx context.Context, nc net.Conn) {
	defer nc.Close()
	req, err := http.ReadRequest(bufio.NewReader(nc))
	if err != nil {
		return
	}
	ws := req.Header.Get("Upgrade") == "websocket"
	head := okResponse
	if ws {
		head = "HTTP/1.1 101 Switching Protocols\r\n\r\n"
	}
	send := func(b []byte) error {
		if ws {
			b = slices.Concat([]byte{0x82, 127, 0, 0, 0, 0, byte(len(b) >> 24), byte(len(b) >> 16), byte(len(b) >> 8),
				byte(len(b))}, b)
		}
		_, err := nc.Write(b)
		return err
	}
	if _, err := nc.Write([]byte(head)); err != nil || send(flv.FileHeader(true, true)) != nil {
		return
	}
	r.play(ctx, func(m rtmp.Message) error { return send(flv.AppendTag(nil, m.Type, m.Timestamp, m.Payload)) })
}

// serve accepts connections until the test ends, and returns the address.
func (r *testServer) serve(t *testing.T, ln net.Listener, handle func(context.Context, net.Conn)) string {
	t.Helper()
	r.wg.Go(func() {
		for {
			nc, err := ln.Accept()
			if err != nil {
				return
			}
			r.mu.Lock()
			r.conns = append(r.conns, nc)
			r.mu.Unlock()
			r.wg.Go(func() { handle(t.Context(), nc) })
		}
	})
	t.Cleanup(func() { ln.Close() })
	return ln.Addr().String()
}

func newTestServer(t *testing.T) *testServer {
	r := &testServer{players: map[chan rtmp.Message]bool{}}
	t.Cleanup(func() { // after the listeners are closed
		r.mu.Lock()
		for _, nc := range r.conns {
			nc.Close()
		}
		r.mu.Unlock()
		r.wg.Wait()
	})
	return r
}

func listen(t *testing.T) net.Listener {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return ln
}

// testCertificate returns the configuration of a TLS server.
func testCertificate(t *testing.T) *tls.Config {
	t.Helper()
	s := httptest.NewUnstartedServer(nil)
	s.StartTLS()
	defer s.Close()
	return s.TLS
}

// TestRun is a whole run over every protocol with a single connection, with plain sockets and with
// TLS.
func TestRun(t *testing.T) {
	t.Parallel()
	r := newTestServer(t)
	rtmpAddr, httpAddr := r.serve(t, listen(t), r.rtmp), r.serve(t, listen(t), r.http)
	cert := testCertificate(t)
	tlsAddr := r.serve(t, tls.NewListener(listen(t), cert), r.http)
	rtmpsAddr := r.serve(t, tls.NewListener(listen(t), cert), r.rtmp)

	stages := map[string]bool{}
	result, err := Run(t.Context(), Options{
		Publish: []string{"rtmp://" + rtmpAddr + "/live/bench"},
		Play: []string{
			"rtmp://" + rtmpAddr + "/live/bench", "http://" + httpAddr + "/live/bench.flv",
			"ws://" + httpAddr + "/live/bench.flv", "https://" + tlsAddr + "/live/bench.flv",
			"wss://" + tlsAddr + "/live/bench.flv", "rtmps://" + rtmpsAddr + "/live/bench",
			"rtmp://" + rtmpAddr + "/live/nobody",
		},
		Bitrate: 500_000, Viewers: 35, Join: 200 * time.Millisecond, Duration: time.Second, Check: 1, Insecure: true,
		Progress: func(p Progress) { stages[p.Stage] = true },
	})
	if err != nil {
		t.Fatal(err)
	}
	v, d := result.Viewers, result.Delivery
	if v.Joined != 30 || v.Lost != 0 || len(v.Errors) != 1 ||
		v.Errors["refused: NetStream.Play.StreamNotFound stream not found"] != 5 {
		t.Errorf("viewers: %+v", v)
	}
	// A busy machine may send one frame more or less in the window, but no frame is lost, repeated
	// or damaged.
	if d.Expected < 35*20 || d.Frames != d.Expected*30/35 || d.Missing+d.Repeats+d.Gaps+d.StepBack+d.Corrupt != 0 ||
		d.Checked < d.Frames {
		t.Errorf("delivery: %+v", d)
	}
	if result.Latency.Count != uint64(d.Frames) || result.FirstPicture.Count != 30 || result.EncoderBlocked.Count == 0 ||
		result.Latency.P50 <= 0 {
		t.Errorf("latency %+v, first picture %+v, encoder %+v", result.Latency, result.FirstPicture, result.EncoderBlocked)
	}
	if h, p := result.Handshake, result.PictureAfterHandshake; h.Count != 15 || h.P50 <= 0 || p.Count != 15 ||
		p.Max >= result.FirstPicture.Max || result.ResumedHandshake.Count != 0 {
		t.Errorf("handshakes %+v, then the first picture %+v", h, p)
	}
	if want := []string{RTMP, FLV, WS, "https-flv", "wss", "rtmps"}; !slices.Equal(result.Protocols, want) ||
		len(stages) < 5 {
		t.Errorf("protocols %v, stages %v", result.Protocols, stages)
	}
	if f := result.Failures(); len(f) < 2 || !strings.HasPrefix(f[0], "5 of 35 viewers received no keyframe") {
		t.Errorf("failures: %q", f)
	}
	var text strings.Builder
	if err := result.WriteText(&text); err != nil ||
		!strings.Contains(text.String(), "30 of 35 over rtmp and flv and ws and https-flv and wss and rtmps") {
		t.Errorf("%v\n%s", err, &text)
	}
}

// TestHLS plays a fixed playlist of two segments, whose frames span reads.
func TestHLS(t *testing.T) {
	var sc measurement
	sc.clock = newClock()
	sc.window.Store(&window{1, sc.now()})
	segment := func(seq uint32) []byte {
		var b []byte
		for i := range 50 {
			b = appendMarker(append(b, make([]byte, 3000)...), marker{int64(seq)*50 + int64(i) + 1, seq*50 + uint32(i) + 1, 0})
		}
		return b
	}
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/live/x.m3u8":
			fmt.Fprint(w, "#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1\nx/ts.m3u8\n")
		case "/live/x/ts.m3u8":
			fmt.Fprint(w, "#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXT-X-MEDIA-SEQUENCE:7\n#EXTINF:2,\n0.ts\n"+
				"#EXTINF:2,\n1.ts\n#EXT-X-ENDLIST\n")
		case "/live/x/0.ts":
			w.Write(segment(0))
		case "/live/x/1.ts":
			w.Write(segment(1))
		default:
			http.NotFound(w, r)
		}
	})
	for _, form := range httpForms {
		srv := form.serve(t, handler)
		for path, want := range map[string]string{
			"/live/x.m3u8":    "1 joined, 100 frames, 0 missing, map[" + errClosed.Error() + ":1]",
			"/live/none.m3u8": `0 joined, 0 frames, 0 missing, map[HTTP response "404 Not Found":1]`,
		} {
			sum := playHLS(t, &sc, form, srv+path, 1)
			if got := fmt.Sprintf("%d joined, %d frames, %d missing, %v", sum.joined, sum.frames, sum.missing,
				sum.errors); got != want {
				t.Errorf("%s by %s: %s, want %s", path, form.name, got, want)
			}
		}
	}
}

// An httpForm is a way to serve HTTP.
type httpForm struct {
	name       string
	tls, http2 bool
	close      bool // a connection for each request
}

var httpForms = []httpForm{
	{name: "HTTP/1.1"}, {name: "HTTP/1.1, closing", close: true}, {name: "HTTPS", tls: true},
	{name: "HTTPS, closing", tls: true, close: true}, {name: "HTTP/2", tls: true, http2: true},
}

// serve returns the address of a server of h.
func (f httpForm) serve(t *testing.T, h http.Handler) string {
	srv := httptest.NewUnstartedServer(h)
	srv.EnableHTTP2 = f.http2
	srv.Config.SetKeepAlivesEnabled(!f.close)
	if f.tls {
		srv.StartTLS()
	} else {
		srv.Start()
	}
	t.Cleanup(srv.Close)
	return srv.URL
}

// playHLS plays url by as many viewers until each has ended, one after the other.
func playHLS(t *testing.T, sc *measurement, form httpForm, url string, viewers int) *viewerStats {
	t.Helper()
	sum, arrivals := newViewerStats(), newPartArrivals()
	for n := range viewers {
		target, err := parseTarget(url)
		if err != nil {
			t.Fatal(err)
		}
		target.http2 = form.http2
		c := &viewerGroup{measurement: sc, stats: sum, options: connOptions{insecure: true}}
		c.add(newViewer(target, sc, sum, arrivals, false), n, time.Now())
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- c.run(ctx) }()
		for ended := 0; ended <= n && sleep(ctx, time.Millisecond); {
			sum.mu.Lock()
			ended = sum.failed()
			sum.mu.Unlock()
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	return sum
}

// TestLowLatencyHLS plays a fixed stream of six parts in two segments with blocking playlist
// reload: two viewers request each part and each playlist once.
func TestLowLatencyHLS(t *testing.T) {
	var sc measurement
	sc.clock = newClock()
	sc.window.Store(&window{1, 1 << 62})
	for _, form := range httpForms {
		t.Run(form.name, func(t *testing.T) { testLowLatencyHLS(t, &sc, form) })
	}
}

func testLowLatencyHLS(t *testing.T, sc *measurement, form httpForm) {
	var mu sync.Mutex
	requests := map[string]int{}
	list := func(parts int) string {
		s := "#EXTM3U\n#EXT-X-TARGETDURATION:1\n" +
			"#EXT-X-SERVER-CONTROL:CAN-BLOCK-RELOAD=YES,PART-HOLD-BACK=0.6\n#EXT-X-MEDIA-SEQUENCE:7\n"
		for i := range parts {
			if i == 3 {
				s += "#EXTINF:0.6,\n7.m4s\n"
			}
			s += fmt.Sprintf("#EXT-X-PART:DURATION=0.2,URI=\"%d.m4s\"%s\n", i, []string{",INDEPENDENT=YES", "", ""}[i%3])
		}
		if parts == 6 {
			s += "#EXTINF:0.6,\n8.m4s\n#EXT-X-ENDLIST\n"
		}
		return s
	}
	srv := form.serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		requests[r.URL.String()]++
		mu.Unlock()
		var msn, part int
		switch n, _ := fmt.Sscanf(r.URL.RawQuery, "s=1&_HLS_msn=%d&_HLS_part=%d", &msn, &part); {
		case r.URL.Path == "/live/x.m3u8":
			fmt.Fprint(w, "#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1\nx/index.m3u8?s=1\n")
		case n == 2:
			fmt.Fprint(w, list(3*(msn-7)+part+1))
		case r.URL.Path == "/live/x/index.m3u8":
			fmt.Fprint(w, list(2))
		default:
			fmt.Sscanf(r.URL.Path, "/live/x/%d.m4s", &part)
			w.Write(appendMarker(make([]byte, 40_000), marker{int64(part) + 1, uint32(part) + 1, 0}))
		}
	}))
	sum := playHLS(t, sc, form, "llhls+"+srv+"/live/x.m3u8", 2)
	got := fmt.Sprintf("%d joined, %d frames, %d missing, %d gaps, %d spread, %v", sum.joined, sum.frames, sum.missing,
		sum.gaps, sum.partSpread.n, sum.errors)
	if want := "2 joined, 12 frames, 0 missing, 0 gaps, 6 spread, map[" + errClosed.Error() + ":2]"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
	mu.Lock()
	defer mu.Unlock()
	for url, n := range requests {
		if n != 2 {
			t.Errorf("%s was requested %d times", url, n)
		}
	}
	if len(requests) != 2+6+4 {
		t.Errorf("%d addresses were requested: %v", len(requests), requests)
	}
}

// TestJoinStorm lets more viewers join while others watch, over TLS with resumed sessions.
func TestJoinStorm(t *testing.T) {
	t.Parallel()
	r := newTestServer(t)
	rtmpAddr := r.serve(t, listen(t), r.rtmp)
	rtmpsAddr := r.serve(t, tls.NewListener(listen(t), testCertificate(t)), r.rtmp)
	result, err := Run(t.Context(), Options{
		Publish: []string{"rtmp://" + rtmpAddr + "/live/bench"}, Play: []string{"rtmps://" + rtmpsAddr + "/live/bench"},
		Bitrate: 500_000, Viewers: 4, Duration: time.Second, Insecure: true, TLSResume: true, Storm: 10,
		StormJoin: 100 * time.Millisecond,
	})
	if err != nil {
		t.Fatal(err)
	}
	if d := result.Delivery; result.Viewers.Joined != 4 || d.Share != 1 || result.Latency.Count != uint64(d.Frames) {
		t.Errorf("viewers %+v, delivery %+v", result.Viewers, d)
	}
	for _, j := range []Joins{result.Joins, *result.Storm} {
		if n := uint64(j.Viewers.Wanted); j.FirstPicture.Count != n || j.ResumedHandshake.Count != n ||
			j.Handshake.Count != 0 {
			t.Errorf("%+v", j)
		}
	}
	if result.Storm.Viewers.Joined != 10 {
		t.Errorf("%+v joined in the storm", result.Storm.Viewers)
	}
	var text strings.Builder
	if err := result.WriteText(&text); err != nil ||
		!strings.Contains(text.String(), "join storm       10 of 10 more viewers") {
		t.Errorf("%v\n%s", err, &text)
	}
}

// TestPolls requests a URL while viewers play. Failed requests are reported.
func TestPolls(t *testing.T) {
	t.Parallel()
	for _, status := range []int{http.StatusOK, http.StatusForbidden} {
		r := newTestServer(t)
		url := "rtmp://" + r.serve(t, listen(t), r.rtmp) + "/live/bench"
		web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(status)
			io.WriteString(w, "statistics")
		}))
		defer web.Close()
		result, err := Run(t.Context(), Options{
			Publish: []string{url}, Play: []string{url}, Bitrate: 500_000, Duration: time.Second, Poll: web.URL,
			PollInterval: 10 * time.Millisecond,
		})
		if err != nil {
			t.Fatal(err)
		}
		p := result.Polls
		if p.Requests == 0 || p.Bytes != int64(p.Requests*len("statistics")) || p.Response.Count != uint64(p.Requests) {
			t.Errorf("status %d: %+v", status, p)
		}
		if (p.Failed == 0) != (status == http.StatusOK) || p.Failed > 0 && p.Failed != p.Requests {
			t.Errorf("status %d: %d of %d failed", status, p.Failed, p.Requests)
		}
		failed := slices.ContainsFunc(result.Failures(), func(s string) bool { return strings.Contains(s, "requests to") })
		var text strings.Builder
		if err := result.WriteText(&text); err != nil || !strings.Contains(text.String(), "polls   ") ||
			failed != (status != http.StatusOK) {
			t.Errorf("%v\n%s", err, &text)
		}
	}
}

// TestRunIsCanceled cancels a run while viewers join.
func TestRunIsCanceled(t *testing.T) {
	t.Parallel()
	r := newTestServer(t)
	addr := r.serve(t, listen(t), r.rtmp)
	url := "rtmp://" + addr + "/live/bench"
	ctx, cancel := context.WithCancel(t.Context())
	_, err := Run(ctx, Options{
		Publish: []string{url}, Play: []string{url}, Duration: time.Hour,
		Progress: func(p Progress) {
			if p.Stage == "joining" {
				cancel()
			}
		},
	})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
}
