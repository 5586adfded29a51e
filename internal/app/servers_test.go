package app

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"
	"time"

	"livego/internal/control/auth"
	"livego/internal/domain"
	"livego/internal/edge/hls"
	"livego/internal/edge/viewerhttp"
	"livego/internal/media"
	"livego/internal/ops/netx"
	"livego/internal/stream"
)

// TestHTTP2Streams checks the limit of concurrent HTTP/2 streams in the server's SETTINGS frame.
func TestHTTP2Streams(t *testing.T) {
	a := &App{log: slog.New(slog.DiscardHandler), viewers: viewerhttp.New(viewerhttp.Options{})}
	cert := httptest.NewUnstartedServer(nil)
	cert.StartTLS()
	config := cert.TLS
	cert.Close()
	config.NextProtos = []string{"h2"}
	for name, srv := range map[string]webServer{
		"viewers": a.viewers.HTTP1Server(a.serverOptions(), nil), "operator": a.operatorServer(nil),
	} {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		limiter := netx.NewLimiter(netx.LimitOptions{})
		addr := serveListener(t, srv, netx.ListenTLS(limiter.Listen(ln, netx.ListenOptions{}), config))
		c, err := tls.Dial("tcp", addr,
			&tls.Config{InsecureSkipVerify: true, NextProtos: []string{"h2"}})
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		_ = c.SetDeadline(time.Now().Add(20 * time.Second))
		if _, err := io.WriteString(c, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00"); err != nil {
			t.Fatal(err)
		}
		var head [9]byte // length, type 4 (SETTINGS), flags, stream
		if _, err := io.ReadFull(c, head[:]); err != nil || head[3] != 4 {
			t.Fatalf("%s: frame %x, %v", name, head, err)
		}
		settings := make([]byte, head[2])
		if _, err := io.ReadFull(c, settings); err != nil {
			t.Fatal(err)
		}
		const maxConcurrentStreams = "\x00\x03\x00\x00\x00\x20"
		if !bytes.Contains(settings, []byte(maxConcurrentStreams)) {
			t.Errorf("%s: settings %x", name, settings)
		}
	}
}

// testAuthorizer allows every room; the room private needs a token.
type testAuthorizer struct{ domain.ViewerLimiter }

func (testAuthorizer) Authorize(_ context.Context, r domain.AuthRequest) (domain.Grant, error) {
	name, err := domain.ParseName(r.App, r.Name)
	if err == nil && r.Name == "private" && r.Token != "good" {
		err = domain.Errorf(domain.Denied, "token is not valid for this room: %w", domain.ErrUnauthenticated)
	}
	return domain.Grant{Name: name}, err
}

// TestHTTP1MatchesNetHTTP sends every kind of player request to http1 and to net/http, and compares
// the bytes of the responses.
func TestHTTP1MatchesNetHTTP(t *testing.T) {
	a := newHLSApp(t)
	o := a.serverOptions()
	plain, fronted := startServer(t, a.viewers.Server(o)), startServer(t, a.viewers.HTTP1Server(o, nil))
	var index, part string
	seen := map[string]bool{}
	for _, room := range []string{"movie", "private"} {
		multivariant := rawRequest(t, plain, "GET", "/live/"+room+".m3u8?token=good")
		index = "/live/" + regexp.MustCompile(`\S+index\.m3u8\?s=\S+`).FindString(multivariant)
		playlist := rawRequest(t, plain, "GET", index+"&_HLS_msn=104&_HLS_part=1") // the last part
		segment := "/live/" + room + "/" + regexp.MustCompile(`100-\d+\.m4s`).FindString(playlist)
		part = "/live/" + room + "/" + regexp.MustCompile(`100-\d+\.\d+\.m4s`).FindString(playlist)
		header := "/live/" + room + "/" + regexp.MustCompile(`\w+\.mp4`).FindString(playlist)
		ts := strings.Replace(segment, ".m4s", ".ts", 1)
		session := index[strings.Index(index, "?"):]
		for _, target := range []string{
			index, strings.Replace(index, "index", "ts", 1), "/live/" + room + "/index.m3u8", index + "&_HLS_msn=100",
			index + "&_HLS_msn=100&_HLS_part=1",
			index + "&_HLS_skip=YES", index + "&_HLS_msn=x", index + "&_HLS_msn=900", index + "&_HLS_part=1", index + "x",
			segment, segment + session, part + session, header + session, ts, ts + session,
			"/live/" + room + "/100-77.m4s" + session,
			"/live/" + room + ".m3u8?format=avi", "/live/" + room + ".m3u8", "/live/nobody/index.m3u8", "/live/nobody.m3u8",
			"/cinema/" + room + ".m3u8", "/live/" + room, "/live/../x.m3u8", "/live/%00/index.m3u8", "/", "/crossdomain.xml",
			"/live/" + strings.Repeat("x", 4096),
		} {
			tag := regexp.MustCompile(`Etag: (\S+)`).FindStringSubmatch(rawRequest(t, plain, "HEAD", target))
			match := `W/"x", *`
			if tag != nil {
				match = tag[1]
			}
			for _, method := range []string{"GET", "HEAD", "OPTIONS", "POST"} {
				for _, fields := range [][]string{
					nil, {"Accept-Encoding: gzip, deflate, br", "Origin: https://example.com"}, {"Accept-Encoding: gzip;q=0"},
					{"If-None-Match: " + match}, {"Range: bytes=3-9"},
					{"Range: bytes=0-1,4-5"}, {"Range: bytes=99999999-"}, {"Range: bytes=9-3"},
					{"Authorization: Bearer good", "Cookie: a=b"}, {"Authorization: Bearer bad"}, {"Connection: keep-alive"},
				} {
					want, got := rawRequest(t, plain, method, target, fields...), rawRequest(t, fronted, method, target, fields...)
					seen[strings.Fields(want)[1]] = true
					if want != got {
						t.Errorf("%s %.80s %q: net/http responds\n%.600s\nhttp1 responds\n%.600s", method, target, fields, want, got)
					}
				}
			}
		}
	}
	for _, status := range []string{"200", "204", "206", "304", "400", "401", "403", "404", "405", "414", "416"} {
		if !seen[status] {
			t.Errorf("no response has the status %s", status)
		}
	}
	if got := rawRequest(t, fronted, "GET", part); !strings.Contains(got, "403 Forbidden") {
		t.Errorf("a private part without a session: %.200s", got)
	}
}

// BenchmarkHLS measures the most frequent requests of a player, with http1 and with net/http.
func BenchmarkHLS(b *testing.B) {
	a := newHLSApp(b)
	for name, srv := range map[string]webServer{
		"http1": a.viewers.HTTP1Server(a.serverOptions(), nil), "nethttp": a.viewers.Server(a.serverOptions()),
	} {
		addr := startServer(b, srv)
		index := "/live/" + regexp.MustCompile(`\S+index\.m3u8\?s=\S+`).FindString(rawRequest(b, addr, "GET",
			"/live/movie.m3u8"))
		playlist := rawRequest(b, addr, "GET", index)
		for what, target := range map[string]string{
			"reload": index + "&_HLS_msn=100&_HLS_part=1",
			"part":   "/live/movie/" + regexp.MustCompile(`100-\d+\.\d+\.m4s`).FindString(playlist),
		} {
			b.Run(name+"/"+what, func(b *testing.B) {
				c, err := net.Dial("tcp", addr)
				if err != nil {
					b.Fatal(err)
				}
				defer c.Close()
				request := []byte("GET " + target + " HTTP/1.1\r\nHost: example.com\r\nUser-Agent: player\r\nAccept: */*\r\n\r\n")
				in := bufio.NewReader(c)
				b.ReportAllocs()
				for b.Loop() {
					if _, err := c.Write(request); err != nil {
						b.Fatal(err)
					}
					length := 0
					for line := []byte("-"); len(line) > 2 || length == 0; {
						if line, err = in.ReadSlice('\n'); err != nil {
							b.Fatal(err)
						}
						if n, ok := bytes.CutPrefix(line, []byte("Content-Length: ")); ok {
							for _, c := range bytes.TrimSpace(n) {
								length = 10*length + int(c-'0')
							}
						}
					}
					if _, err := in.Discard(length); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}

// newHLSApp returns an App that serves only HLS, with two rooms.
func newHLSApp(t testing.TB) *App {
	t.Helper()
	hub := stream.NewHub(stream.Options{KeepTime: time.Hour,
		Epoch: func(context.Context) (uint64, error) { return 100, nil }})
	server := hls.New(hub, testAuthorizer{auth.NewChain(nil)},
		hls.Options{Part: 200 * time.Millisecond, FirstWait: 10 * time.Second, Log: slog.New(slog.DiscardHandler),
			Private: func(name domain.Name) bool { return name.Room == "private" }})
	a := &App{log: slog.New(slog.DiscardHandler), hls: server}
	a.cfg.HeaderTimeout, a.cfg.IdleTimeout, a.cfg.WriteTimeout = 10*time.Second, 10*time.Second, 10*time.Second
	a.viewers = viewerhttp.New(viewerhttp.Options{HLS: server, Apps: map[string]viewerhttp.App{"live": {HLS: true}},
		WriteTimeout: 10 * time.Second})
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		server.Run(ctx)
	}()
	t.Cleanup(func() {
		hub.Close()
		stop()
		<-done
	})
	video := &media.Track{
		Kind: media.Video, Codec: media.H264, Timescale: 90000, RFC6381: "avc1.42c00d", Width: 176, Height: 144,
		FrameRate: 25,
		Config: []byte("\x01\x42\xC0\x0D\xFF\xE1\x00\x0A\x67\x42\xC0\x0D\xDA\x05\x07\xEC" +
			"\x04\x40\x01\x00\x04\x68\xCE\x0F\xC8"),
	}
	for _, room := range []string{"movie", "private"} {
		p, err := hub.Publish(ctx, domain.Name{App: "live", Room: room}, stream.PublishOptions{Proto: "test"})
		if err != nil {
			t.Fatal(err)
		}
		for i := range 212 {
			at := time.Duration(i) * 40 * time.Millisecond
			f := &media.Frame{Track: video, Meta: &media.Meta{HasVideo: true}, DTS: at, PTS: at, Arrived: time.Unix(1e9, 0),
				Payload: []byte{0, 0, 0, 2, 0x41, 0x9a}}
			if i%50 == 0 {
				f.RAP, f.Payload = media.Keyframe, []byte{0, 0, 0, 2, 0x65, 0x88}
			}
			if err := p.Write(f); err != nil {
				t.Fatal(err)
			}
		}
	}
	return a
}

// startServer serves until the test ends, and returns the address.
func startServer(t testing.TB, srv webServer) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return serveListener(t, srv, ln)
}

func serveListener(t testing.TB, srv webServer, ln net.Listener) string {
	done := make(chan error, 1)
	go func() { done <- srv.Serve(ln) }()
	t.Cleanup(func() {
		srv.Close()
		<-done
	})
	return ln.Addr().String()
}

// rawRequest sends a request on a new connection and returns the raw response, with the varying
// parts replaced: the date, sessions and boundaries.
func rawRequest(t testing.TB, addr, method, target string, fields ...string) string {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(30 * time.Second))
	if _, err := io.WriteString(c,
		method+" "+target+" HTTP/1.1\r\n"+strings.Join(append(fields, "Host: example.com"), "\r\n")+"\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	var all bytes.Buffer
	resp, err := http.ReadResponse(bufio.NewReader(io.TeeReader(c, &all)), &http.Request{Method: method})
	if err != nil {
		t.Fatalf("%s %s: %v", method, target, err)
	}
	if _, err := io.Copy(io.Discard, resp.Body); err != nil {
		t.Errorf("%s %s: %v", method, target, err)
	}
	answer := regexp.MustCompile(`Date: [^\r]*`).ReplaceAllString(all.String(), "Date: now")
	if !strings.Contains(target, "token=") { // a response to a token has its own session
		answer = regexp.MustCompile(`(m3u8\?s=)\S{20,}`).ReplaceAllString(answer, "${1}session")
	}
	return regexp.MustCompile(`[0-9a-f]{60}`).ReplaceAllString(answer, "boundary")
}

// TestRoomNamedLikeAThumbnail: a room that exists, or is live, has its player page at an address that
// would be that of another room's thumbnail.
func TestRoomNamedLikeAThumbnail(t *testing.T) {
	a, _ := runApp(t, "")
	if err := a.store.Update(t.Context(), "cat.jpg", func([]domain.Key) (domain.RoomChange, error) {
		return domain.RoomChange{Keys: []domain.Key{domain.Key{Room: "cat.jpg"}.Complete()}}, nil
	}); err != nil {
		t.Fatal(err)
	}
	dog := domain.Name{App: "live", Room: "dog.jpg"}
	if _, err := a.hub.Publish(t.Context(), dog, stream.PublishOptions{}); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{
		"/live/cat.jpg": "text/html; charset=utf-8", "/live/dog.jpg": "text/html; charset=utf-8",
		"/live/cow.jpg": "text/plain; charset=utf-8", "/live/cat.jpg.jpg": "text/plain; charset=utf-8",
	} {
		w := httptest.NewRecorder()
		a.viewers.ServeHTTP(w, httptest.NewRequest("GET", path, nil))
		if got := w.Header().Get("Content-Type"); got != want {
			t.Errorf("%s: HTTP %d with %s: %s", path, w.Code, got, w.Body)
		}
	}
}
