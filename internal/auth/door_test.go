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

	"livego/internal/live"
)

const testSecret = "a secret of the operator"

func newDoor(t *testing.T, o DoorOptions) (*Door, string) {
	t.Helper()
	dir := t.TempDir()
	d, err := OpenDoor(dir, o)
	if err != nil {
		t.Fatal(err)
	}
	token, err := os.ReadFile(filepath.Join(dir, TokenFile))
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

// ok is a kind that no error of the Door has.
const ok = live.Kind(255)

func TestDoorWithoutJWT(t *testing.T) {
	d, token := newDoor(t, DoorOptions{Hosts: []string{"Studio.example"}})
	const path = "/control/get?room=movie"
	for _, c := range []struct {
		name    string
		path    string
		headers []string
		want    live.Kind
	}{
		{"loopback", path, nil, ok},
		{"loopback v6", path, []string{"Remote: [::1]:1", "Host: [::1]:8090"}, ok},
		{"loopback v4 in v6", path, []string{"Remote: [::ffff:127.0.0.1]:1", "Host: 127.0.0.1"}, ok},
		{"other port", path, []string{"Host: LOCALHOST:80"}, ok},
		{"api_hosts", path, []string{"Host: studio.EXAMPLE.:8090", "Sec-Fetch-Site: same-origin"}, ok},
		{"api_hosts without a word of the browser", path, []string{"Host: studio.example:8090"}, live.Denied},
		{"P08 rebinding", path, []string{"Host: attacker.tld"}, live.Denied},
		{"W04 no host", path, []string{"Host: "}, live.Denied},
		{"host that begins alike", path, []string{"Host: localhost.attacker.tld"}, live.Denied},
		{"host with loopback in it", path, []string{"Host: 127.0.0.1.attacker.tld"}, live.Denied},
		{"own page", path, []string{"Sec-Fetch-Site: same-origin", "Origin: http://localhost:8090"}, ok},
		{"typed", path, []string{"Sec-Fetch-Site: none"}, ok},
		{"P07 cross-site", path, []string{"Sec-Fetch-Site: cross-site"}, live.Denied},
		{"P07 same-site", path, []string{"Sec-Fetch-Site: same-site"}, live.Denied},
		{"P07 foreign origin", path, []string{"Origin: http://attacker.tld"}, live.Denied},
		{"P07 other port's origin", path, []string{"Origin: http://localhost:3000"}, live.Denied},
		{"P07 null origin", path, []string{"Origin: null"}, live.Denied},
		{"P07 with token", path, []string{"Authorization: Bearer " + token, "Sec-Fetch-Site: cross-site"}, live.Denied},
		{"proxy", path, []string{"X-Forwarded-For: 203.0.113.9"}, live.Denied},
		{"P24 proxy that says loopback", path, []string{"X-Forwarded-For: 127.0.0.1"}, live.Denied},
		{"P24 outside that says loopback", path, []string{outside, "X-Forwarded-For: 127.0.0.1"}, live.Denied},
		{"proxy, RFC 7239", path, []string{"Forwarded: for=127.0.0.1"}, live.Denied},
		{"proxy with token", path, []string{"X-Forwarded-For: 203.0.113.9", "Authorization: Bearer " + token, "Host: live.example"}, ok},
		{"outside", path, []string{outside}, live.Denied},
		{"no address", path, []string{"Remote: @"}, live.Denied},
		{"outside with token", path, []string{outside, "Authorization: bearer  " + token, "Host: 192.0.2.7:8090"}, ok},
		{"outside with token in query", path + "&jwt=" + token, []string{outside}, ok},
		{"outside with wrong token", path, []string{outside, "Authorization: Bearer " + live.NewSecret()}, live.Denied},
		{"outside with no token at all", path, []string{outside, "Authorization: Bearer "}, live.Denied},
		{"outside with basic", path, []string{outside, "Authorization: Basic " + token}, live.Denied},
		{"loopback with wrong token", path, []string{"Authorization: Bearer x"}, live.Denied},
		{"T09 two that differ", path + "&jwt=x", []string{outside, "Authorization: Bearer " + token}, live.Invalid},
		{"T09 two in the query", path + "&jwt=x&jwt=y", []string{outside}, live.Invalid},
		{"the same twice", path + "&jwt=" + token, []string{outside, "Authorization: Bearer " + token}, ok},
		{"JWT where there is no secret", path, []string{outside, "Authorization: Bearer " + sign(jwt.SigningMethodHS256, "", nil)}, live.Denied},
	} {
		t.Run(c.name, func(t *testing.T) { checkDoor(t, d, request(c.path, c.headers...), c.want) })
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

func TestDoorWithJWT(t *testing.T) {
	d, token := newDoor(t, DoorOptions{JWTSecret: testSecret, JWTAlgorithm: "HS256"})
	in := func(dur time.Duration) jwt.MapClaims { return jwt.MapClaims{"exp": time.Now().Add(dur).Unix()} }
	hs := jwt.SigningMethodHS256
	none, err := jwt.NewWithClaims(jwt.SigningMethodNone, jwt.MapClaims{}).SignedString(jwt.UnsafeAllowNoneSignatureType)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name  string
		token string
		want  live.Kind
	}{
		{"none", "", live.Denied},
		{"admin token", token, ok},
		{"good", sign(hs, testSecret, in(time.Hour)), ok},
		{"without exp", sign(hs, testSecret, jwt.MapClaims{}), ok},
		{"raw", signRaw(`{"alg":"HS256"}`, `{}`), ok},
		{"T01 alg none", none, live.Denied},
		{"T01 alg None", signRaw(`{"alg":"None"}`, `{}`), live.Denied},
		{"T01 no alg", signRaw(`{}`, `{}`), live.Denied},
		{"T01 other alg", sign(jwt.SigningMethodHS512, testSecret, in(time.Hour)), live.Denied},
		{"T01 RS256 in name", signRaw(`{"alg":"RS256"}`, `{}`), live.Denied},
		{"wrong secret", sign(hs, "another", in(time.Hour)), live.Denied},
		{"empty secret", sign(hs, "", in(time.Hour)), live.Denied},
		{"T02 expired", sign(hs, testSecret, in(-time.Hour)), live.Denied},
		{"T02 expired within the leeway", sign(hs, testSecret, in(-10*time.Second)), ok},
		{"T02 not yet", sign(hs, testSecret, jwt.MapClaims{"nbf": time.Now().Add(time.Hour).Unix()}), live.Denied},
		{"T02 exp text", signRaw(`{"alg":"HS256"}`, `{"exp":"tomorrow"}`), live.Denied},
		{"T04 crit", signRaw(`{"alg":"HS256","crit":["x"]}`, `{}`), live.Denied},
		{"T06 kid", signRaw(`{"alg":"HS256","kid":"../../dev/null","jku":"http://attacker.tld"}`, `{}`), ok}, // ignored
		{"no JSON", signRaw(`{"alg":"HS256"`, `{}`), live.Denied},
		{"garbage", "a.b.c", live.Denied},
		{"too long", signRaw(`{"alg":"HS256"}`, `{"x":"`+strings.Repeat("x", maxCredential)+`"}`), live.Denied},
	} {
		t.Run(c.name, func(t *testing.T) {
			var headers []string
			if c.token != "" {
				headers = []string{"Authorization: Bearer " + c.token}
			}
			checkDoor(t, d, request("/stat/livestat", headers...), c.want)
			checkDoor(t, d, request("/stat/livestat", append(headers, outside, "Host: live.example")...), c.want)
			checkDoor(t, d, request("/stat/livestat?jwt="+c.token, outside), c.want)
		})
	}
}

// TestRights tries each role where each is needed.
func TestRights(t *testing.T) {
	d, token := newDoor(t, DoorOptions{JWTSecret: testSecret, JWTAlgorithm: "HS256"})
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
			err := d.Check(request("/", outside, "Authorization: Bearer "+c.token), Access{Rights: need})
			switch {
			case c.has >= need && err != nil, c.has < need && live.KindOf(err) != live.Denied:
				t.Errorf("%s, where %v is needed: %v", c.name, need, err)
			case c.has < need && errors.Is(err, ErrRights) != (c.has != 0):
				t.Errorf("%s, where %v is needed: %v is about the wrong thing", c.name, need, err)
			}
		}
	}
}

// TestStrictJWT requires of a JWT when it ends and what it allows.
func TestStrictJWT(t *testing.T) {
	d, token := newDoor(t, DoorOptions{JWTSecret: testSecret, JWTAlgorithm: "HS256", JWTStrict: true})
	exp := time.Now().Add(time.Hour).Unix()
	good, err := SignOperator(testSecret, "HS256", Read, time.Unix(exp, 0))
	if err != nil {
		t.Fatal(err)
	}
	hs := jwt.SigningMethodHS256
	for name, c := range map[string]struct {
		token string
		want  live.Kind
	}{
		"admin token": {token, ok},
		"of livego":   {good, ok},
		"both":        {sign(hs, testSecret, jwt.MapClaims{"exp": exp, "role": "admin"}), ok},
		"no exp":      {sign(hs, testSecret, jwt.MapClaims{"role": "admin"}), live.Denied},
		"no role":     {sign(hs, testSecret, jwt.MapClaims{"exp": exp}), live.Denied},
		"neither":     {sign(hs, testSecret, jwt.MapClaims{}), live.Denied},
		"exp of null": {signRaw(`{"alg":"HS256"}`, `{"exp":null,"role":"admin"}`), live.Denied},
	} {
		if err := d.Check(request("/", "Authorization: Bearer "+c.token), Access{Rights: Read}); kind(err) != c.want {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestGivenToken takes the admin token of the settings, and makes no file.
func TestGivenToken(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	d, err := OpenDoor(dir, DoorOptions{AdminToken: "a-token-of-the-settings"})
	if err != nil {
		t.Fatal(err)
	}
	if err := d.Check(request("/", outside, "Authorization: Bearer a-token-of-the-settings"), Access{Rights: Admin}); err != nil {
		t.Error(err)
	}
	err = d.Check(request("/", outside), Access{Rights: Read})
	if err == nil || !strings.Contains(err.Error(), "admin_token") || strings.Contains(err.Error(), TokenFile) {
		t.Errorf("the refusal is %v", err)
	}
	if _, err := os.Stat(dir); err == nil {
		t.Error("a file was made")
	}
}

func checkDoor(t *testing.T, d *Door, r *http.Request, want live.Kind) {
	t.Helper()
	err := d.Check(r, Access{Rights: Admin})
	if err == nil && want == ok {
		return
	}
	if err == nil || live.KindOf(err) != want {
		t.Errorf("Check(%s %v from %s) = %v, want kind %v", r.URL, r.Header, r.RemoteAddr, err, want)
	}
}

func TestDoorSlowsGuessers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, token := newDoor(t, DoorOptions{Failures: 10})
		try := func(credential string) time.Duration {
			start := time.Now()
			_ = d.Check(request("/", outside, "Authorization: Bearer "+credential), Access{Rights: Read})
			return time.Since(start)
		}
		for range 10 {
			if err := d.Check(request("/", outside), Access{Rights: Read}); err == nil {
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

func TestToken(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	if _, err := OpenDoor(dir, DoorOptions{}); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, TokenFile)
	first, err := os.ReadFile(path)
	if err != nil || !live.LooksLikeKey(strings.TrimSpace(string(first))) {
		t.Errorf("%s holds %q, %v", path, first, err)
	}
	if info, err := os.Stat(path); runtime.GOOS != "windows" && (err != nil || info.Mode().Perm() != 0o600) {
		t.Errorf("%v, %v: want mode 0600", info.Mode(), err)
	}
	if _, err := OpenDoor(dir, DoorOptions{}); err != nil {
		t.Fatal(err)
	}
	if again, err := os.ReadFile(path); err != nil || string(again) != string(first) {
		t.Errorf("the second start made another token, %v", err)
	}
	if err := os.WriteFile(path, append([]byte("\xef\xbb\xbf"), first...), 0o600); err != nil {
		t.Fatal(err)
	}
	if d, err := OpenDoor(dir, DoorOptions{}); err != nil || d.opens(strings.TrimSpace(string(first))) != Admin {
		t.Errorf("a token behind a byte-order mark: %v", err)
	}
	for _, bad := range []string{"", "short", "\xff\xfeA\x00B\x00", strings.Repeat("!", live.KeyLength)} {
		if err := os.WriteFile(path, []byte(bad), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := OpenDoor(dir, DoorOptions{}); err == nil || !strings.Contains(err.Error(), path) {
			t.Errorf("a token %q: %v", bad, err)
		}
	}
}
