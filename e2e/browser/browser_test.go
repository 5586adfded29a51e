// Package browser tests what the server serves to browsers, with hls.js and mpegts.js in Chromium.
package browser

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"livego/e2e/harness"
	"livego/e2e/sample"
)

func TestMain(m *testing.M) { os.Exit(harness.Main(m)) }

// patience is the limit for anything that must happen.
const patience = time.Minute

// A playerState is the state of a player, as players.mjs reports it.
type playerState struct {
	URL          string   `json:"url"`
	Time         float64  `json:"time"`    // current time of the player, in s
	Frames       int      `json:"frames"`  // pictures so far, dropped ones included
	Dropped      int      `json:"dropped"` // pictures dropped because the machine was busy
	Width        int      `json:"width"`
	Widths       []int    `json:"widths"` // all widths so far, in order
	Dark, Bright int      // minimum and maximum luminance of the picture, 0 to 255
	Errors       []string `json:"errors"` // errors of hls.js, recovered ones included
	Fatal        []string `json:"fatal"`  // errors from which the player did not recover
	Over         bool     `json:"over"`   // the stream has ended: no more data will be loaded
	Ended        bool     `json:"ended"`  // the player has played to the end
	Note         string   `json:"note"`   // message of the page about the player

	// In Unix ms.
	Now   int64 `json:"now"`
	Clock int64 `json:"clock"` // the clock in the picture, its lowest 16 bits, if it has one
	Date  int64 `json:"date"`  // when the picture was captured, by EXT-X-PROGRAM-DATE-TIME
}

// needBrowser checks that scripts can use Chromium.
func needBrowser(t *testing.T) {
	t.Helper()
	harness.Need(t, "node", "chromium-headless-shell")
	harness.NeedFile(t, "node_modules/playwright-core")
	harness.NeedFile(t, "node_modules/axe-core")
}

// needWeb checks that the player and the console are built, and fails the test if they are older than their
// sources.
func needWeb(t *testing.T) {
	t.Helper()
	harness.NeedFile(t, "../../web/dist/files/watch.html")
	if out, err := exec.Command("../../scripts/web", "--check").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
}

// runScript runs a script that uses a browser, and decodes what it prints.
func runScript(t *testing.T, limit time.Duration, result any, args ...string) {
	t.Helper()
	p := harness.StartProgram(t, "node", args...)
	p.WaitOK(limit)
	if err := json.Unmarshal([]byte(p.Stdout()), result); err != nil {
		t.Fatalf("%q: %v", p.Stdout(), err)
	}
}

// players is a browser with its players.
type players struct {
	t *testing.T
	*harness.Process
}

// play starts a browser that plays these addresses.
func play(t *testing.T, addresses ...string) players {
	t.Helper()
	needBrowser(t)
	return players{t, harness.StartProgram(t, "node",
		append([]string{"play.mjs", os.Getenv("TEST_KEEP")}, addresses...)...)}
}

// states returns the latest state of each player, nil while the browser starts.
func (p players) states() []playerState {
	lines := strings.Split(p.Stdout(), "\n")
	if len(lines) < 2 {
		return nil
	}
	var s []playerState
	if err := json.Unmarshal([]byte(lines[len(lines)-2]), &s); err != nil {
		p.t.Fatalf("%q: %v", lines[len(lines)-2], err)
	}
	return s
}

// await waits until ok returns true for each player. No player may fail meanwhile.
func (p players) await(what string, ok func(n int, s playerState) bool) []playerState {
	p.t.Helper()
	return p.awaitFor(patience, what, ok)
}

// awaitFor is await with another limit. It calls ok for each player each time.
func (p players) awaitFor(limit time.Duration, what string, ok func(n int, s playerState) bool) []playerState {
	p.t.Helper()
	var last []playerState
	harness.Eventually(p.t, limit, what, func() error {
		if p.Ended() {
			p.t.Fatalf("the browser has exited:\n%s", p.Stderr())
		}
		if last = p.states(); last == nil {
			return fmt.Errorf("no state yet: %s", p.Stderr())
		}
		var err error
		for n, s := range last {
			if len(s.Fatal) > 0 {
				p.t.Fatalf("%s: %+v", what, s)
			}
			if !ok(n, s) && err == nil {
				err = fmt.Errorf("%+v", s)
			}
		}
		return err
	})
	return last
}

// awaitProgress waits until each player has played at least one second more than in since, at this
// width.
func (p players) awaitProgress(what string, since []playerState, width int) []playerState {
	p.t.Helper()
	const frames = 20
	return p.await(what, func(n int, s playerState) bool {
		if s.Over {
			p.t.Fatalf("%s: the stream has ended: %+v", what, s)
		}
		visible := s.Bright-s.Dark > 50
		if since == nil {
			return s.Time > 1 && s.Frames > frames && visible
		}
		return s.Time > since[n].Time+1 && s.Frames > since[n].Frames+frames && s.Width == width && visible
	})
}

// TestPlayersContinueAfterEncoderOutage stops the encoder of players by HLS, HTTP-FLV and
// WebSocket-FLV, and by HLS and HTTP-FLV over HTTP/2. It starts it again, the second time with
// another resolution. Each player continues on its own.
func TestPlayersContinueAfterEncoderOutage(t *testing.T) {
	harness.Need(t, "ffmpeg")
	t.Parallel()
	outage, hold := 6*time.Second, "20s"
	if harness.Long() {
		outage, hold = 30*time.Second, "60s"
	}
	cert, key, _ := harness.Certificate(t)
	s := harness.Start(t, harness.Options{NoRace: true,
		Flags: []string{"--publish_hold=" + hold, "--publish_hold_clean=" + hold, "--enable_https=true",
			"--rtmps_cert=" + cert, "--rtmps_key=" + key}})
	encode := func(clip sample.Sample, more ...string) *harness.Process {
		return s.PushTo(clip.File(t), s.RTMP(s.Key("movie")), more...)
	}
	lost := encode(sample.Small, "-stream_loop", "-1")
	s.AwaitLive("movie")
	secure := "https://" + s.Addr("https_addr") + "/live/movie"
	p := play(t, s.HLS("movie"), s.FLV("movie"), "ws"+strings.TrimPrefix(s.FLV("movie"), "http"), secure+".m3u8",
		secure+".flv")
	p.awaitProgress("playing", nil, 160)
	lost.Kill()
	lost.Wait(patience)
	timer := time.NewTimer(outage)
	<-timer.C
	before := p.states()
	// The last frame is not a keyframe: mpegts.js holds back the last frame and emits it after the
	// next header, and Chromium tolerates that for other frames only.
	back := encode(sample.Small, "-t", "7.9")
	before = p.awaitProgress("the encoder is back", before, 160)
	back.WaitOK(patience)
	encode(sample.Large, "-stream_loop", "-1")
	after := p.awaitProgress("another resolution", before, 256)
	t.Logf("%+v", after)
}

// TestHLSPlaysAcrossDiscontinuities plays a list of five different files twice, by HLS from the
// first segment on: the player plays through all discontinuities to the end, and shows every
// picture.
func TestHLSPlaysAcrossDiscontinuities(t *testing.T) {
	harness.Need(t, "ffmpeg")
	t.Parallel()
	s := harness.Start(t, harness.Options{NoRace: true, Flags: []string{"--hls_window=1000", "--hls_keep_after_end"}})
	const rounds = 2
	args, pictures := []string{"push", "--times=" + strconv.Itoa(rounds), "--api=" + s.API(""),
		"--rtmp=" + strings.TrimSuffix(s.RTMP(""), "/")}, 0
	for _, m := range sample.MixedMedia(t) {
		args = append(args, m.File(t))
		pictures += rounds * m.Pictures(t)
	}
	push := harness.Livego(t, t.TempDir(), nil, append(args, "movie")...)
	// A player that starts at the first segment must not be at the live edge, where it would wait
	// for the next segment.
	push.AwaitStderr(patience, func(out string) bool { return strings.Contains(out, "4/5 ") })
	p := play(t, s.HLS("movie")+"#whole")
	got := p.await("the end", func(_ int, s playerState) bool { return s.Ended })[0]
	push.WaitOK(patience)
	if want := []int{160, 320, 90, 160, 320, 90}; !slices.Equal(got.Widths, want) {
		t.Errorf("pictures have the widths %d, want %d", got.Widths, want)
	}
	if len(got.Errors) > 0 {
		t.Errorf("errors: %q", got.Errors)
	}
	if got.Frames != pictures || got.Time < 20 || got.Time > 22 {
		t.Errorf("%d pictures in %v s, want %d", got.Frames, got.Time, pictures)
	}
	t.Logf("%d pictures, %d of them late, in %v s", got.Frames, got.Dropped, got.Time)
}
