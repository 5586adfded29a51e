package hls

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"livego/internal/domain"
	"livego/internal/media"
	"livego/internal/stream"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const ms = time.Millisecond

var (
	movie = domain.Name{App: "live", Room: "movie"}

	h264 = &media.Track{
		Kind: media.Video, Codec: media.H264, Timescale: 90000, RFC6381: "avc1.64001f", Width: 1280, Height: 720,
		FrameRate: 25,
		Config: []byte("\x01\x64\x00\x1f\xff\xe1\x00\x1a\x67\x64\x00\x1f\xac\xd9\x40\x50\x05\xbb" +
			"\x01\x10\x00\x00\x03\x00\x10\x00\x00\x03\x03\xc0\xf1\x83\x19\x60\x01\x00\x06\x68\xeb\xe3\xcb\x22\xc0"),
	}
	aac = &media.Track{Kind: media.Audio, Codec: media.AAC, Timescale: 44100, SampleRate: 44100, Channels: 2,
		FrameSamples: 1024, Config: []byte{0x12, 0x10}, RFC6381: "mp4a.40.2"}
	hevc = &media.Track{Kind: media.Video, Codec: media.HEVC, Timescale: 90000}
	meta = &media.Meta{HasVideo: true, HasAudio: true}
)

// fakeAuthorizer grants access to the app live, except with the tokens and rooms that tests use.
type fakeAuthorizer struct{ *viewerCounter }

// A viewerCounter counts the viewers of each limit.
type viewerCounter struct {
	mu   sync.Mutex
	used map[domain.ViewerLimit]int
}

func (c *viewerCounter) ReserveViewers(l domain.ViewerLimit, n int) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if l.Max > 0 && c.used[l]+n > l.Max {
		return domain.CodeErrorf(domain.Limit, domain.TokenViewerLimit, "token viewer limit reached (%d)", l.Max)
	}
	c.used[l] += n
	return nil
}

func (c *viewerCounter) ReleaseViewers(l domain.ViewerLimit, n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.used[l] -= n
}

func newFakeAuthorizer() fakeAuthorizer {
	return fakeAuthorizer{&viewerCounter{used: make(map[domain.ViewerLimit]int)}}
}

func (fakeAuthorizer) Authorize(_ context.Context, r domain.AuthRequest) (domain.Grant, error) {
	name, err := domain.ParseName(r.App, r.Name)
	switch {
	case err != nil:
		return domain.Grant{}, err
	case r.Token == "bad", r.Name == "private" && r.Token != "good":
		return domain.Grant{}, domain.Errorf(domain.Denied, "invalid token")
	case r.Name == "alias":
		name = movie
	}
	grant := domain.Grant{Name: name}
	// The number of the token, and its viewer limit.
	_, _ = fmt.Sscanf(r.Token, "limit-%d-%d", &grant.ViewerLimit.ID[0], &grant.ViewerLimit.Max)
	return grant, nil
}

// A testServer is a running Server with its hub.
type testServer struct {
	t     testing.TB
	hub   *stream.Hub
	srv   *Server
	epoch atomic.Uint64
	at    time.Duration // encoder time
	movie *stream.Publisher
}

// newTestServer must be called either inside a synctest bubble or without one. It sets required
// options that o leaves out.
func newTestServer(t testing.TB, o Options, h stream.Options) *testServer {
	t.Helper()
	c := &testServer{t: t}
	h.KeepTime = time.Hour // tests write seconds at once
	h.Epoch = func(context.Context) (uint64, error) { return c.epoch.Add(100), nil }
	c.hub = stream.NewHub(h)
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.FirstWait == 0 {
		o.FirstWait = 10 * time.Second
	}
	c.srv = New(c.hub, newFakeAuthorizer(), o)
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		c.srv.Run(ctx)
	}()
	t.Cleanup(func() {
		c.hub.Close()
		stop()
		<-done
	})
	return c
}

func (c *testServer) publish(name domain.Name) *stream.Publisher {
	c.t.Helper()
	p, err := c.hub.Publish(context.Background(), name, stream.PublishOptions{Proto: "test"})
	if err != nil {
		c.t.Fatal(err)
	}
	return p
}

// write publishes d of 25 fps video with a keyframe every 2 s, and audio.
func (c *testServer) write(p *stream.Publisher, d time.Duration) {
	c.t.Helper()
	for i := range int(d / (40 * ms)) {
		v := &media.Frame{Track: h264, Meta: meta, DTS: c.at, PTS: c.at, Arrived: time.Now(),
			Payload: []byte{0, 0, 0, 2, 0x41, 0x9a}}
		if i%50 == 0 {
			v.RAP, v.Payload = media.Keyframe, []byte{0, 0, 0, 2, 0x65, 0x88}
		}
		a := &media.Frame{Track: aac, Meta: meta, DTS: c.at, PTS: c.at, Arrived: time.Now(), Payload: make([]byte, 200),
			RAP: media.Keyframe}
		for _, f := range []*media.Frame{v, a} {
			if err := p.Write(f); err != nil {
				c.t.Fatal(err)
			}
		}
		c.at += 40 * ms
	}
}

// TestFirstTracks has encoders number their tracks as they like: HLS has the first of each kind
// only.
func TestFirstTracks(t *testing.T) {
	number := func(t *media.Track, id uint8) *media.Track {
		n := *t
		n.ID = id
		return &n
	}
	for _, tt := range []struct {
		name   string
		tracks []*media.Track
		want   string // CODECS; "" if HLS can carry nothing
	}{
		{"no track 0", []*media.Track{number(h264, 1), number(aac, 2)}, "avc1.64001f,mp4a.40.2"},
		{"several tracks, none of them 0", []*media.Track{number(h264, 3), number(aac, 5), number(h264, 7), number(aac, 6)},
			"avc1.64001f,mp4a.40.2"},
		{"audio only", []*media.Track{number(aac, 31)}, "mp4a.40.2"},
		{"HLS cannot carry the first codec", []*media.Track{number(hevc, 1), number(h264, 2)}, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := newTestServer(t, Options{Part: 200 * ms}, stream.Options{})
				p := c.publish(movie)
				meta := &media.Meta{HasVideo: tt.tracks[0].Kind == media.Video,
					HasAudio: tt.tracks[len(tt.tracks)-1].Kind == media.Audio}
				seen := map[media.Kind]bool{}
				for at := time.Duration(0); at < 5*time.Second; at += 40 * ms {
					clear(seen)
					for _, track := range tt.tracks {
						f := &media.Frame{Track: track, Meta: meta, DTS: at, PTS: at, Arrived: time.Now(), Payload: []byte("the first")}
						if seen[track.Kind] {
							f.Payload = []byte("another")
						}
						seen[track.Kind] = true
						if at%(2*time.Second) == 0 || track.Kind == media.Audio {
							f.RAP = media.Keyframe
						}
						if err := p.Write(f); err != nil {
							t.Fatal(err)
						}
					}
				}
				synctest.Wait()
				if tt.want == "" {
					if w := c.do("GET", "/live/movie.m3u8"); w.Code != 404 || !strings.Contains(w.Body.String(), "only hevc") {
						t.Errorf("%d %s", w.Code, w.Body)
					}
					return
				}
				master := c.get("/live/movie.m3u8")
				if !strings.Contains(master, `CODECS="`+tt.want+`"`) {
					t.Errorf("multivariant playlist\n%s", master)
				}
				_, files := segments(c.get("/live/" + lastLine(master)))
				body := c.get("/live/movie/" + files[0])
				if !strings.Contains(body, "the first") || strings.Contains(body, "another") {
					t.Errorf("a segment has %q", body)
				}
			})
		})
	}
}

// sleep waits for d on the clock of the synctest bubble.
func sleep(d time.Duration) { <-time.After(d) }

// do serves a request in this goroutine. The header Remote sets the address of the client.
func (c *testServer) do(method, target string, header ...string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, "http://example.com"+target, nil)
	for i := 0; i < len(header); i += 2 {
		if header[i] == "Remote" {
			r.RemoteAddr = header[i+1]
			continue
		}
		r.Header.Set(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	c.srv.ServeHTTP(w, r)
	return w
}

// get returns the body of a response that must be 200.
func (c *testServer) get(target string, header ...string) string {
	c.t.Helper()
	w := c.do("GET", target, header...)
	if w.Code != 200 {
		c.t.Fatalf("GET %s: %d %s", target, w.Code, w.Body)
	}
	return w.Body.String()
}

// tsPlaylistURL follows the multivariant playlist of the movie to the MPEG-TS playlist.
func (c *testServer) tsPlaylistURL() string {
	c.t.Helper()
	return "/live/" + lastLine(c.get("/live/movie.m3u8?format=ts"))
}

// lastLine returns the last line of a playlist.
func lastLine(playlist string) string {
	lines := strings.Split(strings.TrimSpace(playlist), "\n")
	return lines[len(lines)-1]
}

// segments returns the media sequence number and the segment files of a playlist.
func segments(playlist string) (first int, files []string) {
	for line := range strings.SplitSeq(playlist, "\n") {
		if n, ok := strings.CutPrefix(line, "#EXT-X-MEDIA-SEQUENCE:"); ok {
			first, _ = strconv.Atoi(n)
		} else if line != "" && line[0] != '#' {
			files = append(files, line)
		}
	}
	return first, files
}

func TestPlayMPEGTS(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newTestServer(t, Options{}, stream.Options{})
		p := c.publish(movie)
		c.write(p, 5*time.Second)
		synctest.Wait()

		w := c.do("GET", "/live/movie.m3u8?format=ts")
		want := regexp.MustCompile(`^#EXTM3U
#EXT-X-VERSION:3
#EXT-X-STREAM-INF:BANDWIDTH=\d+,AVERAGE-BANDWIDTH=\d+,CODECS="avc1.64001f,mp4a.40.2",` +
			`RESOLUTION=1280x720,FRAME-RATE=25.000
movie/ts.m3u8\?s=[A-Za-z0-9_-]{71}
$`)
		if w.Code != 200 || !want.MatchString(w.Body.String()) ||
			w.Header().Get("Content-Type") != "application/vnd.apple.mpegurl" || w.Header().Get("Cache-Control") != "no-store" {
			t.Fatalf("%d %v\n%s", w.Code, w.Header(), w.Body)
		}

		url := "/live/" + lastLine(w.Body.String())
		w = c.do("GET", url)
		first, files := segments(w.Body.String())
		if first != 100 || fmt.Sprint(files) != "[100-0.ts 100-2000.ts]" ||
			w.Header().Get("Content-Type") != "application/vnd.apple.mpegurl" {
			t.Errorf("segments %v from %d, %v", files, first, w.Header())
		}
		if again := c.do("GET", url, "If-None-Match", w.Header().Get("ETag")); again.Code != 304 {
			t.Errorf("same playlist again: %d", again.Code)
		}

		w = c.do("GET", "/live/movie/"+files[0])
		data := w.Body.Bytes()
		if w.Header().Get("Content-Type") != "video/mp2t" || len(data) == 0 || len(data)%188 != 0 || data[0] != 0x47 ||
			!strings.Contains(w.Header().Get("Cache-Control"), "immutable") {
			t.Errorf("segment of %d bytes, %v", len(data), w.Header())
		}
		part := c.do("GET", "/live/movie/"+files[0], "Range", "bytes=188-375")
		if part.Code != 206 || part.Body.String() != string(data[188:376]) {
			t.Errorf("part of a segment: %d, %d bytes", part.Code, part.Body.Len())
		}
		if whole := c.do("GET", "/live/movie/"+files[0], "Range", "bytes=0-0"+strings.Repeat(",2-2", 999), "Accept-Encoding",
			"gzip"); whole.Code != 200 || whole.Body.Len() != len(data) {
			t.Errorf("1000 ranges: %d, %d bytes", whole.Code, whole.Body.Len())
		}
		head := c.do("HEAD", "/live/movie/"+files[0])
		if head.Body.Len() != 0 || head.Header().Get("Content-Length") != strconv.Itoa(len(data)) {
			t.Errorf("HEAD: %v", head.Header())
		}

		p.End(stream.Clean)
		synctest.Wait()
		body := c.get(url)
		if _, files := segments(body); len(files) != 3 || lastLine(body) != "#EXT-X-ENDLIST" {
			t.Errorf("after the end:\n%s", body)
		}
	})
}

func TestRefusals(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newTestServer(t, Options{Apps: func(app string) bool { return app != "radio" }}, stream.Options{})
		c.write(c.publish(movie), 3*time.Second)
		c.publish(domain.Name{App: "live", Room: "private"})
		synctest.Wait()
		for _, tt := range []struct {
			method, path string
			status       int
			says         string
		}{
			{"GET", "/live/nobody.m3u8", 404, "nobody is publishing live/nobody"},
			{"GET", "/live/nobody/ts.m3u8", 404, "nobody is publishing live/nobody"},
			{"GET", "/live/nobody/100-0.ts", 404, "does not exist or has expired"},
			{"GET", "/live/movie/99-0.ts", 404, "does not exist or has expired"},
			{"GET", "/live/movie/100-00.ts", 404, "does not exist or has expired"},
			{"GET", "/radio/movie.m3u8", 404, "no HLS"},
			{"GET", "/radio/movie/100-0.ts", 404, "no HLS"},
			{"GET", "/live/.hidden.m3u8", 400, "dot"},
			{"GET", "/live/..m3u8", 400, "dot"},
			{"GET", "/live/x.flv.m3u8", 400, "format"},
			{"GET", "/control/x.m3u8", 400, "reserved"},
			{"GET", "/live/" + strings.Repeat("a", 129) + ".m3u8", 400, "longer"},
			{"GET", "/live/%0a%23EXTINF.m3u8", 400, "character"},
			{"GET", "/live/../../etc/passwd.ts", 404, "not found: the address"},
			{"GET", "/live/%2e%2e/passwd.ts", 400, "dot"},
			{"GET", "/live/movie", 404, "not found: the address"},
			{"GET", "/live/movie/", 404, "not found: the address"},
			{"GET", "/live/movie/other.m3u8", 404, "not found: the address"},
			{"GET", "/live/movie/100-0.m4s/", 404, "not found: the address"},
			{"GET", "/live/movie/99-0.m4s", 404, "does not exist or has expired"},
			{"GET", "/live/movie/100-0.00.m4s", 404, "does not exist or has expired"},
			{"GET", "/live/movie/100-0.99.m4s", 404, "does not exist or has expired"},
			{"GET", "/live/movie/.m4s", 404, "does not exist or has expired"},
			{"GET", "/live/movie/.mp4", 404, "does not exist or has expired"},
			{"GET", "/live/movie.m3u8?format=dash", 400, "fmp4 or ts"},
			{"GET", "/live/movie/index.m3u8?_HLS_part=1", 400, "invalid _HLS_part: _HLS_msn is missing"},
			{"GET", "/live/movie/index.m3u8?_HLS_msn=-1", 400, "invalid _HLS_msn: not a media sequence"},
			{"GET", "/live/movie/index.m3u8?_HLS_msn=100&_HLS_part=x", 400, "invalid _HLS_part: not a number"},
			{"GET", "/live/movie/index.m3u8?_HLS_msn=103", 400, "too far"},
			{"GET", "/live/movie/a/100-0.ts", 404, "not found: the address"},
			{"GET", "/live/movie.m3u8?token=bad", 403, "invalid token"},
			{"GET", "/live/private.m3u8", 403, "invalid token"},
			{"GET", "/live/private/ts.m3u8?s=x", 403, "invalid token"},
			{"POST", "/live/movie.m3u8", 405, "GET"},
			{"DELETE", "/live/movie/100-0.ts", 405, "GET"},
		} {
			w := c.do(tt.method, tt.path)
			if w.Code != tt.status || !strings.Contains(w.Body.String(), tt.says) ||
				!strings.HasPrefix(w.Header().Get("Content-Type"), "text/plain") {
				t.Errorf("%s %s: %d %q %v, want %d with %q", tt.method, tt.path, w.Code, w.Body, w.Header(), tt.status, tt.says)
			}
			if tt.status == 405 && w.Header().Get("Allow") != "GET, HEAD" {
				t.Errorf("%s: Allow is %q", tt.method, w.Header().Get("Allow"))
			}
		}
		c.srv.mu.RLock()
		if n := len(c.srv.streamSessions); n != 1 {
			t.Errorf("%d sessions, want that of the stream with media", n)
		}
		c.srv.mu.RUnlock()
		if body := c.get("/live/movie.m3u8?token=x%0A%23EXTINF:9"); strings.Contains(body, "EXTINF") {
			t.Errorf("the query is in the playlist:\n%s", body)
		}
		if uri := lastLine(c.get("/live/alias.m3u8")); !strings.HasPrefix(uri, "movie/index.m3u8?s=") {
			t.Errorf("a stream granted under another name is at %s", uri)
		}
	})
}

func TestPlaylistWaitsForFirstSegment(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newTestServer(t, Options{}, stream.Options{})
		p := c.publish(movie)
		begin := time.Now()
		go func() {
			sleep(4 * time.Second)
			c.write(p, 3*time.Second)
		}()
		c.get("/live/movie.m3u8")
		if took := time.Since(begin); took != 4*time.Second {
			t.Errorf("waited %v", took)
		}

		c.publish(domain.Name{App: "live", Room: "silent"})
		begin = time.Now()
		w := c.do("GET", "/live/silent.m3u8")
		if took := time.Since(begin); w.Code != 503 || took != 10*time.Second || w.Header().Get("Retry-After") == "" {
			t.Errorf("a stream without frames: %d after %v", w.Code, took)
		}

		other := c.publish(domain.Name{App: "live", Room: "other"})
		if err := other.Write(&media.Frame{Track: hevc, RAP: media.Keyframe, Arrived: time.Now(),
			Payload: []byte{0}}); err != nil {
			t.Fatal(err)
		}
		if w := c.do("GET", "/live/other.m3u8"); w.Code != 404 || !strings.Contains(w.Body.String(), "only hevc") {
			t.Errorf("a stream without a track for HLS: %d %s", w.Code, w.Body)
		}
	})
}

// TestUnsupportedCodecs requests streams of which HLS carries nothing: the response comes as soon
// as their tracks are known.
func TestUnsupportedCodecs(t *testing.T) {
	speex := &media.Track{Kind: media.Audio, Label: "speex", Timescale: 1000}
	sorenson := &media.Track{Kind: media.Video, Label: "sorenson", Timescale: 90000}
	script := &media.Track{Kind: media.Data, Codec: media.ScriptData, Timescale: 1000}
	for _, tt := range []struct {
		name   string
		meta   *media.Meta // nil: the server waits for tracks
		tracks []*media.Track
		wait   time.Duration
		says   string
	}{
		{"announced", &media.Meta{HasAudio: true}, []*media.Track{speex}, 0, "only speex\n"},
		{"video not announced", nil, []*media.Track{hevc}, 2 * time.Second, "only hevc\n"},
		{"two", meta, []*media.Track{script, sorenson, speex}, 0, "only sorenson, speex\n"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := newTestServer(t, Options{}, stream.Options{})
				p := c.publish(movie)
				answered, ended := make(chan struct{}), make(chan struct{})
				go func() {
					defer close(ended)
					defer p.End(stream.Clean)
					for at := time.Duration(0); ; at += 500 * ms {
						for _, track := range tt.tracks {
							if err := p.Write(&media.Frame{Track: track, Meta: tt.meta, DTS: at, PTS: at, RAP: media.Keyframe,
								Arrived: time.Now(), Payload: []byte{0}}); err != nil {
								t.Error(err)
							}
						}
						select {
						case <-time.After(500 * ms):
						case <-answered:
							return
						}
					}
				}()
				begin := time.Now()
				w := c.do("GET", "/live/movie.m3u8")
				if took := time.Since(begin); w.Code != 404 || took != tt.wait || !strings.Contains(w.Body.String(), tt.says) {
					t.Errorf("%d %q after %v, want 404 with %q after %v", w.Code, w.Body, took, tt.says, tt.wait)
				}
				close(answered)
				<-ended
				synctest.Wait()
				if w := c.do("GET", "/live/movie.m3u8"); w.Code != 404 ||
					!strings.Contains(w.Body.String(), "without an HLS segment") {
					t.Errorf("after the end: %d %s", w.Code, w.Body)
				}
			})
		})
	}

	t.Run("ended before its tracks are known", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			c := newTestServer(t, Options{}, stream.Options{})
			p := c.publish(movie)
			go func() {
				sleep(time.Second)
				p.End(stream.Clean)
			}()
			if err := p.Write(&media.Frame{Track: speex, RAP: media.Keyframe, Arrived: time.Now(),
				Payload: []byte{0}}); err != nil {
				t.Fatal(err)
			}
			if w := c.do("GET", "/live/movie.m3u8"); w.Code != 404 ||
				!strings.Contains(w.Body.String(), "nobody is publishing") {
				t.Errorf("%d %s", w.Code, w.Body)
			}
		})
	})
}

func TestHeldStreamContinuesPlaylist(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newTestServer(t, Options{}, stream.Options{Hold: 20 * time.Second})
		p := c.publish(movie)
		c.write(p, 5*time.Second)
		synctest.Wait()
		url := c.tsPlaylistURL()
		before := c.get(url)
		p.End(stream.Lost)
		sleep(15 * time.Second)
		held := c.get(url)
		if _, files := segments(held); !strings.HasPrefix(held, before) || len(files) != 3 ||
			strings.Contains(held, "ENDLIST") {
			t.Errorf("while held:\n%s", held)
		}
		p = c.publish(movie)
		c.at = 0
		c.write(p, 5*time.Second)
		synctest.Wait()
		body := c.get(url)
		if first, files := segments(body); first != 100 || len(files) != 5 || !strings.HasPrefix(body, held) ||
			strings.Count(body, "#EXT-X-DISCONTINUITY\n") != 1 || strings.Contains(body, "ENDLIST") {
			t.Errorf("after the encoder came back:\n%s", body)
		}
	})
}

// TestIdleEncoderDoesNotCutSegment has a connected encoder pause in the middle of a segment.
func TestIdleEncoderDoesNotCutSegment(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newTestServer(t, Options{}, stream.Options{})
		p := c.publish(movie)
		c.write(p, 5*time.Second)
		synctest.Wait()
		url := c.tsPlaylistURL()
		before := c.get(url)
		sleep(8 * time.Second)
		if got := c.get(url); got != before {
			t.Errorf("while the encoder is idle:\n%s", got)
		}
		c.write(p, 3*time.Second)
		p.End(stream.Clean)
		synctest.Wait()
		if body := c.get(url); strings.Contains(body, "DISCONTINUITY\n") {
			t.Errorf("after the pause:\n%s", body)
		}
	})
}

// TestHoldTimeoutEndsPlaylist loses an encoder: what it sent last stays, and the end has no segment
// of its own.
func TestHoldTimeoutEndsPlaylist(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newTestServer(t, Options{}, stream.Options{Hold: 20 * time.Second})
		p := c.publish(movie)
		c.write(p, 5*time.Second)
		synctest.Wait()
		url := c.tsPlaylistURL()
		p.End(stream.Lost)
		sleep(10 * time.Second)
		held := c.get(url)
		sleep(11 * time.Second)
		if got := c.get(url); got != held+"#EXT-X-ENDLIST\n" {
			t.Errorf("after the hold timeout:\n%s", got)
		}
	})
}

// TestRepublishNeverReusesNames publishes a stream repeatedly, while the last session is kept and
// after: no segment name has two contents, and media sequence numbers increase.
func TestRepublishNeverReusesNames(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newTestServer(t, Options{MarkUsed: func(uint64) {}}, stream.Options{})
		names := map[string]int{} // media sequence numbers
		next := 0
		for round, pause := range []time.Duration{time.Second, 10 * time.Second, 2 * time.Minute, 0, time.Minute,
			time.Second} {
			p := c.publish(movie)
			c.at = 0
			c.write(p, 6*time.Second)
			synctest.Wait()
			p.End(stream.Clean)
			synctest.Wait()
			body := c.get("/live/movie/ts.m3u8")
			first, files := segments(body)
			for i, file := range files {
				seq, known := names[file]
				if known && seq != first+i || !known && first+i < next {
					t.Errorf("round %d: %s has sequence number %d, but %d numbers are used", round, file, first+i, next)
				}
				names[file] = first + i
				c.get("/live/movie/" + file)
			}
			next = first + len(files)
			if want := 3 * (round + 1); len(names) != want {
				t.Errorf("round %d: %d segment names, want %d", round, len(names), want)
			}
			if kept := len(files) > 3; kept != strings.Contains(body, "#EXT-X-DISCONTINUITY\n") {
				t.Errorf("round %d:\n%s", round, body)
			}
			sleep(pause)
		}
	})
}

func TestEndedStreamExpires(t *testing.T) {
	for _, keep := range []bool{false, true} {
		t.Run(fmt.Sprintf("keep %v", keep), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := newTestServer(t, Options{KeepAfterEnd: keep}, stream.Options{})
				p := c.publish(movie)
				c.write(p, 4*time.Second)
				synctest.Wait()
				p.End(stream.Clean)
				sleep(33 * time.Second) // the list lasts 4 s
				c.get("/live/movie.m3u8")
				c.get("/live/movie/100-0.ts")
				sleep(3 * time.Second)
				for _, path := range []string{"/live/movie.m3u8", "/live/movie/ts.m3u8", "/live/movie/100-0.ts"} {
					if got := c.do("GET", path).Code; got != 404 != keep {
						t.Errorf("%s: %d", path, got)
					}
				}
			})
		})
	}
}

// TestEndedStreamsAreBounded ends more streams than the server keeps.
func TestEndedStreamsAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const most = 200
		c := newTestServer(t, Options{KeepAfterEnd: true, KeepBytes: most * minKeptBytes}, stream.Options{})
		for i := range most + 100 {
			p := c.publish(domain.Name{App: "live", Room: fmt.Sprint("room", i)})
			c.at = 0
			c.write(p, 40*ms)
			synctest.Wait()
			p.End(stream.Clean)
			sleep(ms) // to end at different times
		}
		sleep(2 * sweepInterval)
		c.srv.mu.RLock()
		defer c.srv.mu.RUnlock()
		if n := len(c.srv.streamSessions); n != most {
			t.Errorf("%d streams are kept", n)
		}
		if c.srv.streamSessions[domain.Name{App: "live", Room: "room0"}] != nil {
			t.Error("the stream that ended first is still kept")
		}
	})
}

// TestRenderedBytesOfEndedStreamsAreBounded requests all files of all ended streams. Rendered bytes
// are dropped first, since they can be rendered again, then the streams that ended first.
func TestRenderedBytesOfEndedStreamsAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const streams, most = 8, 30 * minKeptBytes
		c := newTestServer(t, Options{Part: 200 * ms, KeepAfterEnd: true, KeepBytes: most}, stream.Options{})
		name := func(i int) domain.Name { return domain.Name{App: "live", Room: fmt.Sprint("room", i)} }
		for i := range streams {
			p := c.publish(name(i))
			c.at = 0
			c.write(p, 8*time.Second)
			synctest.Wait()
			p.End(stream.Clean)
			sleep(ms)
		}
		held := func() (n int) {
			c.srv.mu.RLock()
			defer c.srv.mu.RUnlock()
			for _, sess := range c.srv.streamSessions {
				n += sess.list().MemoryBytes()
			}
			return n
		}
		for range 3 {
			for i := range streams {
				url := "/live/" + name(i).Room
				for _, playlist := range []string{"/index.m3u8", "/ts.m3u8"} {
					_, files := segments(c.get(url+playlist, "Accept-Encoding", "gzip;q=0"))
					for _, file := range files {
						c.get(url + "/" + file)
					}
				}
			}
			if n := held(); n < most*12/10 {
				t.Fatalf("all rendered bytes are %d, too few for this test", n)
			}
			sleep(2 * sweepInterval)
			if n := held(); n > most {
				t.Errorf("%d bytes are kept, want at most %d", n, most)
			}
			if n := len(c.srv.streamSessions); n != streams {
				t.Errorf("%d of %d streams are kept", n, streams)
			}
		}
	})
}

func TestConcurrentReaders(t *testing.T) {
	c := newTestServer(t, Options{Segment: 500 * ms}, stream.Options{})
	web := httptest.NewServer(c.srv)
	defer web.Close()
	p := c.publish(movie)
	c.write(p, 4*time.Second)
	c.get("/live/movie.m3u8") // waits for what was written
	fetch := func(url string) (string, error) {
		resp, err := web.Client().Get(url)
		if err != nil {
			return "", err
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		if err == nil && resp.StatusCode != http.StatusOK {
			err = fmt.Errorf("%s: %s", resp.Status, body)
		}
		return string(body), err
	}
	there, errs := make(chan bool), make(chan error)
	const viewers = 8
	for range viewers {
		go func() {
			errs <- func() error {
				body, err := fetch(web.URL + "/live/movie.m3u8")
				if err != nil {
					there <- false
					return err
				}
				there <- true
				url := web.URL + "/live/" + lastLine(body) // of fragmented MP4
				for {
					body, err := fetch(url)
					if err != nil {
						return err
					}
					_, files := segments(body)
					for _, file := range files {
						if _, err := fetch(web.URL + "/live/movie/" + file); err != nil {
							return err
						}
					}
					if strings.Contains(body, "ENDLIST") {
						return nil
					}
				}
			}()
		}()
	}
	for range viewers {
		<-there
		c.write(p, time.Second)
	}
	p.End(stream.Clean)
	for range viewers {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
}
