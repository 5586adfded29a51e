package hls

import (
	"bytes"
	"compress/gzip"
	"context"
	"fmt"
	"io"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"livego/internal/media"
	"livego/internal/stream"
)

// fmp4PlaylistURL follows the multivariant playlist of the movie to the fragmented MP4 playlist.
func (c *testServer) fmp4PlaylistURL() string {
	c.t.Helper()
	return "/live/" + lastLine(c.get("/live/movie.m3u8"))
}

// newLowLatencyServer returns a server with parts of 200 ms.
func newLowLatencyServer(t testing.TB, h stream.Options) *testServer {
	t.Helper()
	return newTestServer(t, Options{Part: 200 * ms}, h)
}

// timedResponse is the response to a request in another goroutine.
type timedResponse struct {
	w  *httptest.ResponseRecorder
	at time.Time
}

// getAsync serves a request in a goroutine.
func (c *testServer) getAsync(target string) <-chan timedResponse {
	ch := make(chan timedResponse, 1)
	go func() {
		w := c.do("GET", target)
		ch <- timedResponse{w, time.Now()}
	}()
	return ch
}

func TestPlayFMP4(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newLowLatencyServer(t, stream.Options{})
		c.write(c.publish(movie), 5*time.Second)
		synctest.Wait()
		body := c.get("/live/movie.m3u8")
		if want := regexp.MustCompile(`^#EXTM3U
#EXT-X-VERSION:3
#EXT-X-STREAM-INF:BANDWIDTH=\d+,AVERAGE-BANDWIDTH=\d+,CODECS="avc1.64001f,mp4a.40.2",` +
			`RESOLUTION=1280x720,FRAME-RATE=25.000
movie/index.m3u8\?s=[A-Za-z0-9_-]{71}
$`); !want.MatchString(body) {
			t.Fatalf("multivariant playlist\n%s", body)
		}
		url := "/live/" + lastLine(body)
		c.get(url)
		synctest.Wait() // the first request makes the feed complete the parts so far
		list := c.do("GET", url)
		body = list.Body.String()
		if !strings.Contains(body, "#EXT-X-PART-INF:PART-TARGET=0.20000\n") ||
			!strings.HasSuffix(body, "\n#EXT-X-PRELOAD-HINT:TYPE=PART,URI=\"100-4000.4.m4s\"\n") {
			t.Errorf("playlist\n%s", body)
		}
		for _, coding := range []string{"gzip", "br, gzip;q=0.5"} {
			w := c.do("GET", url, "Accept-Encoding", coding)
			z, err := gzip.NewReader(w.Body)
			if err != nil || w.Header().Get("Content-Encoding") != "gzip" || w.Header().Get("Vary") != "Accept-Encoding" {
				t.Fatalf("%s: %v, %v", coding, err, w.Header())
			}
			if b, err := io.ReadAll(z); string(b) != body {
				t.Errorf("compressed: %v\n%s", err, b)
			}
		}
		for _, coding := range []string{"", "br", "gzip;q=0"} {
			if w := c.do("GET", url, "Accept-Encoding", coding); w.Body.String() != body ||
				w.Header().Get("Content-Encoding") != "" {
				t.Errorf("%q: %v", coding, w.Header())
			}
		}
		if w := c.do("GET", url, "If-None-Match", `"x", W/`+list.Header().Get("ETag")); w.Code != 304 || w.Body.Len() != 0 {
			t.Errorf("conditional request: %d", w.Code)
		}
		if w := c.do("HEAD", url); w.Code != 200 || w.Body.Len() != 0 ||
			w.Header().Get("Content-Length") != fmt.Sprint(len(body)) {
			t.Errorf("HEAD: %d %v", w.Code, w.Header())
		}

		init := regexp.MustCompile(`#EXT-X-MAP:URI="(.*)"`).FindStringSubmatch(body)[1]
		_, files := segments(body)
		parts := regexp.MustCompile(`#EXT-X-PART:.*URI="(.*?)"`).FindAllStringSubmatch(body, -1)
		if len(parts) != 24 || len(files) != 2 {
			t.Fatalf("%d parts and %d segments", len(parts), len(files))
		}
		var joined string
		for _, p := range parts[:20] {
			w := c.do("GET", "/live/movie/"+p[1])
			joined += w.Body.String()
			if w.Code != 200 || w.Header().Get("Content-Type") != "video/mp4" ||
				w.Header().Get("Cache-Control") != cacheImmutable || w.Body.String()[4:8] != "moof" {
				t.Fatalf("part %s: %d %v", p[1], w.Code, w.Header())
			}
		}
		if whole := c.get("/live/movie/"+files[0], "Accept-Encoding", "gzip") +
			c.get("/live/movie/"+files[1]); whole != joined {
			t.Error("segments are not the concatenation of their parts")
		}
		if piece := c.do("GET", "/live/movie/"+files[0], "Range", "bytes=4-7"); piece.Code != 206 ||
			piece.Body.String() != "moof" {
			t.Errorf("range request: %d %q", piece.Code, piece.Body)
		}
		if b := c.get("/live/movie/" + init); b[4:8] != "ftyp" || !strings.Contains(b, "avcC") ||
			!strings.Contains(b, "mp4a") {
			t.Errorf("initialization section %q", b)
		}
	})
}

// TestBlockingReload requests what comes next and checks when the response comes.
func TestBlockingReload(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newLowLatencyServer(t, stream.Options{})
		p := c.publish(movie)
		c.write(p, 4240*ms) // the first frame of the second part: the first is complete
		synctest.Wait()
		url := c.fmp4PlaylistURL()
		c.get(url)
		synctest.Wait()
		c.get(url + "&_HLS_msn=102&_HLS_part=0")

		part, segment, hinted := c.getAsync(url+"&_HLS_msn=102&_HLS_part=1"), c.getAsync(url+"&_HLS_msn=102"),
			c.getAsync("/live/movie/100-4000.1.m4s")
		synctest.Wait()
		sleep(100 * ms)
		begin := time.Now()
		c.write(p, 200*ms)
		synctest.Wait()
		if r := <-part; r.at != begin || r.w.Code != 200 || !strings.Contains(r.w.Body.String(), `100-4000.1.m4s`) {
			t.Errorf("the next part after %v: %d\n%s", r.at.Sub(begin), r.w.Code, r.w.Body)
		}
		if r := <-hinted; r.at != begin || r.w.Code != 200 || r.w.Body.Len() == 0 {
			t.Errorf("the preload hint after %v: %d", r.at.Sub(begin), r.w.Code)
		}
		select {
		case r := <-segment:
			t.Fatalf("a reload returned before its segment was complete: %d\n%s", r.w.Code, r.w.Body)
		default:
		}
		sleep(100 * ms)
		begin = time.Now()
		c.write(p, 2240*ms) // with a keyframe after 2 s
		if r := <-segment; r.at != begin || !strings.Contains(r.w.Body.String(), "\n100-4000.m4s\n") {
			t.Errorf("the next segment after %v: %d\n%s", r.at.Sub(begin), r.w.Code, r.w.Body)
		}
		if body := c.get(url + "&_HLS_msn=103&_HLS_part=0&_HLS_skip=YES"); !strings.Contains(body, "100-6440.0.m4s") {
			t.Errorf("reload of the next part\n%s", body)
		}

		begin = time.Now() // the encoder is connected and sends nothing
		if w := c.do("GET", url+"&_HLS_msn=104"); w.Code != 503 || time.Since(begin) != 6*time.Second {
			t.Errorf("a segment that does not come: %d after %v", w.Code, time.Since(begin))
		}
		begin = time.Now()
		if w := c.do("GET", "/live/movie/100-6440.1.m4s"); w.Code != 503 || time.Since(begin) != 6*time.Second {
			t.Errorf("a part that does not come: %d after %v", w.Code, time.Since(begin))
		}
		end := c.getAsync(url + "&_HLS_msn=104")
		synctest.Wait()
		p.End(stream.Clean)
		if r := <-end; r.w.Code != 200 || lastLine(r.w.Body.String()) != "#EXT-X-ENDLIST" {
			t.Errorf("at the end: %d\n%s", r.w.Code, r.w.Body)
		}
	})
}

// TestReloadSeesLastParts ends a stream while a reload is blocked: the response has the last parts,
// and the end follows two part targets later. A stream without viewers ends at once.
func TestReloadSeesLastParts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newLowLatencyServer(t, stream.Options{})
		p := c.publish(movie)
		c.write(p, 5*time.Second+120*ms)
		url := c.fmp4PlaylistURL()
		c.get(url)
		synctest.Wait()
		reload := c.getAsync(url + "&_HLS_msn=102&_HLS_part=5")
		synctest.Wait()
		ended := time.Now()
		p.End(stream.Clean)
		got := <-reload
		if body := got.w.Body.String(); got.at != ended || !strings.Contains(body, `"100-4000.5.m4s"`) ||
			strings.Contains(body, "ENDLIST") || strings.Contains(body, "\n100-4000.m4s") {
			t.Errorf("%v after the end:\n%s", got.at.Sub(ended), body)
		}
		got = <-c.getAsync(url + "&_HLS_msn=102&_HLS_part=6")
		if body := got.w.Body.String(); got.at != ended.Add(400*ms) ||
			!strings.HasSuffix(body, "\n100-4000.m4s\n#EXT-X-ENDLIST\n") {
			t.Errorf("%v after the end:\n%s", got.at.Sub(ended), body)
		}
		sleep(watchedFor)
		p = c.publish(movie)
		c.write(p, 5*time.Second+120*ms)
		synctest.Wait()
		p.End(stream.Clean)
		synctest.Wait()
		if body := c.get(url); !strings.HasSuffix(body, "\n#EXT-X-ENDLIST\n") {
			t.Errorf("after the end without viewers:\n%s", body)
		}
	})
}

// TestBlockedReloadOfHeldStream loses the encoder: a blocked reload returns after a target
// duration, with the open segment completed.
func TestBlockedReloadOfHeldStream(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newLowLatencyServer(t, stream.Options{Hold: 20 * time.Second})
		p := c.publish(movie)
		c.write(p, 5*time.Second)
		synctest.Wait()
		url := c.fmp4PlaylistURL()
		c.get(url)
		synctest.Wait()
		begin := time.Now()
		p.End(stream.Lost)
		r := <-c.getAsync(url + "&_HLS_msn=103&_HLS_part=0")
		body := r.w.Body.String()
		if waited := r.at.Sub(begin); r.w.Code != 200 || waited < 2*time.Second || waited > 4*time.Second ||
			!strings.Contains(body, "#EXTINF:1.00000,\n100-4000.m4s\n") || strings.Contains(body, "HINT") {
			t.Errorf("%d after %v\n%s", r.w.Code, waited, body)
		}
		begin = time.Now()
		again := <-c.getAsync(url + "&_HLS_msn=103&_HLS_part=0")
		if again.w.Body.String() != body || again.at.Sub(begin) != 2*time.Second {
			t.Errorf("after %v\n%s", again.at.Sub(begin), again.w.Body)
		}
		waiting := c.getAsync(url + "&_HLS_msn=103&_HLS_part=0")
		synctest.Wait()
		p = c.publish(movie)
		c.at = 0
		c.write(p, 400*ms)
		synctest.Wait()
		if r := <-waiting; r.w.Code != 200 || !strings.Contains(r.w.Body.String(), "#EXT-X-DISCONTINUITY\n#EXT-X-MAP") ||
			!strings.Contains(r.w.Body.String(), "100-4983.0.m4s") {
			t.Errorf("after the encoder came back: %d\n%s", r.w.Code, r.w.Body)
		}
	})
}

// TestFormatSelection checks that the multivariant playlist leads to a format that can carry the
// stream.
func TestFormatSelection(t *testing.T) {
	opus := &media.Track{Kind: media.Audio, Codec: media.Opus, Timescale: 48000, SampleRate: 48000, Channels: 2,
		FrameSamples: 960,
		Config:       []byte("OpusHead\x01\x02\x38\x01\x80\xbb\x00\x00\x00\x00\x00"), RFC6381: "opus"}
	// The number of channels is unknown.
	rare := &media.Track{Kind: media.Audio, Codec: media.MP3, Timescale: 44100, SampleRate: 44100, FrameSamples: 1152}
	mp3 := &media.Track{Kind: media.Audio, Codec: media.MP3, Timescale: 44100, SampleRate: 44100, Channels: 2,
		FrameSamples: 1152}
	for _, tt := range []struct {
		name            string
		audio           *media.Track
		asked, fmp4, ts string
	}{
		{"both", aac, "index", "index", "ts"},
		{"more as fragmented MP4", opus, "index", "index", "ts"},
		{"more as MPEG-TS", rare, "ts", "index", "ts"},
		{"both, but players need MPEG-TS for MP3", mp3, "ts", "index", "ts"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := newLowLatencyServer(t, stream.Options{})
				p := c.publish(movie)
				for at := time.Duration(0); at < 5*time.Second; at += 20 * ms {
					frames := []*media.Frame{{Track: tt.audio, RAP: media.Keyframe, Payload: make([]byte, 100)}}
					if at%(40*ms) == 0 {
						v := &media.Frame{Track: h264, Payload: []byte{0, 0, 0, 2, 0x41, 0x9a}}
						if at%(2*time.Second) == 0 {
							v.RAP, v.Payload = media.Keyframe, []byte{0, 0, 0, 2, 0x65, 0x88}
						}
						frames = append(frames, v)
					}
					for _, f := range frames {
						f.Meta, f.DTS, f.PTS, f.Arrived = meta, at, at, time.Now()
						if err := p.Write(f); err != nil {
							t.Fatal(err)
						}
					}
				}
				synctest.Wait()
				for query, want := range map[string]string{"": tt.asked, "?format=fmp4": tt.fmp4, "?format=ts": tt.ts} {
					uri := lastLine(c.get("/live/movie.m3u8" + query))
					if !strings.HasPrefix(uri, "movie/"+want+".m3u8?s=") {
						t.Errorf("%q leads to %s, want %s", query, uri, want)
					}
					c.get("/live/" + uri)
				}
			})
		})
	}

	t.Run("one format only", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			c := newLowLatencyServer(t, stream.Options{})
			p := c.publish(movie)
			for at := time.Duration(0); at < 5*time.Second; at += 20 * ms {
				f := &media.Frame{Track: opus, Meta: &media.Meta{HasAudio: true}, RAP: media.Keyframe, DTS: at, PTS: at,
					Arrived: time.Now(), Payload: make([]byte, 100)}
				if err := p.Write(f); err != nil {
					t.Fatal(err)
				}
			}
			synctest.Wait()
			if uri := lastLine(c.get("/live/movie.m3u8?format=ts")); !strings.HasPrefix(uri, "movie/index.m3u8") {
				t.Errorf("leads to %s", uri)
			}
			if w := c.do("GET", "/live/movie/ts.m3u8"); w.Code != 404 || !strings.Contains(w.Body.String(), "only opus") {
				t.Errorf("%d %s", w.Code, w.Body)
			}
			if w := c.do("GET", "/live/movie/100-0.ts"); w.Code != 404 {
				t.Errorf("a segment that the format cannot carry: %d", w.Code)
			}
		})
	})
}

// TestPartWaitsForBlockedReloads checks that a part is sent after the requests that waited for its
// playlist.
func TestPartWaitsForBlockedReloads(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newLowLatencyServer(t, stream.Options{})
		p := c.publish(movie)
		c.write(p, 4240*ms)
		c.get("/live/movie.m3u8")
		synctest.Wait()
		_, before := c.srv.lookupList(movie)
		if !before.AddWaiter() {
			t.Fatal("AddWaiter returned false for the current list")
		}
		c.write(p, 200*ms)
		synctest.Wait()
		got := c.getAsync("/live/movie/100-4000.1.m4s")
		synctest.Wait()
		select {
		case r := <-got:
			t.Fatalf("the part was sent before the waiter was removed: %d", r.w.Code)
		default:
		}
		before.RemoveWaiter()
		if r := <-got; r.w.Code != 200 {
			t.Errorf("response %d", r.w.Code)
		}
		if before.AddWaiter() {
			t.Error("AddWaiter returned true for an old list")
		}
		c.get("/live/movie/100-4000.1.m4s")
	})
}

// maxWakeTime is how long it may take to respond to all of 10,000 blocked requests.
const maxWakeTime = 50 * ms

// TestManyBlockedReloads has 10,000 viewers wait for one part. If other processes use the processors meanwhile, it
// measures processor time instead.
func TestManyBlockedReloads(t *testing.T) {
	const viewers = 10_000
	c := newLowLatencyServer(t, stream.Options{})
	p := c.publish(movie)
	c.write(p, 4240*ms) // the first frame of the second part: the first is complete
	c.get("/live/movie.m3u8")
	url := "/live/movie/index.m3u8"
	c.get(url + "?_HLS_msn=102&_HLS_part=0")
	best := time.Hour
	for part := range 5 {
		var waiting, done sync.WaitGroup
		var failed atomic.Int32
		waiting.Add(viewers)
		for range viewers {
			done.Go(func() {
				w := newWaitingRequest(&waiting)
				r := httptest.NewRequestWithContext(w.ctx, "GET",
					fmt.Sprintf("http://example.com%s?_HLS_msn=102&_HLS_part=%d", url, part+1), nil)
				c.srv.ServeHTTP(w, r)
				for w.status == 503 { // it was blocked for as long as it may be, since starting the others takes time
					w.status = 200
					c.srv.ServeHTTP(w, r)
				}
				if w.status != 200 || !bytes.Contains(w.body, fmt.Appendf(nil, "100-4000.%d.m4s", part+1)) {
					failed.Add(1)
				}
			})
		}
		waiting.Wait()
		begin := time.Now()
		ran, waited := threadTimes(t)
		c.write(p, 200*ms)
		done.Wait()
		took := time.Since(begin)
		if r, w := threadTimes(t); w-waited > took/2 { // other processes use the processors
			took = (r - ran) / time.Duration(runtime.GOMAXPROCS(0))
		}
		best = min(best, took)
		if n := failed.Load(); n > 0 {
			t.Fatalf("%d of %d failed", n, viewers)
		}
	}
	t.Logf("all %d viewers had the playlist within %v", viewers, best)
	if best > slowFactor*maxWakeTime {
		t.Errorf("it took %v, want %v", best, maxWakeTime)
	}
}

// threadTimes returns for how long the threads of the process have run, and waited for a processor; 0 if the
// system does not report it (see Linux's Documentation/scheduler/sched-stats.rst).
func threadTimes(t *testing.T) (ran, waited time.Duration) {
	t.Helper()
	files, err := filepath.Glob("/proc/self/task/*/schedstat")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range files {
		b, err := os.ReadFile(name)
		if err != nil {
			continue // the thread has ended
		}
		var r, w time.Duration
		if _, err := fmt.Sscan(string(b), &r, &w); err != nil {
			t.Fatal(err)
		}
		ran, waited = ran+r, waited+w
	}
	return ran, waited
}

// A waitingRequest receives a response, and reports when the handler starts to wait: when it calls
// Done of the request's context.
type waitingRequest struct {
	httptest.ResponseRecorder
	ctx    context.Context
	status int
	body   []byte
}

type waitCtx struct {
	context.Context
	once sync.Once
	wg   *sync.WaitGroup
}

func (c *waitCtx) Done() <-chan struct{} {
	c.once.Do(c.wg.Done)
	return c.Context.Done()
}

func newWaitingRequest(wg *sync.WaitGroup) *waitingRequest {
	return &waitingRequest{ResponseRecorder: *httptest.NewRecorder(), ctx: &waitCtx{Context: context.Background(), wg: wg},
		status: 200}
}

func (w *waitingRequest) WriteHeader(status int)      { w.status = status }
func (w *waitingRequest) Write(b []byte) (int, error) { w.body = b; return len(b), nil }
