package auth

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"livego/internal/domain"
)

const testSecret = "a secret of the operator"

func newAdminAuth(t *testing.T, o AdminOptions) (*AdminAuth, string) {
	t.Helper()
	dir := t.TempDir()
	d, err := NewAdminAuth(dir, o)
	if err != nil {
		t.Fatal(err)
	}
	token, err := os.ReadFile(filepath.Join(dir, AdminTokenFile))
	if err != nil {
		t.Fatal(err)
	}
	return d, strings.TrimSpace(string(token))
}

// request builds one from headers given as "Name: value"; "Host" and "Remote" are what they say.
func request(target string, headers ...string) *http.Request {
	r := httptest.NewRequest("GET", target, nil)
	r.RemoteAddr, r.Host = "127.0.0.1:40000", "localhost:8090"
	for _, h := range headers {
		name, value, _ := strings.Cut(h, ": ")
		switch name {
		case "Host":
			r.Host = value
		case "Remote":
			r.RemoteAddr = value
		default:
			r.Header.Add(name, value)
		}
	}
	return r
}

const outside = "Remote: 192.0.2.1:40000"

// noError is a kind that no error of the Door has.
const noError = domain.Kind(255)

func TestAdminAuthWithoutJWT(t *testing.T) {
	d, token := newAdminAuth(t, AdminOptions{Hosts: []string{"Studio.example"}})
	const path = "/control/get?room=movie"
	for _, c := range []struct {
		name    string
		path    string
		headers []string
		want    domain.Kind
	}{
		{"loopback", path, nil, noError},
		{"loopback v6", path, []string{"Remote: [::1]:1", "Host: [::1]:8090"}, noError},
		{"loopback v4 in v6", path, []string{"Remote: [::ffff:127.0.0.1]:1", "Host: 127.0.0.1"}, noError},
		{"other port", path, []string{"Host: LOCALHOST:80"}, noError},
		{"api_hosts", path, []string{"Host: studio.EXAMPLE.:8090", "Sec-Fetch-Site: same-origin"}, noError},
		{"api_hosts without a word of the browser", path, []string{"Host: studio.example:8090"}, domain.Denied},
		{"P08 rebinding", path, []string{"Host: attacker.tld"}, domain.Denied},
		{"W04 no host", path, []string{"Host: "}, domain.Denied},
		{"host that begins alike", path, []string{"Host: localhost.attacker.tld"}, domain.Denied},
		{"host with loopback in it", path, []string{"Host: 127.0.0.1.attacker.tld"}, domain.Denied},
		{"own page", path, []string{"Sec-Fetch-Site: same-origin", "Origin: http://localhost:8090"}, noError},
		{"typed", path, []string{"Sec-Fetch-Site: none"}, noError},
		{"P07 cross-site", path, []string{"Sec-Fetch-Site: cross-site"}, domain.Denied},
		{"P07 same-site", path, []string{"Sec-Fetch-Site: same-site"}, domain.Denied},
		{"P07 foreign origin", path, []string{"Origin: http://attacker.tld"}, domain.Denied},
		{"P07 other port's origin", path, []string{"Origin: http://localhost:3000"}, domain.Denied},
		{"P07 null origin", path, []string{"Origin: null"}, domain.Denied},
		{"P07 with token", path, []string{"Authorization: Bearer " + token, "Sec-Fetch-Site: cross-site"}, domain.Denied},
		{"proxy", path, []string{"X-Forwarded-For: 203.0.113.9"}, domain.Denied},
		{"P24 proxy that says loopback", path, []string{"X-Forwarded-For: 127.0.0.1"}, domain.Denied},
		{"P24 outside that says loopback", path, []string{outside, "X-Forwarded-For: 127.0.0.1"}, domain.Denied},
		{"proxy, RFC 7239", path, []string{"Forwarded: for=127.0.0.1"}, domain.Denied},
		{"proxy with token", path, []string{"X-Forwarded-For: 203.0.113.9", "Authorization: Bearer " + token,
			"Host: live.example"}, noError},
		{"outside", path, []string{outside}, domain.Denied},
		{"no address", path, []string{"Remote: @"}, domain.Denied},
		{"outside with token", path, []string{outside, "Authorization: bearer  " + token, "Host: 192.0.2.7:8090"}, noError},
		{"outside with token in query", path + "&jwt=" + token, []string{outside}, noError},
		{"outside with wrong token", path, []string{outside, "Authorization: Bearer " + domain.NewSecret()}, domain.Denied},
		{"outside with no token at all", path, []string{outside, "Authorization: Bearer "}, domain.Denied},
		{"outside with basic", path, []string{outside, "Authorization: Basic " + token}, domain.Denied},
		{"loopback with wrong token", path, []string{"Authorization: Bearer x"}, domain.Denied},
		{"T09 two that differ", path + "&jwt=x", []string{outside, "Authorization: Bearer " + token}, domain.Invalid},
		{"T09 two in the query", path + "&jwt=x&jwt=y", []string{outside}, domain.Invalid},
		{"the same twice", path + "&jwt=" + token, []string{outside, "Authorization: Bearer " + token}, noError},
		{"JWT where there is no secret", path,
			[]string{outside, "Authorization: Bearer " + sign(jwt.SigningMethodHS256, "", nil)}, domain.Denied},
	} {
		t.Run(c.name, func(t *testing.T) { checkAuthorize(t, d, request(c.path, c.headers...), c.want) })
	}
}

func sign(method jwt.SigningMethod, secret string, claims jwt.MapClaims) string {
	s, err := jwt.NewWithClaims(method, claims).SignedString([]byte(secret))
	if err != nil {
		panic(err)
	}
	return s
}

// signRaw signs what no library would.
func signRaw(header, claims string) string {
	e := base64.RawURLEncoding
	s := e.EncodeToString([]byte(header)) + "." + e.EncodeToString([]byte(claims))
	m := hmac.New(sha256.New, []byte(testSecret))
	m.Write([]byte(s))
	return s + "." + e.EncodeToString(m.Sum(nil))
}

func TestAdminAuthWithJWT(t *testing.T) {
	d, token := newAdminAuth(t, AdminOptions{JWTSecret: testSecret, JWTAlgorithm: "HS256"})
	in := func(dur time.Duration) jwt.MapClaims { return jwt.MapClaims{"exp": time.Now().Add(dur).Unix()} }
	hs := jwt.SigningMethodHS256
	none, err := jwt.NewWithClaims(jwt.SigningMethodNone, jwt.MapClaims{}).SignedString(jwt.UnsafeAllowNoneSignatureType)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name  string
		token string
		want  domain.Kind
	}{
		{"none", "", domain.Denied},
		{"admin token", token, noError},
		{"good", sign(hs, testSecret, in(time.Hour)), noError},
		{"without exp", sign(hs, testSecret, jwt.MapClaims{}), noError},
		{"raw", signRaw(`{"alg":"HS256"}`, `{}`), noError},
		{"T01 alg none", none, domain.Denied},
		{"T01 alg None", signRaw(`{"alg":"None"}`, `{}`), domain.Denied},
		{"T01 no alg", signRaw(`{}`, `{}`), domain.Denied},
		{"T01 other alg", sign(jwt.SigningMethodHS512, testSecret, in(time.Hour)), domain.Denied},
		{"T01 RS256 in name", signRaw(`{"alg":"RS256"}`, `{}`), domain.Denied},
		{"wrong secret", sign(hs, "another", in(time.Hour)), domain.Denied},
		{"empty secret", sign(hs, "", in(time.Hour)), domain.Denied},
		{"T02 expired", sign(hs, testSecret, in(-time.Hour)), domain.Denied},
		{"T02 expired within the leeway", sign(hs, testSecret, in(-10*time.Second)), noError},
		{"T02 not yet", sign(hs, testSecret, jwt.MapClaims{"nbf": time.Now().Add(time.Hour).Unix()}), domain.Denied},
		{"T02 exp text", signRaw(`{"alg":"HS256"}`, `{"exp":"tomorrow"}`), domain.Denied},
		{"T04 crit", signRaw(`{"alg":"HS256","crit":["x"]}`, `{}`), domain.Denied},
		{"T06 kid", signRaw(`{"alg":"HS256","kid":"../../dev/null","jku":"http://attacker.tld"}`, `{}`), noError}, // ignored
		{"no JSON", signRaw(`{"alg":"HS256"`, `{}`), domain.Denied},
		{"garbage", "a.b.c", domain.Denied},
		{"too long", signRaw(`{"alg":"HS256"}`, `{"x":"`+strings.Repeat("x", maxCredential)+`"}`), domain.Denied},
	} {
		t.Run(c.name, func(t *testing.T) {
			var headers []string
			if c.token != "" {
				headers = []string{"Authorization: Bearer " + c.token}
			}
			checkAuthorize(t, d, request("/stat/livestat", headers...), c.want)
			checkAuthorize(t, d, request("/stat/livestat", append(headers, outside, "Host: live.example")...), c.want)
			checkAuthorize(t, d, request("/stat/livestat?jwt="+c.token, outside), c.want)
		})
	}
}

// TestAdminAuthRights tries each role where each is needed.
func TestAdminAuthRights(t *testing.T) {
	d, token := newAdminAuth(t, AdminOptions{JWTSecret: testSecret, JWTAlgorithm: "HS256"})
	hs := jwt.SigningMethodHS256
	for _, c := range []struct {
		name  string
		token string
		has   Rights
	}{
		{"admin token", token, Admin},
		{"no role", sign(hs, testSecret, jwt.MapClaims{}), Admin},
		{"admin", sign(hs, testSecret, jwt.MapClaims{"role": "admin"}), Admin},
		{"operate", sign(hs, testSecret, jwt.MapClaims{"role": "operate"}), Operate},
		{"read", sign(hs, testSecret, jwt.MapClaims{"role": "read"}), Read},
		{"unknown role", sign(hs, testSecret, jwt.MapClaims{"role": "root"}), 0},
		{"none", sign(hs, testSecret, jwt.MapClaims{"role": "none"}), 0},
		{"empty role", sign(hs, testSecret, jwt.MapClaims{"role": ""}), 0},
		{"role of a wrong type", sign(hs, testSecret, jwt.MapClaims{"role": 1}), 0},
		{"T03 play token", sign(hs, testSecret, jwt.MapClaims{"act": "play", "room": "movie"}), 0},
		{"T03 publish token with a role", sign(hs, testSecret, jwt.MapClaims{"act": "publish", "role": "admin"}), 0},
	} {
		for _, need := range []Rights{Read, Operate, Admin} {
			err := d.Authorize(request("/", outside, "Authorization: Bearer "+c.token), Access{Rights: need})
			switch {
			case c.has >= need && err != nil, c.has < need && domain.KindOf(err) != domain.Denied:
				t.Errorf("%s, where %v is needed: %v", c.name, need, err)
			case c.has < need && errors.Is(err, ErrRights) != (c.has != 0):
				t.Errorf("%s, where %v is needed: %v is about the wrong thing", c.name, need, err)
			}
		}
	}
}

// TestStrictJWTRequiresExpAndRole requires of a JWT when it ends and what it allows.
func TestStrictJWTRequiresExpAndRole(t *testing.T) {
	d, token := newAdminAuth(t, AdminOptions{JWTSecret: testSecret, JWTAlgorithm: "HS256", JWTStrict: true})
	exp := time.Now().Add(time.Hour).Unix()
	good, err := SignOperator(testSecret, "HS256", Read, time.Unix(exp, 0))
	if err != nil {
		t.Fatal(err)
	}
	hs := jwt.SigningMethodHS256
	for name, c := range map[string]struct {
		token string
		want  domain.Kind
	}{
		"admin token": {token, noError},
		"of livego":   {good, noError},
		"both":        {sign(hs, testSecret, jwt.MapClaims{"exp": exp, "role": "admin"}), noError},
		"no exp":      {sign(hs, testSecret, jwt.MapClaims{"role": "admin"}), domain.Denied},
		"no role":     {sign(hs, testSecret, jwt.MapClaims{"exp": exp}), domain.Denied},
		"neither":     {sign(hs, testSecret, jwt.MapClaims{}), domain.Denied},
		"exp of null": {signRaw(`{"alg":"HS256"}`, `{"exp":null,"role":"admin"}`), domain.Denied},
	} {
		if err := d.Authorize(request("/", "Authorization: Bearer "+c.token), Access{Rights: Read}); kind(err) != c.want {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestAdminTokenFromSettings takes the admin token of the settings, and makes no file.
func TestAdminTokenFromSettings(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	d, err := NewAdminAuth(dir, AdminOptions{AdminToken: "a-token-of-the-settings"})
	if err != nil {
		t.Fatal(err)
	}
	if err := d.Authorize(request("/", outside, "Authorization: Bearer a-token-of-the-settings"),
		Access{Rights: Admin}); err != nil {
		t.Error(err)
	}
	err = d.Authorize(request("/", outside), Access{Rights: Read})
	if err == nil || !strings.Contains(err.Error(), "admin_token") || strings.Contains(err.Error(), AdminTokenFile) {
		t.Errorf("the refusal is %v", err)
	}
	if _, err := os.Stat(dir); err == nil {
		t.Error("a file was made")
	}
}

func checkAuthorize(t *testing.T, d *AdminAuth, r *http.Request, want domain.Kind) {
	t.Helper()
	err := d.Authorize(r, Access{Rights: Admin})
	if err == nil && want == noError {
		return
	}
	if err == nil || domain.KindOf(err) != want {
		t.Errorf("Check(%s %v from %s) = %v, want kind %v", r.URL, r.Header, r.RemoteAddr, err, want)
	}
}

func TestAdminAuthDelaysGuessers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, token := newAdminAuth(t, AdminOptions{Failures: 10})
		try := func(credential string) time.Duration {
			start := time.Now()
			_ = d.Authorize(request("/", outside, "Authorization: Bearer "+credential), Access{Rights: Read})
			return time.Since(start)
		}
		for range 10 {
			if err := d.Authorize(request("/", outside), Access{Rights: Read}); err == nil {
				t.Error("let in without a credential")
			}
			if d := try("guess"); d != 0 {
				t.Errorf("waited %v", d)
			}
		}
		if try("guess") == 0 || try(token) == 0 {
			t.Error("the 11th guess did not wait")
		}
	})
}

func TestAdminTokenFile(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	if _, err := NewAdminAuth(dir, AdminOptions{}); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, AdminTokenFile)
	first, err := os.ReadFile(path)
	if err != nil || !domain.LooksLikeKey(strings.TrimSpace(string(first))) {
		t.Errorf("%s holds %q, %v", path, first, err)
	}
	if info, err := os.Stat(path); runtime.GOOS != "windows" && (err != nil || info.Mode().Perm() != 0o600) {
		t.Errorf("%v, %v: want mode 0600", info.Mode(), err)
	}
	if _, err := NewAdminAuth(dir, AdminOptions{}); err != nil {
		t.Fatal(err)
	}
	if again, err := os.ReadFile(path); err != nil || string(again) != string(first) {
		t.Errorf("the second start made another token, %v", err)
	}
	if err := os.WriteFile(path, append([]byte("\xef\xbb\xbf"), first...), 0o600); err != nil {
		t.Fatal(err)
	}
	if d, err := NewAdminAuth(dir, AdminOptions{}); err != nil || d.rightsOf(strings.TrimSpace(string(first))) != Admin {
		t.Errorf("a token behind a byte-order mark: %v", err)
	}
	for _, bad := range []string{"", "short", "\xff\xfeA\x00B\x00", strings.Repeat("!", domain.KeyLength)} {
		if err := os.WriteFile(path, []byte(bad), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := NewAdminAuth(dir, AdminOptions{}); err == nil || !strings.Contains(err.Error(), path) {
			t.Errorf("a token %q: %v", bad, err)
		}
	}
}
