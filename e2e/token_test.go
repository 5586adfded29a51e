package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"livego/e2e/harness"
	"livego/e2e/rtmp"
	"livego/e2e/sample"
)

const tokenSecret = "a secret that signs the tokens of a test"

// makeToken creates a token by the command line.
func makeToken(t *testing.T, args ...string) string {
	t.Helper()
	p := harness.Livego(t, t.TempDir(), []string{"LIVEGO_TOKEN_SECRET=" + tokenSecret},
		append([]string{"token"}, args...)...)
	p.WaitOK(patience)
	return strings.TrimSpace(p.Stdout())
}

// httpGet requests a URL and returns the status, and the body if whole is true or the status is not
// 200: the body of a stream has no end.
func httpGet(ctx context.Context, target, bearer string, whole bool) (status int, body string, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, target, nil)
	if err != nil {
		return 0, "", err
	}
	if bearer != "" {
		r.Header.Set("Authorization", "Bearer "+bearer)
	}
	resp, err := harness.Client().Do(r)
	if err != nil {
		return 0, "", err
	}
	defer resp.Body.Close()
	if whole || resp.StatusCode != 200 {
		b, err := io.ReadAll(resp.Body)
		return resp.StatusCode, string(b), err
	}
	return resp.StatusCode, "", nil
}

// TestPrivateRoom watches a private room by every protocol, with and without a token.
func TestPrivateRoom(t *testing.T) {
	harness.Need(t, "ffmpeg", "openssl")
	t.Parallel()
	s := harness.Start(t, harness.Options{Flags: []string{"--private=live/movie"},
		Env: []string{"LIVEGO_TOKEN_SECRET=" + tokenSecret}})
	src := load(t, sample.AV)
	s.Push(src.File(t), "movie", "-stream_loop", "-1")
	s.Push(src.File(t), "open", "-stream_loop", "-1")
	s.AwaitLive("movie")
	s.AwaitLive("open")
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	good := map[string]string{
		"signed by openssl": opensslToken(t),
		"JWT":               makeToken(t, "play", "live/movie"),
		"signed":            makeToken(t, "play", "live/movie", "--signed"),
		"JWT of the app":    makeToken(t, "play", "live/*", "--ip=127.0.0.1"),
	}
	bad := map[string]string{
		"none": "", "garbage": "x", "to publish": makeToken(t, "publish", "live/movie"),
		"other room":         makeToken(t, "play", "live/other"),
		"signed for another": makeToken(t, "play", "live/other", "--signed"),
		"other address":      makeToken(t, "play", "live/movie", "--ip=192.0.2.1"),
	}
	withToken := func(target, token string) string {
		if token == "" {
			return target
		}
		return target + "?token=" + url.QueryEscape(token)
	}
	for name, token := range good {
		if status, body, err := httpGet(ctx, withToken(s.FLV("movie"), token), "", false); status != 200 {
			t.Errorf("HTTP-FLV with %s: %d %s %v", name, status, body, err)
		}
		if status, body, err := httpGet(ctx, s.FLV("movie"), token, false); status != 200 {
			t.Errorf("HTTP-FLV with %s as bearer: %d %s %v", name, status, body, err)
		}
		ws, err := harness.OpenWebSocket(ctx, withToken(strings.Replace(s.FLV("movie"), "http", "ws", 1), token), nil)
		if err == nil {
			_, err = ws.ReadMessage()
			ws.Close()
		}
		if err != nil {
			t.Errorf("WebSocket with %s: %v", name, err)
		}
		viewer := harness.FFmpeg(t, "-i", withToken(s.RTMP("movie"), token), "-t", "1", "-c", "copy", "-f", "null", "-")
		viewer.WaitOK(patience)
		checkPrivateHLS(ctx, t, s, withToken(s.HLS("movie"), token), name)
	}
	for name, token := range bad {
		for _, target := range []string{s.FLV("movie"), s.HLS("movie")} {
			status, body, err := httpGet(ctx, withToken(target, token), "", true)
			if status != 401 && status != 403 || err != nil || token != "" && strings.Contains(body, token) {
				t.Errorf("%s with %s: %d %s %v", target, name, status, body, err)
			}
		}
		if code, reason := webSocketClose(ctx, t, withToken(s.FLV("movie"), token)); code != 4401 && code != 4403 ||
			!strings.HasPrefix(reason, "token_") {
			t.Errorf("WebSocket with %s: closed by %d %s", name, code, reason)
		}
		viewer := harness.FFmpeg(t, "-i", withToken(s.RTMP("movie"), token), "-t", "1", "-f", "null", "-")
		if viewer.Wait(patience) == 0 {
			t.Errorf("RTMP with %s is accepted", name)
		}
	}
	if status, _, err := httpGet(ctx, s.FLV("movie")+"?token=a", "b", true); status != 400 {
		t.Errorf("two tokens: %d %v", status, err)
	}
	if status, body, err := httpGet(ctx, s.FLV("open"), "", false); status != 200 {
		t.Errorf("a public room: %d %s %v", status, body, err)
	}
	for name, token := range good {
		if log := s.Stdout() + s.Stderr(); strings.Contains(log, token) {
			t.Errorf("the token %s is in the log", name)
		}
	}
}

// webSocketClose opens a WebSocket at an http URL, and returns the code and the reason with which
// the server closes it.
func webSocketClose(ctx context.Context, t *testing.T, target string) (code int, reason string) {
	t.Helper()
	ws, err := harness.OpenWebSocket(ctx, strings.Replace(target, "http", "ws", 1), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer ws.Close()
	for err == nil {
		_, err = ws.ReadMessage()
	}
	var closed *harness.CloseError
	if !errors.As(err, &closed) {
		t.Fatal(err)
	}
	return closed.Code, closed.Text
}

// rtmpPlayStatus plays a name by RTMP and returns the first status that the server sends.
func rtmpPlayStatus(t *testing.T, s *harness.Server, name string) string {
	t.Helper()
	c, err := rtmp.Dial(net.Dialer{}, s.Addr("rtmp_addr"), "live", patience)
	if err != nil {
		t.Fatal(err)
	}
	defer c.NetConn.Close()
	if err := c.Play(name); err != nil {
		t.Fatal(err)
	}
	for {
		m, err := c.ReadMessage(patience)
		if err != nil {
			t.Fatal(err)
		}
		if m.IsCommand("onStatus") {
			return string(m.Payload)
		}
	}
}

// opensslToken creates the token of a signed URL by the commands in docs/keys.md.
func opensslToken(t *testing.T) string {
	t.Helper()
	text := readDocument(t, "docs/keys.md")
	_, script, _ := strings.Cut(text, "IAT=$(date")
	script, _, _ = strings.Cut("IAT=$(date"+script, "echo ")
	p := harness.StartProgram(t, "sh", "-c", "SECRET='"+tokenSecret+"'\n"+script+"echo h1.$IAT.$EXP.$SIG")
	p.WaitOK(patience)
	return strings.TrimSpace(p.Stdout())
}

// checkPrivateHLS follows the playlists with the session, and requests their parts without it.
func checkPrivateHLS(ctx context.Context, t *testing.T, s *harness.Server, master, name string) {
	t.Helper()
	status, body, err := httpGet(ctx, master, "", true)
	if status != 200 {
		t.Errorf("HLS with %s: %d %s %v", name, status, body, err)
		return
	}
	follow := func(playlist, from string) string {
		base, _ := url.Parse(from)
		for line := range strings.Lines(playlist) {
			if line = strings.TrimSpace(line); line != "" && line[0] != '#' {
				if u, err := base.Parse(line); err == nil {
					return u.String()
				}
			}
		}
		t.Errorf("HLS with %s: no URL in\n%s", name, playlist)
		return from
	}
	media := follow(body, master)
	status, body, err = httpGet(ctx, media, "", true)
	if status != 200 {
		t.Errorf("HLS with %s, media playlist: %d %s %v", name, status, body, err)
		return
	}
	segment := follow(body, media)
	if status, body, err := httpGet(ctx, segment, "", true); status != 200 || len(body) < 188 {
		t.Errorf("HLS with %s, segment %s: %d %v", name, segment, status, err)
	}
	for _, target := range []string{media, segment} {
		bare, _, _ := strings.Cut(target, "?")
		for _, session := range []string{"", "?s=", "?s=AAAA", "?s=" + strings.Repeat("A", 54)} {
			if status, _, err := httpGet(ctx, bare+session, "", true); status != 401 && status != 403 {
				t.Errorf("HLS, %s without the session: %d %v", bare+session, status, err)
			}
		}
	}
}

// TestTokenViewerLimit checks that as many viewers watch with a token as its limit allows.
func TestTokenViewerLimit(t *testing.T) {
	harness.Need(t, "ffmpeg")
	t.Parallel()
	s := harness.Start(t, harness.Options{Flags: []string{"--private=*", "--hls_session_timeout=1s"},
		Env: []string{"LIVEGO_TOKEN_SECRET=" + tokenSecret}})
	s.Push(load(t, sample.AV).File(t), "movie", "-stream_loop", "-1")
	s.AwaitLive("movie")
	token := makeToken(t, "play", "live/movie", "--viewers=2")
	target := s.FLV("movie") + "?token=" + token
	first := harness.FFmpeg(t, "-i", target, "-c", "copy", "-f", "null", "-")
	second := harness.FFmpeg(t, "-i", s.RTMP("movie")+"?token="+token, "-c", "copy", "-f", "null", "-")
	awaitPlayers(t, s, 2)
	if status, body, err := httpGet(t.Context(), target, "", true); status != 429 {
		t.Errorf("the third viewer: %d %s %v", status, body, err)
	}
	if got := rtmpPlayStatus(t, s, "movie?token="+token); !strings.Contains(got, "token_viewer_limit: ") {
		t.Errorf("the third viewer by RTMP: %q", got)
	}
	if code, reason := webSocketClose(t.Context(), t, target); code != 4429 ||
		!strings.HasPrefix(reason, "token_viewer_limit: ") {
		t.Errorf("the third viewer by WebSocket: closed by %d %s", code, reason)
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	media, err := mediaURL(ctx, harness.Client(), s.HLS("movie")+"?token="+token)
	if err != nil {
		t.Fatal(err)
	}
	if status, body, err := httpGet(ctx, media, "", true); status != 429 {
		t.Errorf("the third viewer by HLS: %d %s %v", status, body, err)
	}
	if status, body, err := httpGet(ctx, s.FLV("movie")+"?token="+makeToken(t, "play", "live/movie"), "",
		false); status != 200 {
		t.Errorf("with another token: %d %s %v", status, body, err)
	}
	first.Kill()
	harness.Eventually(t, patience, "a viewer may join again", func() error {
		if status, body, err := httpGet(ctx, media, "", true); status != 200 {
			return fmt.Errorf("%d %s %v", status, body, err)
		}
		return nil
	})
	if second.Ended() {
		t.Errorf("the second was disconnected: %s", second.Stderr())
	}
}

// TestPublishToken publishes with a token instead of a stream key.
func TestPublishToken(t *testing.T) {
	harness.Need(t, "ffmpeg")
	t.Parallel()
	s := harness.Start(t, harness.Options{Env: []string{"LIVEGO_TOKEN_SECRET=" + tokenSecret}})
	src := load(t, sample.AV)
	token := makeToken(t, "publish", "live/movie")
	to := func(token string) string { return s.RTMP("movie") + "?token=" + token }
	if s.PushTo(src.File(t), to(token)).Wait(patience) == 0 {
		t.Error("it publishes a room that does not exist")
	}
	s.Key("movie")
	token = makeToken(t, "publish", "live/movie")
	push := s.PushTo(src.File(t), to(token), "-stream_loop", "-1")
	s.AwaitLive("movie")
	for name, bad := range map[string]string{"to play": makeToken(t, "play", "live/movie"),
		"other room": makeToken(t, "publish", "live/other"), "none": ""} {
		if s.PushTo(src.File(t), to(bad)).Wait(patience) == 0 {
			t.Errorf("it publishes with a token: %s", name)
		}
	}
	if e := s.Call("/control/reset?room=movie"); e.Status != 200 {
		t.Fatalf("reset answers %d", e.Status)
	}
	awaitUnpublished(t, s, "movie")
	if push.Wait(5*time.Second) == 0 {
		t.Error("ffmpeg exits with code 0")
	}
	if s.PushTo(src.File(t), to(token)).Wait(patience) == 0 {
		t.Error("a token from before the reset publishes")
	}
	s.PushTo(src.File(t), to(makeToken(t, "publish", "live/movie", "--signed=false"))).WaitOK(patience)
	if log := s.Stdout() + s.Stderr(); strings.Contains(log, token) {
		t.Error("the token is in the log")
	}
}

// createToken creates a token by the API, and returns it and the URLs of the answer.
func createToken(t *testing.T, s *harness.Server, wish string) (token string, urls []string) {
	t.Helper()
	resp, err := harness.Client().Post(s.API("/api/v1/tokens"), "application/json", strings.NewReader(wish))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var made struct {
		Token string
		URLs  []string
	}
	if err := json.NewDecoder(resp.Body).Decode(&made); err != nil || resp.StatusCode != 201 || made.Token == "" {
		t.Fatalf("%s: HTTP %d, %+v, %v", wish, resp.StatusCode, made, err)
	}
	return made.Token, made.URLs
}

// TestTokenByAPI publishes and watches at the URLs that the API returns.
func TestTokenByAPI(t *testing.T) {
	harness.Need(t, "ffmpeg")
	t.Parallel()
	s := harness.Start(t, harness.Options{Flags: []string{"--private=*"},
		Env: []string{"LIVEGO_TOKEN_SECRET=" + tokenSecret}})
	s.Key("movie")
	token, urls := createToken(t, s, `{"action":"publish","app":"live","room":"movie","for":"10m"}`)
	if len(urls) != 1 {
		t.Fatalf("URLs to publish: %v", urls)
	}
	s.PushTo(load(t, sample.AV).File(t), urls[0], "-stream_loop", "-1")
	s.AwaitLive("movie")
	viewer, urls := createToken(t, s, `{"action":"play","app":"live","room":"movie"}`)
	if len(urls) != 3 {
		t.Fatalf("URLs to watch: %v", urls)
	}
	for _, u := range urls {
		harness.FFmpeg(t, "-i", u, "-t", "1", "-c", "copy", "-f", "null", "-").WaitOK(patience)
	}
	if log := s.Stdout() + s.Stderr(); strings.Contains(log, token) || strings.Contains(log, viewer) {
		t.Error("a token is in the log")
	}
}

// TestOneTimeToken uses one-time tokens on two servers: on two that share a Redis, and on one and
// its successor after a restart.
func TestOneTimeToken(t *testing.T) {
	harness.Need(t, "ffmpeg", "redis-server")
	t.Parallel()
	options := harness.Options{Flags: []string{"--private=*"}, Env: []string{"LIVEGO_TOKEN_SECRET=" + tokenSecret}}
	shared := options
	shared.Flags = append(shared.Flags, "--redis_addr="+harness.StartRedis(t).Addr())
	const wish = `{"action":"play","app":"live","room":"movie","once":true}`
	watch := func(s *harness.Server, token string) int {
		t.Helper()
		status, _, err := httpGet(t.Context(), s.FLV("movie")+"?token="+token, "", false)
		if err != nil {
			t.Fatal(err)
		}
		return status
	}
	live := func(s *harness.Server) *harness.Server {
		s.Push(load(t, sample.AV).File(t), "movie", "-stream_loop", "-1")
		s.AwaitLive("movie")
		return s
	}
	for name, pair := range map[string]func() (first, second *harness.Server){
		"a restart": func() (_, _ *harness.Server) { return live(harness.Start(t, options)), nil },
		"two at once": func() (_, _ *harness.Server) {
			return live(harness.Start(t, shared)),
				live(harness.Start(t, shared))
		},
	} {
		first, second := pair()
		token, _ := createToken(t, first, wish)
		if got := watch(first, token); got != 200 {
			t.Errorf("%s: the first time: %d", name, got)
		}
		if got := watch(first, token); got != 403 {
			t.Errorf("%s: the second time: %d", name, got)
		}
		if got := rtmpPlayStatus(t, first, "movie?token="+token); !strings.Contains(got, "token_used: ") {
			t.Errorf("%s: by RTMP after that: %q", name, got)
		}
		if code, reason := webSocketClose(t.Context(), t, first.FLV("movie")+"?token="+token); code != 4403 ||
			!strings.HasPrefix(reason, "token_used: ") {
			t.Errorf("%s: by WebSocket after that: closed by %d %s", name, code, reason)
		}
		byRTMP, _ := createToken(t, first, wish)
		if got := rtmpPlayStatus(t, first, "movie?token="+byRTMP); !strings.Contains(got, "NetStream.Play.") ||
			strings.Contains(got, "error") {
			t.Errorf("%s: the first time by RTMP: %q", name, got)
		}
		if got := watch(first, byRTMP); got != 403 {
			t.Errorf("%s: the second time, after RTMP: %d", name, got)
		}
		if got := watch(first, token+"%0A"); got != 401 {
			t.Errorf("%s: the second time, with a trailing line break: %d", name, got)
		}
		if second == nil {
			first.Stop()
			again := options
			again.DataDir = first.DataDir
			second = live(harness.Start(t, again))
		}
		if got := watch(second, token); got != 403 {
			t.Errorf("%s: on another server: %d", name, got)
		}
		token, _ = createToken(t, second, wish)
		if got := watch(second, token); got != 200 {
			t.Errorf("%s: another token: %d", name, got)
		}
	}
}
