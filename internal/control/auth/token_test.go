package auth

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"math/big"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"livego/internal/domain"
)

const (
	tokenSecret = "a secret that signs tokens"
	oldSecret   = "the secret that was before it"
)

// good returns claims to play live/movie for an hour.
func good(change ...func(jwt.MapClaims)) jwt.MapClaims {
	now := time.Now()
	c := jwt.MapClaims{"act": "play", "app": "live", "room": "movie", "exp": now.Add(time.Hour).Unix(), "iat": now.Unix()}
	for _, f := range change {
		f(c)
	}
	return c
}

func with(name string, value any) func(jwt.MapClaims) {
	return func(c jwt.MapClaims) { c[name] = value }
}

func without(name string) func(jwt.MapClaims) { return func(c jwt.MapClaims) { delete(c, name) } }

func signWith(t testing.TB, m jwt.SigningMethod, key any, c jwt.MapClaims, header ...string) string {
	t.Helper()
	j := jwt.NewWithClaims(m, c)
	for i := 0; i < len(header); i += 2 {
		j.Header[header[i]] = header[i+1]
	}
	s, err := j.SignedString(key)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// signByHand signs header and payload as they are.
func signByHand(secret, header, payload string) string {
	e := base64.RawURLEncoding
	head := e.EncodeToString([]byte(header)) + "." + e.EncodeToString([]byte(payload))
	sig, err := jwt.SigningMethodHS256.Sign(head, []byte(secret))
	if err != nil {
		panic(err)
	}
	return head + "." + e.EncodeToString(sig)
}

// serveJWKS serves the public half of key, and counts the requests.
func serveJWKS(t testing.TB, key *rsa.PrivateKey) (*JWKS, *atomic.Int64) {
	t.Helper()
	var requests atomic.Int64
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		requests.Add(1)
		json.NewEncoder(w).Encode(map[string]any{"keys": []map[string]string{{
			"kty": "RSA", "use": "sig", "alg": "RS256", "kid": "k1",
			"n": base64.RawURLEncoding.EncodeToString(key.N.Bytes()),
			"e": base64.RawURLEncoding.EncodeToString(big.NewInt(int64(key.E)).Bytes()),
		}}})
	}))
	t.Cleanup(srv.Close)
	j := NewJWKS(srv.URL, slog.New(slog.DiscardHandler))
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		j.Run(ctx)
	}()
	t.Cleanup(func() {
		cancel()
		<-done
	})
	return j, &requests
}

// TestTokenVerification tries each token on a private room.
func TestTokenVerification(t *testing.T) {
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	other, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	jwks, requests := serveJWKS(t, rsaKey)
	keys := newFakeKeys()
	keys.key.Created = time.Now().Add(-time.Minute).UTC()
	keys.key.Role = domain.Primary
	g := newTestChain(keys, Options{Apps: testApps, Private: []string{"live"}, Tokens: TokenOptions{
		Secret: tokenSecret, Previous: oldSecret, Public: public, JWKS: jwks, Issuer: "", Audience: "",
		MaxAge: 24 * time.Hour,
	}})
	strict := newTestChain(keys, Options{Apps: testApps, Private: []string{"*"}, Tokens: TokenOptions{
		Secret: tokenSecret, Issuer: "me", Audience: "livego", MaxAge: 24 * time.Hour,
	}})
	hs, ed, rs := jwt.SigningMethodHS256, jwt.SigningMethodEdDSA, jwt.SigningMethodRS256
	hmacKey, publicPEM := []byte(tokenSecret),
		pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: mustDER(t, &rsaKey.PublicKey)})
	none := signWith(t, jwt.SigningMethodNone, jwt.UnsafeAllowNoneSignatureType, good())
	now := time.Now()
	payload := func(format string, args ...any) string {
		return fmt.Sprintf(`{"act":"play","app":"live","room":"movie",`+format+`}`, args...)
	}
	exp := now.Add(time.Hour).Unix()
	signed := func(change func(*Claims)) string {
		c := Claims{App: "live", Room: "movie", Issued: now, Expires: now.Add(time.Hour)}
		change(&c)
		return Sign(tokenSecret, c)
	}
	same := func(*Claims) {}
	const (
		fine       = domain.Code("")
		malformed  = domain.TokenMalformed
		invalid    = domain.TokenInvalid
		expired    = domain.TokenExpired
		early      = domain.TokenNotYetValid
		wrongRoom  = domain.TokenWrongStream
		wrongAct   = domain.TokenWrongAction
		wrongPlace = domain.TokenWrongAddress
	)
	for _, c := range []struct {
		name  string
		token string
		want  domain.Code
	}{
		{"no token", "", domain.TokenMissing},
		{"HS256", signWith(t, hs, hmacKey, good()), fine},
		{"EdDSA", signWith(t, ed, private, good()), fine},
		{"RS256", signWith(t, rs, rsaKey, good(), "kid", "k1"), fine},
		{"RS256 without kid and with one key", signWith(t, rs, rsaKey, good()), fine},
		{"line break in the signature", signWith(t, hs, hmacKey, good()) + "\n", malformed},
		{"line break in an EdDSA signature", signWith(t, ed, private, good()) + "\r\n", malformed},
		{"alg none", none, invalid},
		{"alg None", signByHand(tokenSecret, `{"alg":"None"}`, payload(`"exp":%d`, exp)), invalid},
		{"no alg", signByHand(tokenSecret, `{}`, payload(`"exp":%d`, exp)), invalid},
		{"public RSA key as the secret of HS256", signWith(t, hs, publicPEM, good()), invalid},
		{"HS512", signWith(t, jwt.SigningMethodHS512, hmacKey, good()), invalid},
		{"PS256", signWith(t, jwt.SigningMethodPS256, rsaKey, good(), "kid", "k1"), invalid},
		{"wrong secret", signWith(t, hs, []byte("unrelated secret"), good()), invalid},
		{"wrong Ed25519 key", signWith(t, ed, mustEd(t), good()), invalid},
		{"wrong RSA key", signWith(t, rs, other, good(), "kid", "k1"), invalid},
		{"expired", signWith(t, hs, hmacKey, good(with("exp", now.Add(-time.Minute).Unix()))), expired},
		{"expired within the leeway", signWith(t, hs, hmacKey, good(with("exp", now.Add(-10*time.Second).Unix()))), fine},
		{"not yet valid", signWith(t, hs, hmacKey, good(with("nbf", now.Add(time.Hour).Unix()))), early},
		{"not yet valid within the leeway", signWith(t, hs, hmacKey, good(with("nbf", now.Add(10*time.Second).Unix()))),
			fine},
		{"issued in the future", signWith(t, hs, hmacKey, good(with("iat", now.Add(time.Hour).Unix()))), early},
		{"no exp", signWith(t, hs, hmacKey, good(without("exp"))), malformed},
		{"exp 2^63", signByHand(tokenSecret, `{"alg":"HS256"}`, payload(`"exp":9223372036854775808`)), malformed},
		{"exp 1e300", signByHand(tokenSecret, `{"alg":"HS256"}`, payload(`"exp":1e300`)), malformed},
		{"exp is text", signByHand(tokenSecret, `{"alg":"HS256"}`, payload(`"exp":"%d"`, exp)), malformed},
		{"exp is a float", signByHand(tokenSecret, `{"alg":"HS256"}`, payload(`"exp":%d.5`, exp)), malformed},
		{"exp is null", signByHand(tokenSecret, `{"alg":"HS256"}`, payload(`"exp":null`)), malformed},
		{"exp is negative", signByHand(tokenSecret, `{"alg":"HS256"}`, payload(`"exp":-1`)), malformed},
		{"expires in ten years", signWith(t, hs, hmacKey, good(with("exp", now.AddDate(10, 0, 0).Unix()))), invalid},
		{"wrong room", signWith(t, hs, hmacKey, good(with("room", "other"))), wrongRoom},
		{"room in another case", signWith(t, hs, hmacKey, good(with("room", "Movie"))), wrongRoom},
		{"other app", signWith(t, hs, hmacKey, good(with("app", "vod"))), wrongRoom},
		{"publish token", signWith(t, hs, hmacKey, good(with("act", "publish"))), wrongAct},
		{"every room of the app", signWith(t, hs, hmacKey, good(with("room", "*"))), fine},
		{"every app", signWith(t, hs, hmacKey, good(with("app", "*"))), wrongRoom},
		{"room pattern", signWith(t, hs, hmacKey, good(with("room", "mov*"))), wrongRoom},
		{"no room", signWith(t, hs, hmacKey, good(without("room"))), malformed},
		{"no app", signWith(t, hs, hmacKey, good(without("app"))), malformed},
		{"no act", signWith(t, hs, hmacKey, good(without("act"))), malformed},
		{"unknown act", signWith(t, hs, hmacKey, good(with("act", "manage"))), malformed},
		{"room is an array", signWith(t, hs, hmacKey, good(with("room", []string{"movie"}))), malformed},
		{"duplicate claim", signByHand(tokenSecret, `{"alg":"HS256"}`, payload(`"exp":%d,"room":"movie"`, exp)), malformed},
		{"unknown crit", signWith(t, hs, hmacKey, good(), "crit", "x"), invalid},
		{"trailing data", signByHand(tokenSecret, `{"alg":"HS256"}`, payload(`"exp":%d`, exp)+`{}`), malformed},
		{"unknown claims", signWith(t, hs, hmacKey, good(with("sub", "me"), with("x", []int{1}))), fine},
		{"payload is an array", signByHand(tokenSecret, `{"alg":"HS256"}`, `[]`), malformed},
		{"kid is a path", signWith(t, rs, rsaKey, good(), "kid", "../../dev/null"), invalid},
		{"jku of an attacker", signWith(t, rs, other, good(), "jku", "http://127.0.0.1:1/", "x5u", "http://127.0.0.1:1/",
			"kid", "k1"),
			invalid},
		{"HS256 ignores kid", signWith(t, hs, hmacKey, good(), "kid", "' OR 1=1"), fine},
		{"previous secret", signWith(t, hs, []byte(oldSecret), good()), fine},
		{"bound to the client's address", signWith(t, hs, hmacKey, good(with("ip", "192.0.2.1"))), fine},
		{"bound to the IPv4-mapped address", signWith(t, hs, hmacKey, good(with("ip", "::ffff:192.0.2.1"))), fine},
		{"bound to another address", signWith(t, hs, hmacKey, good(with("ip", "192.0.2.2"))), wrongPlace},
		{"bound to an invalid address", signWith(t, hs, hmacKey, good(with("ip", "here"))), malformed},
		{"bound to an empty address", signWith(t, hs, hmacKey, good(with("ip", ""))), malformed},
		{"bound to a null address", signWith(t, hs, hmacKey, good(with("ip", nil))), malformed},
		{"viewers", signWith(t, hs, hmacKey, good(with("viewers", 2))), fine},
		{"zero viewers", signWith(t, hs, hmacKey, good(with("viewers", 0))), malformed},
		{"viewers of a wrong type", signWith(t, hs, hmacKey, good(with("viewers", "2"))), malformed},
		{"not once", signWith(t, hs, hmacKey, good(with("once", false))), fine},
		{"once of a wrong type", signWith(t, hs, hmacKey, good(with("once", "true"))), malformed},
		{"once null", signWith(t, hs, hmacKey, good(with("once", nil))), malformed},
		{"one-time token without a store", signWith(t, hs, hmacKey, good(with("once", true))), invalid},
		{"garbage", "a.b.c", malformed},
		{"too long", strings.Repeat("x", maxCredential+1), malformed},
		{"signed URL", signed(same), fine},
		{"signed URL for another room", signed(func(c *Claims) { c.Room = "other" }), invalid},
		{"signed URL for a room in another case", signed(func(c *Claims) { c.Room = "Movie" }), invalid},
		{"signed URL to publish", signed(func(c *Claims) { c.Action = domain.Publish }), invalid},
		{"expired signed URL", signed(func(c *Claims) { c.Expires = now.Add(-time.Minute) }), expired},
		{"signed URL that expires in ten years", signed(func(c *Claims) { c.Expires = now.AddDate(10, 0, 0) }), invalid},
		{"signed URL with a later end", strings.Replace(signed(same), fmt.Sprint(exp), fmt.Sprint(exp+1), 1), invalid},
		{"signed URL with an extra part", signed(same) + ".x", malformed},
		{"signed URL for the client's address", signed(func(c *Claims) { c.IP = netip.MustParseAddr("192.0.2.1") }), fine},
		{"signed URL for another address", signed(func(c *Claims) { c.IP = netip.MustParseAddr("192.0.2.2") }), invalid},
		{"signed URL with the address removed",
			strings.Replace(signed(func(c *Claims) { c.IP = netip.MustParseAddr("192.0.2.1") }),
				".ip.", ".", 1), invalid},
		{"empty signed URL", "h1...", malformed},
		{"signed URL with an empty secret", "h1." + fmt.Sprint(now.Unix(), ".", exp) + "." +
			signature("", Claims{App: "live", Room: "movie"}, fmt.Sprint(now.Unix(), ".", exp)), invalid},
	} {
		t.Run(c.name, func(t *testing.T) {
			grant, err := g.Authorize(t.Context(),
				domain.AuthRequest{Action: domain.Play, App: "live", Name: "movie", Token: c.token, Remote: "192.0.2.1:5000"})
			if c.want == fine {
				if err != nil || grant.Name != (domain.Name{App: "live", Room: "movie"}) {
					t.Errorf("%+v, %v", grant, err)
				}
				return
			}
			if domain.KindOf(err) != domain.Denied || domain.CodeOf(err) != c.want ||
				!strings.HasPrefix(domain.Reason(err), "token ") {
				t.Errorf("%v with code %q, want code %q", err, domain.CodeOf(err), c.want)
			}
			good := c.want == wrongRoom || c.want == wrongAct || c.want == wrongPlace // but for another request
			if errors.Is(err, domain.ErrUnauthenticated) == good {
				t.Errorf("%v: no credential: %v", err, !good)
			}
		})
	}
	if n := requests.Load(); n > 2 {
		t.Errorf("made-up tokens caused %d fetches of the JWKS", n)
	}
	for name, c := range map[string]jwt.MapClaims{
		"wrong iss": good(with("iss", "you"), with("aud", "livego")), "no iss": good(with("aud", "livego")),
		"wrong aud": good(with("iss", "me"), with("aud", "x")),
		"aud array": good(with("iss", "me"), with("aud", []string{"livego"})),
	} {
		if _, err := strict.Authorize(t.Context(),
			domain.AuthRequest{App: "vod", Name: "movie", Token: signWith(t, hs, hmacKey, c)}); !errors.Is(err,
			domain.ErrUnauthenticated) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := strict.Authorize(t.Context(),
		domain.AuthRequest{App: "live", Name: "movie",
			Token: signWith(t, hs, hmacKey, good(with("iss", "me"), with("aud", "livego")))}); err != nil {
		t.Errorf("iss and aud as they should be: %v", err)
	}
	if _, err := strict.Authorize(t.Context(),
		domain.AuthRequest{App: "live", Name: "movie",
			Token: signWith(t, hs, []byte(oldSecret), good(with("iss", "me"), with("aud", "livego")))}); err == nil {
		t.Error("a token of a removed secret is accepted")
	}
}

func mustDER(t *testing.T, key *rsa.PublicKey) []byte {
	der, err := x509.MarshalPKIXPublicKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

func mustEd(t *testing.T) ed25519.PrivateKey {
	_, k, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// TestPrivateRoomsRequireToken checks which rooms the setting private covers.
func TestPrivateRoomsRequireToken(t *testing.T) {
	keys := newFakeKeys()
	for _, c := range []struct {
		private string
		app     string
		room    string
		want    bool
	}{
		{"", "live", "movie", false},
		{"live", "live", "movie", true},
		{"live", "vod", "movie", false},
		{"live/movie", "live", "movie", true},
		{"live/movie", "live", "Movie", false},
		{"live/movie", "live", "other", false},
		{"*", "vod", "x", true},
	} {
		g := newTestChain(keys, Options{Apps: testApps, Private: []string{c.private}})
		_, err := g.Authorize(t.Context(), domain.AuthRequest{Action: domain.Play, App: c.app, Name: c.room})
		if (err != nil) != c.want || err != nil && !errors.Is(err, domain.ErrUnauthenticated) {
			t.Errorf("private %q, %s/%s: %v", c.private, c.app, c.room, err)
		}
	}
}

// publishKeys is a store that has the default key of movie.
type publishKeys struct{ *fakeKeys }

func (p publishKeys) List(_ context.Context, room string) ([]domain.Key, error) {
	if room != p.key.Room || p.err != nil {
		return nil, p.err
	}
	return []domain.Key{{ID: "x", Room: room, Label: "other", Created: time.Unix(1, 0)}, p.key}, nil
}

// TestPublishTokens tries tokens instead of a stream key.
func TestPublishTokens(t *testing.T) {
	keys := publishKeys{newFakeKeys()}
	reset := time.Now().Add(-time.Minute)
	keys.key.Created = reset
	g := newTestChain(keys, Options{Apps: testApps, Tokens: TokenOptions{Secret: tokenSecret, MaxAge: 24 * time.Hour}})
	token := func(change ...func(jwt.MapClaims)) string {
		return signWith(t, jwt.SigningMethodHS256, []byte(tokenSecret),
			good(append([]func(jwt.MapClaims){with("act", "publish")}, change...)...))
	}
	signedAt := func(at time.Time) string {
		return Sign(tokenSecret, Claims{Action: domain.Publish, App: "live", Room: "movie", Issued: at,
			Expires: at.Add(time.Hour)})
	}
	for _, c := range []struct {
		name, room, token string
		ok                bool
	}{
		{"good", "movie", token(), true},
		{"signed", "movie", signedAt(time.Now()), true},
		{"every room", "movie", token(with("room", "*")), true},
		{"play token", "movie", token(with("act", "play")), false},
		{"no such room", "nobody", token(with("room", "nobody")), false},
		{"issued before the reset", "movie", token(with("iat", reset.Add(-time.Second).Unix())), false},
		{"issued just before the reset", "movie",
			token(with("iat", float64(reset.Add(-50*time.Millisecond).UnixMilli())/1000+0.0001)), false},
		{"signed URL from before the reset", "movie", signedAt(reset.Add(-2 * time.Second)), false},
		{"no iat", "movie", token(without("iat")), false},
		{"issued in the second of the reset", "movie", token(with("iat", reset.Unix())), true},
		{"invalid token", "movie", "x", false},
		{"no token", "movie", "", false},
		{"valid key with an invalid token", keys.key.Secret, "x", true}, // the key is enough
	} {
		t.Run(c.name, func(t *testing.T) {
			grant, err := g.Authorize(t.Context(),
				domain.AuthRequest{Action: domain.Publish, App: "live", Name: c.room, Token: c.token})
			if (err == nil) != c.ok || err != nil && domain.KindOf(err) != domain.Denied || err == nil &&
				(grant.Key != keys.key.Ref() || grant.Name.Room != "movie") {
				t.Errorf("%+v, %v", grant, err)
			}
		})
	}
	keys.err = domain.Errorf(domain.Unavailable, "key store unavailable")
	if _, err := g.Authorize(t.Context(),
		domain.AuthRequest{Action: domain.Publish, App: "live", Name: "movie",
			Token: token()}); domain.KindOf(err) != domain.Unavailable {
		t.Errorf("without a store: %v", err)
	}
}

// TestWrongTokensAreDelayed checks that invalid tokens count like wrong keys.
func TestWrongTokensAreDelayed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newTestChain(newFakeKeys(),
			Options{Apps: testApps, Private: []string{"*"}, Failures: 10,
				Tokens: TokenOptions{Secret: tokenSecret, MaxAge: time.Hour}})
		try := func(token string) time.Duration {
			start := time.Now()
			_, _ = g.Authorize(t.Context(),
				domain.AuthRequest{Action: domain.Play, App: "live", Name: "movie", Token: token, Remote: "192.0.2.1:1"})
			return time.Since(start)
		}
		for range 20 {
			if d := try(""); d != 0 {
				t.Errorf("a request without a token is delayed for %v", d)
			}
		}
		for i := range 10 {
			if d := try("guess"); d != 0 {
				t.Errorf("guess %d waited %v", i, d)
			}
		}
		if d := try("guess"); d == 0 || d > maxDelay {
			t.Errorf("guess 11 waited %v", d)
		}
	})
}

func TestTokenViewerLimit(t *testing.T) {
	g := newTestChain(newFakeKeys(),
		Options{Apps: testApps, Private: []string{"*"},
			Tokens: TokenOptions{Secret: tokenSecret, MaxAge: 24 * time.Hour, Viewers: 5}})
	passes := map[domain.ViewerLimit]bool{}
	for max, token := range map[int]string{
		5: signWith(t, jwt.SigningMethodHS256, []byte(tokenSecret), good()),
		2: signWith(t, jwt.SigningMethodHS256, []byte(tokenSecret), good(with("viewers", 2))),
	} {
		for range 2 {
			grant, err := g.Authorize(t.Context(),
				domain.AuthRequest{Action: domain.Play, App: "live", Name: "movie", Token: token})
			if err != nil || grant.ViewerLimit.Max != max {
				t.Errorf("%+v, %v; want %d viewers", grant, err, max)
			}
			passes[grant.ViewerLimit] = true
		}
	}
	if len(passes) != 2 {
		t.Errorf("two tokens have %d viewer limits", len(passes))
	}
}

// jwksCases are responses of a JWKS URL and how many keys each has; -1 for an error. They seed the
// fuzz target too.
var jwksCases = []struct {
	text string
	want int
}{
	{`{"keys":[{"kty":"RSA","kid":"a","n":"` +
		base64.RawURLEncoding.EncodeToString(append([]byte{0x80}, make([]byte, 255)...)) + `","e":"AQAB"}]}`, 1},
	{`{"keys":[]}`, -1},
	// 17 bits
	{`{"keys":[{"kty":"RSA","kid":"a","n":"AQAB","e":"AQAB"}]}`, -1},
	// exponent 1
	{`{"keys":[{"kty":"RSA","n":"` + base64.RawURLEncoding.EncodeToString(append([]byte{0x80}, make([]byte, 255)...)) +
		`","e":"AQ"}]}`, -1},
	// exponent 0
	{`{"keys":[{"kty":"RSA","n":"` + base64.RawURLEncoding.EncodeToString(append([]byte{0x80}, make([]byte, 255)...)) +
		`","e":"` + strings.Repeat("A", 500) + `"}]}`, -1},
	{`{"keys":[{"kty":"oct","k":"c2VjcmV0"}]}`, -1},
	{`{"keys":[{"kty":"RSA","use":"enc","n":"` +
		base64.RawURLEncoding.EncodeToString(append([]byte{0x80}, make([]byte, 255)...)) + `","e":"AQAB"}]}`, -1},
	{`{"keys":[` + strings.Repeat(`{"kty":"oct"},`, 64) + `{}]}`, -1},
	{`hello`, -1},
	{``, -1},
}

func TestParseJWKS(t *testing.T) {
	for _, c := range jwksCases {
		keys, err := parseJWKS([]byte(c.text))
		if c.want < 0 && err == nil || c.want >= 0 && (err != nil || len(keys) != c.want) {
			t.Errorf("%.80s: %d keys, %v", c.text, len(keys), err)
		}
	}
}

func FuzzParseJWKS(f *testing.F) {
	for _, c := range jwksCases {
		f.Add([]byte(c.text))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		keys, err := parseJWKS(b)
		for _, k := range keys {
			if err != nil || k.N.BitLen() < minModulus || k.E < 3 {
				t.Errorf("%q gives a key of %d bits with exponent %d", b, k.N.BitLen(), k.E)
			}
		}
	})
}

// TestJWKSFetch tries responses that are not a JWKS.
func TestJWKSFetch(t *testing.T) {
	for name, h := range map[string]http.HandlerFunc{
		"404": func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(404) },
		"redirect": func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "http://127.0.0.1:1/", http.StatusFound)
		},
		"10 MB": func(w http.ResponseWriter, _ *http.Request) { w.Write(make([]byte, 10<<20)) },
	} {
		srv := httptest.NewServer(h)
		j := NewJWKS(srv.URL, slog.New(slog.DiscardHandler))
		if keys, err := j.fetch(t.Context()); err == nil {
			t.Errorf("%s: %v", name, keys)
		}
		j.client.CloseIdleConnections()
		srv.Close()
	}
}

func FuzzToken(f *testing.F) {
	now := time.Now()
	tok := newTokenVerifier(TokenOptions{Secret: tokenSecret, MaxAge: time.Hour})
	good := signWith(f, jwt.SigningMethodHS256, []byte(tokenSecret), good())
	for _, s := range []string{good,
		Sign(tokenSecret, Claims{App: "live", Room: "movie", Issued: now, Expires: now.Add(time.Minute)}), "", "h1.1.2.ip.x",
		"a.b.c"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		r := domain.AuthRequest{App: "live", Name: "another", Remote: "192.0.2.1:1"}
		if c, err := tok.verify(t.Context(), s, r, now); err == nil {
			t.Errorf("%q is valid for another room: %+v", s, c)
		}
	})
}

func FuzzClaims(f *testing.F) {
	for _, s := range []string{`{}`, `{"exp":1,"act":"play","app":"live","room":"x"}`, `{"exp":1,"exp":2}`, `[]`,
		`{"exp":1e5}`, `{"a":{"b":[1,{"c":2}]}}`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		var w jwtPayload
		if w.UnmarshalJSON(b) != nil {
			return
		}
		var m map[string]any
		if json.Unmarshal(b, &m) != nil || m["room"] != w.room || m["act"] != w.act {
			t.Errorf("%q is read as room %q, act %q", b, w.room, w.act)
		}
	})
}

// TestSessionLength checks that the setting bounds how long a viewer may stay, and the claim where
// it is shorter; exp does not.
func TestSessionLength(t *testing.T) {
	g := newTestChain(newFakeKeys(), Options{Apps: testApps, Private: []string{"*"}, Tokens: TokenOptions{
		Secret: tokenSecret, MaxAge: 24 * time.Hour, Session: 2 * time.Hour,
	}})
	soon := with("exp", time.Now().Add(time.Minute).Unix())
	for _, c := range []struct {
		name  string
		token jwt.MapClaims
		want  time.Duration // 0: refused
	}{
		{"no claim", good(soon), 2 * time.Hour},
		{"shorter", good(soon, with("session", 600)), 10 * time.Minute},
		{"longer", good(soon, with("session", 7200000)), 2 * time.Hour},
		{"zero", good(with("session", 0)), 0},
		{"negative", good(with("session", -1)), 0},
		{"text", good(with("session", "600")), 0},
		{"fraction", good(with("session", 0.5)), 0},
		{"overflow", good(with("session", 1<<62)), 0},
	} {
		grant, err := g.Authorize(t.Context(),
			domain.AuthRequest{App: "live", Name: "movie",
				Token: signWith(t, jwt.SigningMethodHS256, []byte(tokenSecret), c.token)})
		if c.want == 0 {
			if domain.CodeOf(err) != domain.TokenMalformed {
				t.Errorf("%s: %+v, %v", c.name, grant, err)
			}
			continue
		}
		if d := time.Until(grant.Expires); err != nil || d > c.want || d < c.want-time.Minute {
			t.Errorf("%s: %v for %v, want %v", c.name, err, d, c.want)
		}
	}
}
