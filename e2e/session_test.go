package e2e

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"livego/e2e/harness"
	"livego/e2e/sample"
)

// A privateViewer watches a private room by one protocol until its session ends.
type privateViewer struct {
	name string
	end  chan string // the reason; "" if the protocol has none
}

// watchPrivateRoom starts a viewer by each protocol, all with one token, and waits until they are
// counted.
func watchPrivateRoom(ctx context.Context, t *testing.T, s *harness.Server, token string) []privateViewer {
	t.Helper()
	query := "?token=" + token
	viewer := func(name string, watch func() string) privateViewer {
		v := privateViewer{name, make(chan string, 1)}
		go func() { v.end <- watch() }()
		return v
	}
	rtmp := harness.FFmpeg(t, "-loglevel", "debug", "-i", s.RTMP("movie")+query, "-c", "copy", "-f", "null", "-")
	media, err := mediaURL(ctx, harness.Client(), s.HLS("movie")+query)
	if err != nil {
		t.Fatal(err)
	}
	all := []privateViewer{
		viewer("RTMP", func() string {
			rtmp.Wait(patience)
			return rtmp.Stderr()
		}),
		viewer("HTTP-FLV", func() string {
			r, err := http.NewRequestWithContext(ctx, "GET", s.FLV("movie")+query, nil)
			if err != nil {
				return err.Error()
			}
			resp, err := harness.Client().Do(r)
			if err != nil {
				return err.Error()
			}
			defer resp.Body.Close()
			_, err = io.Copy(io.Discard, resp.Body)
			return fmt.Sprint(resp.Status, err)
		}),
		viewer("WebSocket", func() string {
			code, reason := webSocketClose(ctx, t, s.FLV("movie")+query)
			return fmt.Sprint(code, " ", reason)
		}),
		viewer("HLS", func() string {
			again := time.NewTicker(100 * time.Millisecond)
			defer again.Stop()
			for {
				resp, err := harness.Client().Get(media)
				if err != nil {
					return err.Error()
				}
				body, _ := io.ReadAll(resp.Body)
				resp.Body.Close()
				if resp.StatusCode != http.StatusOK {
					return fmt.Sprint(resp.StatusCode, " ", resp.Header.Get("Livego-Error"), " ", string(body))
				}
				select {
				case <-again.C:
				case <-ctx.Done():
					return "the session did not end"
				}
			}
		}),
	}
	awaitPlayers(t, s, len(all))
	return all
}

// awaitEnds waits for the end of each viewer's session, and checks the code of the reason where the
// protocol has one.
func awaitEnds(t *testing.T, viewers []privateViewer, code string) {
	t.Helper()
	timeout := time.After(patience)
	for _, v := range viewers {
		select {
		case reason := <-v.end:
			if v.name != "HTTP-FLV" && !strings.Contains(reason, code) {
				t.Errorf("%s ended with %.500s, want %q", v.name, reason, code)
			}
		case <-timeout:
			t.Fatalf("%s was not ended", v.name)
		}
	}
}

// TestEndSessionsDisconnectsViewers has viewers of a private room by every protocol. The API and
// the command end their sessions; a viewer may come back with a token that is still valid. The
// deletion of the room ends sessions too; a reset of its key does not.
func TestEndSessionsDisconnectsViewers(t *testing.T) {
	harness.Need(t, "ffmpeg")
	t.Parallel()
	s := harness.Start(t, harness.Options{Flags: []string{"--private=*", "--publish_hold=20s"},
		Env: []string{"LIVEGO_TOKEN_SECRET=" + tokenSecret}})
	ctx, cancel := context.WithTimeout(t.Context(), 2*patience)
	defer cancel()
	encoder := s.Push(load(t, sample.AV).File(t), "movie", "-stream_loop", "-1")
	s.AwaitLive("movie")
	token := makeToken(t, "play", "live/movie")

	viewers := watchPrivateRoom(ctx, t, s, token)
	r, err := http.NewRequestWithContext(ctx, "DELETE", s.API("/api/v1/sessions?room=movie&app=live"), nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := harness.Client().Do(r)
	if err != nil {
		t.Fatal(err)
	}
	body, _ := io.ReadAll(resp.Body)
	resp.Body.Close()
	if resp.StatusCode != 200 || !strings.Contains(string(body), `"ended":4`) {
		t.Errorf("DELETE /api/v1/sessions: %d %s", resp.StatusCode, body)
	}
	awaitEnds(t, viewers, "session_ended")

	viewers = watchPrivateRoom(ctx, t, s, token)
	cmd := harness.Livego(t, t.TempDir(), nil, "keys", "end-sessions", "movie", "--data_dir="+s.DataDir,
		"--api_addr="+s.Addr("api_addr"))
	cmd.WaitOK(patience)
	if !strings.Contains(cmd.Stderr(), "4 viewers disconnected") {
		t.Errorf("the command prints %q", cmd.Stderr())
	}
	awaitEnds(t, viewers, "session_ended")

	viewers = watchPrivateRoom(ctx, t, s, token)
	if e := s.Call("/control/reset?room=movie"); e.Status != 200 {
		t.Fatalf("reset: %d", e.Status)
	}
	encoder.Wait(patience)
	s.Push(load(t, sample.AV).File(t), "movie", "-stream_loop", "-1")
	for _, v := range viewers {
		select {
		case reason := <-v.end:
			t.Errorf("%s ended at the reset: %.500s", v.name, reason)
		default:
		}
	}
	awaitPlayers(t, s, 4)
	if e := s.Call("/control/delete?room=movie"); e.Status != 200 {
		t.Fatalf("delete: %d", e.Status)
	}
	awaitEnds(t, viewers, "")
}

// TestSessionLimitEndsViewers checks that viewers by every protocol are disconnected at the end of
// their session, whatever exp is.
func TestSessionLimitEndsViewers(t *testing.T) {
	harness.Need(t, "ffmpeg")
	t.Parallel()
	s := harness.Start(t, harness.Options{Flags: []string{"--private=*"},
		Env: []string{"LIVEGO_TOKEN_SECRET=" + tokenSecret}})
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	s.Push(load(t, sample.AV).File(t), "movie", "-stream_loop", "-1")
	s.AwaitLive("movie")
	awaitEnds(t, watchPrivateRoom(ctx, t, s, makeToken(t, "play", "live/movie", "--session=4s")), "session_expired")
}
