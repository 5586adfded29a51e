//go:build linux

package hostile

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"livego/e2e/harness"
)

// TestCrossSiteByName sends requests as a browser sends them for a page of another site, to a name
// of api_hosts over plain HTTP, where browsers send no Sec-Fetch-Site. Nothing may change.
func TestCrossSiteByName(t *testing.T) {
	t.Parallel()
	s := harness.Start(t, harness.Options{NoRace: true, Flags: []string{"--api_hosts=studio.example"}})
	key := s.Key("movie")
	host := "Host: studio.example"
	for _, target := range []string{
		"/control/delete?room=movie", "/control/reset?room=movie", "/control/get?room=victim",
		"/control/push?oper=start&app=live&name=movie&url=rtmp://127.0.0.1/live/x",
		"/control/pull?oper=start&app=live&name=victim&url=rtmp://127.0.0.1/live/x",
	} {
		for _, headers := range [][]string{
			{host, "Referer: http://attacker.tld/", "User-Agent: Mozilla/5.0", "Accept: image/avif,image/webp,*/*"}, {host},
		} {
			resp, body := doRequest(t, s.API(""), operatorCall{method: "GET", target: target, headers: headers})
			if resp.StatusCode != 403 || !strings.Contains(body, "localhost or HTTPS") {
				t.Errorf("%s %v: HTTP %d %s", target, headers, resp.StatusCode, body)
			}
		}
	}
	for target, want := range map[string]int{"/": 200, "/stat/livestat": 200, "/statics/": 200, "/api/v1/keys": 200,
		"/debug/pprof/": 403} {
		if resp, body := doRequest(t, s.API(""),
			operatorCall{method: "GET", target: target, headers: []string{host}}); resp.StatusCode != want {
			t.Errorf("%s: HTTP %d %.200s, want %d", target, resp.StatusCode, body, want)
		}
	}
	if resp, body := doRequest(t, s.API(""),
		operatorCall{method: "DELETE", target: "/api/v1/keys/x", headers: []string{host}}); resp.StatusCode != 401 {
		t.Errorf("DELETE: HTTP %d %s", resp.StatusCode, body)
	}
	if again := s.Key("movie"); again != key {
		t.Error("the room was deleted or reset")
	}
	if resp, body := doRequest(t, s.API(""),
		operatorCall{method: "GET", target: "/control/get?room=movie",
			headers: []string{host, "Authorization: Bearer " + adminToken(t, s.DataDir)}}); resp.StatusCode != 200 {
		t.Errorf("with a credential: HTTP %d %s", resp.StatusCode, body)
	}
}

// TestAllowedNetwork sends requests from an address that is not loopback, in a network of the
// test's own. Only if api_allow has it, and the request shows no proxy and no page of another site,
// is there an answer without a credential.
func TestAllowedNetwork(t *testing.T) {
	harness.Need(t, "ip", "curl", "bash")
	harness.NeedRights(t, "unshare", "--net", "true")
	t.Parallel()
	for _, c := range []struct {
		name, setting, curl, want string
	}{
		{"default", "", "get", "403"},
		{"in a range", "192.0.2.0/24", "get", "200"},
		{"single address", "192.0.2.1", "get", "200"},
		{"another range", "198.51.100.0/24", "get", "403"},
		{"image on a cross-site page", "192.0.2.0/24", "get -A Mozilla/5.0", "403"},
		{"statistics in a browser", "192.0.2.0/24", "stat -A Mozilla/5.0", "200"},
		{"form on a cross-site page", "192.0.2.0/24", "get -A Mozilla/5.0 -d x=y -H Origin:http://attacker.tld", "403"},
		{"DNS rebinding", "192.0.2.0/24", "get -H Host:attacker.tld", "403"},
		{"a proxy", "192.0.2.0/24", "get -H X-Forwarded-For:192.0.2.1", "403"},
		{"key export", "192.0.2.0/24", "export", "401"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			route, more, _ := strings.Cut(c.curl, " ")
			path := map[string]string{"get": "/control/get?room=movie", "stat": "/stat/livestat",
				"export": "/api/v1/keys/export"}[route]
			script := fmt.Sprintf(`
				ip link set lo up; ip addr add 192.0.2.1/32 dev lo
				%s --data_dir=data --api_addr=192.0.2.1:8090 --api_allow=%q 2>log & server=$!
				trap 'kill $server; wait $server' EXIT
				until curl -sf -o /dev/null http://192.0.2.1:8090/readyz; do kill -0 $server; done
				curl -sS -o body -w '%%{http_code}' %s 'http://192.0.2.1:8090%s'`, harness.Binary(t, true), c.setting, more, path)
			cmd := exec.CommandContext(t.Context(), "unshare", "--net", "bash", "-euc", script)
			cmd.Dir = dir
			out, err := cmd.Output()
			body, _ := os.ReadFile(filepath.Join(dir, "body"))
			if err != nil || string(out) != c.want {
				log, _ := os.ReadFile(filepath.Join(dir, "log"))
				t.Errorf("HTTP %s %s, want %s (%v)\n%s", out, body, c.want, err, log)
			}
		})
	}
}

// TestAdminTokenFile passes the admin token in a file, as containers do, to the server and to the
// command.
func TestAdminTokenFile(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "token")
	const token = "an-admin-token-of-a-container"
	if err := os.WriteFile(file, []byte(token+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	env := []string{"LIVEGO_ADMIN_TOKEN_FILE=" + file}
	s := harness.Start(t, harness.Options{NoRace: true, Env: env})
	export := operatorCall{method: "GET", target: "/api/v1/keys/export"}
	if resp, body := doRequest(t, s.API(""), export); resp.StatusCode != 401 || !strings.Contains(body, "admin_token") {
		t.Errorf("without the token: HTTP %d %s", resp.StatusCode, body)
	}
	export.headers = []string{"Authorization: Bearer " + token}
	if resp, body := doRequest(t, s.API(""), export); resp.StatusCode != 200 {
		t.Errorf("with the token: HTTP %d %s", resp.StatusCode, body)
	}
	flags := []string{"keys", "export", "--data_dir=" + s.DataDir, "--api_addr=" + s.Addr("api_addr")}
	harness.Livego(t, t.TempDir(), env, flags...).WaitOK(longTimeout)
	if p := harness.Livego(t, t.TempDir(), nil, flags...); p.Wait(longTimeout) != 1 ||
		!strings.Contains(p.Stderr(), "admin_token") {
		t.Errorf("the command without the token: %s", p.Stderr())
	}
	if _, err := os.Stat(filepath.Join(s.DataDir, "admin.token")); err == nil {
		t.Error("the server created admin.token too")
	}
	if strings.Contains(s.Stderr(), token) {
		t.Error("the token is in the log")
	}
}

// TestJWTSecrets starts with a weak secret, which is allowed on loopback only, and checks that
// jwt.strict refuses tokens without exp or role.
func TestJWTSecrets(t *testing.T) {
	t.Parallel()
	s := harness.Start(t, harness.Options{NoRace: true, Flags: []string{"--jwt.secret=x"}})
	if !strings.Contains(s.Stderr(), "jwt.secret: is shorter than 16 characters") {
		t.Errorf("no warning: %s", s.Stderr())
	}
	open := harness.Start(t, harness.Options{NoRace: true, NoWait: true,
		Flags: []string{"--jwt.secret=x", "--api_addr=:0"}})
	if code := open.WaitExit(longTimeout); code != 2 ||
		!strings.Contains(open.Stderr(), "--jwt.secret: is shorter than 16 characters") {
		t.Errorf("on all addresses: code %d: %s", code, open.Stderr())
	}
	strict := harness.Start(t, harness.Options{NoRace: true,
		Flags: []string{"--jwt.secret=" + operatorSecret, "--jwt.strict=true"}})
	for claims, want := range map[string]int{
		`{"role":"read","exp":4000000000}`: 200, `{"role":"read"}`: 403, `{"exp":4000000000}`: 403, `{}`: 403,
	} {
		call := operatorCall{method: "GET", target: "/stat/livestat",
			headers: []string{"Authorization: Bearer " + harness.JWT(operatorSecret, `{"alg":"HS256"}`, claims)}}
		if resp, body := doRequest(t, strict.API(""), call); resp.StatusCode != want {
			t.Errorf("%s: HTTP %d %s, want %d", claims, resp.StatusCode, body, want)
		}
	}
}

// TestDocumentedControlReplies checks that /control sends the documented texts, in a form that no
// browser executes.
func TestDocumentedControlReplies(t *testing.T) {
	t.Parallel()
	s := harness.Start(t, harness.Options{NoRace: true, Flags: []string{"--relay_allow=127.0.0.1"}})
	for target, want := range map[string]string{
		"/control/get":    `{"status":400,"data":"url: /control/get?room=<ROOM_NAME>"}`,
		"/control/reset":  `{"status":400,"data":"url: /control/reset?room=<ROOM_NAME>"}`,
		"/control/delete": `{"status":400,"data":"url: /control/delete?room=<ROOM_NAME>"}`,
		"/control/push":   `{"status":400,"data":"url: /control/push?oper=start|stop&app=<APP>&name=<ROOM_NAME>&url=<URL>"}`,
		"/control/get?room=%3Cscript%3Ealert(1)%3C/script%3E":   "",
		"/stat/livestat?room=%3Cscript%3Ealert(1)%3C/script%3E": "",
		"/%3Cscript%3Ealert(1)%3C/script%3E":                    "", "/api/v1/keys?room=%3Cscript%3E": "",
	} {
		resp, body := doRequest(t, s.API(""),
			operatorCall{method: "GET", target: target, headers: []string{"Accept: text/html"}})
		if want != "" && strings.TrimSpace(body) != want {
			t.Errorf("%s: %s, want %s", target, body, want)
		}
		kind, csp := resp.Header.Get("Content-Type"), resp.Header.Get("Content-Security-Policy")
		if !strings.HasPrefix(kind, "application/") || !strings.HasSuffix(kind, "json") ||
			resp.Header.Get("X-Content-Type-Options") != "nosniff" || !strings.Contains(csp, "default-src 'self'") {
			t.Errorf("%s: %v", target, resp.Header)
		}
	}
}
