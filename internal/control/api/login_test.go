package api

import (
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	"livego/internal/control/auth"
	"livego/internal/domain"
)

const (
	fromOutside = "Remote: 198.51.100.9:4000"
	publicHost  = "Host: live.example:8443"
	asBrowser   = "Accept: text/html,application/xhtml+xml,*/*;q=0.8"
	form        = "Content-Type: application/x-www-form-urlencoded"
)

// TestLoginForm checks that a browser from another machine gets the login form, and other clients
// an error.
func TestLoginForm(t *testing.T) {
	s, _ := newAuthFixture(t)
	for _, c := range []struct {
		target, accept string
		want           string // the form's action; "" for no form
	}{
		{"/", asBrowser, "./login"},
		{"/statics/", asBrowser, "./../login"},
		{"/statics/a/b.html", asBrowser, "./../../login"},
		{"/debug/pprof/", asBrowser, "./../../login"},
		{"/", "Accept: */*", ""},
		{"/control/get?room=movie", asBrowser, ""},
		{"/stat/livestat", asBrowser, ""},
		{"/api/v1/keys", asBrowser, ""},
		{"/nothing", asBrowser, ""},
		{"/healthz", asBrowser, ""},
	} {
		w := s.get(c.target, fromOutside, publicHost, c.accept)
		_, form, _ := strings.Cut(w.Body.String(), `<form action="`)
		got, _, _ := strings.Cut(form, `"`)
		if got != c.want || c.target != "/healthz" && w.Code/100 != 4 {
			t.Errorf("%s: status %d, form to %q", c.target, w.Code, got)
		}
	}
	w := s.get("/", fromOutside, publicHost, asBrowser, "Sec-Fetch-Site: cross-site")
	if wantStatus(t, w, 403); strings.Contains(w.Body.String(), "<form") {
		t.Error("a page of another site gets the form")
	}
	if body := s.get("/", fromOutside, publicHost, asBrowser).Body.String(); !strings.Contains(body, "plain HTTP") {
		t.Error("no warning of plain HTTP")
	}
	if body := s.get("/", publicHost, asBrowser, "X-Forwarded-Proto: https").Body.String(); strings.Contains(body,
		"plain HTTP") {
		t.Error("a warning of plain HTTP over TLS")
	}
	if body := s.get("/", "Host: studio", asBrowser).Body.String(); !strings.Contains(body, "api_hosts") {
		t.Error("the form does not name api_hosts")
	}
}

// TestLanguageOfLoginForm checks that the form is in the language of the browser, or in the one that the person has
// chosen, also after a failed attempt, and that it needs no script.
func TestLanguageOfLoginForm(t *testing.T) {
	s, _ := newAuthFixture(t)
	const english, chinese = `<html lang="en">`, `<html lang="zh-CN">`
	for _, c := range []struct{ target, accepted, cookie, want string }{
		{"/", "", "", english},
		{"/", "en-GB,en;q=0.9,zh;q=0.8", "", english},
		{"/", "zh-CN,zh;q=0.9,en;q=0.8", "", chinese},
		{"/", "en;q=0.5, zh-TW;q=0.9", "", chinese},
		{"/", "de, zh;q=0.5", "", chinese},
		{"/", "de", "", english},
		{"/", "zh-CN", "livego_language=en", english},
		{"/", "en", "livego_language=zh", chinese},
		{"/", "zh", "livego_language=%3Cscript%3E", chinese},
		{"/?lang=zh", "en", "livego_language=en", chinese},
		{"/?lang=en", "zh", "livego_language=zh", english},
		{"/?lang=de", "zh", "", chinese},
		{"/statics/a/b.html", "zh", "", chinese},
	} {
		w := s.get(c.target, fromOutside, publicHost, asBrowser, "Accept-Language: "+c.accepted, "Cookie: "+c.cookie)
		body := w.Body.String()
		if !strings.Contains(body, c.want) || strings.Contains(body, "<script") {
			t.Errorf("%s, Accept-Language %q, cookie %q: %s", c.target, c.accepted, c.cookie, body)
		}
		chosen, _, _ := strings.Cut(w.Header().Get("Set-Cookie"), ";")
		if want := strings.Replace(c.target, "/?lang=", "livego_language=", 1); chosen != "" && chosen != want {
			t.Errorf("%s: the chosen language is %q", c.target, chosen)
		} else if chosen == "" && (want == "livego_language=zh" || want == "livego_language=en") {
			t.Errorf("%s: the choice is not kept", c.target)
		}
	}
	body := s.get("/statics/a/b.html", fromOutside, publicHost, asBrowser).Body.String()
	wantText(t, body, `href="./../../statics/a/b.html?lang=zh"`)
	failed := s.do("POST", "/login", "credential=guess&next=/statics/", fromOutside, publicHost, form,
		"Cookie: livego_language=zh").Body.String()
	wantText(t, failed, chinese, "凭据无效", `href="./statics/?lang=en"`)
	for _, english := range []string{"Log in", "credential:", "plain HTTP", "setting"} {
		if strings.Contains(failed, english) {
			t.Errorf("the Chinese form contains %q: %s", english, failed)
		}
	}
}

// TestLogin logs in, reads, changes something, and logs out.
func TestLogin(t *testing.T) {
	s, token := newAuthFixture(t)
	post := func(path, body string, headers ...string) (status int, cookie, location string) {
		t.Helper()
		w := s.do("POST", path, body, append(headers, fromOutside, publicHost, form)...)
		cookie = w.Header().Get("Set-Cookie")
		return w.Code, cookie, w.Header().Get("Location")
	}
	status, cookie, location := post("/login",
		url.Values{"credential": {" " + token + "\n"}, "next": {"/statics/"}}.Encode())
	if status != 303 || location != "./statics/" {
		t.Fatalf("login: status %d to %s", status, location)
	}
	pattern := `^livego_session_8443=[0-9A-Za-z]{48}; Path=/; Max-Age=\d+; HttpOnly; SameSite=Strict$`
	if !regexp.MustCompile(pattern).MatchString(cookie) {
		t.Errorf("cookie %s", cookie)
	}
	shown, _, _ := strings.Cut(cookie, ";")
	sent := "Cookie: " + shown
	page := s.get("/", fromOutside, publicHost, sent)
	wantStatus(t, page, 200)
	csrfTag := regexp.MustCompile(`<meta name="csrf-token" content="([0-9A-Za-z]{48})">`)
	csrf := csrfTag.FindStringSubmatch(page.Body.String())
	if csrf == nil || !strings.Contains(page.Body.String(), `action="logout"`) ||
		strings.Contains(page.Body.String(), token) {
		t.Fatalf("the page: %s", page.Body)
	}
	wantStatus(t, s.get("/stat/livestat", fromOutside, publicHost, sent), 200)
	wantStatus(t, s.get("/debug/pprof/", fromOutside, publicHost, sent), 200)
	wantStatus(t, s.get("/control/get?room=movie", fromOutside, publicHost, sent), 403)
	wantStatus(t, s.do("POST", "/control/get?room=movie", "", fromOutside, publicHost, sent), 403)
	wantStatus(t, s.do("POST", "/control/get?room=movie", "", fromOutside, publicHost, sent, auth.CSRFHeader+": "+csrf[1]),
		200)
	wantStatus(t, s.get("/", "Host: localhost:8090", "Cookie: livego_session_8090=stale"), 200)

	if status, _, _ := post("/logout", "csrf_token=x", sent); status != 403 {
		t.Errorf("logout without the token: %d", status)
	}
	status, cookie, location = post("/logout", "csrf_token="+csrf[1], sent)
	if status != 303 || location != "./" || !strings.Contains(cookie, "Max-Age=0") {
		t.Errorf("logout: status %d to %s, %s", status, location, cookie)
	}
	wantStatus(t, s.get("/stat/livestat", fromOutside, publicHost, sent), 403)

	// Invalid logins.
	if w := s.do("POST", "/login", "credential=guess&next=/", fromOutside, publicHost, form); w.Code != 403 ||
		!strings.Contains(w.Body.String(), `role="alert"`) || w.Header().Get("Set-Cookie") != "" {
		t.Errorf("a wrong credential: %d %s", w.Code, w.Body)
	}
	for name, next := range map[string]string{
		"elsewhere": "https://attacker.tld/", "no scheme": "//attacker.tld/", "backslash": `/\attacker.tld`,
		"api": "/control/delete?room=movie", "climb": "/statics/../control/get",
		"header": "/statics/\r\nX: y", "none": "",
	} {
		if status, _, location := post("/login", url.Values{"credential": {token}, "next": {next}}.Encode()); status != 303 ||
			location != "./" {
			t.Errorf("next %s: status %d to %s", name, status, location)
		}
	}
	for _, c := range []struct {
		name, method, target, body string
		headers                    []string
		want                       int
	}{
		{"GET", "GET", "/login", "", nil, 303},
		{"GET of the logout", "GET", "/logout", "", nil, 303},
		{"PUT", "PUT", "/login", "", nil, 405},
		{"credential in the address", "POST", "/login?credential=" + token, "", nil, 400},
		{"credential twice", "POST", "/login", "credential=a&credential=b", []string{form}, 400},
		{"JSON", "POST", "/login", `{"credential":"x"}`, []string{jsonContent}, 400},
		{"compressed", "POST", "/login", "x", []string{form, "Content-Encoding: gzip"}, 415},
		{"long", "POST", "/login", strings.Repeat("x", maxBody+1), []string{form}, 413},
		{"from another site", "POST", "/login", "credential=" + token, []string{form, "Origin: https://attacker.tld"}, 403},
		{"logout without a session", "POST", "/logout", "csrf_token=x", []string{form}, 303},
	} {
		w := s.do(c.method, c.target, c.body, append(c.headers, fromOutside, publicHost)...)
		if w.Code != c.want || strings.Contains(w.Header().Get("Set-Cookie"), "=0") && c.name != "logout without a session" {
			t.Errorf("%s: status %d, want %d: %s", c.name, w.Code, c.want, w.Body)
		}
	}
	if log := s.log.String(); strings.Contains(log, token) || strings.Contains(log, shown) ||
		!strings.Contains(log, "operator logged in") {
		t.Errorf("the log:\n%s", log)
	}
}

// TestSecureCookie checks that the cookie is marked Secure if the browser used TLS to this server
// or to a proxy.
func TestSecureCookie(t *testing.T) {
	s, token := newAuthFixture(t)
	for _, c := range []struct {
		header string
		want   bool
	}{
		{"X-Forwarded-Proto: https", true}, {"Origin: https://live.example:8443", true},
		{"Origin: http://live.example:8443", false}, {"X-Forwarded-Proto: http", false},
	} {
		w := s.do("POST", "/login", "credential="+token, fromOutside, publicHost, form, c.header)
		if got := strings.Contains(w.Header().Get("Set-Cookie"), "; Secure"); w.Code != 303 || got != c.want {
			t.Errorf("%s: %d %s", c.header, w.Code, w.Header().Get("Set-Cookie"))
		}
	}
}

// TestLinksBehindProxy checks that links have the address that the browser used, or public_url.
func TestLinksBehindProxy(t *testing.T) {
	w := newFixture(t, nil).get("/", publicHost, "X-Forwarded-Proto: https")
	wantText(t, text(w.Body.String()), "https://live.example:8443/control/get?room=movie",
		"rtmp://live.example:1935/live/movie")

	s := newFixture(t, func(o *Options) {
		o.PublicURL, o.RTMP, o.RTMPS, o.HTTPS = "https://live.example.com/tv/", "rtmp://127.0.0.1:1935", "rtmps://[::]:1936",
			"https://:7443"
		o.TokenIssuer = auth.TokenIssuer{Secret: "a secret of sixteen characters", MaxAge: 24 * time.Hour}
	})
	s.publish(domain.Name{App: "live", Room: "movie"}, domain.KeyRef{})
	body := s.get("/").Body.String()
	made := s.do("POST", "/api/v1/tokens", `{"action":"play","app":"live","room":"movie"}`, jsonContent).Body.String()
	for _, shown := range []string{text(body), made} {
		wantText(t, shown, "rtmp://live.example.com:1935/live/movie", "https://live.example.com/tv/live/movie.flv",
			"https://live.example.com/tv/live/movie.m3u8",
			"rtmps://live.example.com:1936/live/movie")
	}
	wantText(t, text(body), "https://live.example.com/tv/control/get?room=movie", "rtmp://live.example.com:1935/live/ KEY")
	for _, wrong := range []string{"localhost", "127.0.0.1", "7001", "7002", "7443"} {
		if strings.Contains(body+made, wrong) {
			t.Errorf("%s is in a link", wrong)
		}
	}
}
