package e2e

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"livego/e2e/harness"
	"livego/e2e/sample"
)

// A reloadServer is a server with a settings file.
type reloadServer struct {
	*harness.Server
	t    *testing.T
	file string
}

func startWithFile(t *testing.T, text string, o harness.Options) *reloadServer {
	t.Helper()
	if o.Dir == "" {
		o.Dir = t.TempDir()
	}
	s := &reloadServer{t: t, file: filepath.Join(o.Dir, "livego.yaml")}
	s.write(text)
	s.Server = harness.Start(t, o)
	return s
}

func (s *reloadServer) write(text string) {
	s.t.Helper()
	if err := os.WriteFile(s.file, []byte(text), 0o600); err != nil {
		s.t.Fatal(err)
	}
}

// A reloadAnswer is the answer of the routes that change settings.
type reloadAnswer struct {
	Applied, Restart, Warnings []string
	Detail                     string
	Errors                     []struct{ Message string }
}

// call sends a request with a JSON body to the operator's HTTP.
func (s *reloadServer) call(method, path, body string, status int) (a reloadAnswer) {
	s.t.Helper()
	resp, text := request(s.t, method, s.API(path), func(r *http.Request) {
		r.Header.Set("Content-Type", "application/json")
		if body != "" {
			r.Body, r.ContentLength = io.NopCloser(strings.NewReader(body)), int64(len(body))
		}
	})
	if err := json.Unmarshal([]byte(text), &a); err != nil || resp.StatusCode != status {
		s.t.Fatalf("%s %s %s: %d %s", method, path, body, resp.StatusCode, text)
	}
	return a
}

// reload loads a file with text, which must change the settings applied, in the order of the table.
func (s *reloadServer) reload(text string, applied ...string) {
	s.t.Helper()
	s.write(text)
	if a := s.call("POST", "/api/v1/config/reload", "", 200); !slices.Equal(a.Applied, applied) || len(a.Restart) > 0 {
		s.t.Errorf("%s: %+v, want applied %q", text, a, applied)
	}
}

// setting returns the value and the source of a setting.
func (s *reloadServer) setting(key string) (value any, source string, restart bool) {
	s.t.Helper()
	var list struct {
		Settings []struct {
			Key, Source string
			Value       any
			Restart     bool
		}
	}
	if err := json.Unmarshal(harness.Get(s.t, s.API("/api/v1/settings")), &list); err != nil {
		s.t.Fatal(err)
	}
	for _, st := range list.Settings {
		if st.Key == key {
			return st.Value, st.Source, st.Restart
		}
	}
	s.t.Fatalf("no setting %s", key)
	return nil, "", false
}

// status returns the status of a request, without its body.
func status(t *testing.T, target, bearer string) int {
	t.Helper()
	code, _, err := httpGet(t.Context(), target, bearer, false)
	if err != nil {
		t.Error(err)
	}
	return code
}

// TestReload changes settings of each kind in the file of a running server, and checks that they take
// effect and that a viewer stays connected.
func TestReload(t *testing.T) {
	harness.Need(t, "ffmpeg")
	t.Parallel()
	var refused atomic.Bool
	events := make(chan string, 100)
	hooks := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		if r.URL.Path == "/events" {
			events <- string(body)
			return
		}
		refused.Store(true)
		_, _ = io.WriteString(w, `{"allow":false,"reason":"not today"}`)
	}))
	t.Cleanup(hooks.Close)
	other := harness.Start(t, harness.Options{Flags: []string{"--rtmp_noauth"}})
	certificate := func() (settings string, pool *x509.CertPool) {
		cert, key, pool := harness.Certificate(t)
		return fmt.Sprintf("rtmps_cert: %s\nrtmps_key: %s\n", cert, key), pool
	}
	cert, trusted := certificate()
	s := startWithFile(t, cert, harness.Options{Flags: []string{"--limit_loopback", "--enable_https"}})
	serves := func(pool *x509.CertPool) error {
		c, err := tls.Dial("tcp", s.Addr("https_addr"), &tls.Config{RootCAs: pool})
		if err == nil {
			c.Close()
		}
		return err
	}
	if err := serves(trusted); err != nil {
		t.Error(err)
	}
	src := load(t, sample.AV)
	s.Push(src.File(t), "movie", "-stream_loop", "-1")
	s.AwaitLive("movie")
	viewer, err := harness.Client().Get(s.FLV("movie"))
	if err != nil {
		t.Fatal(err)
	}
	defer viewer.Body.Close()
	ended := make(chan error, 1)
	go func() {
		_, err := io.Copy(io.Discard, viewer.Body)
		ended <- err
	}()

	newCert, newTrusted := certificate()
	s.write(newCert + "level: debug\n")
	s.Signal(syscall.SIGHUP)
	s.AwaitLog(patience, "applied=level,rtmps_cert,rtmps_key")
	if c, err := net.Dial("tcp", s.Addr("rtmp_addr")); err == nil {
		c.Close()
	}
	s.AwaitLog(patience, "level=DEBUG")

	if err := serves(newTrusted); err != nil || serves(trusted) == nil {
		t.Errorf("after a change of rtmps_cert: %v", err)
	}
	reload := func(text string, applied ...string) {
		t.Helper()
		s.reload(newCert+text, applied...)
	}
	secret := "token:\n  secret: " + tokenSecret + "\n"
	reload("private: [live/movie]\n"+secret, "level", "private", "token.secret")
	if got := status(t, s.FLV("movie"), ""); got != 401 {
		t.Errorf("a private room without a token: %d", got)
	}
	if got := status(t, s.FLV("movie"), makeToken(t, "play", "live/movie")); got != 200 {
		t.Errorf("a private room with a token: %d", got)
	}
	hook := "hook:\n  secret: the secret of the webhooks\n  on_play: " + hooks.URL + "/play\n  events: " + hooks.URL +
		"/events\n"
	reload(hook, "private", "token.secret", "hook.on_play", "hook.events", "hook.secret")
	if got := status(t, s.FLV("movie"), ""); got != 403 || !refused.Load() {
		t.Errorf("a viewer that the webhook refuses: %d", got)
	}
	later := s.Push(src.File(t), "later")
	select {
	case e := <-events:
		if !strings.Contains(e, "stream.started") || !strings.Contains(e, "live/later") {
			t.Errorf("event %s", e)
		}
	case <-time.After(patience):
		t.Error("no event")
	}
	reload("hls_part: 0\n", "hook.on_play", "hook.events", "hook.secret", "hls_part")
	later.Kill()
	s.Push(src.File(t), "new", "-stream_loop", "-1")
	s.AwaitLive("new")
	for room, parts := range map[string]bool{"movie": true, "new": false} {
		list := string(harness.Get(t, strings.Replace(s.HLS(room), ".m3u8", "/index.m3u8", 1)))
		if strings.Contains(list, "#EXT-X-PART-INF") != parts {
			t.Errorf("%s:\n%s", room, list)
		}
	}
	if e := s.Call("/control/get?room=x&app=vod"); e.Status != 404 {
		t.Errorf("the app vod before: %d", e.Status)
	}
	push := "rtmp://" + other.Addr("rtmp_addr") + "/live"
	apps := "server:\n- appname: live\n  static_push: [%s]\n- appname: vod\n"
	reload(fmt.Sprintf(apps, push), "hls_part", "server")
	if e := s.Call("/control/get?room=x&app=vod"); e.Status != 200 {
		t.Errorf("the app vod: %d %s", e.Status, e.Data)
	}
	other.AwaitLive("movie")
	connected := func() (ids []uint64) {
		for _, p := range other.Stat().Publishers {
			ids = append(ids, p.StreamID)
		}
		return ids
	}
	other.AwaitLive("new")
	before := connected()
	relay := "/control/push?oper=start&app=live&name=movie&url=rtmp://" + other.Addr("rtmp_addr") + "/live/copy"
	if e := s.Call(relay); e.Status != 403 {
		t.Errorf("a relay that is not allowed: %d %s", e.Status, e.Data)
	}
	reload(fmt.Sprintf(apps, push)+"relay_allow: [127.0.0.1]\n", "relay_allow")
	if e := s.Call(relay); e.Status != 200 {
		t.Errorf("a relay that is allowed: %d %s", e.Status, e.Data)
	}
	other.AwaitLive("copy")
	after := connected()
	for _, id := range before {
		if !slices.Contains(after, id) {
			t.Errorf("publishers after the reload: %v, before %v: an unchanged relay was disconnected", after, before)
		}
	}
	reload("relay_max: 0\nserver:\n- appname: live\n", "relay_allow", "relay_max", "server")
	harness.Eventually(t, patience, "the static relays have ended", func() error {
		if n := len(other.Stat().Publishers); n != 1 {
			return fmt.Errorf("%d publishers", n)
		}
		return nil
	})
	if e := s.Call("/control/get?room=x&app=vod"); e.Status != 404 {
		t.Errorf("the app vod after: %d", e.Status)
	}
	if e := s.Call(strings.Replace(relay, "/copy", "/second", 1)); e.Status != 403 && e.Status != 429 {
		t.Errorf("a relay beyond relay_max: %d %s", e.Status, e.Data)
	}
	reload("conns_per_ip: 1\nconn_burst: 0\n", "conns_per_ip", "conn_burst", "relay_max")
	first, err := net.Dial("tcp", s.Addr("rtmp_addr"))
	if err != nil {
		t.Fatal(err)
	}
	defer first.Close()
	second, err := net.Dial("tcp", s.Addr("rtmp_addr"))
	if err != nil {
		t.Fatal(err)
	}
	defer second.Close()
	_ = first.SetReadDeadline(time.Now().Add(patience))
	if _, err := first.Read(make([]byte, 1)); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("the oldest idle connection stays: %v", err)
	}
	reload("admin_token: the-token-of-the-operator\njwt:\n  secret: a-secret-for-operators\n",
		"admin_token", "jwt.secret", "conns_per_ip", "conn_burst")
	if without, with := status(t, s.API("/api/v1/settings"), ""), status(t, s.API("/api/v1/settings"),
		"the-token-of-the-operator"); without != 401 || with != 200 {
		t.Errorf("settings without and with the new admin token: %d, %d", without, with)
	}
	select {
	case err := <-ended:
		t.Errorf("the viewer was disconnected: %v", err)
	default:
	}
	s.AwaitStderr(patience, func(log string) bool { return strings.Count(log, "settings reloaded") == 9 })
}

// TestWatchedFile replaces the settings file as editors do, and as Kubernetes does.
func TestWatchedFile(t *testing.T) {
	t.Parallel()
	s := startWithFile(t, "config_watch: true\n", harness.Options{})
	await := func(want float64) {
		t.Helper()
		harness.Eventually(t, patience, "reload", func() error {
			if got, _, _ := s.setting("relay_max"); got != want {
				return fmt.Errorf("relay_max: %v", got)
			}
			return nil
		})
	}
	temp := s.file + ".new"
	if err := os.WriteFile(temp, []byte("config_watch: true\nrelay_max: 1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(temp, s.file); err != nil {
		t.Fatal(err)
	}
	await(1)
	// Kubernetes: livego.yaml -> data/livego.yaml, data -> version-1; the link data is replaced.
	dir := filepath.Dir(s.file)
	for i, text := range []string{"config_watch: true\nrelay_max: 2\n", "relay_max: 3\n"} {
		version := filepath.Join(dir, fmt.Sprint("version-", i))
		link := filepath.Join(dir, "data")
		if err := errors.Join(os.Mkdir(version, 0o700),
			os.WriteFile(filepath.Join(version, "livego.yaml"), []byte(text), 0o600),
			os.Symlink(version, link+".new"), os.Rename(link+".new", link)); err != nil {
			t.Fatal(err)
		}
		if i == 0 {
			if err := errors.Join(os.Symlink("data/livego.yaml", temp), os.Rename(temp, s.file)); err != nil {
				t.Fatal(err)
			}
		}
		await(float64(i + 2))
	}
}

// TestInvalidReload loads a file with two mistakes.
func TestInvalidReload(t *testing.T) {
	t.Parallel()
	s := startWithFile(t, "relay_max: 7\n", harness.Options{})
	s.write("relay_max: 8\nconns_per_ip: many\nconn_idel: 1s\n")
	a := s.call("POST", "/api/v1/config/reload", "", 409)
	if len(a.Errors) != 2 || a.Errors[0].Message != "livego.yaml:2: conns_per_ip: must be a whole number" ||
		a.Errors[1].Message != "livego.yaml:3: conn_idel: unknown key (did you mean conn_idle?)" {
		t.Errorf("%+v", a)
	}
	for _, m := range a.Errors {
		s.AwaitLog(patience, m.Message)
	}
	s.Signal(syscall.SIGHUP)
	s.AwaitStderr(patience, func(log string) bool { return strings.Count(log, "settings not reloaded") == 4 })
	if got, _, _ := s.setting("relay_max"); got != 7.0 {
		t.Errorf("relay_max: %v", got)
	}
	// What needs a restart is named, and keeps its value.
	s.write("relay_max: 8\nhttp_idle_timeout: 50s\n")
	if a := s.call("POST", "/api/v1/config/reload", "", 200); !slices.Equal(a.Restart, []string{"http_idle_timeout"}) ||
		!slices.Equal(a.Applied, []string{"relay_max"}) {
		t.Errorf("%+v", a)
	}
	s.AwaitLog(patience, "settings need a restart")
	if got, source, restart := s.setting("http_idle_timeout"); got != "1m" || source != "file" || !restart {
		t.Errorf("http_idle_timeout: %v of %s, restart %v", got, source, restart)
	}
	for _, want := range []string{"config.failed", "config.reloaded"} {
		if list := string(harness.Get(t, s.API("/api/v1/events?type="+want))); !strings.Contains(list, want) {
			t.Errorf("events: %s", list)
		}
	}
}

// TestSettingsOfTheAPI changes settings by the API, kills the server, and starts it again.
func TestSettingsOfTheAPI(t *testing.T) {
	t.Parallel()
	o := harness.Options{Dir: t.TempDir(), DataDir: t.TempDir(), Flags: []string{"--relay_max=5"}}
	const file = "conns_per_ip: 10\nauth_failures: 3\n"
	s := startWithFile(t, file, o)
	if a := s.call("POST", "/api/v1/settings/validate", `{"conns_per_ip":-1,"conn_idel":"1s","play_wait":1.5}`, 400); len(
		a.Errors) == 0 {
		t.Errorf("%+v", a)
	}
	if a := s.call("POST", "/api/v1/settings/validate", `{"conns_per_ip":-1,"conn_idel":"1s"}`, 400); len(
		a.Errors) != 2 {
		t.Errorf("%+v", a)
	}
	a := s.call("PATCH", "/api/v1/settings",
		`{"conns_per_ip":20,"relay_max":6,"private":["live/a","live/b"],"token.secret":"`+tokenSecret+
			`","http_idle_timeout":"40s"}`, 200)
	if want := []string{"private", "token.secret", "conns_per_ip"}; !slices.Equal(a.Applied, want) ||
		!slices.Equal(a.Restart, []string{"http_idle_timeout"}) {
		t.Errorf("%+v", a)
	}
	s.Kill()
	s = startWithFile(t, file, o)
	for key, want := range map[string]string{"conns_per_ip": "20 api", "relay_max": "5 flag", "auth_failures": "3 file",
		"private": "[live/a live/b] api", "token.secret": "<nil> api", "http_idle_timeout": "40s api",
		"takeover": "idle default"} {
		value, source, _ := s.setting(key)
		if got := fmt.Sprint(value, " ", source); got != want {
			t.Errorf("%s: %s, want %s", key, got, want)
		}
	}
	const shadowed = "livego.yaml:1: conns_per_ip: the value has no effect, because another was set through the API"
	s.AwaitLog(patience, shadowed)
	check := harness.Livego(t, o.Dir, nil, "check-config", "--data_dir="+o.DataDir)
	check.WaitOK(patience)
	if !strings.Contains(check.Stderr(), shadowed) {
		t.Errorf("check-config: %s", check.Stderr())
	}
	diff := string(harness.Get(t, s.API("/api/v1/settings/diff")))
	for _, want := range []string{`{"key":"conns_per_ip","value":20,"file":10,"source":"api"}`,
		`{"key":"token.secret","source":"api"}`, `"relay_max","value":5,"file":100,"source":"flag"`} {
		if !strings.Contains(diff, want) {
			t.Errorf("no %s in %s", want, diff)
		}
	}
	if strings.Contains(diff+string(harness.Get(t, s.API("/api/v1/settings"))), tokenSecret) {
		t.Error("a secret is readable")
	}
	s.call("DELETE", "/api/v1/settings/conns_per_ip", "", 200)
	s.call("PATCH", "/api/v1/settings", `{"private":null}`, 200)
	if value, source, _ := s.setting("conns_per_ip"); value != 10.0 || source != "file" {
		t.Errorf("conns_per_ip: %v of %s", value, source)
	}
	if info, err := os.Stat(filepath.Join(o.DataDir, "settings.json")); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info, err)
	}
}
