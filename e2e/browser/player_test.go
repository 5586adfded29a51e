package browser

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"testing"

	"livego/e2e/harness"
	"livego/e2e/sample"
)

// openPlayers opens player pages in a browser.
func openPlayers(t *testing.T, urls ...string) players {
	t.Helper()
	needBrowser(t)
	needWeb(t)
	return players{t, harness.StartProgram(t, "node", append([]string{"player.mjs", os.Getenv("TEST_KEEP")}, urls...)...)}
}

// TestPlayerPage opens the player page before anybody publishes, with each protocol and with none
// chosen. It waits, starts with the encoder, and plays on with another encoder after the first was
// killed.
func TestPlayerPage(t *testing.T) {
	harness.Need(t, "ffmpeg")
	t.Parallel()
	s := harness.Start(t, harness.Options{NoRace: true, Flags: []string{"--publish_hold=20s"}})
	page := "http://" + s.Addr("httpflv_addr") + "/live/movie"
	p := openPlayers(t, page, page+"?protocol=ws", page+"?protocol=hls")
	p.await("waiting", func(_ int, s playerState) bool { return s.Note == "offline: offline" })
	encode := func(clip sample.Sample) *harness.Process {
		return s.PushTo(clip.File(t), s.RTMP(s.Key("movie")), "-stream_loop", "-1")
	}
	first := encode(sample.Small)
	p.awaitProgress("playing", nil, 160)
	before := p.await("protocols", func(n int, s playerState) bool {
		return s.Note == "playing" && s.URL == []string{"ws", "ws", "hls"}[n]
	})
	first.Kill()
	first.Wait(patience)
	p.await("interrupted", func(_ int, s playerState) bool { return s.Note == "stalled: offline" })
	encode(sample.Large)
	p.awaitProgress("another encoder", before, 256)
	awaitReports(t, s, func(groups map[string]int, delay float64) bool {
		return maps.Equal(groups, map[string]int{"ws chrome": 2, "hls chrome": 1}) && delay > 0 && delay < 60
	})
}

// awaitReports waits until the players of the room movie have reported what accepts accepts: how many there are by
// protocol and browser, and the median of their delay in s.
func awaitReports(t *testing.T, s *harness.Server, accepts func(groups map[string]int, delay float64) bool) {
	t.Helper()
	harness.Eventually(t, patience, "the players have reported", func() error {
		var stream struct {
			Quality struct {
				Delay  struct{ Median float64 }
				Groups []struct {
					Proto, Browser string
					Players        int
				}
			}
		}
		if err := json.Unmarshal(harness.Get(t, s.API("/api/v1/streams/live/movie")), &stream); err != nil {
			return err
		}
		got := map[string]int{}
		for _, g := range stream.Quality.Groups {
			got[g.Proto+" "+g.Browser] = g.Players
		}
		if delay := stream.Quality.Delay.Median; !accepts(got, delay) {
			return fmt.Errorf("players %v, median of the delay %v", got, delay)
		}
		return nil
	})
}

// TestPlayerOnAnotherSite plays by <livego-player> and by the player page in a frame, on a page of
// another origin whose policy allows no worker, no markup from scripts and no styles. The page pauses
// and resumes the frame by messages.
func TestPlayerOnAnotherSite(t *testing.T) {
	harness.Need(t, "ffmpeg")
	needBrowser(t)
	needWeb(t)
	t.Parallel()
	s := harness.Start(t, harness.Options{NoRace: true})
	s.PushTo(sample.Small.File(t), s.RTMP(s.Key("movie")), "-stream_loop", "-1")
	s.AwaitLive("movie")
	p := players{t, harness.StartProgram(t, "node", "embed.mjs", os.Getenv("TEST_KEEP"),
		"http://"+s.Addr("httpflv_addr")+"/live/movie")}
	since := p.awaitProgress("playing", nil, 160)
	p.awaitProgress("playing on", since, 160)
}
