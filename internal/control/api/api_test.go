package api

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"livego/internal/control/auth"
	"livego/internal/domain"
)

// newAuthFixture returns a fixture with the real authentication, and the admin token.
func newAuthFixture(t *testing.T) (*fixture, string) {
	t.Helper()
	dir := t.TempDir()
	adminAuth, err := auth.NewAdminAuth(dir, auth.AdminOptions{SessionTime: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	token, err := auth.ReadAdminToken(dir)
	if err != nil {
		t.Fatal(err)
	}
	return newFixture(t, func(o *Options) { o.Auth, o.Pprof = func() Auth { return adminAuth }, true }), token
}

func wantStatus(t *testing.T, w *httptest.ResponseRecorder, want int) {
	t.Helper()
	if w.Code != want {
		t.Errorf("status %d, want %d: %.200s", w.Code, want, w.Body)
	}
}

// TestUnauthorizedRequests sends requests without a valid credential to every route.
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
		embeds  bool // static files, which pages of every site may load
	}{
		{"no credential", []string{outside}, false},
		{"wrong credential", []string{outside, "Authorization: Bearer " + domain.NewSecret()}, false},
		{"cross-site from outside", []string{outside, "Sec-Fetch-Site: cross-site"}, false},
		{"cross-site", []string{"Sec-Fetch-Site: cross-site"}, true},
		{"foreign origin", []string{"Origin: https://attacker.tld"}, false},
		{"null origin", []string{"Origin: null"}, true},
		{"rebinding", []string{"Host: attacker.tld"}, false},
		{"forged X-Forwarded-For", []string{outside, "X-Forwarded-For: 127.0.0.1"}, false},
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
	if n := len(s.keys.all()); n != 0 {
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

// TestPreflightAllowsNoOrigin checks that no preflight response allows an origin.
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

// TestSandboxedStaticFiles checks that pages in the sandbox of /statics/ can load further static
// files and nothing else. A browser's requests from them look like those of a foreign sandboxed
// page.
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

// TestSecurityHeaders checks the headers that protect browsers in every response.
func TestSecurityHeaders(t *testing.T) {
	s := newFixture(t, nil)
	for _, target := range []string{"/", "/control/get", "/stat/livestat", "/statics/", "/statics/nothing", "/healthz",
		"/readyz", "/nothing"} {
		h := s.get(target).Header()
		if csp := h.Get("Content-Security-Policy"); !strings.Contains(csp, "frame-ancestors 'none'") {
			t.Errorf("%s: Content-Security-Policy %q", target, csp)
		}
		referrer := "no-referrer"
		if target == "/" { // has forms, whose requests must show their origin
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

// TestRoutes sends requests with different methods to known and unknown routes.
func TestRoutes(t *testing.T) {
	s := newFixture(t, nil)
	for _, c := range []struct {
		name, method, target string
		want                 int
		body                 string
	}{
		{"unknown", "GET", "/nothing", 404, `{"status":404,"data":"no such route"}`},
		{"unknown below control", "GET", "/control/", 404, `{"status":404,"data":"no such route"}`},
		{"pprof switched off", "GET", "/debug/pprof/", 404, "no such route\n"},
		{"expvar", "GET", "/debug/vars", 404, "no such route\n"},
		{"unclean", "GET", "/statics/../control/get?room=a", 404, ""},
		{"encoded", "GET", "/statics/%2e%2e/control/get?room=a", 404, ""},
		{"double slash", "GET", "//control/get?room=a", 404, ""},
		{"trace", "TRACE", "/", 405, ""},
		{"connect", "CONNECT", "/control/get?room=a", 405, ""},
		{"post to the page", "POST", "/", 405, ""},
		{"head", "HEAD", "/control/get?room=a", 405, ""},
		{"put", "PUT", "/control/get?room=a", 405, ""},
		{"patch", "PATCH", "/control/get?room=a", 405, ""},
		{"trace", "TRACE", "/control/get?room=a", 405, ""},
		{"options", "OPTIONS", "/control/get?room=a", 405, ""},
		{"head of statistics", "HEAD", "/stat/livestat", 405, ""},
		{"long URL", "GET", "/control/get?room=" + strings.Repeat("a", 4<<10), 414,
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
	if n := len(s.keys.all()); n != 0 {
		t.Errorf("refused requests made %d keys", n)
	}
	w := s.do("GET", "/control/get?room=a", "", "X-HTTP-Method-Override: HEAD")
	wantStatus(t, w, 200)
}

// TestReadyzHidesReason checks that /readyz does not reveal what is missing.
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

// TestProfilesWithoutCommandLine checks that /debug/pprof/ leaves out the command line, whose flags
// may hold secrets.
func TestProfilesWithoutCommandLine(t *testing.T) {
	s := newFixture(t, func(o *Options) { o.Pprof = true })
	wantStatus(t, s.get("/debug/pprof/"), 200)
	wantStatus(t, s.get("/debug/pprof/goroutine?debug=1"), 200)
	wantStatus(t, s.get("/debug/pprof/cmdline"), 404)
}
