package browser

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"livego/e2e/harness"
	"livego/e2e/sample"
)

// playerPage returns the page in docs/watching.md.
func playerPage(t *testing.T) []byte {
	t.Helper()
	text, err := os.ReadFile("../../docs/watching.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, ok := strings.Cut(string(text), "```html\n")
	page, _, end := strings.Cut(rest, "```")
	if !ok || !end {
		t.Fatal("docs/watching.md contains no page")
	}
	return []byte(page)
}

// openPage opens the page, which the server serves from statics, for a room: with an HLS player and
// an FLV player.
func openPage(t *testing.T, s *harness.Server, room string) players {
	t.Helper()
	harness.Need(t, "node", "chromium")
	harness.NeedFile(t, "node_modules/playwright-core")
	url := s.API("/statics/watch.html") + "?room=" + room + "&server=http://" + s.Addr("httpflv_addr")
	return players{t, harness.StartProgram(t, "node", "page.mjs", os.Getenv("TEST_KEEP"), url)}
}

// startWithPage starts a server that serves the page.
func startWithPage(t *testing.T) *harness.Server {
	t.Helper()
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "statics"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "statics", "watch.html"), playerPage(t), 0o644); err != nil {
		t.Fatal(err)
	}
	return harness.Start(t, harness.Options{NoRace: true, Dir: dir})
}

// awaitLowLatency waits until both players of the page play close to the encoder, whose clock is in
// the picture.
func awaitLowLatency(p players, what string) []playerState {
	p.t.Helper()
	// without the settings of the page: 7 s and 2 s
	most := map[string]time.Duration{"hls": 1200 * time.Millisecond, "flv": 750 * time.Millisecond}
	since := map[int]playerState{}
	return p.await(what, func(n int, s playerState) bool {
		first, ok := since[n]
		if picture, _ := s.latency(); !ok || picture > most[s.URL] || s.Note != "" || s.Time < first.Time {
			since[n] = s
			return false
		}
		return s.Time > first.Time+1 && s.Bright-s.Dark > 50 // it plays, and its latency stays low
	})
}

// TestPlayerPageCatchesUpAndReconnects plays by the page in docs/watching.md: it catches up after a
// stall, reports that nobody publishes, and continues with the encoder.
func TestPlayerPageCatchesUpAndReconnects(t *testing.T) {
	harness.Need(t, "ffmpeg")
	s := startWithPage(t)
	encode := func() *harness.Process {
		e := harness.FFmpeg(t, "-re", "-f", "lavfi", "-i", "color=size=256x144:rate=25", "-re", "-f", "lavfi", "-i",
			"sine=440:r=44100",
			"-vf", clockFilter, "-r", "25", "-c:v", "libx264", "-preset", "ultrafast", "-tune", "zerolatency", "-pix_fmt",
			"yuv420p", "-g", "50",
			"-c:a", "aac", "-f", "flv", s.RTMP(s.Key("movie")))
		s.AwaitLive("movie")
		return e
	}
	e := encode()
	p := openPage(t, s, "movie")
	awaitLowLatency(p, "playing")
	p.Signal(syscall.SIGHUP)
	p.await("a stall", func(_ int, s playerState) bool {
		picture, _ := s.latency()
		return picture > 3*time.Second
	})
	awaitLowLatency(p, "low latency after the stall")
	p.Signal(syscall.SIGHUP) // it misses the last parts, as on a busy machine
	e.Signal(syscall.SIGINT)
	e.Wait(patience)
	p.await("nobody publishes", func(_ int,
		s playerState) bool {
		return strings.Contains(s.Note, "Nobody is publishing")
	})
	encode()
	before := awaitLowLatency(p, "the encoder is back")
	if !harness.Long() {
		return
	}
	const whole = 5 * time.Minute
	p.awaitFor(whole+patience, "five minutes", func(n int, s playerState) bool {
		played := time.Duration((s.Time - before[n].Time) * float64(time.Second))
		wall := time.Duration(s.Now-before[n].Now) * time.Millisecond
		if s.Note != "" || wall-played > 10*time.Second {
			t.Fatalf("after %v: %+v", wall, s)
		}
		return wall >= whole
	})
	awaitLowLatency(p, "low latency after five minutes")
}

// TestPlayerPageReportsUnplayableCodec has the page play a codec that the browser does not support.
func TestPlayerPageReportsUnplayableCodec(t *testing.T) {
	harness.NeedNewerFFmpeg(t)
	s := startWithPage(t)
	var file bytes.Buffer
	if err := repeat(sample.HEVC().Read(t), 10).Write(&file); err != nil {
		t.Fatal(err)
	}
	harness.NewerFFmpeg(t, file.Bytes(), "-re", "-i", "pipe:0", "-map", "0", "-c", "copy", "-f", "flv",
		s.RTMP(s.Key("movie")))
	s.AwaitLive("movie")
	openPage(t, s, "movie").await("a message about the codec",
		func(_ int, s playerState) bool { return strings.Contains(s.Note, "cannot play") })
}
