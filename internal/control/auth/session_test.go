package auth

import (
	"errors"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"livego/internal/domain"
)

const atHost = "Host: live.example"

// login opens a session, and returns it with the header that a browser then sends.
func login(t *testing.T, d *AdminAuth, credential string) (Session, string) {
	t.Helper()
	s, err := d.Login(request("/login", outside, atHost, "Origin: http://live.example"), credential)
	if err != nil {
		t.Fatal(err)
	}
	return s, "Cookie: " + sessionCookie + "=" + s.ID
}

// TestSession checks that a browser with a session may do what its credential allows, and needs the
// session's CSRF token for changes.
func TestSession(t *testing.T) {
	d, token := newAdminAuth(t, AdminOptions{JWTSecret: testSecret, JWTAlgorithm: "HS256", SessionTime: time.Hour})
	admin, cookie := login(t, d, token)
	reader, readerCookie := login(t, d, sign(jwt.SigningMethodHS256, testSecret, jwt.MapClaims{"role": "read"}))
	csrf := CSRFHeader + ": " + admin.CSRF
	if admin.CSRF == reader.CSRF || admin.ID == reader.ID || admin.Rights != Admin || reader.Rights != Read {
		t.Fatalf("%+v and %+v", admin, reader)
	}
	read, operate, export := Access{Rights: Read}, Access{Rights: Operate}, Access{Rights: Admin, Credential: true}
	for _, c := range []struct {
		name    string
		method  string
		need    Access
		headers []string
		want    domain.Kind
	}{
		{"read", "GET", read, []string{cookie}, noError},
		{"operate with GET, like an image on another page", "GET", operate, []string{cookie}, domain.Denied},
		{"operate with POST", "POST", operate, []string{cookie}, domain.Denied},
		{"POST to a read route", "POST", read, []string{cookie}, domain.Denied},
		{"GET of a safe admin route", "GET", Access{Rights: Admin, Safe: true}, []string{cookie}, noError},
		{"POST to a safe admin route", "POST", Access{Rights: Admin, Safe: true}, []string{cookie}, domain.Denied},
		{"operate with the CSRF token", "POST", operate, []string{cookie, csrf}, noError},
		{"export with the CSRF token", "GET", export, []string{cookie, csrf}, noError},
		{"another session's CSRF token", "POST", operate, []string{cookie, CSRFHeader + ": " + reader.CSRF}, domain.Denied},
		{"empty CSRF token", "POST", operate, []string{cookie, CSRFHeader + ": "}, domain.Denied},
		{"CSRF token without the cookie", "POST", operate, []string{csrf}, domain.Denied},
		{"from another site's page", "POST", operate, []string{cookie, csrf, "Sec-Fetch-Site: same-site"}, domain.Denied},
		{"from another origin", "POST", operate, []string{cookie, csrf, "Origin: http://attacker.tld"}, domain.Denied},
		{"read with read rights", "GET", read, []string{readerCookie}, noError},
		{"operate with read rights", "POST", operate, []string{readerCookie, CSRFHeader + ": " + reader.CSRF}, domain.Denied},
		{"made-up session", "GET", read, []string{"Cookie: " + sessionCookie + "=" + domain.NewSecret()}, domain.Denied},
		{"empty session", "GET", read, []string{"Cookie: " + sessionCookie + "="}, domain.Denied},
		{"admin token as a session", "GET", read, []string{"Cookie: " + sessionCookie + "=" + token}, domain.Denied},
		{"session and a cookie of another page", "GET", read, []string{"Cookie: " + sessionCookie + "=" + domain.NewSecret(),
			cookie, "Cookie: " + sessionCookie + "=x"}, noError},
		{"session of another port", "GET", read, []string{strings.Replace(cookie, "=", "_8090=", 1)}, domain.Denied},
		{"two sessions", "GET", read, []string{cookie, readerCookie}, domain.Denied},
		{"session and a credential", "GET", read, []string{cookie, "Authorization: Bearer " + token}, domain.Invalid},
	} {
		r := request("/control/get?room=movie", append(c.headers, outside, atHost)...)
		r.Method = c.method
		if err := d.Authorize(r, c.need); kind(err) != c.want {
			t.Errorf("%s: %v, want kind %v", c.name, err, c.want)
		}
	}
	for cookie, want := range map[string]Rights{cookie: Admin, readerCookie: Read} {
		if got := d.Rights(request("/", outside, atHost, cookie)); got != want {
			t.Errorf("rights %v, want %v", got, want)
		}
	}
	r := request("/logout", outside, atHost, cookie)
	if err := d.Logout(r, reader.CSRF); kind(err) != domain.Denied {
		t.Errorf("logout with another session's CSRF token: %v", err)
	}
	if err := d.Logout(request("/logout", outside, atHost, cookie, "Sec-Fetch-Site: cross-site"),
		admin.CSRF); kind(err) != domain.Denied {
		t.Errorf("logout by another site: %v", err)
	}
	if _, open := d.Session(r); !open {
		t.Error("the session has ended")
	}
	if err := d.Logout(r, admin.CSRF); err != nil {
		t.Errorf("logout: %v", err)
	}
	if err := d.Authorize(request("/", outside, atHost, cookie), read); kind(err) != domain.Denied ||
		!errors.Is(err, ErrCredential) {
		t.Errorf("after the logout: %v", err)
	}
}

func TestLogin(t *testing.T) {
	d, token := newAdminAuth(t, AdminOptions{JWTSecret: testSecret, JWTAlgorithm: "HS256", SessionTime: time.Hour})
	for name, c := range map[string]struct {
		credential string
		headers    []string
	}{
		"nothing":       {"", nil},
		"garbage":       {"x", nil},
		"another token": {domain.NewSecret(), nil},
		"play token": {sign(jwt.SigningMethodHS256, testSecret, jwt.MapClaims{"act": "play", "room": "movie"}),
			nil},
		"from another site":     {token, []string{"Sec-Fetch-Site: cross-site"}},
		"from another origin":   {token, []string{"Origin: http://attacker.tld"}},
		"from an opaque origin": {token, []string{"Origin: null"}},
	} {
		if s, err := d.Login(request("/login", append(c.headers, outside)...), c.credential); kind(err) != domain.Denied {
			t.Errorf("%s: %+v, %v", name, s, err)
		}
	}
	if len(d.sessions.byDigest) > 0 {
		t.Errorf("%d sessions are open", len(d.sessions.byDigest))
	}
}

// TestSessionExpiry checks that sessions end in time, those of a JWT with the JWT, and that their
// number is bounded.
func TestSessionExpiry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, token := newAdminAuth(t, AdminOptions{JWTSecret: testSecret, JWTAlgorithm: "HS256", SessionTime: time.Hour,
			Failures: 3})
		_, cookie := login(t, d, token)
		_, brief := login(t, d, sign(jwt.SigningMethodHS256, testSecret,
			jwt.MapClaims{"exp": time.Now().Add(time.Minute).Unix()}))
		_, long := login(t, d, sign(jwt.SigningMethodHS256, testSecret,
			jwt.MapClaims{"exp": time.Now().Add(24 * time.Hour).Unix()}))
		open := func(cookie string) bool {
			_, ok := d.Session(&http.Request{Header: http.Header{"Cookie": {cookie[len("Cookie: "):]}}})
			return ok
		}
		time.Sleep(59 * time.Second)
		if !open(cookie) || !open(brief) || !open(long) {
			t.Error("a session ended early")
		}
		time.Sleep(2 * time.Second)
		if !open(cookie) || open(brief) {
			t.Error("the session outlives its JWT")
		}
		time.Sleep(time.Hour)
		if open(cookie) || open(long) {
			t.Error("a session did not end")
		}
		_, first := login(t, d, token)
		time.Sleep(time.Second)
		var last string
		for range maxSessions {
			_, last = login(t, d, token)
		}
		if n := len(d.sessions.byDigest); n > maxSessions || open(first) || !open(last) {
			t.Errorf("%d sessions are open; the oldest: %v, the newest: %v", n, open(first), open(last))
		}
		start := time.Now()
		for range 20 {
			_, _ = d.Login(request("/login", outside), "guess")
		}
		if time.Since(start) == 0 {
			t.Error("guesses are not delayed")
		}
	})
}
