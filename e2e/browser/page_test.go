package browser

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"livego/e2e/rig"
	"livego/e2e/sample"
)

// playerPage returns the page of docs/watching.md.
func playerPage(t *testing.T) []byte {
	t.Helper()
	text, err := os.ReadFile("../../docs/watching.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, ok := strings.Cut(string(text), "```html\n")
	page, _, end := strings.Cut(rest, "```")
	if !ok || !end {
		t.Fatal("docs/watching.md has no page")
	}
	return []byte(page)
}

// openPage opens the page, as the server serves it from statics, on a room: a player by HLS and one by FLV.
func openPage(t *testing.T, s *rig.Server, room string) players {
	t.Helper()
	rig.Need(t, "node", "chromium")
	rig.NeedFile(t, "node_modules/playwright-core")
	url := s.API("/statics/watch.html") + "?room=" + room + "&server=http://" + s.Addr("httpflv_addr")
	return players{t, rig.Go(t, "node", "page.mjs", os.Getenv("TEST_KEEP"), url)}
}

// startWithPage starts a server that has the page.
func startWithPage(t *testing.T) *rig.Server {
	t.Helper()
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "statics"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "statics", "watch.html"), playerPage(t), 0o644); err != nil {
		t.Fatal(err)
	}
	return rig.Start(t, rig.Options{Plain: true, Dir: dir})
}

// awaitNear waits until both players of the page play near the encoder, whose clock is in the picture.
func awaitNear(p players, what string) []state {
	p.t.Helper()
	most := map[string]time.Duration{"hls": 1800 * time.Millisecond, "flv": 1300 * time.Millisecond} // without the page's settings it is 7 s and 2 s
	since := map[int]state{}
	return p.await(what, func(n int, s state) bool {
		first, ok := since[n]
		if picture, _ := s.behind(); !ok || picture > most[s.URL] || s.Note != "" || s.Time < first.Time {
			since[n] = s
			return false
		}
		return s.Time > first.Time+1 && s.Bright-s.Dark > 50 // it plays, and stays near
	})
}

// TestPlayerPage plays by the page of docs/watching.md: it catches up after it stood still, says when nobody
// publishes, and comes back with the encoder.
func TestPlayerPage(t *testing.T) {
	rig.Need(t, "ffmpeg")
	s := startWithPage(t)
	encode := func() *rig.Process {
		e := rig.FFmpeg(t, "-re", "-f", "lavfi", "-i", "color=size=256x144:rate=25", "-re", "-f", "lavfi", "-i", "sine=440:r=44100",
			"-vf", clockFilter, "-r", "25", "-c:v", "libx264", "-preset", "ultrafast", "-tune", "zerolatency", "-pix_fmt", "yuv420p", "-g", "50",
			"-c:a", "aac", "-f", "flv", s.RTMP(s.Key("movie")))
		s.AwaitLive("movie")
		return e
	}
	e := encode()
	p := openPage(t, s, "movie")
	awaitNear(p, "playing")
	p.Signal(syscall.SIGHUP)
	p.await("a stall", func(_ int, s state) bool {
		picture, _ := s.behind()
		return picture > 3*time.Second
	})
	awaitNear(p, "near again after the stall")
	p.Signal(syscall.SIGHUP) // it misses the last parts, as a page on a busy machine
	e.Signal(syscall.SIGINT)
	e.Wait(patience)
	p.await("nobody publishes", func(_ int, s state) bool { return strings.Contains(s.Note, "Nobody is publishing") })
	encode()
	before := awaitNear(p, "the encoder is back")
	if !rig.Long() {
		return
	}
	const whole = 5 * time.Minute
	p.awaitFor(whole+patience, "five minutes", func(n int, s state) bool {
		played := time.Duration((s.Time - before[n].Time) * float64(time.Second))
		wall := time.Duration(s.Now-before[n].Now) * time.Millisecond
		if s.Note != "" || wall-played > 10*time.Second {
			t.Fatalf("after %v: %+v", wall, s)
		}
		return wall >= whole
	})
	awaitNear(p, "near after five minutes")
}

// TestPlayerPageUnplayable has the page play a codec that the browser lacks.
func TestPlayerPageUnplayable(t *testing.T) {
	rig.NeedNewer(t)
	s := startWithPage(t)
	var file bytes.Buffer
	if err := repeat(sample.HEVC().Read(t), 10).Write(&file); err != nil {
		t.Fatal(err)
	}
	rig.NewerFFmpeg(t, file.Bytes(), "-re", "-i", "pipe:0", "-map", "0", "-c", "copy", "-f", "flv", s.RTMP(s.Key("movie")))
	s.AwaitLive("movie")
	openPage(t, s, "movie").await("a word about the codec", func(_ int, s state) bool { return strings.Contains(s.Note, "cannot play") })
}
