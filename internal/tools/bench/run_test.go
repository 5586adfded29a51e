package bench

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
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
			c.ServePlayer()
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

// TestRun is a whole run over every protocol with a single connection, with plain sockets and with
// TLS.
func TestRun(t *testing.T) {
	t.Parallel()
	r := newTestServer(t)
	rtmpAddr, httpAddr := r.serve(t, listen(t), r.rtmp), r.serve(t, listen(t), r.http)
	secure := httptest.NewUnstartedServer(nil)
	secure.StartTLS() // for its certificate
	cert := secure.TLS
	secure.Close()
	tlsAddr := r.serve(t, tls.NewListener(listen(t), cert), r.http)

	stages := map[string]bool{}
	result, err := Run(t.Context(), Options{
		Publish: []string{"rtmp://" + rtmpAddr + "/live/bench"},
		Play: []string{
			"rtmp://" + rtmpAddr + "/live/bench", "http://" + httpAddr + "/live/bench.flv",
			"ws://" + httpAddr + "/live/bench.flv", "https://" + tlsAddr + "/live/bench.flv",
			"rtmp://" + rtmpAddr + "/live/nobody",
		},
		Bitrate: 500_000, Viewers: 25, Join: 200 * time.Millisecond, Duration: time.Second, Check: 1, Insecure: true,
		Progress: func(p Progress) { stages[p.Stage] = true },
	})
	if err != nil {
		t.Fatal(err)
	}
	v, d := result.Viewers, result.Delivery
	if v.Joined != 20 || v.Lost != 0 || len(v.Errors) != 1 ||
		v.Errors["refused: NetStream.Play.StreamNotFound stream not found"] != 5 {
		t.Errorf("viewers: %+v", v)
	}
	// A busy machine may send one frame more or less in the window, but no frame is lost, repeated
	// or damaged.
	if d.Expected < 25*20 || d.Frames != d.Expected*20/25 || d.Missing+d.Repeats+d.Gaps+d.StepBack+d.Corrupt != 0 ||
		d.Checked < d.Frames {
		t.Errorf("delivery: %+v", d)
	}
	if result.Latency.Count != uint64(d.Frames) || result.FirstPicture.Count != 20 || result.EncoderBlocked.Count == 0 ||
		result.Latency.P50 <= 0 {
		t.Errorf("latency %+v, first picture %+v, encoder %+v", result.Latency, result.FirstPicture, result.EncoderBlocked)
	}
	if want := []string{RTMP, FLV, WS}; !slices.Equal(result.Protocols, want) || len(stages) < 5 {
		t.Errorf("protocols %v, stages %v", result.Protocols, stages)
	}
	if f := result.Failures(); len(f) < 2 || !strings.HasPrefix(f[0], "5 of 25 viewers received no keyframe") {
		t.Errorf("failures: %q", f)
	}
	var text strings.Builder
	if err := result.WriteText(&text); err != nil ||
		!strings.Contains(text.String(), "viewers          20 of 25 over rtmp and flv and ws") {
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
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
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
	}))
	defer srv.Close()
	for path, want := range map[string]string{
		"/live/x.m3u8":    "1 joined, 100 frames, 0 missing, map[" + errClosed.Error() + ":1]",
		"/live/none.m3u8": `0 joined, 0 frames, 0 missing, map[HTTP response "404 Not Found":1]`,
	} {
		target, err := parseTarget(srv.URL + path)
		if err != nil {
			t.Fatal(err)
		}
		sum := newViewerStats()
		v := &hlsViewer{viewer: newViewer(target, &sc, sum, nil, false)}
		v.run(t.Context())
		if got := fmt.Sprintf("%d joined, %d frames, %d missing, %v", sum.joined, sum.frames, sum.missing,
			sum.errors); got != want {
			t.Errorf("%s: %s, want %s", path, got, want)
		}
	}
}

// TestLowLatencyHLS plays a fixed stream of six parts in two segments with blocking playlist
// reload: two viewers request each part and each playlist once.
func TestLowLatencyHLS(t *testing.T) {
	var sc measurement
	sc.clock = newClock()
	sc.window.Store(&window{1, 1 << 62})
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
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
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
	defer srv.Close()
	target, err := parseTarget("llhls+" + srv.URL + "/live/x.m3u8")
	if err != nil {
		t.Fatal(err)
	}
	sum, first := newViewerStats(), newPartArrivals()
	for range 2 {
		newViewer(target, &sc, sum, first, false).run(t.Context(), connOptions{})
	}
	got := fmt.Sprintf("%d joined, %d frames, %d missing, %d gaps, %d spread, %v", sum.joined, sum.frames, sum.missing,
		sum.gaps, sum.partSpread.n, sum.errors)
	if want := "2 joined, 12 frames, 0 missing, 0 gaps, 6 spread, map[" + errClosed.Error() + ":2]"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
	for url, n := range requests {
		if n != 2 {
			t.Errorf("%s was requested %d times", url, n)
		}
	}
	if len(requests) != 2+6+4 {
		t.Errorf("%d addresses were requested: %v", len(requests), requests)
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
