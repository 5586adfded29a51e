package api

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"livego/internal/control/auth"
	"livego/internal/domain"
)

// newAuthFixture gives a scene the real door, and returns the admin token.
func newAuthFixture(t *testing.T) (*fixture, string) {
	t.Helper()
	dir := t.TempDir()
	door, err := auth.NewAdminAuth(dir, auth.AdminOptions{SessionTime: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	token, err := os.ReadFile(filepath.Join(dir, auth.AdminTokenFile))
	if err != nil {
		t.Fatal(err)
	}
	return newFixture(t, func(o *Options) { o.Auth, o.Pprof = door, true }), strings.TrimSpace(string(token))
}

func wantStatus(t *testing.T, w *httptest.ResponseRecorder, want int) {
	t.Helper()
	if w.Code != want {
		t.Errorf("status %d, want %d: %.200s", w.Code, want, w.Body)
	}
}

// TestUnauthorizedRequests tries who gets in at every route.
func TestUnauthorizedRequests(t *testing.T) {
	const outside = "Remote: 198.51.100.9:4000"
	s, token := newAuthFixture(t)
	routes := []string{
		"/", "/control/get?room=movie", "/control/reset?room=movie", "/control/delete?room=movie", "/control/push",
		"/control/pull",
		"/stat/livestat", "/statics/", "/debug/pprof/", "/debug/pprof/heap", "/debug/pprof/profile", "/debug/vars",
		"/nothing", "/a/../b",
	}
	for _, c := range []struct {
		name    string
		headers []string
		embeds  bool // the files that pages of every site may load
	}{
		{"P01 no credential", []string{outside}, false},
		{"P01 wrong credential", []string{outside, "Authorization: Bearer " + domain.NewSecret()}, false},
		{"P01 cross-site from outside", []string{outside, "Sec-Fetch-Site: cross-site"}, false},
		{"P07 cross-site", []string{"Sec-Fetch-Site: cross-site"}, true},
		{"P07 foreign origin", []string{"Origin: https://attacker.tld"}, false},
		{"P07 null origin", []string{"Origin: null"}, true},
		{"P08 rebinding", []string{"Host: attacker.tld"}, false},
		{"P24 forged X-Forwarded-For", []string{outside, "X-Forwarded-For: 127.0.0.1"}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			for _, route := range routes {
				for _, method := range []string{"GET", "POST", "HEAD", "OPTIONS", "DELETE"} {
					w := s.do(method, route, "", c.headers...)
					if embedded := route == "/statics/" && (method == "GET" || method == "HEAD"); embedded && c.embeds {
						wantStatus(t, w, http.StatusOK)
						continue
					}
					wantStatus(t, w, http.StatusForbidden)
					if strings.HasPrefix(route, "/control") && !strings.HasPrefix(w.Body.String(), `{"status":403,"data":"`) {
						t.Errorf("%s %s: %s", method, route, w.Body)
					}
				}
			}
		})
	}
	if n := s.keys.count(); n != 0 {
		t.Errorf("refused requests made %d keys", n)
	}
	wantStatus(t, s.get("/control/get?room=movie"), 200)
	wantStatus(t, s.get("/control/get?room=movie", outside, "Host: example.org", "Authorization: Bearer "+token), 200)
	wantStatus(t, s.get("/debug/pprof/heap"), 200)
	wantStatus(t, s.get("/healthz", outside), 200)
	if strings.Contains(s.log.String(), token) {
		t.Errorf("the log has the token:\n%s", s.log)
	}
}

// TestPreflightAllowsNoOrigin has no origin told that it may do anything (P09).
func TestPreflightAllowsNoOrigin(t *testing.T) {
	s, _ := newAuthFixture(t)
	for _, origin := range []string{"https://attacker.tld", "null", "http://localhost:8090"} {
		w := s.do("OPTIONS", "/control/get?room=movie", "", "Origin: "+origin, "Access-Control-Request-Method: GET")
		if w.Code < 400 {
			t.Errorf("preflight from %s: status %d", origin, w.Code)
		}
		for name := range w.Header() {
			if strings.HasPrefix(name, "Access-Control-") {
				t.Errorf("preflight from %s: header %s", origin, name)
			}
		}
	}
}

// TestSandboxedStaticFiles lets what is in the sandbox of /statics/ load further files, and nothing
// else. A browser does not tell its requests from those of a foreign page in a sandbox.
func TestSandboxedStaticFiles(t *testing.T) {
	s, _ := newAuthFixture(t)
	cross, null := "Sec-Fetch-Site: cross-site", "Origin: null"
	link := []string{cross, "Sec-Fetch-Mode: navigate", "Sec-Fetch-Dest: document"}
	for _, c := range []struct {
		name, method, target string
		headers              []string
		want                 int
	}{
		{"script", "GET", "/statics/livego.svg", []string{cross}, 200},
		{"module", "GET", "/statics/livego.svg", []string{cross, null}, 200},
		{"module over HTTP to a name", "GET", "/statics/livego.svg", []string{null}, 200},
		{"icon", "GET", "/favicon.ico", []string{cross}, 404},
		{"post of a file", "POST", "/statics/livego.svg", []string{cross, null}, 403},
		{"statistics", "GET", "/stat/livestat", []string{cross, null}, 403},
		{"key", "GET", "/control/get?room=movie", []string{cross, null}, 403},
		{"list of keys", "GET", "/api/v1/keys", []string{cross, null}, 401},
		{"the page", "GET", "/", []string{cross, null}, 403},
		{"a file by a script of a foreign page", "GET", "/statics/livego.svg", []string{cross, "Origin: http://attacker.tld"},
			403},
		{"a link to the page", "GET", "/", link, 200},
		{"a link to a file", "GET", "/statics/", link, 200},
		{"a link to a key", "GET", "/control/get?room=movie", link, 403},
		{"a link to the page in a frame", "GET", "/", []string{cross, "Sec-Fetch-Mode: navigate", "Sec-Fetch-Dest: iframe"},
			403},
		{"a form to the page", "POST", "/", link, 403},
		{"the page by a script", "GET", "/", []string{cross, "Sec-Fetch-Mode: cors", "Sec-Fetch-Dest: empty"}, 403},
	} {
		w := s.do(c.method, c.target, "", c.headers...)
		if w.Code != c.want {
			t.Errorf("%s: status %d, want %d: %s", c.name, w.Code, c.want, w.Body)
		}
		want := ""
		if c.want == 200 && slices.Contains(c.headers, null) {
			want = "null"
		}
		if got := w.Header().Get("Access-Control-Allow-Origin"); got != want {
			t.Errorf("%s: Access-Control-Allow-Origin: %s", c.name, got)
		}
	}
}

// TestSecurityHeaders finds what protects the browser in every answer.
func TestSecurityHeaders(t *testing.T) {
	s := newFixture(t, nil)
	for _, target := range []string{"/", "/control/get", "/stat/livestat", "/statics/", "/statics/nothing", "/healthz",
		"/readyz", "/nothing"} {
		h := s.get(target).Header()
		if csp := h.Get("Content-Security-Policy"); !strings.Contains(csp, "frame-ancestors 'none'") {
			t.Errorf("%s: Content-Security-Policy %q", target, csp)
		}
		referrer := "no-referrer"
		if target == "/" { // has forms, which must show their origin
			referrer = "same-origin"
		}
		for name, want := range map[string]string{"X-Content-Type-Options": "nosniff", "Referrer-Policy": referrer} {
			if got := h.Get(name); got != want {
				t.Errorf("%s: %s is %q", target, name, got)
			}
		}
		if got := h.Get("Cache-Control"); got != "no-store" && target != "/statics/" {
			t.Errorf("%s: Cache-Control is %q", target, got)
		}
	}
}

// TestRoutes tries methods and addresses on what is and what is not there.
func TestRoutes(t *testing.T) {
	s := newFixture(t, nil)
	for _, c := range []struct {
		name, method, target string
		want                 int
		body                 string
	}{
		{"unknown", "GET", "/nothing", 404, `{"status":404,"data":"no such route"}`},
		{"unknown below control", "GET", "/control/", 404, `{"status":404,"data":"no such route"}`},
		{"P26 pprof switched off", "GET", "/debug/pprof/", 404, "no such route\n"},
		{"P26 expvar", "GET", "/debug/vars", 404, "no such route\n"},
		{"N01 unclean", "GET", "/statics/../control/get?room=a", 404, ""},
		{"N01 encoded", "GET", "/statics/%2e%2e/control/get?room=a", 404, ""},
		{"N02 double slash", "GET", "//control/get?room=a", 404, ""},
		{"W05 trace", "TRACE", "/", 405, ""},
		{"W05 connect", "CONNECT", "/control/get?room=a", 405, ""},
		{"post to the page", "POST", "/", 405, ""},
		{"P03 head", "HEAD", "/control/get?room=a", 405, ""},
		{"P03 put", "PUT", "/control/get?room=a", 405, ""},
		{"P03 patch", "PATCH", "/control/get?room=a", 405, ""},
		{"P03 trace", "TRACE", "/control/get?room=a", 405, ""},
		{"P03 options", "OPTIONS", "/control/get?room=a", 405, ""},
		{"P03 head of statistics", "HEAD", "/stat/livestat", 405, ""},
		{"W02 long URL", "GET", "/control/get?room=" + strings.Repeat("a", 4<<10), 414,
			`{"status":414,"data":"the URL is longer than 4 KiB"}`},
		{"health", "GET", "/healthz", 200, "ok\n"},
		{"health by HEAD", "HEAD", "/healthz", 200, ""},
		{"health by POST", "POST", "/healthz", 405, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := s.do(c.method, c.target, "")
			wantStatus(t, w, c.want)
			if c.body != "" && w.Body.String() != c.body {
				t.Errorf("body %q, want %q", w.Body, c.body)
			}
			if c.want == 405 && w.Header().Get("Allow") == "" {
				t.Error("no Allow header")
			}
		})
	}
	if n := s.keys.count(); n != 0 {
		t.Errorf("refused requests made %d keys", n)
	}
	w := s.do("GET", "/control/get?room=a", "", "X-HTTP-Method-Override: HEAD")
	wantStatus(t, w, 200)
}

// TestReadyzHidesReason gives nothing away of what is missing.
func TestReadyzHidesReason(t *testing.T) {
	var missing error
	s := newFixture(t, func(o *Options) { o.Ready = func() error { return missing } })
	wantStatus(t, s.get("/readyz"), 200)
	missing = errors.New("redis://:password@10.0.0.1 is away")
	w := s.get("/readyz")
	wantStatus(t, w, 503)
	if got := w.Body.String(); got != "not ready\n" {
		t.Errorf("body %q", got)
	}
	wantStatus(t, s.get("/healthz"), 200)
}

// TestProfilesWithoutCommandLine are those of the runtime, without the command line that flags may have put secrets in.
func TestProfilesWithoutCommandLine(t *testing.T) {
	s := newFixture(t, func(o *Options) { o.Pprof = true })
	wantStatus(t, s.get("/debug/pprof/"), 200)
	wantStatus(t, s.get("/debug/pprof/goroutine?debug=1"), 200)
	wantStatus(t, s.get("/debug/pprof/cmdline"), 404)
}
