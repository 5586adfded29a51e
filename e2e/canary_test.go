package e2e

import (
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"livego/e2e/rig"
	"livego/e2e/sample"
)

// TestCanary plants a secret in every field that takes one, has everything happen with them that goes right and wrong, and looks for
// them in all that the server says.
func TestCanary(t *testing.T) {
	rig.Need(t, "ffmpeg", "redis-server", "redis-cli")
	t.Parallel()
	secrets := map[string]string{
		"redis_pwd": "cAnArYrEdIs0pAsSwOrD", "token.secret": "cAnArYtOkEn0sEcReT00", "token.previous": "cAnArYpReViOuS0sEcReT",
		"jwt.secret": "cAnArYjWt0sEcReT0000", "hook.secret": "cAnArYhOoK0sEcReT000", "hook URL": "cAnArYhOoK0uRl000000",
	}
	r := rig.StartRedis(t, "--requirepass", secrets["redis_pwd"])
	hook := "http://user:" + secrets["hook URL"] + "@127.0.0.1:1/" + secrets["hook URL"] + "?x=" + secrets["hook URL"]
	env := []string{"LIVEGO_REDIS_ADDR=redis://:" + secrets["redis_pwd"] + "@" + r.Addr(), "LIVEGO_HOOK_EVENTS=" + hook, "LIVEGO_HOOK_ON_PLAY=" + hook}
	for key, v := range secrets {
		if key != "hook URL" {
			env = append(env, "LIVEGO_"+strings.ToUpper(strings.ReplaceAll(key, ".", "_"))+"="+v)
		}
	}
	s := rig.Start(t, rig.Options{Flags: []string{"--level=debug", "--private=live/shut"}, Env: env})
	admin, err := os.ReadFile(filepath.Join(s.DataDir, "admin.token"))
	if err != nil {
		t.Fatal(err)
	}
	secrets["admin token"] = strings.TrimSpace(string(admin))
	livego := func(args ...string) string {
		p := rig.Livego(t, t.TempDir(), env, append(args, "--data_dir="+s.DataDir, "--api_addr="+s.Addr("api_addr"))...)
		p.Wait(patience)
		return strings.TrimSpace(p.Stdout() + "\n" + p.Stderr())
	}
	secrets["JWT"] = livego("token", "manage", "--role=operate")
	secrets["play token"], secrets["publish token"] = livego("token", "play", "live/shut"), livego("token", "publish", "live/movie")
	secrets["signed token"] = livego("token", "play", "live/shut", "--signed")

	var said strings.Builder // all that the server has answered where no secret is asked for
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
		b, _ := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
		if !quiet {
			fmt.Fprintf(&said, "%s %d %v %s\n", target[:min(40, len(target))], resp.StatusCode, resp.Header, b)
		}
		return string(b)
	}
	key := call("GET", s.API("/control/get?room=movie"), secrets["JWT"], "", true)
	_, key, _ = strings.Cut(key, `"data":"`)
	secrets["push key"] = key[:48]
	secrets["wrong key"] = strings.Repeat("wRoNgKeY", 6)
	made := call("POST", s.API("/api/v1/keys"), secrets["admin token"], `{"room":"movie","label":"cam"}`, true)
	_, made, _ = strings.Cut(made, `"key":"`)
	secrets["further key"] = made[:48]

	src := load(t, sample.AV)
	push := s.PushTo(src.File(t), s.RTMP(secrets["push key"]), "-stream_loop", "-1")
	call("GET", s.API("/stat/livestat"), secrets["JWT"], "", false)
	for _, target := range []string{
		s.RTMP(secrets["wrong key"]), s.RTMP("movie") + "?token=" + secrets["play token"], s.RTMP("movie") + "?token=" + secrets["publish token"],
		"rtmp://" + s.Addr("rtmp_addr") + "/" + secrets["wrong key"] + "/x", s.RTMP(secrets["push key"]) + "?token=" + secrets["JWT"],
		"rtmp://" + s.Addr("rtmp_addr") + "/live/" + secrets["push key"] + "/" + secrets["push key"],
	} {
		s.PushTo(src.File(t), target).Wait(patience)
	}
	for _, target := range []string{s.RTMP("shut") + "?token=" + secrets["publish token"], s.RTMP("shut") + "?token=" + secrets["signed token"], s.RTMP(secrets["push key"])} {
		rig.FFmpeg(t, "-i", target, "-t", "1", "-f", "null", "-").Wait(patience)
	}
	all := []string{}
	for _, v := range secrets {
		if v != "" {
			all = append(all, v)
		}
	}
	ask := func() {
		for _, v := range all {
			q := url.QueryEscape(v)
			for _, target := range []string{
				s.FLV("shut") + "?token=" + q, s.HLS("shut") + "?token=" + q, s.FLV(url.PathEscape(v)), s.HLS(url.PathEscape(v)), s.FLV("movie") + "?x=" + q,
				s.API("/stat/livestat?room=" + q), s.API("/control/get?jwt=" + q), s.API("/control/reset?room=" + q), s.API("/control/delete?room=" + q + "&app=" + q),
				s.API("/control/reset?room=movie&grace=" + q), s.API("/control/reset?room=movie&all=" + q), s.API("/" + url.PathEscape(v)), s.API("/api/v1/keys?room=" + q),
				s.API("/api/v1/keys?after=" + q), s.API("/api/v1/keys?" + q + "=1"), s.API("/api/v1/" + url.PathEscape(v)), s.API("/statics/" + url.PathEscape(v)),
			} {
				call("GET", target, "", "", false)
				if strings.Contains(target, "room=") && len(v) != 48 {
					continue // the operator may call a room what he likes, but not like a key
				}
				call("GET", target, secrets["admin token"], "", false)
				call("POST", target, v, "", false)
			}
			call("DELETE", s.API("/api/v1/keys/"+url.PathEscape(v)), secrets["admin token"], "", false)
			if len(v) != 48 {
				continue
			}
			for _, body := range []string{`{"room":"` + v + `"}`, `{"` + v + `":1}`, `{"room":["` + v + `"]}`, `{"room":"a","app":"` + v + `"}`, `{"room":"a","role":"` + v + `"}`, v} {
				call("POST", s.API("/api/v1/keys"), secrets["admin token"], body, false)
				call("POST", s.API("/api/v1/keys/import"), secrets["admin token"], `{"keys":[`+body+`]}`, false)
			}
		}
		for _, path := range []string{"/", "/stat/livestat", "/api/v1/keys", "/api/v1/events?type=denied&limit=1000", "/api/v1/openapi.json", "/metrics", "/healthz", "/readyz", "/debug/pprof/goroutine?debug=1"} {
			call("GET", s.API(path), secrets["admin token"], "", false)
		}
	}
	ask()
	outputs := map[string]string{
		"livego keys list":                   livego("keys", "list"),
		"livego keys revoke":                 livego("keys", "revoke", "nobody"),
		"livego check-config":                livego("check-config"),
		"livego check-config, with mistakes": livego("check-config", "--redis_addr=redis://u:"+secrets["redis_pwd"]+"@a,b", "--token.secret=cAnArYsHoRt", "--hook.events=ftp://"+secrets["hook URL"]+"@x"),
		"livego keys import":                 livego("keys", "import", "--from-redis=redis://:"+secrets["wrong key"]+"@"+r.Addr()),
	}
	r.Crash()
	for _, path := range []string{"/control/get?room=movie", "/control/reset?room=movie", "/api/v1/keys", "/readyz", "/"} {
		call("GET", s.API(path), secrets["admin token"], "", false)
	}
	push.Kill()
	r.Restart()
	s.AwaitReady()
	outputs["answers"] = said.String()
	outputs["log"] = s.Stdout() + s.Stderr()
	secrets["short secret"] = "cAnArYsHoRt"
	for where, text := range outputs {
		if len(text) == 0 {
			t.Errorf("%s says nothing: the test tests nothing", where)
		}
		for name, secret := range secrets {
			if secret == "" {
				continue
			}
			if i := strings.Index(text, secret); i >= 0 {
				t.Errorf("%s has the %s: ...%s...", where, name, text[max(0, i-200):min(len(text), i+100)])
			}
		}
	}
}
