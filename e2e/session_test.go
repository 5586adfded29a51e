package e2e

import (
	"context"
	"encoding/json"
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

// apiSession is an entry of /api/v1/sessions.
type apiSession struct {
	ID, Kind, Proto, Remote string
	TLS, Relay, Active      bool
	UserAgent               string `json:"user_agent"`
	Bytes, Bitrate          uint64
}

// listSessions returns the sessions that a query selects.
func listSessions(t *testing.T, s *harness.Server, query string) []apiSession {
	t.Helper()
	var list struct{ Sessions []apiSession }
	if err := json.Unmarshal(harness.Get(t, s.API("/api/v1/sessions"+query)), &list); err != nil {
		t.Fatal(err)
	}
	return list.Sessions
}

// TestSessionsOfEveryProtocol lists an encoder by RTMPS, viewers by every protocol and a relay, and
// ends each viewer by its own. The stream of events has them all, and ends when the server stops.
func TestSessionsOfEveryProtocol(t *testing.T) {
	harness.Need(t, "ffmpeg")
	t.Parallel()
	cert, key, _ := tlsCertificate(t)
	other := harness.Start(t, harness.Options{Flags: []string{"--rtmp_noauth=true"}})
	s := harness.Start(t, harness.Options{Flags: []string{"--private=*", "--enable_rtmps=true", "--rtmps_cert=" + cert,
		"--rtmps_key=" + key, allowLoopback}, Env: []string{"LIVEGO_TOKEN_SECRET=" + tokenSecret}})
	ctx, cancel := context.WithTimeout(t.Context(), 2*patience)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, "GET", s.API("/api/v1/events/stream"), nil)
	if err != nil {
		t.Fatal(err)
	}
	stream, err := harness.Client().Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer stream.Body.Close()
	all := async(func() ([]byte, error) { return io.ReadAll(stream.Body) })

	s.PushTo(load(t, sample.AV).File(t), "rtmps://"+s.Addr("rtmps_addr")+"/live/"+s.Key("movie"), "-stream_loop", "-1")
	s.AwaitLive("movie")
	token := makeToken(t, "play", "live/movie")
	viewers := watchPrivateRoom(ctx, t, s, token)
	s.Call("/control/push?oper=start&app=live&name=movie&url=" + other.RTMP("movie"))
	other.AwaitLive("movie")

	byProto := map[string]apiSession{}
	harness.Eventually(t, patience, "sessions", func() error {
		for _, v := range listSessions(t, s, "?app=live&room=movie") {
			byProto[v.Kind+" "+v.Proto] = v
		}
		for name, v := range byProto {
			if v.Bytes == 0 && name != "viewer hls" {
				return fmt.Errorf("no bytes of %s", name)
			}
		}
		if len(byProto) != 6 {
			return fmt.Errorf("sessions %+v", byProto)
		}
		return nil
	})
	for name, agent := range map[string]string{"publisher rtmp": "FMLE/3.0 (compatible; Lavf", "viewer rtmp": "LNX",
		"viewer flv": "Go-http-client", "viewer hls": "Go-http-client"} {
		if v := byProto[name]; !strings.HasPrefix(v.UserAgent, agent) || v.TLS != (name == "publisher rtmp") || v.Relay {
			t.Errorf("%s is %+v", name, v)
		}
	}
	if v := byProto["viewer push"]; !v.Relay || v.Remote != other.Addr("rtmp_addr") {
		t.Errorf("the relay is %+v", v)
	}
	for name, v := range byProto {
		if !strings.HasPrefix(name, "viewer") || v.Relay {
			continue
		}
		if resp, body := request(t, "DELETE", s.API("/api/v1/sessions/"+v.ID), nil); resp.StatusCode != 204 {
			t.Errorf("end %s: %d %s", name, resp.StatusCode, body)
		}
	}
	awaitEnds(t, viewers, "session_ended")
	if left := listSessions(t, s, "?kind=viewer&sort=-id"); len(left) != 1 || !left[0].Relay {
		t.Errorf("left: %+v", left)
	}
	s.Stop()
	text, err := all()
	if err != nil {
		t.Errorf("the stream of events ends with %v", err)
	}
	for name, v := range byProto {
		joined := fmt.Sprintf(`"type":"viewer.joined","app":"live","room":"movie","session":%q,"proto":%q`, v.ID, v.Proto)
		if v.Kind == "publisher" {
			joined = fmt.Sprintf(`"type":"stream.started","app":"live","room":"movie","session":%q,"proto":%q`, v.ID, v.Proto)
		}
		if strings.Contains(string(text), joined) == v.Relay {
			t.Errorf("%s: the events are\n%s", name, text)
		}
	}
	if n := strings.Count(string(text), `"type":"viewer.left"`); n != len(viewers) {
		t.Errorf("%d viewers left, want %d:\n%s", n, len(viewers), text)
	}
	if !strings.Contains(string(text), `"type":"server.stopping"`) {
		t.Errorf("the stop of the server is not among\n%s", text)
	}
	if strings.Contains(string(text), token) {
		t.Error("an event has a token")
	}
}
