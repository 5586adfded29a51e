package e2e

import (
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"livego/e2e/harness"
	"livego/e2e/sample"
)

// TestSecretsAreNotLeaked puts a secret into every field that takes one, uses them in ways that
// succeed and fail, and searches for them in everything that the server outputs.
func TestSecretsAreNotLeaked(t *testing.T) {
	harness.Need(t, "ffmpeg", "redis-server", "redis-cli")
	t.Parallel()
	secrets := map[string]string{
		"redis_pwd": "cAnArYrEdIs0pAsSwOrD", "token.secret": "cAnArYtOkEn0sEcReT00",
		"token.previous": "cAnArYpReViOuS0sEcReT",
		"jwt.secret":     "cAnArYjWt0sEcReT0000", "hook.secret": "cAnArYhOoK0sEcReT000", "hook URL": "cAnArYhOoK0uRl000000",
		"relay URL": "cAnArYrElAy0uRl00000",
	}
	r := harness.StartRedis(t, "--requirepass", secrets["redis_pwd"])
	var webhooks webhookRecorder // requests to the webhooks
	program := httptest.NewServer(&webhooks)
	defer program.Close()
	hookURL := "http://user:" + secrets["hook URL"] + "@" + strings.TrimPrefix(program.URL, "http://") + "/" +
		secrets["hook URL"] + "?x=" + secrets["hook URL"]
	env := []string{
		"LIVEGO_REDIS_ADDR=redis://:" + secrets["redis_pwd"] + "@" + r.Addr(), "LIVEGO_HOOK_ON_PUBLISH=" + hookURL,
		"LIVEGO_HOOK_EVENTS=" + hookURL,
		"LIVEGO_HOOK_VIEWERS=true", "LIVEGO_HOOK_ON_PLAY=" + hookURL,
	}
	credentials := t.TempDir() // as systemd passes credentials
	env = append(env, "CREDENTIALS_DIRECTORY="+credentials)
	inFile := func(name, v string) string {
		path := filepath.Join(credentials, name)
		if err := os.WriteFile(path, []byte(v+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	for key, v := range secrets {
		name := "LIVEGO_" + strings.ToUpper(strings.ReplaceAll(key, ".", "_"))
		switch {
		case strings.HasSuffix(key, "URL"):
		case key == "jwt.secret":
			env = append(env, name+"_FILE="+inFile("jwt", v))
		case key == "token.previous":
			inFile(key, v)
		default:
			env = append(env, name+"="+v)
		}
	}
	// The target of relays: it closes each connection.
	relayListener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer relayListener.Close()
	go func() {
		for {
			nc, err := relayListener.Accept()
			if err != nil {
				return
			}
			nc.Close()
		}
	}()
	relayBase := relayListener.Addr().String() + "/app/"
	relay := secrets["relay URL"]
	dir, archive := t.TempDir(), t.TempDir()
	text := "server:\n- appname: live\n  static_push: [\"rtmp://user:" + relay + "@" + relayBase + relay + "?token=" +
		relay +
		"\"]\n"
	if err := os.WriteFile(filepath.Join(dir, "livego.yaml"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	s := harness.Start(t, harness.Options{Dir: dir,
		Flags: []string{"--level=debug", "--play_wait=1s", "--private=live/shut", allowLoopback, "--flv_archive",
			"--flv_dir=" + archive}, Env: env})
	admin, err := os.ReadFile(filepath.Join(s.DataDir, "admin.token"))
	if err != nil {
		t.Fatal(err)
	}
	secrets["admin token"] = strings.TrimSpace(string(admin))
	livego := func(args ...string) string {
		p := harness.Livego(t, t.TempDir(), env, append(args, "--data_dir="+s.DataDir, "--api_addr="+s.Addr("api_addr"))...)
		p.Wait(patience)
		return strings.TrimSpace(p.Stdout() + "\n" + p.Stderr())
	}
	secrets["JWT"] = livego("token", "manage", "--role=operate")
	secrets["play token"], secrets["publish token"] = livego("token", "play", "live/shut"),
		livego("token", "publish", "live/movie")
	secrets["signed token"] = livego("token", "play", "live/shut", "--signed")

	var answers strings.Builder // answers of the server that must contain no secret
	call := func(method, target, bearer, body string, quiet bool) string {
		req, err := http.NewRequest(method, target, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		if bearer != "" {
			req.Header.Set("Authorization", "Bearer "+bearer)
		}
		if body != "" {
			req.Header.Set("Content-Type", "application/json")
		}
		client := &http.Client{Timeout: 10 * time.Second}
		defer client.CloseIdleConnections()
		resp, err := client.Do(req)
		if err != nil {
			return ""
		}
		defer resp.Body.Close()
		most := int64(1 << 20)
		if strings.Contains(target, ".flv") {
			most = 16 << 10 // of a response without an end
		}
		b, _ := io.ReadAll(io.LimitReader(resp.Body, most))
		if !quiet {
			fmt.Fprintf(&answers, "%s %d %v %s\n", target[:min(40, len(target))], resp.StatusCode, resp.Header, b)
		}
		return string(b)
	}
	key := call("GET", s.API("/control/get?room=movie"), secrets["JWT"], "", true)
	_, key, _ = strings.Cut(key, `"data":"`)
	secrets["stream key"] = key[:48]
	secrets["wrong key"] = strings.Repeat("wRoNgKeY", 6)
	made := call("POST", s.API("/api/v1/keys"), secrets["admin token"], `{"room":"movie","label":"cam"}`, true)
	_, made, _ = strings.Cut(made, `"key":"`)
	secrets["further key"] = made[:48]

	for name, wish := range map[string]string{
		"token by the API":            `{"action":"play","app":"live","room":"shut"}`,
		"token to publish by the API": `{"action":"publish","app":"live","room":"movie"}`,
		"one-time token":              `{"action":"play","app":"live","room":"*","once":true}`,
	} {
		made = call("POST", s.API("/api/v1/tokens"), secrets["JWT"], wish, true)
		_, made, _ = strings.Cut(made, `"token":"`)
		if secrets[name], _, _ = strings.Cut(made, `"`); secrets[name] == "" {
			t.Fatalf("the answer contains no %s", name)
		}
	}

	src := load(t, sample.AV)
	push := s.PushTo(src.File(t), s.RTMP(secrets["stream key"]), "-stream_loop", "-1")
	call("GET", s.API("/stat/livestat"), secrets["JWT"], "", false)
	for _, target := range []string{
		s.RTMP(secrets["wrong key"]), s.RTMP("movie") + "?token=" + secrets["play token"],
		s.RTMP("movie") + "?token=" + secrets["publish token"],
		"rtmp://" + s.Addr("rtmp_addr") + "/" + secrets["wrong key"] + "/x",
		s.RTMP(secrets["stream key"]) + "?token=" + secrets["JWT"],
		"rtmp://" + s.Addr("rtmp_addr") + "/live/" + secrets["stream key"] + "/" + secrets["stream key"],
	} {
		s.PushTo(src.File(t), target).Wait(patience)
	}
	for _, target := range []string{s.RTMP("shut") + "?token=" + secrets["publish token"],
		s.RTMP("shut") + "?token=" + secrets["signed token"], s.RTMP(secrets["stream key"])} {
		harness.FFmpeg(t, "-i", target, "-t", "1", "-f", "null", "-").Wait(patience)
	}
	// A stream key that is joined with other letters is a valid room name: webhooks get it, and the
	// client that requests it gets the reply that the room is not there. The log must not contain it.
	joinedKey := strings.Repeat("gLuEdKeY", 6)
	for _, target := range []string{
		s.RTMP("live" + joinedKey), s.RTMP(joinedKey + joinedKey), s.RTMP(joinedKey + "/" + joinedKey + joinedKey),
		s.RTMP(joinedKey+"_x") + "?token=" + joinedKey,
		"rtmp://" + s.Addr("rtmp_addr") + "/" + joinedKey + "_x/x",
		"rtmp://" + s.Addr("rtmp_addr") + "/live" + joinedKey + "/" + joinedKey,
	} {
		s.PushTo(src.File(t), target).Wait(patience)
		harness.FFmpeg(t, "-i", target, "-t", "1", "-f", "null", "-").Wait(patience)
	}
	for _, target := range []string{s.FLV("live" + joinedKey), s.HLS(joinedKey + joinedKey),
		s.API("/stat/livestat?room=live/" + joinedKey + joinedKey), s.API("/" + joinedKey + "_x")} {
		call("GET", target, "", "", true)
		call("GET", target, secrets["admin token"], "", true)
	}
	all := []string{}
	for _, v := range secrets {
		if v != "" {
			all = append(all, v)
		}
	}
	queryAll := func() {
		for _, v := range all {
			q := url.QueryEscape(v)
			targets := []string{
				s.FLV("shut") + "?token=" + q, s.HLS("shut") + "?token=" + q, s.FLV("movie") + "?x=" + q,
				s.API("/stat/livestat?room=" + q), s.API("/control/get?jwt=" + q), s.API("/control/reset?room=" + q),
				s.API("/control/delete?room=" + q + "&app=" + q),
				s.API("/control/reset?room=movie&grace=" + q), s.API("/control/reset?room=movie&all=" + q),
				s.API("/" + url.PathEscape(v)), s.API("/api/v1/keys?room=" + q),
				s.API("/api/v1/keys?after=" + q), s.API("/api/v1/keys?" + q + "=1"), s.API("/api/v1/" + url.PathEscape(v)),
				s.API("/statics/" + url.PathEscape(v)),
				s.API("/control/push?oper=start&app=live&name=movie&url=" +
					url.QueryEscape("rtmp://user:"+v+"@127.0.0.1:1/"+v+"/"+v+"?token="+v)),
				s.API("/control/pull?oper=start&app=live&name=movie&url=" +
					url.QueryEscape("rtmp://user:"+v+"@127.0.0.1:1/"+v+"/"+v+"?token="+v)),
				s.API("/control/push?oper=start&app=live&name=movie&url=" + url.QueryEscape("rtmp://"+relayBase+v+"?token="+v)),
				s.API("/control/pull?oper=start&app=live&name=other&url=" + url.QueryEscape("http://"+relayBase+v+".flv?token="+v)),
				s.API("/control/push?oper=start&app=live&name=movie&url=" + url.QueryEscape("rtmp://127.0.0.1:1/app/"+v)),
			}
			if len(v) == 48 {
				targets = append(targets, s.FLV(v), s.HLS(v))
			}
			for _, target := range targets {
				call("GET", target, "", "", false)
				if strings.Contains(target, "room=") && len(v) != 48 {
					continue // a room may have any name but that of a key
				}
				call("GET", target, secrets["admin token"], "", false)
				call("POST", target, v, "", false)
			}
			call("DELETE", s.API("/api/v1/keys/"+url.PathEscape(v)), secrets["admin token"], "", false)
			if len(v) != 48 {
				continue
			}
			for _, body := range []string{`{"room":"` + v + `"}`, `{"` + v + `":1}`, `{"room":["` + v + `"]}`,
				`{"room":"a","app":"` + v + `"}`, `{"room":"a","role":"` + v + `"}`, v} {
				call("POST", s.API("/api/v1/keys"), secrets["admin token"], body, false)
				call("POST", s.API("/api/v1/keys/import"), secrets["admin token"], `{"keys":[`+body+`]}`, false)
			}
		}
		for _, path := range []string{"/", "/stat/livestat", "/api/v1/keys", "/api/v1/relays", "/api/v1/recordings",
			"/api/v1/events?limit=1000", "/api/v1/openapi.json", "/metrics", "/healthz", "/readyz", "/debug/pprof/",
			"/debug/pprof/goroutine?debug=1", "/debug/pprof/goroutine?debug=2", "/debug/pprof/heap?debug=1"} {
			call("GET", s.API(path), secrets["admin token"], "", false)
		}
		for _, profile := range []string{"goroutine", "heap", "allocs", "block", "mutex", "threadcreate", "profile?seconds=1",
			"trace?seconds=1"} {
			answers.WriteString(gunzip(call("GET", s.API("/debug/pprof/"+profile), secrets["admin token"], "", true)))
		}
	}
	queryAll()
	viewerText := viewerOutput(t, s)
	outputs := map[string]string{
		"livego keys list":    livego("keys", "list"),
		"livego keys revoke":  livego("keys", "revoke", "nobody"),
		"livego check-config": livego("check-config"),
		"livego check-config, with mistakes": livego("check-config", "--redis_addr=redis://u:"+secrets["redis_pwd"]+"@a,b",
			"--token.secret=cAnArYsHoRt", "--hook.events=ftp://"+secrets["hook URL"]+"@x"),
		"livego keys import": livego("keys", "import",
			"--from-redis=redis://:"+secrets["wrong key"]+"@"+r.Addr()),
	}
	mistakes := filepath.Join(t.TempDir(), "livego.yaml")
	text = "server:\n- appname: live\n  static_push: [\"rtmp://user:" + secrets["relay URL"] + "@h/" +
		secrets["relay URL"] + "\"]\nredis_adr: " + secrets["redis_pwd"] + "\n"
	if err := os.WriteFile(mistakes, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	outputs["livego check-config, with a relay"] = livego("check-config", "--config_file="+mistakes)
	r.Crash()
	for _, path := range []string{"/control/get?room=movie", "/control/reset?room=movie", "/api/v1/keys", "/readyz", "/"} {
		call("GET", s.API(path), secrets["admin token"], "", false)
	}
	push.Kill()
	r.Restart()
	s.AwaitReady()
	harness.Eventually(t, patience, "hooks", func() error {
		if text := webhooks.text(); !strings.Contains(text, `"action":"publish"`) ||
			!strings.Contains(text, "stream.started") ||
			!strings.Contains(text, "viewer.joined") || !strings.Contains(text, "relay.failed") {
			return errors.New(text)
		}
		return nil
	})
	outputs["webhooks"] = webhooks.text()
	program.Close()
	viewerOutput(t, s)
	s.AwaitStderr(patience, func(log string) bool { return strings.Contains(log, "webhook did not respond") })
	outputs["what viewers get"] = viewerText
	outputs["recordings"] = readAllFiles(t, archive)
	outputs["outbox"] = readAllFiles(t, filepath.Join(s.DataDir, "outbox"))
	outputs["answers"] = answers.String()
	outputs["log"] = s.Stdout() + s.Stderr()
	if i := strings.Index(outputs["log"], joinedKey); i >= 0 {
		t.Errorf("the log contains a key that is joined with other letters: ...%s", outputs["log"][max(0, i-200):i])
	}
	secrets["short secret"] = "cAnArYsHoRt"
	for where, text := range outputs {
		if len(text) == 0 {
			t.Errorf("%s is empty: the test checks nothing", where)
		}
		for name, secret := range secrets {
			if secret == "" {
				continue
			}
			if i := strings.Index(text, secret); i >= 0 {
				t.Errorf("%s contains the %s: ...%s...", where, name, text[max(0, i-200):min(len(text), i+100)])
			}
		}
	}
}

// A webhookRecorder records the requests of webhooks, without the credentials of their URL, and
// allows everything.
type webhookRecorder struct {
	mu  sync.Mutex
	all strings.Builder
}

func (n *webhookRecorder) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	r.Header.Del("Authorization") // from the URL
	n.mu.Lock()
	defer n.mu.Unlock()
	fmt.Fprintf(&n.all, "%v %s\n", r.Header, body)
	fmt.Fprint(w, `{"allow":true}`)
}

func (n *webhookRecorder) text() string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.all.String()
}

// gunzip decompresses a profile.
func gunzip(s string) string {
	z, err := gzip.NewReader(strings.NewReader(s))
	if err != nil {
		return s
	}
	text, _ := io.ReadAll(z)
	return string(text)
}

// viewerOutput returns some of the output of a viewer.
func viewerOutput(t *testing.T, s *harness.Server) string {
	t.Helper()
	viewer := harness.FFmpeg(t, "-i", s.RTMP("movie"), "-t", "1", "-c", "copy", "-f", "flv", "-")
	viewer.Wait(patience)
	return viewer.Stdout() + viewer.Stderr()
}

// readAllFiles returns the contents of all files in a directory.
func readAllFiles(t *testing.T, dir string) string {
	t.Helper()
	var all strings.Builder
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		text, err := os.ReadFile(path)
		all.Write(text)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all.String()
}
