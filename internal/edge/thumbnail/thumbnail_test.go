//go:build unix

package thumbnail

import (
	"bytes"
	"context"
	"fmt"
	"image"
	"image/jpeg"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"livego/internal/domain"
	"livego/internal/media"
	"livego/internal/stream"
)

// A fakeAuthorizer lets viewers of the room private play with the token good only.
type fakeAuthorizer struct{ domain.ViewerLimiter }

func (fakeAuthorizer) Authorize(_ context.Context, r domain.AuthRequest) (domain.Grant, error) {
	name, err := domain.ParseName(r.App, r.Name)
	switch {
	case r.Action != domain.Play || !r.DryRun || r.Proto != "thumbnail":
		err = fmt.Errorf("wrong request: %+v", r)
	case r.Name == "private" && r.Token != "good":
		err = domain.CodeErrorf(domain.Denied, domain.TokenMissing, "token missing")
	}
	return domain.Grant{Name: name}, err
}

// A fixture is a Server whose ffmpeg is a shell script.
type fixture struct {
	t   *testing.T
	hub *stream.Hub
	srv *Server
	opt Options
	dir string // of the script: it writes a line to runs at each start
	log bytes.Buffer

	stop func() // stops srv and waits
}

// newFixture returns one whose ffmpeg runs script, in which picture.jpg is a picture.
func newFixture(t *testing.T, script string) *fixture {
	t.Helper()
	f := &fixture{t: t, hub: stream.NewHub(stream.Options{Hold: time.Minute}), dir: t.TempDir()}
	f.write("ffmpeg", "#!/bin/sh\ncd "+f.dir+"\necho $$ >>runs\n"+script)
	f.write("picture.jpg", picture1x1())
	f.opt = Options{
		FFmpeg: filepath.Join(f.dir, "ffmpeg"), Interval: time.Hour, Timeout: 10 * time.Second,
		Private: func(n domain.Name) bool { return n.Room == "private" },
		Log:     slog.New(slog.NewTextHandler(&f.log, nil)),
	}
	f.srv = New(f.hub, fakeAuthorizer{}, f.opt)
	ctx, stop := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() { f.srv.Run(ctx) })
	f.stop = func() {
		stop()
		running.Wait()
	}
	t.Cleanup(func() {
		f.stop()
		f.hub.Close()
	})
	return f
}

func (f *fixture) write(name, text string) {
	f.t.Helper()
	// Not by a write to the final name: another test that forks meanwhile would make it "text file busy".
	path := filepath.Join(f.dir, name)
	if err := os.WriteFile(path+".new", []byte(text), 0o700); err != nil {
		f.t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		f.t.Fatal(err)
	}
}

// runs returns how often ffmpeg was started.
func (f *fixture) runs() int {
	b, _ := os.ReadFile(filepath.Join(f.dir, "runs"))
	return bytes.Count(b, []byte("\n"))
}

func picture1x1() string {
	var b bytes.Buffer
	if err := jpeg.Encode(&b, image.NewGray(image.Rect(0, 0, 1, 1)), nil); err != nil {
		panic(err)
	}
	return b.String()
}

var (
	vp9  = &media.Track{Kind: media.Video, Codec: media.VP9, Timescale: 90000, Config: make([]byte, 8)}
	flac = &media.Track{Kind: media.Audio, Codec: media.FLAC, Timescale: 48000, SampleRate: 48000, Channels: 2}
)

func (f *fixture) publish(room string) *stream.Publisher {
	f.t.Helper()
	p, err := f.hub.Publish(f.t.Context(), domain.Name{App: "live", Room: room}, stream.PublishOptions{Owner: room})
	if err != nil {
		f.t.Fatal(err)
	}
	return p
}

// keyframe writes a keyframe with this DTS.
func (f *fixture) keyframe(p *stream.Publisher, at time.Duration) {
	f.t.Helper()
	f.frame(p, &media.Frame{Track: vp9, DTS: at, PTS: at, RAP: media.Keyframe, KeyFlag: true, Payload: []byte("picture"),
		Meta: &media.Meta{HasVideo: true}, Arrived: time.Now()})
}

func (f *fixture) frame(p *stream.Publisher, frame *media.Frame) {
	f.t.Helper()
	if err := p.Write(frame); err != nil {
		f.t.Fatal(err)
	}
}

// request requests the thumbnail of a room.
func (f *fixture) request(method, room string, header ...string) *httptest.ResponseRecorder {
	path, query, _ := strings.Cut(room, "?")
	r := httptest.NewRequest(method, "/live/"+path+".jpg?"+query, nil)
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	f.srv.Serve(w, r, "live", path)
	return w
}

// TestConcurrentRequests sends 30 requests at once: they cause one child process, and all get its
// picture, with the headers for caches.
func TestConcurrentRequests(t *testing.T) {
	f := newFixture(t, "cat >/dev/null; sleep 0.1; cat picture.jpg")
	f.keyframe(f.publish("movie"), 0)
	var wg sync.WaitGroup
	for range 30 {
		wg.Go(func() {
			w := f.request("GET", "movie")
			if h := w.Header(); w.Code != 200 || w.Body.String() != picture1x1() || h.Get("Content-Type") != "image/jpeg" ||
				h.Get("ETag") == "" || h.Get("Last-Modified") == "" ||
				!strings.HasPrefix(h.Get("Cache-Control"), "public, max-age=3") {
				t.Errorf("HTTP %d, %v: %q", w.Code, h, w.Body)
			}
		})
	}
	wg.Wait()
	if n := f.runs(); n != 1 {
		t.Errorf("%d child processes, want 1", n)
	}
	etag := f.request("GET", "movie").Header().Get("ETag")
	if w := f.request("GET", "movie", "If-None-Match", etag); w.Code != http.StatusNotModified || w.Body.Len() > 0 {
		t.Errorf("the same ETag: HTTP %d", w.Code)
	}
	if w := f.request("HEAD", "movie"); w.Code != 200 || w.Body.Len() > 0 || w.Header().Get("Content-Length") == "" {
		t.Errorf("HEAD: HTTP %d %v", w.Code, w.Header())
	}
	if s := f.srv.Statistics(); s.Duration.Count() != 1 || s.Failures != 0 {
		t.Errorf("statistics %+v", s)
	}
}

// TestOneProcessAtATime requests the thumbnails of many rooms at once.
func TestOneProcessAtATime(t *testing.T) {
	f := newFixture(t, "mkdir lock || echo overlap >>overlaps; cat >/dev/null; sleep 0.02; rmdir lock; cat picture.jpg")
	var wg sync.WaitGroup
	for i := range 8 {
		room := fmt.Sprint("room", i)
		f.keyframe(f.publish(room), 0)
		wg.Go(func() {
			if w := f.request("GET", room); w.Code != 200 {
				t.Errorf("%s: HTTP %d: %s", room, w.Code, w.Body)
			}
		})
	}
	wg.Wait()
	if _, err := os.Stat(filepath.Join(f.dir, "overlaps")); err == nil || f.runs() != 8 {
		t.Errorf("%d child processes, some at the same time: %v", f.runs(), err == nil)
	}
}

// TestStaleThumbnail requests a thumbnail after its interval: it is rendered again if there is a newer
// keyframe, and the old one is served meanwhile.
func TestStaleThumbnail(t *testing.T) {
	f := newFixture(t, "cat >/dev/null; cat release; cat picture.jpg")
	f.write("release", "")
	p := f.publish("movie")
	f.keyframe(p, 0)
	first := f.request("GET", "movie")
	f.age(90 * time.Minute)
	if w := f.request("GET", "movie"); w.Body.String() != first.Body.String() || f.runs() != 1 {
		t.Errorf("without another keyframe: HTTP %d after %d processes", w.Code, f.runs())
	}
	f.keyframe(p, time.Second)
	f.write("picture.jpg", picture1x1()+"\n")
	release := filepath.Join(f.dir, "release")
	_ = os.Remove(release)
	mkfifo(t, release)
	await(t, "a second process", func() bool {
		if w := f.request("GET", "movie"); w.Body.String() != first.Body.String() {
			t.Errorf("while it is rendered: HTTP %d, %q", w.Code, w.Body)
		}
		return f.runs() == 2
	})
	if err := os.WriteFile(release, nil, 0o600); err != nil { // returns when the script reads it
		t.Fatal(err)
	}
	await(t, "the new picture", func() bool {
		return f.request("GET", "movie").Header().Get("ETag") != first.Header().Get("ETag")
	})
	f.write("release", "")
	f.write("picture.jpg", picture1x1()+"\n\n")
	f.keyframe(p, 2*time.Second)
	f.age(3 * time.Hour)
	if w := f.request("GET", "movie"); w.Body.Len() != len(picture1x1())+2 {
		t.Errorf("after a long time: HTTP %d, %q", w.Code, w.Body)
	}
	p.End(stream.Lost)
	if w := f.request("GET", "movie"); w.Code != 200 {
		t.Errorf("the stream is held: HTTP %d", w.Code)
	}
	f.hub.EndStream(domain.Name{App: "live", Room: "movie"}, false, io.EOF)
	if w := f.request("GET", "movie"); w.Code != 404 {
		t.Errorf("the stream has ended: HTTP %d", w.Code)
	}
	f.srv.sweep()
	if n := len(f.srv.thumbnails); n != 0 {
		t.Errorf("%d thumbnails of ended streams are kept", n)
	}
}

// age makes all thumbnails older.
func (f *fixture) age(d time.Duration) {
	f.srv.mu.Lock()
	defer f.srv.mu.Unlock()
	for _, th := range f.srv.thumbnails {
		th.tried = th.tried.Add(-d)
	}
}

// await waits until ok returns true.
func await(t *testing.T, what string, ok func() bool) {
	t.Helper()
	poll := time.NewTicker(5 * time.Millisecond)
	defer poll.Stop()
	deadline := time.After(10 * time.Second)
	for !ok() {
		select {
		case <-poll.C:
		case <-deadline:
			t.Fatalf("waited too long for %s", what)
		}
	}
}

// TestFailures has ffmpeg fail in many ways: clients get a reason, the failure is logged once per
// stream session, and the next attempt waits for longer. Another stream is not affected.
func TestFailures(t *testing.T) {
	for _, tt := range []struct{ name, script, logged string }{
		{"crash", "kill -SEGV $$", "segmentation fault"},
		{"invalid data", "echo invalid data >&2; exit 1", "invalid data"},
		{"hang", "sleep 100", "longer than"},
		{"hang without a read", "exec sleep 100", "longer than"},
		{"endless output", "cat /dev/zero", "more than 1048576 bytes"},
		{"no picture", "cat >/dev/null", "no JPEG"},
		{"not a JPEG", "cat >/dev/null; echo hello", "no JPEG"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f := newFixture(t, "if test -e healthy; then cat >/dev/null; exec cat picture.jpg; fi\n"+tt.script)
			f.opt.Timeout, f.opt.Interval = 200*time.Millisecond, time.Nanosecond
			f.srv.SetOptions(f.opt)
			f.keyframe(f.publish("movie"), 0)
			for n := range 2 {
				if w := f.request("GET", "movie"); w.Code != 404 || !strings.Contains(w.Body.String(), "could not be decoded") {
					t.Errorf("HTTP %d: %s", w.Code, w.Body)
				}
				if f.runs() != n+1 {
					t.Errorf("%d processes, want %d", f.runs(), n+1)
				}
			}
			f.opt.Interval = time.Minute
			f.srv.SetOptions(f.opt)
			if w := f.request("GET", "movie"); w.Code != 404 || f.runs() != 2 {
				t.Errorf("before the next attempt: HTTP %d, %d processes", w.Code, f.runs())
			}
			f.write("healthy", "")
			f.keyframe(f.publish("other"), 0)
			if w := f.request("GET", "other"); w.Code != 200 {
				t.Errorf("another stream: HTTP %d: %s", w.Code, w.Body)
			}
			if s := f.srv.Statistics(); s.Failures != 2 || s.Duration.Count() != 3 {
				t.Errorf("statistics %+v", s)
			}
			if log := f.log.String(); strings.Count(log, "\n") != 1 || !strings.Contains(log, tt.logged) ||
				!strings.Contains(log, "live/movie") {
				t.Errorf("log:\n%s", log)
			}
		})
	}
}

// TestRefusals: what has no thumbnail says why, and starts no process.
func TestRefusals(t *testing.T) {
	f := newFixture(t, "cat picture.jpg")
	audio := f.publish("radio")
	f.frame(audio, &media.Frame{Track: flac, RAP: media.Keyframe, Payload: []byte("sound"),
		Meta: &media.Meta{HasAudio: true}, Arrived: time.Now()})
	f.publish("starting")
	f.keyframe(f.publish("private"), 0)
	for _, tt := range []struct {
		room   string
		status int
		reason string
	}{
		{"nobody", 404, "nobody is publishing live/nobody"},
		{"radio", 404, "live/radio has no video"},
		{"starting", 503, "sent no keyframe"},
		{"movie.flv", 400, "file format"},
		{"private", 401, "token missing"},
		{"private?token=bad", 401, "token missing"},
		{"private?token=good&token=bad", 400, "two different tokens"},
	} {
		w := f.request("GET", tt.room)
		if w.Code != tt.status || !strings.Contains(w.Body.String(), tt.reason) ||
			w.Header().Get("Cache-Control") != "no-store" {
			t.Errorf("%s: HTTP %d %v: %s", tt.room, w.Code, w.Header(), w.Body)
		}
	}
	if f.runs() != 0 {
		t.Errorf("%d processes", f.runs())
	}
	if w := f.request("GET", "private?token=good"); w.Code != 200 ||
		w.Header().Get("Cache-Control") != "private, no-cache" {
		t.Errorf("private: HTTP %d %v", w.Code, w.Header())
	}
	f.opt.FFmpeg, f.opt.Reason = "", "no ffmpeg"
	f.srv.SetOptions(f.opt)
	if w := f.request("GET", "private?token=good"); w.Code != 404 || w.Body.String() != "no ffmpeg\n" {
		t.Errorf("without ffmpeg: HTTP %d: %s", w.Code, w.Body)
	}
	if w := f.request("GET", "private"); w.Code != 401 {
		t.Errorf("without ffmpeg and token: HTTP %d", w.Code)
	}
}

// TestStop stops the server while a thumbnail is rendered and another is due: the process is killed, and
// clients get a response.
func TestStop(t *testing.T) {
	f := newFixture(t, "exec sleep 100")
	var wg sync.WaitGroup
	for _, room := range []string{"movie", "other"} {
		f.keyframe(f.publish(room), 0)
		wg.Go(func() {
			if w := f.request("GET", room); w.Code != 503 || w.Header().Get("Retry-After") == "" {
				t.Errorf("HTTP %d: %s", w.Code, w.Body)
			}
		})
	}
	await(t, "both requests", func() bool {
		f.srv.mu.Lock()
		defer f.srv.mu.Unlock()
		return f.runs() == 1 && len(f.srv.thumbnails) == 2
	})
	f.stop()
	wg.Wait()
	if w := f.request("GET", "movie"); w.Code != 503 {
		t.Errorf("after the stop: HTTP %d", w.Code)
	}
	if f.log.Len() > 0 {
		t.Errorf("log: %s", &f.log)
	}
}

func mkfifo(t *testing.T, path string) {
	t.Helper()
	if err := syscall.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
}
