package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"livego/e2e/harness"
	"livego/e2e/sample"
)

// reportPlayback sends what a player says, and returns the HTTP status.
func reportPlayback(s *harness.Server, session, data string) (int, error) {
	target := "http://" + s.Addr("httpflv_addr") + "/.livego/report?CMCD=" +
		url.QueryEscape(data+`,sid="`+session+`"`)
	resp, err := harness.Client().Get(target)
	if err != nil {
		return 0, err
	}
	resp.Body.Close()
	if resp.Header.Get("Access-Control-Allow-Origin") != "*" {
		return 0, fmt.Errorf("pages of other origins cannot report: %v", resp.Header)
	}
	return resp.StatusCode, nil
}

// watchAs watches a room as a player with a session, until ctx ends or stop is called.
func watchAs(ctx context.Context, s *harness.Server, room, session string) (stop func(), err error) {
	ctx, cancel := context.WithCancel(ctx)
	r, err := http.NewRequestWithContext(ctx, http.MethodGet,
		s.FLV(room)+"?CMCD="+url.QueryEscape(`sid="`+session+`"`), nil)
	if err != nil {
		cancel()
		return nil, err
	}
	r.Header.Set("User-Agent", "Mozilla/5.0 (X11; Linux x86_64; rv:153.0) Gecko/20100101 Firefox/153.0")
	resp, err := harness.Client().Do(r)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("HTTP %d", resp.StatusCode)
	}
	if err != nil {
		cancel()
		return nil, err
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_, _ = io.Copy(io.Discard, resp.Body) // until ctx is done
		resp.Body.Close()
	}()
	return func() {
		cancel()
		<-done
	}, nil
}

// TestPlaybackReports: players that watch may report. The figures are in the API, and many stalls are a finding. When
// player_reports is set to false, no report is accepted.
func TestPlaybackReports(t *testing.T) {
	t.Parallel()
	s := harness.Start(t, harness.Options{})
	src := load(t, sample.AV)
	s.Push(src.File(t), "movie", "-stream_loop", "-1")
	s.Push(src.File(t), "other", "-stream_loop", "-1")
	s.AwaitLive("movie")
	s.AwaitLive("other")
	const players = 6
	for i := range players {
		session := fmt.Sprint("player-", i)
		if got, err := reportPlayback(s, session, "bsa=(0)"); got != http.StatusGone {
			t.Errorf("a report before the stream: HTTP %d, %v", got, err)
		}
		stop, err := watchAs(t.Context(), s, "movie", session)
		if err != nil {
			t.Fatal(err)
		}
		defer stop()
		data := "bsa=(0),bsda=(0),livego-frames=250,dfa=5,ltc=900,msd=400,v=2"
		if i < 4 {
			data = `bsa=(2),bsda=(1500),ec=("network"),livego-frames=250,dfa=5,ltc=1900,msd=800,v=2`
		}
		if got, err := reportPlayback(s, session, data); got != http.StatusNoContent {
			t.Errorf("a report: HTTP %d, %v", got, err)
		}
	}
	var live struct {
		Quality *struct {
			Players, Stalled int
			Share            float64
			Failed           map[string]int
			Delay            struct{ Median, P95 float64 }
			Groups           []struct {
				Proto, Browser   string
				Players, Stalled int
			}
		}
		Health []struct{ Code, Text string }
	}
	get := func(room string) {
		t.Helper()
		live.Quality, live.Health = nil, nil
		if err := json.Unmarshal(harness.Get(t, s.API("/api/v1/streams/live/"+room)), &live); err != nil {
			t.Fatal(err)
		}
	}
	harness.Eventually(t, patience, "the stalls are a finding", func() error {
		get("movie")
		for _, f := range live.Health {
			if f.Code == "playback_stalls" && strings.HasPrefix(f.Text, "4 of 6 players (66 %) stalled") {
				return nil
			}
		}
		return fmt.Errorf("%+v", live.Health)
	})
	q := live.Quality
	if q == nil || q.Players != players || q.Stalled != 4 || q.Share != 1 || q.Failed["network"] != 4 ||
		q.Delay.Median != 1.9 || len(q.Groups) != 1 || q.Groups[0].Browser != "firefox" || q.Groups[0].Stalled != 4 {
		t.Errorf("%+v", q)
	}
	if get("other"); live.Quality != nil {
		t.Errorf("a stream without reports has %+v", live.Quality)
	}
	resp, _ := request(t, http.MethodPatch, s.API("/api/v1/settings"), func(r *http.Request) {
		r.Header.Set("Content-Type", "application/json")
		r.Body = io.NopCloser(strings.NewReader(`{"player_reports":false}`))
	})
	if got, err := reportPlayback(s, "player-0", "bsa=(9)"); got != http.StatusGone || resp.StatusCode != http.StatusOK {
		t.Errorf("a report after player_reports was set to false, HTTP %d: HTTP %d, %v", resp.StatusCode, got, err)
	}
}

// TestPlaybackReportsAfterRestart restarts the server while a player watches. The player's totals go on: what it has
// reported to the first process does not count again, and a stall after that does.
func TestPlaybackReportsAfterRestart(t *testing.T) {
	t.Parallel()
	src := load(t, sample.AV)
	start := func() (s *harness.Server, stop func()) {
		s = harness.Start(t, harness.Options{})
		s.Push(src.File(t), "movie", "-stream_loop", "-1")
		s.AwaitLive("movie")
		stop, err := watchAs(t.Context(), s, "movie", "player")
		if err != nil {
			t.Fatal(err)
		}
		return s, stop
	}
	// report sends the totals, and then awaits the number of players that stalled in the last minute.
	report := func(s *harness.Server, data string, stalled int) {
		t.Helper()
		harness.Eventually(t, patience, "the report counts", func() error { // one a second does
			if got, err := reportPlayback(s, "player", data); got != http.StatusNoContent {
				return fmt.Errorf("HTTP %d, %w", got, err)
			}
			var live struct {
				Quality struct{ Players, Stalled int }
			}
			if err := json.Unmarshal(harness.Get(t, s.API("/api/v1/streams/live/movie")), &live); err != nil {
				return err
			}
			if q := live.Quality; q.Players != 1 || q.Stalled != stalled {
				return fmt.Errorf("%+v", q)
			}
			return nil
		})
	}
	s, stop := start()
	report(s, "bsa=(0),bsda=(0),livego-frames=9,msd=400", 0)
	report(s, "bsa=(3),bsda=(3000),livego-frames=30,msd=400", 1)
	s.Stop()
	stop()
	s, stop = start()
	defer stop()
	const before = ",msd=400,livego-before=(4 4000 0 40 0)" // one of the stalls was not reported any more
	report(s, "bsa=(4),bsda=(4000),livego-frames=50"+before, 0)
	metrics := string(harness.Get(t, s.API("/metrics")))
	for _, want := range []string{
		`livego_player_stalls_total{proto="flv"} 0`, `livego_player_sessions_total{proto="flv"} 1`,
		`livego_player_frames_total{proto="flv"} 10`, `livego_player_start_seconds_count{proto="flv"} 0`,
	} {
		if !strings.Contains(metrics, want+"\n") {
			t.Errorf("not %s:\n%s", want, metrics)
		}
	}
	report(s, "bsa=(5),bsda=(4500),livego-frames=75"+before, 1)
}
