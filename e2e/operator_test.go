package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"livego/e2e/harness"
	"livego/e2e/mediacompare"
	"livego/e2e/sample"
)

// TestLivestat checks the fields of /stat/livestat, and that it counts viewers of every protocol
// and contains no key.
func TestLivestat(t *testing.T) {
	harness.Need(t, "ffmpeg")
	t.Parallel()
	s, src := harness.Start(t, harness.Options{}), load(t, sample.AV)
	if e := s.Call("/stat/livestat"); string(e.Data) != `{"publishers":null,"players":null}` {
		t.Errorf("without a stream: %s", e.Data)
	}
	key := s.Key("movie")
	push := s.PushTo(src.File(t), s.RTMP(key), "-stream_loop", "-1")
	s.AwaitLive("movie")
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	watchRTMP(t, s.RTMP("movie"))
	flv := async(func() (*mediacompare.FLVFile, error) { return watchFLV(ctx, harness.Client(), s.FLV("movie")) })
	hls := async(func() (hlsView, error) { return watchHLS(ctx, harness.Client(), s.HLS("movie")) })
	awaitPlayers(t, s, 3)

	for _, path := range []string{"/stat/livestat", "/stat/livestat?room=live/movie"} {
		e := s.Call(path)
		if strings.Contains(string(e.Data), key) {
			t.Errorf("%s: the key is in the answer", path)
		}
		var st struct{ Publishers, Players []map[string]any }
		if err := json.Unmarshal(e.Data, &st); err != nil {
			t.Fatal(err)
		}
		if len(st.Publishers) != 1 || len(st.Players) != 3 {
			t.Errorf("%s: %d publishers and %d players, want 1 and 3", path, len(st.Publishers), len(st.Players))
		}
		for _, entry := range append(st.Publishers, st.Players...) {
			for field, zero := range map[string]any{"key": "", "url": "", "stream_id": 0.0, "video_total_bytes": 0.0,
				"video_speed": 0.0, "audio_total_bytes": 0.0, "audio_speed": 0.0} {
				if v, ok := entry[field]; !ok || fmt.Sprintf("%T", v) != fmt.Sprintf("%T", zero) {
					t.Errorf("%s: %s is %v in %v", path, field, v, entry)
				}
			}
			gather, isPublisher := entry["gather_ms"]
			if isPublisher != (entry["stream_id"] == st.Publishers[0]["stream_id"]) || isPublisher &&
				fmt.Sprint(gather) != "map[flv:0 hls:0 rtmp:0]" {
				t.Errorf("%s: gather_ms is %v in %v", path, gather, entry)
			}
			delete(entry, "gather_ms")
			if players, ok := entry["players"].(map[string]any); ok != isPublisher || isPublisher && len(players) != 3 {
				t.Errorf("%s: players are %v in %v", path, entry["players"], entry)
			}
			delete(entry, "players")
			proto, delay, queue := entry["proto"], entry["delay_ms"], entry["queue_bytes"]
			if skips := entry["skips"]; skips != 0.0 && proto != "hls" {
				t.Errorf("%s: skips is %v in %v", path, skips, entry)
			}
			if d, ok := delay.(float64); !isPublisher && proto != "hls" && (!ok || d > 1000 || queue == nil) {
				t.Errorf("%s: delay is %v and queue %v in %v", path, delay, queue, entry)
			}
			for _, field := range []string{"proto", "delay_ms", "queue_bytes", "skips"} {
				delete(entry, field)
			}
			if entry["key"] != "live/movie" || len(entry) != 7 {
				t.Errorf("%s: entry %v", path, entry)
			}
		}
	}
	harness.Eventually(t, patience, "speeds", func() error {
		if p := s.Stat().Publishers; len(p) != 1 || p[0].VideoSpeed < 300 || p[0].VideoSpeed > 1500 || p[0].AudioSpeed < 50 ||
			p[0].AudioSpeed > 200 {
			return fmt.Errorf("publishers %+v, want about 700 and 100 kbit/s", p)
		}
		return nil
	})
	if e := s.Call("/stat/livestat?room=live/nobody"); e.Status != 404 || e.Text() != "room not found or inactive" {
		t.Errorf("unknown room: %d %s", e.Status, e.Data)
	}
	push.Signal(syscall.SIGINT)
	push.Wait(patience)
	if _, err := flv(); err != nil {
		t.Error(err)
	}
	if _, err := hls(); err != nil {
		t.Error(err)
	}
}

// TestControl checks the routes below /control that need no stream.
func TestControl(t *testing.T) {
	t.Parallel()
	s := harness.Start(t, harness.Options{})
	for _, c := range []struct {
		path   string
		status int
		begins string
	}{
		{"/control/get", 400, "url: /control/get?room="},
		{"/control/reset", 400, "url: /control/reset?room="},
		{"/control/delete", 400, "url: /control/delete?room="},
		{"/control/get?room=", 400, ""},
		{"/control/get?room=a&room=b", 400, ""},
		{"/control/get?room=a%2Fb", 400, ""},
		{"/control/delete?room=nobody", 404, "room not found"},
		{"/control/push", 400, "url: /control/push?oper=start|stop&app="},
		{"/control/pull?oper=start&app=live&name=movie&url=rtmp://127.0.0.1/a/b", 403, "127.0.0.1 is a private address"},
		{"/control/pull?oper=stop&app=live&name=movie&url=rtmp://127.0.0.1/a/b", 404, "there is no such relay"},
	} {
		if e := s.Call(c.path); e.Status != c.status || !strings.HasPrefix(e.Text(), c.begins) || e.Text() == "" {
			t.Errorf("%s: %d %s, want %d %s...", c.path, e.Status, e.Data, c.status, c.begins)
		}
	}
	resp, err := harness.Client().Post(s.API("/control/get"), "application/x-www-form-urlencoded",
		strings.NewReader("room=form"))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != 200 || !strings.HasPrefix(resp.Header.Get("Content-Type"), "application/json") {
		t.Errorf("arguments in a form: HTTP %d, %v", resp.StatusCode, resp.Header)
	}
}

// TestStatics checks that the files in ./statics are served, and that / is a page.
func TestStatics(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "statics"), 0o755); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{"statics/hello.txt": "hello", "secret.txt": "secret"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	s := harness.Start(t, harness.Options{Dir: dir})
	if got := harness.Get(t, s.API("/statics/hello.txt")); string(got) != "hello" {
		t.Errorf("got %q", got)
	}
	for _, path := range []string{"/statics/../secret.txt", "/statics/%2e%2e/secret.txt", "/statics/..%2fsecret.txt"} {
		if _, body, err := fetch(t.Context(), harness.Client(), s.API(path)); err != nil ||
			strings.Contains(string(body), "secret") {
			t.Errorf("%s: %q, %v", path, body, err)
		}
	}
	if page := harness.Get(t, s.API("/")); !strings.Contains(string(page), "<html") {
		t.Errorf("/ is %.80q", page)
	}
}

// request sends a request and returns the response with its body.
func request(t *testing.T, method, url string, edit func(*http.Request)) (*http.Response, string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	if edit != nil {
		edit(req)
	}
	resp, err := harness.Client().Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp, string(body)
}

// TestForeignOriginsAreRefused checks that a web page of another site cannot use the operator's
// HTTP through the operator's browser.
func TestForeignOriginsAreRefused(t *testing.T) {
	t.Parallel()
	s := harness.Start(t, harness.Options{})
	for name, edit := range map[string]func(*http.Request){
		"DNS rebinding":    func(r *http.Request) { r.Host = "attacker.example" },
		"cross-site":       func(r *http.Request) { r.Header.Set("Sec-Fetch-Site", "cross-site") },
		"foreign origin":   func(r *http.Request) { r.Header.Set("Origin", "http://attacker.example") },
		"opaque origin":    func(r *http.Request) { r.Header.Set("Origin", "null") },
		"behind a proxy":   func(r *http.Request) { r.Header.Set("X-Forwarded-For", "192.0.2.1") },
		"not a local name": func(r *http.Request) { r.Host = "localhost.attacker.example" },
	} {
		for _, method := range []string{http.MethodGet, http.MethodPost} {
			resp, body := request(t, method, s.API("/control/get?room=stolen"), edit)
			if resp.StatusCode != 403 || !strings.HasPrefix(body, `{"status":403,`) ||
				resp.Header.Get("Access-Control-Allow-Origin") != "" {
				t.Errorf("%s, %s: HTTP %d %s", name, method, resp.StatusCode, body)
			}
		}
	}
	if resp, body := request(t, http.MethodGet, s.API("/control/get?room=mine"),
		func(r *http.Request) { r.Host = "localhost" }); resp.StatusCode != 200 {
		t.Errorf("localhost: HTTP %d %s", resp.StatusCode, body)
	}
	if e := s.Call("/control/delete?room=stolen"); e.Status != 404 {
		t.Errorf("a refused request created the room: %d", e.Status)
	}
}

// TestJWTSecretRequiresToken checks that with jwt.secret every request of the operator's HTTP needs
// a token.
func TestJWTSecretRequiresToken(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	const canary = "canary-secret-of-the-test"
	if err := os.WriteFile(filepath.Join(dir, "livego.yaml"), []byte("jwt:\n  secret: "+canary+"\n  algorithm: HS256\n"),
		0o600); err != nil {
		t.Fatal(err)
	}
	s := harness.Start(t, harness.Options{Dir: dir})
	if e := s.Call("/control/get?room=movie"); e.Status != 403 {
		t.Errorf("without a token: %d", e.Status)
	}
	if e := s.Call("/control/get?room=movie&jwt=x.y.z"); e.Status != 403 {
		t.Errorf("with a bad token: %d", e.Status)
	}
	if log := s.Stdout() + s.Stderr(); strings.Contains(log, canary) || strings.Contains(log, "x.y.z") {
		t.Error("the secret or the token is in the log")
	}
}

// TestViewersHTTP checks the answers of the viewers' HTTP without a stream, and that both listeners
// serve all protocols.
func TestViewersHTTP(t *testing.T) {
	harness.Need(t, "ffmpeg")
	t.Parallel()
	s, src := harness.Start(t, harness.Options{}), load(t, sample.AV)
	for _, addr := range []string{"httpflv_addr", "hls_addr"} {
		base := "http://" + s.Addr(addr)
		for path, status := range map[string]int{
			"/live/movie.flv": 404, "/live/movie.m3u8": 404, "/cinema/movie.flv": 404, "/live/movie/index.ts": 404,
			"/live/..%2f..%2fetc%2fpasswd.flv": 404, "/crossdomain.xml": 200, "/control/get?room=x": 404, "/debug/pprof/": 404,
		} {
			resp, body := request(t, http.MethodGet, base+path, nil)
			if resp.StatusCode != status && !(status == 404 && resp.StatusCode == 400) {
				t.Errorf("%s on %s: HTTP %d %.80q, want %d", path, addr, resp.StatusCode, body, status)
			}
			if path == "/crossdomain.xml" && !strings.Contains(body, "cross-domain-policy") {
				t.Errorf("crossdomain.xml is %q", body)
			}
		}
	}
	push := src.push(s, t, "movie")
	s.AwaitLive("movie")
	for _, addr := range []string{"httpflv_addr", "hls_addr"} {
		flv := "http://" + s.Addr(addr) + "/live/movie.flv"
		resp, body := request(t, http.MethodHead, flv, nil)
		if resp.StatusCode != 200 || resp.Header.Get("Content-Type") != "video/x-flv" ||
			resp.Header.Get("Access-Control-Allow-Origin") != "*" || body != "" {
			t.Errorf("HEAD on %s: HTTP %d %v", addr, resp.StatusCode, resp.Header)
		}
		if resp, _ := request(t, http.MethodPost, flv, nil); resp.StatusCode != 405 {
			t.Errorf("POST on %s: HTTP %d, want 405", addr, resp.StatusCode)
		}
		if resp, _ := request(t, http.MethodOptions, flv, func(r *http.Request) {
			r.Header.Set("Origin", "http://page.example")
			r.Header.Set("Access-Control-Request-Method", "GET")
		}); resp.StatusCode >= 300 || resp.Header.Get("Access-Control-Allow-Origin") != "*" {
			t.Errorf("preflight on %s: HTTP %d %v", addr, resp.StatusCode, resp.Header)
		}
	}
	if players := s.Stat().Players; len(players) != 0 {
		t.Errorf("a HEAD request is counted as a player: %+v", players)
	}
	push.WaitOK(patience)
}

// TestAppSettings checks the settings of apps in server.
func TestAppSettings(t *testing.T) {
	harness.Need(t, "ffmpeg")
	t.Parallel()
	dir := t.TempDir()
	const file = "server:\n- appname: live\n  hls: false\n- appname: radio\n  flv: false\n- appname: closed\n  " +
		"live: false\n"
	if err := os.WriteFile(filepath.Join(dir, "livego.yaml"), []byte(file), 0o600); err != nil {
		t.Fatal(err)
	}
	s, src := harness.Start(t, harness.Options{Dir: dir}), load(t, sample.AV)
	base := "rtmp://" + s.Addr("rtmp_addr")
	if s.PushTo(src.File(t), base+"/closed/"+s.Key("movie")).Wait(patience) == 0 {
		t.Error("an app with live: false accepts a publisher")
	}
	pushes := []*harness.Process{src.push(s, t, "movie"), s.PushTo(src.File(t), base+"/radio/"+s.Key("song"))}
	s.AwaitLive("movie")
	web := "http://" + s.Addr("hls_addr")
	for path, want := range map[string]int{"/live/movie.m3u8": 404, "/radio/song.flv": 404, "/radio/song.m3u8": 200} {
		harness.Eventually(t, patience, path, func() error {
			if resp, body := request(t, http.MethodGet, web+path, nil); resp.StatusCode != want {
				return fmt.Errorf("HTTP %d %.80q, want %d", resp.StatusCode, body, want)
			}
			return nil
		})
	}
	for _, p := range pushes {
		p.WaitOK(patience)
	}
}
