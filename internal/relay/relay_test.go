package relay

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"livego/internal/container/flv"
	"livego/internal/domain"
	"livego/internal/media"
	"livego/internal/proto/rtmp"
	"livego/internal/stream"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var movie = domain.Name{App: "live", Room: "movie"}

const testTimeout = 10 * time.Second

// admit authorizes every pull, unless err is set.
type admit struct {
	domain.ViewerLimiter
	err error
}

func (a admit) Authorize(_ context.Context, r domain.AuthRequest) (domain.Grant, error) {
	return domain.Grant{Name: domain.Name{App: r.App, Room: r.Name}}, a.err
}

// newManager returns a hub and a Manager that may connect to this machine; change may modify its
// Options.
func newManager(t *testing.T, change func(*Options)) (*stream.Hub, *Manager) {
	t.Helper()
	hub := stream.NewHub(stream.Options{Hold: 20 * time.Second, TrackWait: 1, RAPWait: time.Second})
	o := Options{
		Max: 100, Allow: []string{"127.0.0.0/8"}, ReadTimeout: testTimeout, Failed: func(domain.RelayStatus) {},
		Authorizer: admit{}, Log: slog.New(slog.DiscardHandler),
		Conn: rtmp.Options{MaxMessage: 1 << 20, LingerTimeout: time.Millisecond},
	}
	if change != nil {
		change(&o)
	}
	m, err := New(hub, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		m.Close()
		hub.Close()
	})
	return hub, m
}

// runStatic runs the static relays of m until stop is called.
func runStatic(m *Manager) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		m.Run(ctx)
	}()
	return func() {
		cancel()
		<-done
	}
}

// publishAudio publishes an audio track, in which every frame is a random access point.
func publishAudio(t *testing.T, hub *stream.Hub) *stream.Publisher {
	t.Helper()
	p, err := hub.Publish(t.Context(), movie, stream.PublishOptions{Proto: "test"})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

var aac = &media.Track{Kind: media.Audio, Codec: media.AAC, Timescale: 44100, SampleRate: 44100, Channels: 2,
	FrameSamples: 1024, Config: []byte{0x12, 0x10}}

func audioFrame(n int) *media.Frame {
	at := time.Duration(n) * 23 * time.Millisecond
	return &media.Frame{Track: aac, Meta: &media.Meta{HasAudio: true}, DTS: at, PTS: at, RAP: media.Keyframe,
		Payload: []byte{0x21, byte(n)}, Arrived: time.Now()}
}

// A server is the remote server. It calls do for each connection.
type server struct {
	net.Listener
	conns sync.WaitGroup
}

func serve(t *testing.T, do func(context.Context, *rtmp.ServerConn, *rtmp.Request)) *server {
	t.Helper()
	return serveWith(t, rtmp.Options{}, do)
}

func serveWith(t *testing.T, o rtmp.Options, do func(context.Context, *rtmp.ServerConn, *rtmp.Request)) *server {
	t.Helper()
	o.LingerTimeout = time.Millisecond
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &server{Listener: ln}
	ctx, cancel := context.WithCancel(context.Background())
	s.conns.Go(func() {
		for {
			nc, err := ln.Accept()
			if err != nil {
				return
			}
			s.conns.Go(func() {
				stop := context.AfterFunc(ctx, func() { nc.Close() })
				defer stop()
				c := rtmp.NewServerConn(nc, o)
				defer c.Close()
				if req, err := c.Accept(ctx); err == nil {
					do(ctx, c, req)
				}
			})
		}
	})
	t.Cleanup(func() {
		cancel()
		ln.Close()
		s.conns.Wait()
	})
	return s
}

func (s *server) url(name string) string { return "rtmp://" + s.Addr().String() + "/app/" + name }

// awaitState waits until the status of the only relay satisfies want.
func awaitState(t *testing.T, m *Manager, want func(domain.RelayStatus) bool) domain.RelayStatus {
	t.Helper()
	deadline, again := time.After(testTimeout), time.NewTicker(5*time.Millisecond)
	defer again.Stop()
	for {
		list := m.List()
		if len(list) == 1 && want(list[0]) {
			return list[0]
		}
		select {
		case <-again.C:
		case <-deadline:
			t.Fatalf("relays: %+v", list)
		}
	}
}

// TestPushReconnectsAndEndsStream pushes a stream, loses the server, and pushes again. The end of
// the stream and a stop end it on the server.
func TestPushReconnectsAndEndsStream(t *testing.T) {
	type message struct {
		conn int
		rtmp.Message
		err error
	}
	got := make(chan message, 1<<10)
	conns := 0
	s := serve(t, func(_ context.Context, c *rtmp.ServerConn, req *rtmp.Request) {
		conns++ // no lock needed: one connection at a time
		n := conns
		if !req.Publish || req.App != "app" || req.Name != "key" || c.AcceptPublish() != nil {
			t.Errorf("asked for %+v", req)
			return
		}
		for {
			m, err := c.ReadMessage()
			got <- message{n, m, err}
			if err != nil || n == 1 && m.Type == flv.TypeAudio && m.Payload[1] == 1 {
				return // the first connection is lost at its second audio frame
			}
		}
	})
	hub, m := newManager(t, nil)
	w := domain.Relay{Direction: domain.Push, Name: movie, URL: s.url("key")}
	shown, err := m.Start(t.Context(), w)
	if err != nil || shown != "rtmp://"+s.Addr().String()+"/app/***" {
		t.Fatalf("%q, %v", shown, err)
	}
	awaitState(t, m, func(s domain.RelayStatus) bool { return s.State == stateWaiting })
	p := publishAudio(t, hub)
	stop, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		every := time.NewTicker(5 * time.Millisecond)
		defer every.Stop()
		for n := 0; ; n++ {
			select {
			case <-every.C:
				p.Write(audioFrame(n))
			case <-stop:
				return
			}
		}
	}()
	await := func(what string, want func(message) bool) {
		t.Helper()
		deadline := time.After(testTimeout)
		for {
			select {
			case m := <-got:
				if want(m) {
					return
				}
			case <-deadline:
				t.Fatalf("%s: not received", what)
			}
		}
	}
	onAir := func(n int) func(message) bool {
		return func(m message) bool { return m.conn == n && m.Type == flv.TypeAudio && m.Payload[1] == 1 }
	}
	await("audio", onAir(1))
	await("audio after the loss", onAir(2))
	status := awaitState(t, m, func(s domain.RelayStatus) bool { return s.State == stateRunning && s.Attempts == 1 })
	if status.Error != "the remote server closed the connection" || status.Room != "movie" || status.URL != shown {
		t.Errorf("status %+v", status)
	}
	close(stop)
	<-done
	p.End(stream.Lost)
	p = publishAudio(t, hub)
	f := audioFrame(0)
	f.Payload = []byte("after the hold")
	p.Write(f)
	await("the same connection after a hold",
		func(m message) bool { return m.conn == 2 && bytes.HasSuffix(m.Payload, []byte("after the hold")) })
	p.End(stream.Clean)
	await("end of stream after the publisher's end",
		func(m message) bool { return m.conn == 2 && m.err == rtmp.ErrStreamEnded })
	if s := awaitState(t, m, func(s domain.RelayStatus) bool { return s.State == stateWaiting }); s.Attempts != 0 ||
		s.Error != "" {
		t.Errorf("after the stream ended: %+v", s)
	}

	p = publishAudio(t, hub)
	p.Write(audioFrame(0))
	await("audio of the next stream", func(m message) bool { return m.conn == 3 && m.Type == flv.TypeAudio })
	if _, err := m.Stop(w); err != nil {
		t.Error(err)
	}
	await("end of stream after Stop", func(m message) bool { return m.conn == 3 && m.err == rtmp.ErrStreamEnded })
	if _, err := m.Stop(w); domain.KindOf(err) != domain.NotFound || len(m.List()) != 0 {
		t.Errorf("second Stop: %v, %v", err, m.List())
	}
}

// TestStalledServerDoesNotBlockPublisher pushes to a server that reads nothing: the publisher
// continues, and the relay disconnects and retries.
func TestStalledServerDoesNotBlockPublisher(t *testing.T) {
	s := serve(t, func(ctx context.Context, c *rtmp.ServerConn, _ *rtmp.Request) {
		if c.AcceptPublish() == nil {
			<-ctx.Done()
		}
	})
	hub, m := newManager(t, func(o *Options) { o.Conn.WriteTimeout = time.Second })
	if _, err := m.Start(t.Context(), domain.Relay{Direction: domain.Push, Name: movie, URL: s.url("key")}); err != nil {
		t.Fatal(err)
	}
	p := publishAudio(t, hub)
	longest, stop, done := time.Duration(0), make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		every := time.NewTicker(time.Millisecond)
		defer every.Stop()
		for n := 0; ; n++ {
			select {
			case <-every.C:
			case <-stop:
				return
			}
			f := audioFrame(n)
			f.Payload = make([]byte, 256<<10)
			began := time.Now()
			p.Write(f)
			longest = max(longest, time.Since(began))
		}
	}()
	status := awaitState(t, m, func(s domain.RelayStatus) bool { return s.Attempts > 0 })
	close(stop)
	<-done
	if longest > 900*time.Millisecond || !strings.Contains(status.Error, "timeout") {
		t.Errorf("Publisher.Write blocked for %v; status %+v", longest, status)
	}
}

// TestSlowServerReportsDelayAndSkips pushes to a server that is slower than the stream: the
// status has its delay and its skips.
func TestSlowServerReportsDelayAndSkips(t *testing.T) {
	begun, wake := make(chan struct{}), make(chan struct{})
	s := serve(t, func(ctx context.Context, c *rtmp.ServerConn, _ *rtmp.Request) {
		if c.AcceptPublish() != nil {
			return
		}
		for first := true; ; {
			m, err := c.ReadMessage()
			if err != nil {
				return
			}
			if !first || m.Payload[1] != 1 {
				continue
			}
			first = false
			close(begun)
			select {
			case <-wake:
			case <-ctx.Done():
			}
		}
	})
	hub, m := newManager(t, nil)
	p := publishAudio(t, hub)
	p.Write(audioFrame(0))
	p.Write(audioFrame(1))
	if _, err := m.Start(t.Context(), domain.Relay{Direction: domain.Push, Name: movie, URL: s.url("key")}); err != nil {
		t.Fatal(err)
	}
	<-begun
	payload, n := make([]byte, 256<<10), 2
	write := func(frames int) {
		for range frames {
			f := audioFrame(n)
			f.Payload = payload
			p.Write(f)
			n++
		}
	}
	write(200) // 50 MiB: more than socket buffers, less than the ring
	if late := awaitState(t, m, func(s domain.RelayStatus) bool { return s.DelayMS > 0 }); late.State != stateRunning ||
		late.Skips != 0 {
		t.Errorf("while the server reads nothing: %+v", late)
	}
	write(400)
	close(wake)
	awaitState(t, m, func(s domain.RelayStatus) bool { return s.Skips > 0 && s.DelayMS == 0 && s.Attempts == 0 })
}

// sendAudio sends this number of audio frames, or frames until ctx ends if it is negative.
func sendAudio(ctx context.Context, frames int, send func(flv.Tag) error) {
	if send(flv.Tag{Type: flv.TypeAudio, Body: []byte{0xaf, 0, 0x12, 0x10}}) != nil {
		return
	}
	every := time.NewTicker(5 * time.Millisecond)
	defer every.Stop()
	for n := 0; n != frames; n++ {
		if send(flv.Tag{Type: flv.TypeAudio, Timestamp: uint32(23 * n), Body: []byte{0xaf, 1, 0x21, byte(n)}}) != nil {
			return
		}
		select {
		case <-every.C:
		case <-ctx.Done():
			return
		}
	}
}

// TestPullReconnectKeepsViewer pulls over RTMP, and over HTTP-FLV with a redirect. After a loss
// the stream is held, and the viewer continues when it returns.
func TestPullReconnectKeepsViewer(t *testing.T) {
	var mu sync.Mutex
	times := 0
	frames := func() int { // few frames on the first connection
		mu.Lock()
		defer mu.Unlock()
		if times++; times == 1 {
			return 20
		}
		return -1
	}
	byRTMP := serve(t, func(ctx context.Context, c *rtmp.ServerConn, req *rtmp.Request) {
		if req.Publish || c.AcceptPlay() != nil {
			return
		}
		sendAudio(ctx, frames(), func(tag flv.Tag) error {
			bufs := net.Buffers(rtmp.AppendMessage(nil,
				rtmp.Header{Type: tag.Type, Timestamp: tag.Timestamp, StreamID: req.StreamID}, tag.Body))
			_, err := c.WriteMedia(&bufs)
			return err
		})
	})
	byHTTP := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/live/there.flv" {
			http.Redirect(w, r, "/live/movie.flv?x=y", http.StatusFound)
			return
		}
		if r.Referer() != "" {
			t.Errorf("the URL was sent as referer: %q", r.Referer())
		}
		w.Write(flv.FileHeader(true, false))
		sendAudio(r.Context(), frames(), func(tag flv.Tag) error {
			_, err := w.Write(flv.AppendTag(nil, tag.Type, tag.Timestamp, tag.Body))
			w.(http.Flusher).Flush()
			return err
		})
	}))
	t.Cleanup(byHTTP.Close)
	for _, url := range []string{byRTMP.url("movie"), byHTTP.URL + "/live/there.flv?token=s3cret"} {
		t.Run(url[:5], func(t *testing.T) {
			mu.Lock()
			times = 0
			mu.Unlock()
			hub, m := newManager(t, nil)
			w := domain.Relay{Direction: domain.Pull, Name: movie, URL: url}
			if _, err := m.Start(t.Context(), w); err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithTimeout(t.Context(), testTimeout)
			defer cancel()
			sub, err := hub.Subscribe(ctx, movie, stream.SubscribeOptions{Wait: testTimeout})
			if err != nil {
				t.Fatal(err)
			}
			defer sub.Leave()
			var buf [16]*media.Frame
			last, joins := time.Duration(-1), uint32(0)
			for n := 0; n < 100; {
				got, err := sub.Next(ctx, buf[:])
				if err != nil {
					t.Fatalf("after %d frames: %v", n, err)
				}
				for _, f := range buf[:got] {
					if n++; f.DTS <= last {
						t.Errorf("timestamps go back from %v to %v", last, f.DTS)
					}
					last, joins = f.DTS, f.Program.Discontinuity
				}
			}
			if info, _ := hub.Info(movie); joins == 0 || len(info.Publishers) != 1 || info.Publishers[0].Proto != "pull" ||
				strings.Contains(info.Publishers[0].URL, "s3cret") {
				t.Errorf("discontinuities %d, publishers %+v", joins, info.Publishers)
			}
			if _, err := m.Stop(w); err != nil {
				t.Error(err)
			}
			for err == nil {
				_, err = sub.Next(ctx, buf[:])
			}
			if err != io.EOF {
				t.Errorf("after Stop the subscriber got %v, want EOF", err)
			}
		})
	}
}

// TestPullToleratesNonconformingFLV pulls streams that violate FLV but play in players. Unusable
// parts are counted.
func TestPullToleratesNonconformingFLV(t *testing.T) {
	unknown := func(b []byte) []byte { return append(flv.AppendTag(nil, 15, 0, []byte("unknown")), b...) }
	wrongSize := func(b []byte) []byte { return append(b[:len(b)-4:len(b)-4], 0, 0, 0, 4) }
	for name, change := range map[string]func([]byte) []byte{"unknown tag types": unknown,
		"wrong PreviousTagSize": wrongSize} {
		t.Run(name, func(t *testing.T) {
			srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				w.Write(flv.FileHeader(true, true))
				// no frame without a configuration
				w.Write(change(flv.AppendTag(nil, flv.TypeVideo, 0, []byte{0x17, 1, 0, 0, 0, 1})))
				sendAudio(r.Context(), -1, func(tag flv.Tag) error {
					_, err := w.Write(change(flv.AppendTag(nil, tag.Type, tag.Timestamp, tag.Body)))
					w.(http.Flusher).Flush()
					return err
				})
			}))
			t.Cleanup(srv.Close)
			hub, m := newManager(t, nil)
			if _, err := m.Start(t.Context(),
				domain.Relay{Direction: domain.Pull, Name: movie, URL: srv.URL + "/live/movie.flv"}); err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithTimeout(t.Context(), testTimeout)
			defer cancel()
			sub, err := hub.Subscribe(ctx, movie, stream.SubscribeOptions{Wait: testTimeout})
			if err != nil {
				t.Fatal(err)
			}
			defer sub.Leave()
			var buf [16]*media.Frame
			for n := 0; n < 20; {
				got, err := sub.Next(ctx, buf[:])
				if err != nil {
					t.Fatalf("after %d frames: %v", n, err)
				}
				n += got
			}
			info, _ := hub.Info(movie)
			if len(info.Publishers) != 1 || info.Publishers[0].Skipped.Skipped[media.SkipNoConfig] != 1 ||
				len(info.Publishers[0].Skipped.Unusable) != 1 {
				t.Errorf("%+v", info.Publishers)
			}
		})
	}
}

// TestPullFailsWithReason pulls from broken servers: each attempt fails in time and with a
// reason.
func TestPullFailsWithReason(t *testing.T) {
	for _, tt := range []struct {
		name, want string
		serve      func(w http.ResponseWriter, r *http.Request)
	}{
		{"not found", "404 Not Found", func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "k3y", 404) }},
		{"garbage", "no FLV signature", func(w http.ResponseWriter, _ *http.Request) { w.Write([]byte("<html>k3y</html>")) }},
		{"a playlist", "no FLV signature",
			func(w http.ResponseWriter, _ *http.Request) { w.Write([]byte("#EXTM3U\nfile:///etc/passwd")) }},
		{"a tag of 16 MB", "exceeds the limit", func(w http.ResponseWriter, _ *http.Request) {
			w.Write(append(flv.FileHeader(true, true), 9, 255, 255, 255, 0, 0, 0, 0, 0, 0, 0))
		}},
		{"endless metadata", "messages without a frame", func(w http.ResponseWriter, _ *http.Request) {
			w.Write(flv.FileHeader(true, true))
			for range 2 * maxEmptyMessages {
				w.Write(flv.AppendTag(nil, flv.TypeVideo, 0, []byte{0x17, 0}))
			}
		}},
		{"a ring of servers", "faster than real time", func(w http.ResponseWriter, _ *http.Request) {
			w.Write(flv.AppendTag(flv.FileHeader(true, false), flv.TypeAudio, 0, []byte{0xaf, 0, 0x12, 0x10}))
			for at := time.Duration(0); at < 2*maxAheadOfRealtime; at += 23 * time.Millisecond {
				w.Write(flv.AppendTag(nil, flv.TypeAudio, uint32(at.Milliseconds()), []byte{0xaf, 1, 0x21}))
			}
		}},
		{"endless redirects", "too many redirects",
			func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/again", http.StatusFound) }},
		{"redirect to metadata", "are forbidden", func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "http://169.254.169.254/latest", http.StatusFound)
		}},
		{"redirect to a file", "cannot be pulled", func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Location", "file:///etc/passwd")
			w.WriteHeader(302)
		}},
		{"redirect to a private host", "private", func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "http://10.1.2.3/x.flv", http.StatusFound)
		}},
		{"closes the connection", "closed the connection",
			func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }},
		{"silent", "no frame within", func(w http.ResponseWriter, r *http.Request) {
			w.Write(flv.AppendTag(append(flv.FileHeader(true, false), flv.AppendTag(nil, 8, 0, []byte{0xaf, 0, 0x12, 0x10})...),
				8, 0, []byte{0xaf, 1, 0x21}))
			w.(http.Flusher).Flush()
			<-r.Context().Done()
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			srv := httptest.NewServer(http.HandlerFunc(tt.serve))
			t.Cleanup(srv.Close)
			timeout := time.Minute
			if tt.name == "silent" {
				timeout = 100 * time.Millisecond
			}
			_, m := newManager(t, func(o *Options) { o.ReadTimeout = timeout })
			if _, err := m.Start(t.Context(),
				domain.Relay{Direction: domain.Pull, Name: movie, URL: srv.URL + "/live/k3y-k3y"}); err != nil {
				t.Fatal(err)
			}
			status := awaitState(t, m, func(s domain.RelayStatus) bool { return s.Attempts > 0 })
			if !strings.Contains(status.Error, tt.want) || strings.Contains(status.Error, "k3y") {
				t.Errorf("error %q, want %q", status.Error, tt.want)
			}
		})
	}
}

// TestRealtimeLead checks streams in real time, in bursts, and with clock jumps: only a stream
// that is too fast gets a large lead.
func TestRealtimeLead(t *testing.T) {
	video := &media.Track{Kind: media.Video, Codec: media.H264}
	for _, tt := range []struct {
		name  string
		step  func(n int) (dts, arrived time.Duration)
		least time.Duration
		most  time.Duration
	}{
		{"real time", func(n int) (_, _ time.Duration) {
			return time.Duration(n) * time.Second, time.Duration(n) * time.Second
		}, 0, 0},
		{"slower than real time", func(n int) (_, _ time.Duration) {
			return time.Duration(n) * time.Second, time.Duration(2*n) * time.Second
		}, 0, 0},
		{"a burst of a minute, then real time", func(n int) (_, _ time.Duration) {
			return time.Duration(n) * time.Second, time.Duration(max(0, n-60)) * time.Second
		}, time.Minute, time.Minute},
		{"clock jumps forward by an hour", func(n int) (_, _ time.Duration) {
			return time.Duration(n)*time.Second + time.Duration(n/100)*time.Hour, time.Duration(n) * time.Second
		}, 0, 0},
		{"clock jumps back", func(n int) (_, _ time.Duration) {
			return time.Duration(n%100) * time.Second, time.Duration(n) * time.Second
		}, 0, 0},
		{"twice real time", func(n int) (_, _ time.Duration) {
			return time.Duration(n) * time.Second, time.Duration(n) * time.Second / 2
		}, 499 * time.Second, 500 * time.Second},
	} {
		var l realtimeLead
		most := time.Duration(0)
		for n := range 1000 {
			dts, arrived := tt.step(n)
			most = max(most, l.update(&media.Frame{Track: aac, DTS: dts, Arrived: time.Unix(0, 0).Add(arrived)}))
			most = max(most, l.update(&media.Frame{Track: video, DTS: dts + time.Hour, Arrived: time.Unix(0, 0).Add(arrived)}))
		}
		if most < tt.least || most > tt.most {
			t.Errorf("%s: %v ahead, want %v to %v", tt.name, most, tt.least, tt.most)
		}
	}
}

// TestBackoffAndFailureEvent checks the times of the attempts and the reported failures.
func TestBackoffAndFailureEvent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var told []domain.RelayStatus
		hub, m := newManager(t, func(o *Options) {
			o.Static = map[string][]string{"live": {"rtmp://user:s3cret@other.example/app"}}
			o.Failed = func(s domain.RelayStatus) { told = append(told, s) }
		})
		var at []time.Time
		m.dialer.lookup = func(context.Context, string, string) ([]netip.Addr, error) {
			at = append(at, time.Now())
			return nil, errors.New("s3cret is down")
		}
		stop := runStatic(m)
		p := publishAudio(t, hub)
		defer p.End(stream.Clean)
		for n := range 60_000 { // 10 minutes
			p.Write(audioFrame(n))
			time.Sleep(10 * time.Millisecond)
		}
		list := m.List()
		stop()
		for i := 1; i < len(at); i++ {
			pause := at[i].Sub(at[i-1])
			if want := min(time.Second<<(min(i, 6)-1), maxBackoff); pause < want/2 || pause > want+50*time.Millisecond {
				t.Errorf("pause %d is %v, want %v to %v", i, pause, want/2, want)
			}
		}
		if n := len(at); n < 20 || n > 50 {
			t.Errorf("%d attempts in 10 minutes", n)
		}
		if len(told) != 1 || told[0].Attempts != reportAfter || told[0].Error != "*** is down" ||
			told[0].URL != "rtmp://other.example/app/***" {
			t.Errorf("reported %+v", told)
		}
		if len(list) != 1 || !list[0].Static || list[0].State != stateFailed ||
			list[0].Attempts != len(at) {
			t.Errorf("after %d attempts: %+v", len(at), list)
		}
	})
}

// TestStableRunResetsFailures checks that a stable run resets the failure count.
func TestStableRunResetsFailures(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, m := newManager(t, nil)
		r := &relay{target: &target{}, log: slog.New(slog.DiscardHandler)}
		for _, step := range []struct {
			runs time.Duration
			want int
		}{{0, 1}, {time.Second, 2}, {stableAfter - 1, 3}, {stableAfter, 1}, {0, 2}} {
			m.setState(r, stateRunning)
			time.Sleep(step.runs)
			if got := m.recordFailure(r, io.EOF); got != step.want {
				t.Errorf("after %v: %d failures in a row, want %d", step.runs, got, step.want)
			}
		}
	})
}

// TestStartErrors checks the errors of Start.
func TestStartErrors(t *testing.T) {
	s := serve(t, func(context.Context, *rtmp.ServerConn, *rtmp.Request) {})
	_, m := newManager(t, func(o *Options) { o.Max = 2 })
	gone, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	gone.Close()
	push := func(url string) domain.Relay { return domain.Relay{Direction: domain.Push, Name: movie, URL: url} }
	for _, tt := range []struct {
		name string
		w    domain.Relay
		want domain.Kind // Internal: it starts
	}{
		{"connection refused", push("rtmp://" + gone.Addr().String() + "/app/key"), domain.Unavailable},
		{"private address", push("rtmp://10.0.0.1/app/key"), domain.Denied},
		{"invalid URL", push("x"), domain.Invalid},
		{"first", push(s.url("a")), domain.Internal},
		{"duplicate", push(s.url("a")), domain.Conflict},
		{"second", push(s.url("b")), domain.Internal},
		{"above the limit", push(s.url("c")), domain.Limit},
	} {
		_, err := m.Start(t.Context(), tt.w)
		if (err == nil) != (tt.want == domain.Internal) || err != nil && domain.KindOf(err) != tt.want {
			t.Errorf("%s: %v", tt.name, err)
		}
		if err != nil && strings.Contains(err.Error(), "key") {
			t.Errorf("%s: the error contains the URL: %v", tt.name, err)
		}
	}
	if n := len(m.List()); n != 2 {
		t.Errorf("%d relays", n)
	}
	m.Close()
	if _, err := m.Start(t.Context(), push(s.url("d"))); domain.KindOf(err) != domain.Unavailable {
		t.Errorf("after Close: %v", err)
	}
}

// TestStopWhileConnecting stops a relay while it connects.
func TestStopWhileConnecting(t *testing.T) {
	_, m := newManager(t, nil)
	tried := make(chan struct{})
	m.dialer.lookup = func(ctx context.Context, _, _ string) ([]netip.Addr, error) {
		close(tried)
		<-ctx.Done()
		return nil, ctx.Err()
	}
	w := domain.Relay{Direction: domain.Push, Name: movie, URL: "rtmp://slow.example/app/key"}
	result := make(chan error)
	go func() {
		_, err := m.Start(t.Context(), w)
		result <- err
	}()
	<-tried
	if _, err := m.Stop(w); err != nil {
		t.Error(err)
	}
	if err := <-result; domain.KindOf(err) != domain.Conflict || len(m.List()) != 0 {
		t.Errorf("%v; remaining: %+v", err, m.List())
	}
}

// TestPullObeysAdmissionControl checks that a pull neither starts nor connects while admission
// control allows no new publisher.
func TestPullObeysAdmissionControl(t *testing.T) {
	short := errors.New("short of memory")
	_, m := newManager(t, func(o *Options) { o.Authorizer = admit{err: short} })
	m.dialer.lookup = func(context.Context, string, string) ([]netip.Addr, error) {
		t.Error("the relay connects")
		return nil, errors.ErrUnsupported
	}
	to, err := parseTarget(domain.Pull, "rtmp://other.example/app/movie", false)
	if err != nil {
		t.Fatal(err)
	}
	r := &relay{Relay: domain.Relay{Direction: domain.Pull, Name: movie}, target: to, log: slog.New(slog.DiscardHandler)}
	if err := m.pull(t.Context(), r); err != short {
		t.Errorf("%v", err)
	}
}

// TestConcurrentStartAndStop starts and stops a relay from several goroutines, and checks that
// none remains.
func TestConcurrentStartAndStop(t *testing.T) {
	s := serve(t, func(context.Context, *rtmp.ServerConn, *rtmp.Request) {})
	hub, m := newManager(t, nil)
	p := publishAudio(t, hub)
	defer p.End(stream.Clean)
	var all sync.WaitGroup
	w := domain.Relay{Direction: domain.Push, Name: movie, URL: s.url("key")}
	for worker := range 8 {
		all.Go(func() {
			for n := range 125 {
				m.Start(t.Context(), w)
				if worker == 0 { // a Publisher is not for concurrent use
					p.Write(audioFrame(n))
				}
				m.List()
				m.Stop(w)
			}
		})
	}
	all.Wait()
	m.Stop(w)
	if list := m.List(); len(list) != 0 {
		t.Errorf("remaining: %+v", list)
	}
}

// TestStaticPushFollowsStream pushes a stream of an app each time it is live.
func TestStaticPushFollowsStream(t *testing.T) {
	names := make(chan string, 16)
	s := serve(t, func(_ context.Context, c *rtmp.ServerConn, req *rtmp.Request) {
		if c.AcceptPublish() != nil {
			return
		}
		for {
			m, err := c.ReadMessage()
			if err != nil {
				names <- err.Error()
				return
			}
			if m.Type == flv.TypeAudio && m.Payload[1] == 1 {
				names <- req.App + " " + req.Name
			}
		}
	})
	hub, m := newManager(t, func(o *Options) {
		o.Allow, o.Static = nil, map[string][]string{"live": {"rtmp://" + s.Addr().String() + "/app/?token=x"}}
	})
	defer runStatic(m)()
	for round := range 3 {
		p := publishAudio(t, hub)
		p.Write(audioFrame(0))
		await := func(want string) {
			t.Helper()
			select {
			case got := <-names:
				if got != want {
					t.Errorf("round %d: %q, want %q", round, got, want)
				}
			case <-time.After(testTimeout):
				t.Fatalf("round %d: no %q: %+v", round, want, m.List())
			}
		}
		await("app movie")
		p.End(stream.Clean)
		await(rtmp.ErrStreamEnded.Error())
	}
	m.Close()
	if list := m.List(); len(list) != 0 {
		t.Errorf("remaining: %+v", list)
	}
}

func TestInvalidStaticPush(t *testing.T) {
	hub := stream.NewHub(stream.Options{})
	defer hub.Close()
	_, err := New(hub, Options{Static: map[string][]string{"live": {"rtmp://h/a", "rtmp://h:0/s3cret"}}})
	if err == nil || !strings.Contains(err.Error(), "static_push of live, entry 2") ||
		strings.Contains(err.Error(), "s3cret") {
		t.Errorf("%v", err)
	}
}
