package browser

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"livego/e2e/harness"
)

// startDocumentedProxy starts nginx with TLS and the locations of docs/operating.md. It returns its
// address.
func startDocumentedProxy(t *testing.T, s *harness.Server) string {
	t.Helper()
	text, err := os.ReadFile("../../docs/operating.md")
	if err != nil {
		t.Fatal(err)
	}
	locations := ""
	for _, m := range regexp.MustCompile("(?s)```nginx\n(.*?)```").FindAllStringSubmatch(string(text), -1) {
		locations += m[1]
	}
	if strings.Count(locations, "location ") != 2 {
		t.Fatalf("docs/operating.md has these locations:\n%s", locations)
	}
	locations = strings.NewReplacer("127.0.0.1:8090", s.Addr("api_addr"), "127.0.0.1:7002",
		s.Addr("hls_addr")).Replace(locations)
	dir := t.TempDir()
	cert, key, _ := harness.Certificate(t)
	addr := fmt.Sprintf("127.0.0.1:%d", harness.FreePorts(t, 1)[0])
	conf := fmt.Sprintf(`
		daemon off; master_process off; pid %s/pid; error_log stderr warn;
		events {}
		http { access_log off; server { listen %s ssl; ssl_certificate %s; ssl_certificate_key %s; %s } }`,
		dir, addr, cert, key, locations)
	startNginx(t, dir, conf, addr)
	return addr
}

// startNginx starts nginx with a configuration in the directory dir, and waits until it listens on addr.
func startNginx(t *testing.T, dir, conf, addr string) {
	t.Helper()
	file := filepath.Join(dir, "nginx.conf")
	if err := os.WriteFile(file, []byte(conf), 0o600); err != nil {
		t.Fatal(err)
	}
	nginx := harness.StartProgram(t, "nginx", "-c", file, "-p", dir, "-e", "stderr")
	harness.Eventually(t, 10*time.Second, "nginx", func() error {
		if nginx.Ended() {
			t.Fatalf("nginx has exited: %s", nginx.Stderr())
		}
		c, err := net.Dial("tcp", addr)
		if err == nil {
			c.Close()
		}
		return err
	})
}

// adminToken returns the admin token of a server.
func adminToken(t *testing.T, s *harness.Server) string {
	t.Helper()
	token, err := os.ReadFile(filepath.Join(s.DataDir, "admin.token"))
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(token))
}

// TestLoginThroughProxy logs in through the documented proxy, and checks the links: they have the
// port and the scheme of the proxy, or public_url if it is set.
func TestLoginThroughProxy(t *testing.T) {
	harness.Need(t, "nginx")
	needBrowser(t)
	t.Parallel()
	for _, c := range []struct{ name, public string }{{"address of the proxy", ""},
		{"public_url", "https://live.example.com"}} {
		t.Run(c.name, func(t *testing.T) {
			s := harness.Start(t, harness.Options{NoRace: true, Flags: []string{"--public_url=" + c.public}})
			addr := startDocumentedProxy(t, s)
			token := adminToken(t, s)
			var result struct {
				Refused, Unproved, After int
				Wrong, Address, Key      string
				Links                    []string
				Cookies                  []struct {
					Name, SameSite   string
					Secure, HttpOnly bool
				}
			}
			runScript(t, patience, &result, "login.mjs", "https://"+addr+"/", token, os.Getenv("TEST_KEEP"))
			if result.Refused != 403 || !strings.Contains(result.Wrong, "neither the admin token nor") ||
				result.Unproved != 403 ||
				result.After != 403 {
				t.Errorf("%+v", result)
			}
			if len(result.Cookies) != 1 || result.Cookies[0].SameSite != "Strict" || !result.Cookies[0].Secure ||
				!result.Cookies[0].HttpOnly {
				t.Errorf("the cookies are %+v", result.Cookies)
			}
			if c.public != "" {
				for _, l := range result.Links {
					_, rest, _ := strings.Cut(l, "://")
					if !strings.HasPrefix(rest, "live.example.com/live/{room}") && !strings.HasPrefix(l, "rtmp://live.example.com:") {
						t.Errorf("a link to %s", l)
					}
				}
			}
			if result.Address != "https://"+addr+"/" || len(result.Links) != 5 {
				t.Errorf("at %s, with links to %q", result.Address, result.Links)
			}
			if key := s.Key("cinema"); result.Key != key { // the room was not deleted meanwhile
				t.Errorf("the page shows the key %q, and it is %q", result.Key, key)
			}
			if log := s.Stderr(); strings.Contains(log, token) {
				t.Error("the token is in the log")
			}
		})
	}
}

// TestLoginOverPlainHTTP logs in by a host name over plain HTTP, where the browser does not report
// the site of the page that sends the form.
func TestLoginOverPlainHTTP(t *testing.T) {
	needBrowser(t)
	t.Parallel()
	s := harness.Start(t, harness.Options{NoRace: true})
	_, port, err := net.SplitHostPort(s.Addr("api_addr"))
	if err != nil {
		t.Fatal(err)
	}
	url := "http://studio.example:" + port + "/"
	var result struct {
		Refused, Unproved, After int
		Wrong, Address, Key      string
	}
	runScript(t, patience, &result, "login.mjs", url, adminToken(t, s), "", "MAP studio.example 127.0.0.1")
	if result.Refused != 403 || !strings.Contains(result.Wrong, "neither the admin token nor") || result.Unproved != 403 ||
		result.After != 403 || result.Address != url {
		t.Errorf("%+v", result)
	}
	if key := s.Key("cinema"); result.Key != key {
		t.Errorf("the page shows the key %q, and it is %q", result.Key, key)
	}
}
