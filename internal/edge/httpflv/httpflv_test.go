package httpflv

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"livego/internal/container/flv"
	"livego/internal/deliver/fanout"
	"livego/internal/domain"
	"livego/internal/media"
	"livego/internal/stream"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var (
	movie = domain.Name{App: "live", Room: "movie"}
	avc   = &media.Track{Kind: media.Video, Codec: media.H264, Timescale: 90000, Config: []byte{1, 0x64, 0, 0x1f}}
	aac   = &media.Track{Kind: media.Audio, Codec: media.AAC, Timescale: 44100, SampleRate: 44100, FrameSamples: 1024,
		Config: []byte{0x12, 0x10}}
	meta = &media.Meta{HasVideo: true, HasAudio: true, Encoder: "test"}
)

type testAuthorizer struct{ domain.ViewerLimiter }

func (testAuthorizer) Authorize(_ context.Context, r domain.AuthRequest) (domain.Grant, error) {
	if r.Token == "bad" {
		return domain.Grant{}, domain.Errorf(domain.Denied, "token refused")
	}
	for token, err := range codedRefusals {
		if r.Token == token {
			return domain.Grant{}, err
		}
	}
	n, err := domain.ParseName(r.App, r.Name)
	return domain.Grant{Name: n}, err
}

// codedRefusals maps tokens to the errors with which they are refused.
var codedRefusals = map[string]error{
	"old":   domain.CodeErrorf(domain.Denied, domain.TokenExpired, "token expired"),
	"other": domain.CodeErrorf(domain.Denied, domain.TokenWrongStream, "token is for another app or room"),
	"full":  domain.CodeErrorf(domain.Limit, domain.TokenViewerLimit, "token viewer limit reached (1)"),
}

// newTestServer returns a hub and a server for its streams, with TLS and HTTP/2 on request.
func newTestServer(t *testing.T, http2 bool) (*stream.Hub, *httptest.Server) {
	t.Helper()
	return newTestServerTimeout(t, http2, 5*time.Second)
}

// newTestServerTimeout is newTestServer with this write timeout.
func newTestServerTimeout(t *testing.T, http2 bool, writeTimeout time.Duration) (*stream.Hub, *httptest.Server) {
	t.Helper()
	return newTestServerOptions(t, http2, Options{Fanout: fanout.Options{WriteTimeout: writeTimeout, GOPs: 1}})
}

func newTestServerOptions(t *testing.T, http2 bool, o Options) (*stream.Hub, *httptest.Server) {
	t.Helper()
	hub := stream.NewHub(stream.Options{})
	o.Log = slog.New(slog.DiscardHandler)
	s := New(hub, testAuthorizer{}, o)
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		app, file, _ := strings.Cut(r.URL.Path[1:], "/")
		s.Serve(w, r, app, strings.TrimSuffix(file, ".flv"))
	}))
	srv.EnableHTTP2 = http2
	if http2 {
		srv.StartTLS()
	} else {
		srv.Start()
	}
	t.Cleanup(srv.Close)
	t.Cleanup(hub.Close)
	return hub, srv
}

func publish(t *testing.T, hub *stream.Hub) *stream.Publisher {
	t.Helper()
	p, err := hub.Publish(t.Context(), movie, stream.PublishOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func video(at time.Duration, payload string, key bool) *media.Frame {
	f := &media.Frame{Track: avc, Meta: meta, DTS: at, PTS: at + 80*time.Millisecond, Payload: []byte(payload),
		Arrived: time.Now()}
	if key {
		f.RAP = media.Keyframe
	}
	return f
}

func audio(at time.Duration, payload string) *media.Frame {
	return &media.Frame{Track: aac, Meta: meta, DTS: at, PTS: at, Payload: []byte(payload), RAP: media.Keyframe,
		Arrived: time.Now()}
}

func get(t *testing.T, srv *httptest.Server, method, path string) *http.Response {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, srv.URL+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := srv.Client().Do(req)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { resp.Body.Close() })
	return resp
}

func TestStream(t *testing.T) {
	for _, http2 := range []bool{false, true} {
		name := map[bool]string{false: "HTTP/1.1", true: "HTTP/2.0"}[http2]
		t.Run(name, func(t *testing.T) {
			hub, srv := newTestServer(t, http2)
			p := publish(t, hub)
			p.Write(video(0, "old", true))
			p.Write(audio(0, "a0"))
			p.Write(video(time.Second, "key", true))
			p.Write(audio(time.Second, "a1"))

			resp := get(t, srv, "GET", "/live/movie.flv?token=x")
			if resp.Proto != name || resp.StatusCode != 200 || resp.Header.Get("Content-Type") != "video/x-flv" {
				t.Fatalf("%s %s %v", resp.Proto, resp.Status, resp.Header)
			}
			head := make([]byte, 13)
			if _, err := io.ReadFull(resp.Body, head); err != nil || !bytes.Equal(head, flv.FileHeader(true, true)) {
				t.Fatalf("file header %x, %v", head, err)
			}
			r := flv.NewReader(io.MultiReader(bytes.NewReader(head), resp.Body), 1<<20)
			want := []string{"meta", "\x17\x00\x00\x00\x00\x01\x64\x00\x1f", "\xaf\x00\x12\x10", "\x17\x01\x00\x00\x50key",
				"\xaf\x01a1"}
			for i, w := range want {
				tag, err := r.Next()
				if err != nil {
					t.Fatalf("tag %d: %v", i, err)
				}
				if i > 0 && (string(tag.Body) != w || tag.Timestamp != 1000) || i == 0 && tag.Timestamp != 0 {
					t.Errorf("tag %d at %d: %q, want %q", i, tag.Timestamp, tag.Body, w)
				}
			}
			p.Write(video(1040*time.Millisecond, "inter", false))
			if tag, err := r.Next(); err != nil || string(tag.Body) != "\x27\x01\x00\x00\x50inter" || tag.Timestamp != 1040 {
				t.Errorf("live frame %+v, %v", tag, err)
			}
			if v := listViewers(hub); len(v) != 1 || strings.Contains(v[0].URL, "token") {
				t.Errorf("viewers %+v", v)
			}
			p.End(stream.Clean)
			if tag, err := r.Next(); !errors.Is(err, io.EOF) {
				t.Errorf("after the end: %+v, %v", tag, err)
			}
		})
	}
}

// TestHTTP2SlowViewer: an HTTP/2 viewer takes longer than the write timeout to read a frame, and
// makes progress.
func TestHTTP2SlowViewer(t *testing.T) {
	const timeout, size, piece = 3 * time.Second, 12 << 20, 1 << 20 // 4 MiB of it are in flight at once
	hub, srv := newTestServerTimeout(t, true, timeout)
	p := publish(t, hub)
	p.Write(video(0, strings.Repeat("x", size), true))
	p.Write(audio(0, "a"))
	resp := get(t, srv, "GET", "/live/movie.flv")
	for range size / piece {
		if n, err := io.CopyN(io.Discard, resp.Body, piece); err != nil {
			t.Fatalf("%d bytes, %v", n, err)
		}
		<-time.After(timeout / 6)
	}
}

// TestHTTP2StreamPause: the stream pauses for longer than the write timeout. An HTTP/2 viewer that
// has read everything stays connected.
func TestHTTP2StreamPause(t *testing.T) {
	const timeout = 100 * time.Millisecond
	hub, srv := newTestServerTimeout(t, true, timeout)
	p := publish(t, hub)
	p.Write(video(0, "key", true))
	p.Write(audio(0, "a"))
	resp := get(t, srv, "GET", "/live/movie.flv")
	r := flv.NewReader(resp.Body, 1<<20)
	read := func(body string) {
		t.Helper()
		for {
			tag, err := r.Next()
			if err != nil {
				t.Fatalf("before %q: %v", body, err)
			}
			if strings.HasSuffix(string(tag.Body), body) {
				return
			}
		}
	}
	read("\x01a")
	<-time.After(3 * timeout)
	p.Write(video(time.Second, "later", false))
	read("later")
}

// TestHTTP10: for players without chunked encoding, the connection ends with the stream.
func TestHTTP10(t *testing.T) {
	hub, srv := newTestServer(t, false)
	p := publish(t, hub)
	p.Write(video(0, "key", true))
	p.Write(audio(0, "a"))
	nc, err := net.Dial("tcp", srv.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	io.WriteString(nc, "GET /live/movie.flv HTTP/1.0\r\n\r\n")
	br := bufio.NewReader(nc)
	resp, err := http.ReadResponse(br, nil)
	if err != nil || resp.StatusCode != 200 || len(resp.TransferEncoding) != 0 {
		t.Fatalf("%+v, %v", resp, err)
	}
	r := flv.NewReader(resp.Body, 1<<20)
	for range 5 {
		if _, err := r.Next(); err != nil {
			t.Fatal(err)
		}
	}
	p.End(stream.Clean)
	if _, err := r.Next(); !errors.Is(err, io.EOF) {
		t.Errorf("end: %v", err)
	}
}

func TestRefusals(t *testing.T) {
	hub, srv := newTestServer(t, false)
	publish(t, hub)
	for _, tt := range []struct {
		method, path string
		status       int
		body         string
	}{
		{"GET", "/live/none.flv", 404, "nobody is publishing live/none\n"},
		{"HEAD", "/live/none.flv", 404, ""},
		{"HEAD", "/live/movie.flv", 200, ""},
		{"GET", "/live/movie.flv?token=bad", 403, "token refused\n"},
		{"GET", "/live/..flv", 400, "room name \".\" starts or ends with a dot\n"},
	} {
		resp := get(t, srv, tt.method, tt.path)
		body, _ := io.ReadAll(resp.Body)
		if resp.StatusCode != tt.status || string(body) != tt.body {
			t.Errorf("%s %s: %d %q, want %d %q", tt.method, tt.path, resp.StatusCode, body, tt.status, tt.body)
		}
	}
	if v := listViewers(hub); len(v) != 0 {
		t.Errorf("HEAD counts as a viewer: %+v", v)
	}
}

// TestLateTrackEndsViewer: a player creates its pipeline from the file header, so a viewer whose
// header lacks a new track is closed, to reconnect.
func TestLateTrackEndsViewer(t *testing.T) {
	hub, srv := newTestServer(t, false)
	p := publish(t, hub)
	alone := &media.Meta{HasVideo: true}
	f := video(0, "key", true)
	f.Meta = alone
	p.Write(f)
	resp := get(t, srv, "GET", "/live/movie.flv")
	head := make([]byte, 13)
	if _, err := io.ReadFull(resp.Body, head); err != nil || !bytes.Equal(head, flv.FileHeader(true, false)) {
		t.Fatalf("file header %x, %v", head, err)
	}
	p.Write(audio(0, "late"))
	if _, err := io.ReadAll(resp.Body); err != nil {
		t.Errorf("end: %v", err)
	}
	resp = get(t, srv, "GET", "/live/movie.flv")
	if _, err := io.ReadFull(resp.Body, head); err != nil || !bytes.Equal(head, flv.FileHeader(true, true)) {
		t.Errorf("file header on return %x, %v", head, err)
	}
}

func TestKickedAndLeavingViewers(t *testing.T) {
	hub, srv := newTestServer(t, false)
	events, _, stop := hub.Observe(16, true)
	defer stop()
	p := publish(t, hub)
	p.Write(video(0, "key", true))
	p.Write(audio(0, "a"))
	leaving := get(t, srv, "GET", "/live/movie.flv")
	kicked := get(t, srv, "GET", "/live/movie.flv")
	viewers := listViewers(hub)
	if len(viewers) != 2 {
		t.Fatalf("%d viewers", len(viewers))
	}
	hub.Kick(viewers[1].ID, domain.Errorf(domain.Denied, "enough"))
	if _, err := io.ReadAll(kicked.Body); err != nil {
		t.Errorf("kicked viewer: %v", err)
	}
	leaving.Body.Close() // while nothing is being sent
	for left := 0; left < 2; {
		if e := <-events; e.Type == stream.Left {
			left++
		}
	}
}

// listViewers returns the viewers of movie.
func listViewers(hub *stream.Hub) []stream.ConnInfo {
	viewers := make([]stream.ConnInfo, 16)
	return viewers[:hub.Viewers(movie, 0, viewers)]
}
