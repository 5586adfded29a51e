package browser

import (
	"syscall"
	"testing"
	"time"

	"livego/e2e/harness"
)

// awaitLowLatency waits until players by HLS and by WebSocket play close to the encoder, whose clock
// is in the picture.
func awaitLowLatency(p players, what string) []playerState {
	p.t.Helper()
	// with the defaults of the libraries: 7 s and 2 s
	most := map[string]time.Duration{"hls": 1200 * time.Millisecond, "ws": 750 * time.Millisecond}
	since := map[int]playerState{}
	return p.await(what, func(n int, s playerState) bool {
		first, ok := since[n]
		if picture, _ := s.latency(); !ok || picture > most[s.URL] || s.Note != "playing" || s.Time < first.Time {
			since[n] = s
			return false
		}
		return s.Time > first.Time+1 && s.Bright-s.Dark > 50 // it plays, and its latency stays low
	})
}

// testPlayerPageCatchesUpAndReconnects plays by the player page, by HLS and by WebSocket: it catches
// up after a stall, reports that nobody publishes, and continues with the encoder.
func testPlayerPageCatchesUpAndReconnects(t *testing.T) {
	harness.Need(t, "ffmpeg")
	s := harness.Start(t, harness.Options{NoRace: true})
	encode := func() *harness.Process {
		e := encodeClock(t, s.RTMP(s.Key("movie")))
		s.AwaitLive("movie")
		return e
	}
	e := encode()
	page := "http://" + s.Addr("httpflv_addr") + "/live/movie"
	p := openPlayers(t, page+"?protocol=hls", page+"?protocol=ws")
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
	p.await("nobody publishes", func(_ int, s playerState) bool { return s.Note == "offline: offline" })
	encode()
	before := awaitLowLatency(p, "the encoder is back")
	if !harness.Long() {
		return
	}
	const whole = 5 * time.Minute
	p.awaitFor(whole+patience, "five minutes", func(n int, s playerState) bool {
		played := time.Duration((s.Time - before[n].Time) * float64(time.Second))
		wall := time.Duration(s.Now-before[n].Now) * time.Millisecond
		if s.Note != "playing" || wall-played > 10*time.Second {
			t.Fatalf("after %v: %+v", wall, s)
		}
		return wall >= whole
	})
	awaitLowLatency(p, "low latency after five minutes")
}
