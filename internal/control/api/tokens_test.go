package api

import (
	"context"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"livego/internal/control/auth"
	"livego/internal/domain"
)

var testTokens = auth.TokenIssuer{Secret: "the secret of tokens in a test", MaxAge: 24 * time.Hour}

type tokenResponse struct {
	Token   string
	Expires time.Time
	URLs    []string
}

// TestTokensV1 makes tokens, and checks that the authorizer accepts them.
func TestTokensV1(t *testing.T) {
	s := newFixture(t, func(o *Options) { o.TokenIssuer = testTokens })
	s.get("/control/get?room=movie")
	streamAuth := auth.NewStreamAuth(s.keys, auth.Options{
		Apps: map[string]bool{"live": true, "quiet": true}, Private: []string{"*"},
		Tokens: auth.TokenOptions{Secret: testTokens.Secret, MaxAge: testTokens.MaxAge},
	})
	authorizer := auth.NewChain(nil, streamAuth.Authenticate, streamAuth.ConsumeToken)
	for _, c := range []struct {
		name, body string
		r          domain.AuthRequest
		life       time.Duration
		urls       []string
	}{
		{"play", `{"action":"play","app":"live","room":"movie"}`, domain.AuthRequest{App: "live", Name: "movie"}, time.Hour,
			[]string{"rtmp://localhost:1935/live/movie", "http://localhost:7001/live/movie.flv",
				"http://localhost:7002/live/movie.m3u8"}},
		{"play, signed", `{"action":"play","app":"live","room":"movie","signed":true,"for":"90s"}`,
			domain.AuthRequest{App: "live", Name: "movie"}, 90 * time.Second,
			[]string{"rtmp://localhost:1935/live/movie", "http://localhost:7001/live/movie.flv",
				"http://localhost:7002/live/movie.m3u8"}},
		{"every room", `{"action":"play","app":"live","room":"*","viewers":3}`,
			domain.AuthRequest{App: "live", Name: "other"}, time.Hour, nil},
		{"an app without HTTP", `{"action":"play","app":"quiet","room":"radio","ip":"192.0.2.7"}`,
			domain.AuthRequest{App: "quiet", Name: "radio", Remote: "192.0.2.7:1"}, time.Hour,
			[]string{"rtmp://localhost:1935/quiet/radio"}},
		{"publish", `{"action":"publish","app":"live","room":"movie","for":"12h"}`,
			domain.AuthRequest{Action: domain.Publish, App: "live", Name: "movie"}, 12 * time.Hour,
			[]string{"rtmp://localhost:1935/live/movie"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			made := decode[tokenResponse](t, s.do("POST", "/api/v1/tokens", c.body, jsonContent), 201)
			if d := time.Until(made.Expires); d > c.life || d < c.life-10*time.Second {
				t.Errorf("lifetime %v, want %v", d, c.life)
			}
			var urls []string
			for _, u := range made.URLs {
				base, query, _ := strings.Cut(u, "?")
				if urls = append(urls, base); query != "token="+url.QueryEscape(made.Token) {
					t.Errorf("the query of %s", u)
				}
			}
			if !slices.Equal(urls, c.urls) {
				t.Errorf("URLs %v, want %v", urls, c.urls)
			}
			c.r.Token = made.Token
			if _, err := authorizer.Authorize(t.Context(), c.r); err != nil {
				t.Errorf("not authorized: %v", err)
			}
			if strings.Contains(s.log.String(), made.Token) {
				t.Error("the log has the token")
			}
		})
	}
	oneTime := decode[tokenResponse](t,
		s.do("POST", "/api/v1/tokens", `{"action":"play","app":"live","room":"movie","once":true}`, jsonContent), 201)
	if _, err := authorizer.Authorize(t.Context(),
		domain.AuthRequest{App: "live", Name: "movie", Token: oneTime.Token}); domain.KindOf(err) != domain.Denied {
		t.Errorf("a one-time token is accepted without a token store: %v", err)
	}
}

// TestTokenURLsWithTLS checks that the URLs of enabled TLS listeners come after the others.
func TestTokenURLsWithTLS(t *testing.T) {
	const rtmp, flv, hls = "rtmp://localhost:1935/live/movie", "http://localhost:7001/live/movie.flv",
		"http://localhost:7002/live/movie.m3u8"
	const rtmps, flvs, hlss = "rtmps://localhost:1936/live/movie", "https://localhost:7443/live/movie.flv",
		"https://localhost:7443/live/movie.m3u8"
	for name, c := range map[string]struct {
		change        func(*Options)
		play, publish []string
	}{
		"none":  {func(*Options) {}, []string{rtmp, flv, hls}, []string{rtmp}},
		"RTMPS": {func(o *Options) { o.RTMPS = "rtmps://:1936" }, []string{rtmp, flv, hls, rtmps}, []string{rtmp, rtmps}},
		"HTTPS": {func(o *Options) { o.HTTPS = "https://[::]:7443" }, []string{rtmp, flv, hls, flvs, hlss}, []string{rtmp}},
		"all": {
			func(o *Options) {
				o.RTMPS, o.HTTPS, o.HLS = "rtmps://0.0.0.0:1936", "https://:7443", "https://:7002"
			},
			[]string{rtmp, flv, "https://localhost:7002/live/movie.m3u8", rtmps, flvs, hlss},
			[]string{rtmp, rtmps},
		},
		"all, an app without FLV": {
			func(o *Options) {
				o.RTMPS, o.HTTPS, o.Apps = "rtmps://:1936", "https://:7443", []App{{Name: "live", HLS: true}}
			},
			[]string{rtmp, hls, rtmps, hlss}, []string{rtmp, rtmps},
		},
	} {
		s := newFixture(t, func(o *Options) {
			o.TokenIssuer = testTokens
			c.change(o)
		})
		s.get("/control/get?room=movie")
		for action, want := range map[string][]string{"play": c.play, "publish": c.publish} {
			made := decode[tokenResponse](t,
				s.do("POST", "/api/v1/tokens", `{"action":"`+action+`","app":"live","room":"movie"}`, jsonContent), 201)
			var urls []string
			for _, u := range made.URLs {
				urls = append(urls, strings.TrimSuffix(u, "?token="+url.QueryEscape(made.Token)))
			}
			if !slices.Equal(urls, want) {
				t.Errorf("%s, to %s: %v, want %v", name, action, urls, want)
			}
		}
	}
}

// TestInvalidTokenRequests checks that invalid requests get no token.
func TestInvalidTokenRequests(t *testing.T) {
	s := newFixture(t, func(o *Options) { o.TokenIssuer = testTokens })
	const play = `{"action":"play","app":"live","room":"movie"`
	for name, c := range map[string]struct {
		body   string
		status int
	}{
		"nothing":              {`{}`, 400},
		"no room":              {`{"action":"play","app":"live"}`, 400},
		"empty room":           {`{"action":"play","app":"live","room":""}`, 400},
		"bad room":             {`{"action":"play","app":"live","room":"../x"}`, 400},
		"bad app":              {`{"action":"play","app":"a/b","room":"x"}`, 400},
		"unknown app":          {`{"action":"play","app":"cinema","room":"x"}`, 404},
		"unknown action":       {`{"action":"manage","app":"live","room":"x"}`, 400},
		"no time":              {play + `,"for":"soon"}`, 400},
		"no time at all":       {play + `,"for":"0s"}`, 400},
		"time backwards":       {play + `,"for":"-1h"}`, 400},
		"longer than max_age":  {play + `,"for":"25h"}`, 400},
		"bad address":          {play + `,"ip":"localhost"}`, 400},
		"empty address":        {play + `,"ip":""}`, 400},
		"address with a zone":  {play + `,"ip":"fe80::1%eth0"}`, 400},
		"viewers below none":   {play + `,"viewers":-1}`, 400},
		"viewers as a text":    {play + `,"viewers":"2"}`, 400},
		"viewers of publisher": {`{"action":"publish","app":"live","room":"movie","viewers":2}`, 400},
		"signed and viewers":   {play + `,"signed":true,"viewers":2}`, 400},
		"signed and once":      {play + `,"signed":true,"once":true}`, 400},
		"signed, every room":   {`{"action":"play","app":"live","room":"*","signed":true}`, 400},
		"unknown member":       {play + `,"role":"admin"}`, 400},
		"member twice":         {play + `,"room":"other"}`, 400},
		"publish without key":  {`{"action":"publish","app":"live","room":"nobody"}`, 404},
	} {
		t.Run(name, func(t *testing.T) {
			w := s.do("POST", "/api/v1/tokens", c.body, jsonContent)
			wantStatus(t, w, c.status)
			if strings.Contains(w.Body.String(), `"token"`) {
				t.Errorf("a token is in %s", w.Body)
			}
		})
	}
	if keys, err := s.keys.Dump(t.Context()); err != nil || len(keys) != 0 {
		t.Errorf("refused requests left %v, %v", keys, err)
	}
	if w := s.do("GET", "/api/v1/tokens", ""); w.Code != 405 {
		t.Errorf("GET: %d, want 405", w.Code)
	}
	bare := newFixture(t, nil)
	if w := bare.do("POST", "/api/v1/tokens", play+`}`, jsonContent); w.Code != 409 ||
		!strings.Contains(w.Body.String(), "token.secret") {
		t.Errorf("without a secret: %d %s", w.Code, w.Body)
	}
}

// TestTokensRequireOperateRole checks that only the roles operate and admin can make tokens.
func TestTokensRequireOperateRole(t *testing.T) {
	const secret = "the secret of operators"
	adminAuth, err := auth.NewAdminAuth(t.TempDir(), auth.AdminOptions{JWTSecret: secret, JWTAlgorithm: "HS256"})
	if err != nil {
		t.Fatal(err)
	}
	s := newFixture(t, func(o *Options) {
		o.TokenIssuer, o.Auth = testTokens, func() Auth { return adminAuth }
	})
	play, _, err := testTokens.Issue(auth.TokenRequest{App: "live", Room: "movie", Lifetime: time.Hour}, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	headers := map[string]int{"": 401, "Authorization: Bearer " + play: 401}
	for rights, status := range map[auth.Rights]int{auth.Read: 403, auth.Operate: 201, auth.Admin: 201} {
		token, err := auth.SignOperator(secret, "HS256", rights, time.Now().Add(time.Hour))
		if err != nil {
			t.Fatal(err)
		}
		headers["Authorization: Bearer "+token] = status
	}
	for h, status := range headers {
		if w := s.do("POST", "/api/v1/tokens", `{"action":"play","app":"live","room":"movie"}`, jsonContent,
			h); w.Code != status {
			t.Errorf("%.40s: %d, want %d: %s", h, w.Code, status, w.Body)
		}
	}
}

// TestTokensWithUnreachableStore checks that play tokens can be made without the store, and publish
// tokens cannot.
func TestTokensWithUnreachableStore(t *testing.T) {
	s := newFixture(t, func(o *Options) { o.TokenIssuer, o.Keys = testTokens, unreachableKeys{} })
	for action, status := range map[string]int{"play": 201, "publish": 503} {
		if w := s.do("POST", "/api/v1/tokens", `{"action":"`+action+`","app":"live","room":"movie"}`,
			jsonContent); w.Code != status {
			t.Errorf("%s: %d, want %d: %s", action, w.Code, status, w.Body)
		}
	}
}

// unreachableKeys is a key store that is unavailable.
type unreachableKeys struct{ domain.KeyStore }

func (unreachableKeys) List(context.Context, string) ([]domain.Key, error) {
	return nil, domain.Errorf(domain.Unavailable, "key store unavailable")
}

// TestPageShowsTokenForm checks that the page has the token form if token.secret is set.
func TestPageShowsTokenForm(t *testing.T) {
	for secret, want := range map[string]bool{"": false, testTokens.Secret: true} {
		w := newFixture(t, func(o *Options) { o.TokenIssuer.Secret = secret }).get("/")
		if got := strings.Contains(w.Body.String(), `<form id="token"`); got != want {
			t.Errorf("with the secret %q the page has the form: %v", secret, got)
		}
		if secret != "" && strings.Contains(w.Body.String(), secret) {
			t.Error("the page has the secret")
		}
	}
}
