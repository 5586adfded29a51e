package app

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"livego/internal/domain"
	"livego/internal/edge/hls"
	"livego/internal/media"
	"livego/internal/ops/config"
	"livego/internal/stream"
)

// TestInvalidViewerRequests checks the responses to requests that no viewer sends. A proxy that
// parses them differently must find nothing behind them (request smuggling).
func TestInvalidViewerRequests(t *testing.T) {
	for _, c := range []struct {
		name, method, target string
		body                 io.Reader
		status               int
		closes               bool
	}{
		{"body", "GET", "/live/movie.flv", strings.NewReader("hello"), 400, true},
		{"body without a length", "GET", "/live/movie.flv", io.MultiReader(strings.NewReader("hello")), 400, true},
		{"absolute URI", "GET", "http://evil.example/live/movie.flv", nil, 400, false},
		{"asterisk", "OPTIONS", "*", nil, 400, false},
		{"method", "POST", "/live/movie.flv", strings.NewReader("hello"), 405, true},
		{"long URL", "GET", "/live/" + strings.Repeat("x", maxURL), nil, 414, false},
		{"app", "GET", "/cinema/movie.flv", nil, 404, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := httptest.NewRecorder()
			new(viewerHandler).ServeHTTP(w, httptest.NewRequest(c.method, c.target, c.body))
			if w.Code != c.status {
				t.Errorf("HTTP %d, want %d: %s", w.Code, c.status, w.Body)
			}
			if closes := w.Header().Get("Connection") == "close"; closes != c.closes {
				t.Errorf("connection: close is %v, want %v", closes, c.closes)
			}
		})
	}
}

// TestCORSPreflight checks the responses to preflight requests.
func TestCORSPreflight(t *testing.T) {
	var many []string
	for i := range 40 {
		many = append(many, fmt.Sprintf("x-header-%d", i))
	}
	for _, tt := range []struct {
		name  string
		asked []string
		want  string
	}{
		{"none", nil, "Authorization, Range"},
		{"hls.js with a header of its own", []string{"authorization,x-token"}, "authorization, x-token"},
		{"two lines", []string{"range", " x-a , x-b"}, "range, x-a, x-b"},
		{"what is no name", []string{"x-a, x b, , x:c, x-\u00e9, *, x-d"}, "x-a, *, x-d"},
		{"nothing but that", []string{"x b"}, "Authorization, Range"},
		{"line ends", []string{"x-a\r\nSet-Cookie: a"}, "Authorization, Range"},
		{"many", []string{strings.Join(many, ",")}, strings.Join(many[:32], ", ")},
		{"long", []string{strings.Repeat("x", 129) + ",range"}, "range"},
	} {
		r := httptest.NewRequest("OPTIONS", "/live/movie/index.m3u8", nil)
		r.Header["Access-Control-Request-Headers"] = tt.asked
		w := httptest.NewRecorder()
		new(viewerHandler).ServeHTTP(w, r)
		h := w.Header()
		if got := h.Get("Access-Control-Allow-Headers"); w.Code != 204 || got != tt.want {
			t.Errorf("%s: HTTP %d, allowed %q, want %q", tt.name, w.Code, got, tt.want)
		}
		if h.Get("Vary") != "Access-Control-Request-Headers" || h.Get("Access-Control-Max-Age") != "86400" ||
			h.Get("Access-Control-Allow-Origin") != "*" {
			t.Errorf("%s: %v", tt.name, h)
		}
	}
	w := httptest.NewRecorder()
	new(viewerHandler).ServeHTTP(w, httptest.NewRequest("GET", "/nowhere/movie.m3u8", nil))
	for _, name := range []string{"Date", "ETag", "Content-Range"} {
		if exposed := w.Header().Get("Access-Control-Expose-Headers"); !strings.Contains(exposed, name) {
			t.Errorf("exposed are %s", exposed)
		}
	}
}

// TestRequestBodyNeverArrives sends requests that announce a body and send none: each gets a
// response, and the connection is closed.
func TestRequestBodyNeverArrives(t *testing.T) {
	srv := httptest.NewServer(&viewerHandler{writeTimeout: 10 * time.Second})
	t.Cleanup(srv.Close)
	for _, method := range []string{"GET", "POST", "OPTIONS"} {
		t.Run(method, func(t *testing.T) {
			t.Parallel()
			c, err := net.Dial("tcp", srv.Listener.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			_ = c.SetDeadline(time.Now().Add(8 * time.Second))
			if _, err := io.WriteString(c,
				method+" /live/movie.flv HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n"); err != nil {
				t.Fatal(err)
			}
			br := bufio.NewReader(c)
			if line, err := br.ReadString('\n'); err != nil || !strings.HasPrefix(line, "HTTP/1.1 ") {
				t.Fatalf("response %q, %v", line, err)
			}
			if _, err := io.Copy(io.Discard, br); err != nil {
				t.Errorf("the connection stays: %v", err)
			}
		})
	}
}

// TestViewersThatReadNothing sends many requests with short responses and reads none: each
// connection is closed.
func TestViewersThatReadNothing(t *testing.T) {
	v := &viewerHandler{writeTimeout: 100 * time.Millisecond,
		apps: map[string]config.App{"live": {Name: "live", HLS: true}}}
	for _, request := range []string{
		"GET /nothing HTTP/1.1", "GET /crossdomain.xml HTTP/1.1", "HEAD /nothing HTTP/1.1",
		"OPTIONS /live/movie.flv HTTP/1.1", "GET /x/movie.flv HTTP/1.1",
	} {
		t.Run(request, func(t *testing.T) {
			t.Parallel()
			addr := startServer(t, &http.Server{Handler: v, ConnContext: func(ctx context.Context, c net.Conn) context.Context {
				_ = c.(*net.TCPConn).SetWriteBuffer(16 << 10)
				return ctx
			}})
			c, err := net.Dial("tcp", addr)
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			_ = c.SetDeadline(time.Now().Add(20 * time.Second))
			many := []byte(strings.Repeat(request+"\r\nHost: localhost\r\n\r\n", 1000))
			for err == nil {
				_, err = c.Write(many)
			}
			if errors.Is(err, os.ErrDeadlineExceeded) {
				t.Error("the connection stays")
			}
		})
	}
}

// TestHTTP2Streams checks the limit of concurrent HTTP/2 streams in the server's SETTINGS frame.
func TestHTTP2Streams(t *testing.T) {
	a := &App{log: slog.New(slog.DiscardHandler), viewers: new(viewerHandler)}
	for name, own := range map[string]*http.Server{"viewers": a.viewerServer(), "operator": a.apiServer()} {
		srv := httptest.NewUnstartedServer(nil)
		srv.Config, srv.EnableHTTP2 = own, true
		srv.StartTLS()
		defer srv.Close()
		c, err := tls.Dial("tcp", srv.Listener.Addr().String(),
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
		const maxConcurrentStreams = "\x00\x03\x00\x00\x00\x64"
		if !bytes.Contains(settings, []byte(maxConcurrentStreams)) {
			t.Errorf("%s: settings %x", name, settings)
		}
	}
}

// TestViewersArriveDuringWaitIdle starts and ends viewers while waitIdle waits, as happens when a
// stream ends.
func TestViewersArriveDuringWaitIdle(t *testing.T) {
	v := new(viewerHandler)
	v.streamStarted()
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	v.waitIdle(ctx) // returns because ctx has ended
	v.streamEnded()

	var wg sync.WaitGroup
	ctx, cancel = context.WithTimeout(context.Background(), 100*time.Millisecond)
	defer cancel()
	for range 4 {
		wg.Go(func() {
			for ctx.Err() == nil {
				v.streamStarted()
				v.streamEnded()
			}
		})
	}
	for ctx.Err() == nil {
		v.waitIdle(ctx)
	}
	wg.Wait()
	v.waitIdle(context.Background())
}

// testAuthorizer allows every room; the room private needs a token.
type testAuthorizer struct{}

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
	plain, fronted := startServer(t, a.viewerServer()), startServer(t, a.http1Server(listener{}))
	var index, part string
	seen := map[string]bool{}
	for _, room := range []string{"movie", "private"} {
		multivariant := rawRequest(t, plain, "GET", "/live/"+room+".m3u8?token=good")
		index = "/live/" + regexp.MustCompile(`\S+index\.m3u8\?s=\S+`).FindString(multivariant)
		playlist := rawRequest(t, plain, "GET", index)
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
			"/live/" + strings.Repeat("x", maxURL),
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
	for name, srv := range map[string]webServer{"http1": a.http1Server(listener{}), "nethttp": a.viewerServer()} {
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
	hub := stream.NewHub(stream.Options{MaxLatency: time.Hour,
		Epoch: func(context.Context) (uint64, error) { return 100, nil }})
	server := hls.New(hub, testAuthorizer{},
		hls.Options{Part: 200 * time.Millisecond, FirstWait: 10 * time.Second, Log: slog.New(slog.DiscardHandler),
			Private: func(name domain.Name) bool { return name.Room == "private" }})
	a := &App{log: slog.New(slog.DiscardHandler), hls: server}
	a.cfg.HeaderTimeout, a.cfg.IdleTimeout, a.cfg.WriteTimeout = 10*time.Second, 10*time.Second, 10*time.Second
	a.viewers = &viewerHandler{hls: server, apps: map[string]config.App{"live": {Name: "live", HLS: true}},
		writeTimeout: 10 * time.Second}
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
