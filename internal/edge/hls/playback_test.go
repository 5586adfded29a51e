package hls

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"livego/internal/proto/cmcd"
	"livego/internal/quality"
	"livego/internal/stream"
)

const firefox = "Mozilla/5.0 (X11; Linux x86_64; rv:153.0) Gecko/20100101 Firefox/153.0"

// newReportingServer returns a server of the movie whose players may report, to players.
func newReportingServer(t *testing.T) (c *testServer, players *quality.Collector) {
	players = quality.New()
	c = newTestServer(t, Options{Quality: players, SessionTimeout: 20 * time.Second}, stream.Options{})
	c.write(c.publish(movie), 5*time.Second)
	synctest.Wait()
	return c, players
}

func withCMCD(target, text string) string {
	separator := "?"
	if strings.Contains(target, "?") {
		separator = "&"
	}
	return target + separator + "CMCD=" + url.QueryEscape(text)
}

// TestPlayerReports: a player that has named its session at the start may report while it watches.
func TestPlayerReports(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, players := newReportingServer(t)
		report := func() quality.Result {
			d := cmcd.Data{Session: "player", Stalls: 1}
			time.Sleep(2 * time.Second)
			return players.Report(&d)
		}
		playlist := "/live/" + lastLine(c.get(withCMCD("/live/movie.m3u8?format=ts", `sid="player"`)))
		if got := report(); got != quality.Refused {
			t.Errorf("before the first media playlist: %v", got)
		}
		c.get(playlist, "User-Agent", firefox)
		if got := report(); got != quality.Used {
			t.Errorf("while it watches: %v", got)
		}
		f := players.Figures(movie)
		if len(f.Groups) != 1 || f.Groups[0] != (quality.Group{Proto: "hls", Browser: "firefox", Players: 1, Stalled: 1}) {
			t.Errorf("%+v", f)
		}
		time.Sleep(30 * time.Second)
		c.hub.Close() // no viewer is left
		time.Sleep(2 * time.Minute)
		if f := players.Figures(movie); f.Players != 0 {
			t.Errorf("after the end: %+v", f)
		}
	})
}

// TestCMCD: a player that sends CMCD with each request is one viewer, also where its requests have no session of the
// server, and one that sends no session ID.
func TestCMCD(t *testing.T) {
	for name, sid := range map[string]string{
		"with a session": `,sid="6e2fb550-c457-11e9-bb97-0800200c9a66"`, "without": "",
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c, players := newReportingServer(t)
				playlist := "/live/" + lastLine(c.get(withCMCD("/live/movie.m3u8?format=ts", "ot=m"+sid)))
				_, files := segments(c.get(withCMCD(playlist, "ot=m"+sid), "User-Agent", firefox))
				for i, file := range files[:2] {
					time.Sleep(2 * time.Second) // the requests of a player count once a second
					text := "bl=4000,br=1200,mtp=900,ot=av,st=l" + sid
					if i == 1 {
						text = "bs," + text
					}
					c.get(withCMCD("/live/movie/"+file, text), "User-Agent", firefox)
				}
				c.get("/live/movie/"+files[0], "User-Agent", firefox) // another player behind the same address
				c.get(withCMCD("/live/movie/"+files[0], `bs,sid="nobody"`), "User-Agent", firefox)
				f := players.Figures(movie)
				if f.Players != 1 || f.Stalled != 1 || f.Slow != 1 || f.Groups[0].Browser != "firefox" {
					t.Errorf("%+v", f)
				}
				if totals, _ := players.Statistics(); totals["hls"].Stalls != 1 {
					t.Errorf("%d stalls", totals["hls"].Stalls)
				}
				c.hub.Close()
			})
		})
	}
}

// TestRequestWithoutCMCDCostsNothing checks what it costs to look for CMCD in each request.
func TestRequestWithoutCMCDCostsNothing(t *testing.T) {
	reg := newTestRegistry(t)
	reg.quality = quality.New()
	r := httptest.NewRequest(http.MethodGet, "/live/movie/index.m3u8?s=abc&_HLS_msn=7&_HLS_part=2", nil)
	r.Header.Set("User-Agent", firefox)
	if n := testing.AllocsPerRun(100, func() { reg.observePlayback(nil, movie, r) }); n > 0 {
		t.Errorf("%v allocations", n)
	}
}
