//go:build linux

package hostile

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"livego/e2e/harness"
)

// Users of a Debian machine.
const (
	root    = 0
	wwwData = 33
	person  = 1000
	nobody  = 65534
)

// startProxy starts nginx as a user, with a location that passes everything to target, and returns
// its base URL. lines are further directives of the location.
func startProxy(t *testing.T, uid uint32, target, lines string) string {
	t.Helper()
	dir := t.TempDir()
	for _, d := range []string{filepath.Dir(dir), dir} { // otherwise only root has access
		if err := os.Chmod(d, 0o777); err != nil {
			t.Fatal(err)
		}
	}
	addr := fmt.Sprintf("127.0.0.1:%d", harness.FreePorts(t, 1)[0])
	temporary := ""
	for _, of := range []string{"client_body", "proxy", "fastcgi", "uwsgi", "scgi"} {
		temporary += fmt.Sprintf("%s_temp_path %s/%s; ", of, dir, of)
	}
	conf := fmt.Sprintf(`
		daemon off; master_process off; pid %s/pid; error_log stderr warn;
		events {}
		http { access_log off; %s server { listen %s; location / { proxy_pass http://%s; %s } } }`,
		dir, temporary, addr, target, lines)
	file := filepath.Join(dir, "nginx.conf")
	if err := os.WriteFile(file, []byte(conf), 0o644); err != nil {
		t.Fatal(err)
	}
	nginx := harness.StartProgramAs(t, uid, "nginx", "-c", file, "-p", dir, "-e", "stderr")
	harness.Eventually(t, 10*time.Second, "nginx", func() error {
		if nginx.Ended() {
			t.Fatalf("nginx has ended: %s", nginx.Stderr())
		}
		c, err := net.Dial("tcp", addr)
		if err == nil {
			c.Close()
		}
		return err
	})
	return "http://" + addr
}

// curlAs sends a request with curl as a user and returns the status and the body.
func curlAs(t *testing.T, uid uint32, args ...string) (status, body string) {
	t.Helper()
	p := harness.StartProgramAs(t, uid, "curl",
		append([]string{"-sS", "--max-time", "20", "-w", "\n%{http_code}"}, args...)...)
	p.WaitOK(longTimeout)
	out := p.Stdout()
	at := strings.LastIndexByte(out, '\n')
	return out[at+1:], out[:at]
}

// TestUnannouncedProxy requests secrets through a real nginx that adds no header, and as each kind
// of user of this machine.
func TestUnannouncedProxy(t *testing.T) {
	harness.Need(t, "nginx", "curl")
	t.Parallel()
	s := harness.Start(t, harness.Options{Flags: []string{"--api_hosts=studio.example"}})
	target := s.Addr("api_addr")
	const get, export = "/control/get?room=movie", "/api/v1/keys/export"
	plain := startProxy(t, wwwData, target, "")
	modern := startProxy(t, wwwData, target, `proxy_http_version 1.1; proxy_set_header Connection "";`)
	silent := startProxy(t, wwwData, target,
		`proxy_http_version 1.1; proxy_set_header Connection ""; proxy_set_header Host localhost;`)
	asRoot := startProxy(t, root, target, `proxy_http_version 1.1;`)
	credential := "Authorization: Bearer " + adminToken(t, s.DataDir)
	direct := s.API("")
	for _, c := range []struct {
		name   string
		uid    uint32
		url    string
		want   string
		says   string // part of the answer
		header string
	}{
		{"plain proxy_pass", person, plain + get, "403", "HTTP/1.0", ""},
		{"proxy_pass by HTTP/1.1", person, modern + get, "403", "www-data", ""},
		{"proxy_pass that names localhost", person, silent + get, "403", "api_allow_users: [www-data]", ""},
		{"reset through it", person, silent + "/control/reset?room=movie", "403", "admin.token", ""},
		{"export through it", person, silent + export, "401", "", ""},
		{"statistics through it", person, silent + "/stat/livestat", "403", "", ""},
		{"the page through it", person, silent + "/", "403", "", ""},
		{"health through it", person, silent + "/healthz", "200", "ok", ""},
		{"readiness through it", person, silent + "/readyz", "200", "ok", ""},
		{"with the admin token through it", person, silent + get, "200", "", credential},
		{"a proxy as root, which cannot be recognized", person, asRoot + get, "200", "", ""},
		{"export through a proxy as root", person, asRoot + export, "401", "admin.token", ""},
		{"root", root, direct + get, "200", "", ""},
		{"a regular user", person, direct + get, "200", "", ""},
		{"a regular user resets", person, direct + "/control/reset?room=movie", "200", "", ""},
		{"a regular user exports", person, direct + export, "401", "required from this machine too", ""},
		{"a regular user imports", person, direct + "/api/v1/keys/import", "401", "", ""},
		{"root exports", root, direct + export, "401", "", ""},
		{"root exports with the admin token", root, direct + export, "200", "livego_keys", credential},
		{"www-data", wwwData, direct + get, "403", "api_allow_users: [www-data]", ""},
		{"nobody", nobody, direct + get, "403", "nobody", ""},
		{"www-data checks health", wwwData, direct + "/healthz", "200", "ok", ""},
		{"metrics by a service", wwwData, direct + "/metrics", "200", "livego_build_info", ""},
		{"metrics through the proxy", person, silent + "/metrics", "200", "livego_build_info", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			args := []string{c.url}
			if c.header != "" {
				args = append(args, "-H", c.header)
			}
			status, body := curlAs(t, c.uid, args...)
			if status != c.want || !strings.Contains(body, c.says) {
				t.Errorf("HTTP %s %s, want %s with %q", status, body, c.want, c.says)
			}
		})
	}
	t.Run("HTTP/1.0", func(t *testing.T) {
		if status, body := curlAs(t, person, "--http1.0", direct+get); status != "403" ||
			!strings.Contains(body, "HTTP/1.0") {
			t.Errorf("HTTP %s %s", status, body)
		}
	})
	t.Run("proxy clients that disconnect", func(t *testing.T) {
		key := s.Key("kept")
		for n := range 100 {
			c, err := net.Dial("tcp", strings.TrimPrefix(silent, "http://"))
			if err != nil {
				t.Fatal(err)
			}
			if _, err := fmt.Fprint(c, "GET /control/delete?room=kept HTTP/1.1\r\nHost: localhost\r\n\r\n"); err != nil {
				t.Fatal(err)
			}
			if n%2 == 0 {
				_ = c.(*net.TCPConn).SetLinger(0)
			}
			c.Close()
		}
		if status, body := curlAs(t, person, silent+"/control/delete?room=kept"); status != "403" { // after all of them
			t.Errorf("HTTP %s %s", status, body)
		}
		if again := s.Key("kept"); again != key {
			t.Error("the room was deleted")
		}
	})
	t.Run("other listeners", func(t *testing.T) {
		cert, private, _ := harness.Certificate(t)
		for _, c := range []struct {
			listen, scheme string
			hosts          []string
		}{
			{"[::]:%d", "http", []string{"127.0.0.1", "127.1.2.3", "[::1]", "localhost"}},
			{"0.0.0.0:%d", "https", []string{"127.0.0.1"}},
		} {
			port := harness.FreePorts(t, 1)[0]
			s := harness.Start(t, harness.Options{NoWait: true, Flags: []string{
				fmt.Sprintf("--api_addr="+c.listen, port), fmt.Sprintf("--use_api_https=%v", c.scheme == "https"),
				"--rtmps_cert=" + cert, "--rtmps_key=" + private,
			}})
			s.AwaitStderr(longTimeout, func(log string) bool { return strings.Contains(log, "ready: open") })
			for _, host := range c.hosts {
				url := fmt.Sprintf("%s://%s:%d%s", c.scheme, host, port, get)
				for uid, want := range map[uint32]string{person: "200", wwwData: "403"} {
					if status, body := curlAs(t, uid, "-k", url); status != want {
						t.Errorf("%s as %d: HTTP %s %s, want %s", url, uid, status, body, want)
					}
				}
			}
		}
	})
	t.Run("api_allow_users", func(t *testing.T) {
		s := harness.Start(t, harness.Options{Flags: []string{"--api_allow_users=www-data"}})
		if status, body := curlAs(t, wwwData, s.API(get)); status != "200" {
			t.Errorf("www-data: HTTP %s %s", status, body)
		}
		if status, body := curlAs(t, nobody, s.API(get)); status != "403" {
			t.Errorf("nobody: HTTP %s %s", status, body)
		}
	})
	t.Run("api_allow_users with an unknown user", func(t *testing.T) {
		s := harness.Start(t, harness.Options{Flags: []string{"--api_allow_users=no-such-user"}, NoWait: true})
		if code := s.WaitExit(longTimeout); code != 2 ||
			!strings.Contains(s.Stderr(), `api_allow_users: this machine has no user "no-such-user"`) {
			t.Errorf("code %d: %s", code, s.Stderr())
		}
	})
}
