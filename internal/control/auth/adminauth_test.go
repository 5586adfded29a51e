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

const testSecret = "operator JWT secret"

func newAdminAuth(t *testing.T, o AdminOptions) (*AdminAuth, string) {
	t.Helper()
	dir := t.TempDir()
	d, err := NewAdminAuth(dir, o)
	if err != nil {
		t.Fatal(err)
	}
	token, err := ReadAdminToken(dir)
	if err != nil {
		t.Fatal(err)
	}
	return d, token
}

// request builds a request with headers given as "Name: value"; "Host" and "Remote" set the fields.
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

// noError is a kind that no error has.
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
		{"IPv6 loopback", path, []string{"Remote: [::1]:1", "Host: [::1]:8090"}, noError},
		{"IPv4-mapped loopback", path, []string{"Remote: [::ffff:127.0.0.1]:1", "Host: 127.0.0.1"}, noError},
		{"other port", path, []string{"Host: LOCALHOST:80"}, noError},
		{"api_hosts", path, []string{"Host: studio.EXAMPLE.:8090", "Sec-Fetch-Site: same-origin"}, noError},
		{"api_hosts without Sec-Fetch-Site", path, []string{"Host: studio.example:8090"}, domain.Denied},
		{"DNS rebinding", path, []string{"Host: attacker.tld"}, domain.Denied},
		{"empty host", path, []string{"Host: "}, domain.Denied},
		{"host with localhost as a prefix", path, []string{"Host: localhost.attacker.tld"}, domain.Denied},
		{"host with a loopback address as a prefix", path, []string{"Host: 127.0.0.1.attacker.tld"}, domain.Denied},
		{"own page", path, []string{"Sec-Fetch-Site: same-origin", "Origin: http://localhost:8090"}, noError},
		{"typed address", path, []string{"Sec-Fetch-Site: none"}, noError},
		{"cross-site", path, []string{"Sec-Fetch-Site: cross-site"}, domain.Denied},
		{"same-site", path, []string{"Sec-Fetch-Site: same-site"}, domain.Denied},
		{"foreign origin", path, []string{"Origin: http://attacker.tld"}, domain.Denied},
		{"other port's origin", path, []string{"Origin: http://localhost:3000"}, domain.Denied},
		{"null origin", path, []string{"Origin: null"}, domain.Denied},
		{"cross-site with token", path, []string{"Authorization: Bearer " + token, "Sec-Fetch-Site: cross-site"},
			domain.Denied},
		{"proxy", path, []string{"X-Forwarded-For: 203.0.113.9"}, domain.Denied},
		{"proxy that claims loopback", path, []string{"X-Forwarded-For: 127.0.0.1"}, domain.Denied},
		{"remote client that claims loopback", path, []string{outside, "X-Forwarded-For: 127.0.0.1"}, domain.Denied},
		{"proxy, RFC 7239", path, []string{"Forwarded: for=127.0.0.1"}, domain.Denied},
		{"proxy with token", path, []string{"X-Forwarded-For: 203.0.113.9", "Authorization: Bearer " + token,
			"Host: live.example"}, noError},
		{"remote client", path, []string{outside}, domain.Denied},
		{"no address", path, []string{"Remote: @"}, domain.Denied},
		{"remote with token", path, []string{outside, "Authorization: bearer  " + token, "Host: 192.0.2.7:8090"}, noError},
		{"remote with token in query", path + "&jwt=" + token, []string{outside}, noError},
		{"remote with wrong token", path, []string{outside, "Authorization: Bearer " + domain.NewSecret()}, domain.Denied},
		{"remote with empty token", path, []string{outside, "Authorization: Bearer "}, domain.Denied},
		{"remote with basic authentication", path, []string{outside, "Authorization: Basic " + token}, domain.Denied},
		{"loopback with wrong token", path, []string{"Authorization: Bearer x"}, domain.Denied},
		{"two different credentials", path + "&jwt=x", []string{outside, "Authorization: Bearer " + token}, domain.Invalid},
		{"two different credentials in the query", path + "&jwt=x&jwt=y", []string{outside}, domain.Invalid},
		{"the same credential twice", path + "&jwt=" + token, []string{outside, "Authorization: Bearer " + token}, noError},
		{"JWT without a configured secret", path,
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

// signRaw signs header and claims that no library would produce.
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
		{"alg none", none, domain.Denied},
		{"alg None", signRaw(`{"alg":"None"}`, `{}`), domain.Denied},
		{"no alg", signRaw(`{}`, `{}`), domain.Denied},
		{"other alg", sign(jwt.SigningMethodHS512, testSecret, in(time.Hour)), domain.Denied},
		{"HMAC signature with alg RS256", signRaw(`{"alg":"RS256"}`, `{}`), domain.Denied},
		{"wrong secret", sign(hs, "another", in(time.Hour)), domain.Denied},
		{"empty secret", sign(hs, "", in(time.Hour)), domain.Denied},
		{"expired", sign(hs, testSecret, in(-time.Hour)), domain.Denied},
		{"expired within the leeway", sign(hs, testSecret, in(-10*time.Second)), noError},
		{"not yet valid", sign(hs, testSecret, jwt.MapClaims{"nbf": time.Now().Add(time.Hour).Unix()}), domain.Denied},
		{"exp is text", signRaw(`{"alg":"HS256"}`, `{"exp":"tomorrow"}`), domain.Denied},
		{"unknown crit", signRaw(`{"alg":"HS256","crit":["x"]}`, `{}`), domain.Denied},
		{"kid", signRaw(`{"alg":"HS256","kid":"../../dev/null","jku":"http://attacker.tld"}`, `{}`), noError}, // ignored
		{"invalid JSON", signRaw(`{"alg":"HS256"`, `{}`), domain.Denied},
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

// TestAdminAuthRights tries each role on routes that need each of them.
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
		{"play token", sign(hs, testSecret, jwt.MapClaims{"act": "play", "room": "movie"}), 0},
		{"publish token with a role", sign(hs, testSecret, jwt.MapClaims{"act": "publish", "role": "admin"}), 0},
	} {
		for _, need := range []Rights{Read, Operate, Admin} {
			err := d.Authorize(request("/", outside, "Authorization: Bearer "+c.token), Access{Rights: need})
			switch {
			case c.has >= need && err != nil, c.has < need && domain.KindOf(err) != domain.Denied:
				t.Errorf("%s, where %v is needed: %v", c.name, need, err)
			case c.has < need && errors.Is(err, ErrRights) != (c.has != 0):
				t.Errorf("%s, where %v is needed: %v has the wrong cause", c.name, need, err)
			}
		}
	}
}

// TestStrictJWTRequiresExpAndRole checks JWTs when both claims are required.
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
		"admin token":      {token, noError},
		"signed by livego": {good, noError},
		"both":             {sign(hs, testSecret, jwt.MapClaims{"exp": exp, "role": "admin"}), noError},
		"no exp":           {sign(hs, testSecret, jwt.MapClaims{"role": "admin"}), domain.Denied},
		"no role":          {sign(hs, testSecret, jwt.MapClaims{"exp": exp}), domain.Denied},
		"neither":          {sign(hs, testSecret, jwt.MapClaims{}), domain.Denied},
		"exp is null":      {signRaw(`{"alg":"HS256"}`, `{"exp":null,"role":"admin"}`), domain.Denied},
	} {
		if err := d.Authorize(request("/", "Authorization: Bearer "+c.token), Access{Rights: Read}); kind(err) != c.want {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestAdminTokenFromSettings checks that the token of the settings is accepted and no file is
// created.
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
	if err == nil || !strings.Contains(err.Error(), "admin_token") || strings.Contains(err.Error(), adminTokenFile) {
		t.Errorf("error %v", err)
	}
	if _, err := os.Stat(dir); err == nil {
		t.Error("a file was created")
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
				t.Error("authorized without a credential")
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
	path := filepath.Join(dir, adminTokenFile)
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
		t.Errorf("the second start created another token, %v", err)
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
