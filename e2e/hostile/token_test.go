package hostile

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"livego/e2e/harness"
)

const tokenSecret, oldSecret = "a secret that signs the tokens of a test", "the secret that was before this one"

// signedOf returns the token of a signed URL, as docs/keys.md defines it.
func signedOf(secret, action, stream string, iat, exp int64) string {
	times := fmt.Sprintf("%d.%d", iat, exp)
	m := hmac.New(sha256.New, []byte(secret))
	fmt.Fprintf(m, "livego h1\n%s\n%s\n%s\n", action, stream, times)
	return "h1." + times + "." + base64.RawURLEncoding.EncodeToString(m.Sum(nil))
}

// A tokenRow is a token for the private room live/shut, which has no publisher, and the expected
// answer. With a valid token a viewer gets 404.
type tokenRow struct {
	name, token string
	want        answer
}

// An answer is the HTTP status of a refusal, or its equivalent in another protocol, and its code.
type answer struct {
	status int
	code   string
}

var (
	allowed      = answer{http.StatusNotFound, ""}
	missing      = answer{http.StatusUnauthorized, "token_missing"}
	malformed    = answer{http.StatusUnauthorized, "token_malformed"}
	invalid      = answer{http.StatusUnauthorized, "token_invalid"}
	expired      = answer{http.StatusUnauthorized, "token_expired"}
	notYetValid  = answer{http.StatusUnauthorized, "token_not_yet_valid"}
	wrongRoom    = answer{http.StatusForbidden, "token_wrong_stream"}
	wrongAction  = answer{http.StatusForbidden, "token_wrong_action"}
	wrongAddress = answer{http.StatusForbidden, "token_wrong_address"}
	tokenUsed    = answer{http.StatusForbidden, "token_used"}
)

func tokenRows() []tokenRow {
	now := time.Now().Unix()
	const hs = `{"alg":"HS256","typ":"JWT"}`
	claims := func(format string, args ...any) string { return fmt.Sprintf(`{`+format+`}`, args...) }
	good := claims(`"act":"play","app":"live","room":"shut","iat":%d,"exp":%d`, now, now+3600)
	play := func(more string, args ...any) string {
		return harness.JWT(tokenSecret, hs, claims(`"act":"play","app":"live","room":"shut",`+more, args...))
	}
	of := func(act, app, room string) string {
		return harness.JWT(tokenSecret, hs,
			claims(`"act":%q,"app":%q,"room":%q,"iat":%d,"exp":%d`, act, app, room, now, now+3600))
	}
	header := func(h string) string { return harness.JWT(tokenSecret, h, good) }
	return []tokenRow{
		{"good", harness.JWT(tokenSecret, hs, good), allowed},
		{"no token", "", missing},
		{"garbage", "x", malformed},
		{"more than 4 KiB", strings.Repeat("x", 4097), malformed},
		{"alg none", harness.JWT("", `{"alg":"none"}`, good), invalid},
		{"alg None, signed", header(`{"alg":"None"}`), invalid},
		{"no alg", header(`{}`), invalid},
		{"RS256 with the secret", header(`{"alg":"RS256"}`), invalid},
		{"HS512 signed as HS256", header(`{"alg":"HS512"}`), invalid},
		{"expired", play(`"exp":%d`, now-60), expired},
		{"expired within the leeway", play(`"exp":%d`, now-5), allowed},
		{"not valid yet", play(`"exp":%d,"nbf":%d`, now+3600, now+600), notYetValid},
		{"no exp", play(`"nbf":%d`, now), malformed},
		{"exp 2^63", play(`"exp":9223372036854775808`), malformed},
		{"exp as text", play(`"exp":"%d"`, now+3600), malformed},
		{"exp as float", play(`"exp":%d.5`, now+3600), malformed},
		{"exp in ten years", play(`"exp":%d`, now+10*365*86400), invalid},
		{"wrong room", of("play", "live", "other"), wrongRoom},
		{"room in other case", of("play", "live", "Shut"), wrongRoom},
		{"wrong app", of("play", "other", "shut"), wrongRoom},
		{"publish token", of("publish", "live", "shut"), wrongAction},
		{"wildcard room", of("play", "live", "*"), allowed},
		{"wildcard app", of("play", "*", "shut"), wrongRoom},
		{"partial wildcard", of("play", "live", "sh*"), wrongRoom},
		{"duplicate claim", play(`"room":"shut","exp":%d`, now+3600), malformed},
		{"crit header", header(`{"alg":"HS256","crit":["x"],"x":1}`), invalid},
		{"no issuer", play(`"exp":%d`, now+3600), allowed}, // this server requires none
		{"path as kid", header(`{"alg":"HS256","kid":"../../dev/null"}`), allowed},
		{"jku, x5u, jwk", header(`{"alg":"HS256","jku":"http://169.254.169.254/","x5u":"file:///etc/passwd",` +
			`"jwk":{"kty":"oct","k":"AA"}}`), allowed},
		{"previous secret", harness.JWT(oldSecret, hs, good), allowed},
		{"unknown secret", harness.JWT("some other secret altogether", hs, good), invalid},
		{"another address", play(`"exp":%d,"ip":"192.0.2.1"`, now+3600), wrongAddress},
		{"this address", play(`"exp":%d,"ip":"127.0.0.1"`, now+3600), allowed},
		{"signed URL", signedOf(tokenSecret, "play", "live/shut", now, now+3600), allowed},
		{"signed URL of another stream", signedOf(tokenSecret, "play", "live/other", now, now+3600), invalid},
		{"signed URL of a room in other case", signedOf(tokenSecret, "play", "live/Shut", now, now+3600), invalid},
		{"signed URL to publish", signedOf(tokenSecret, "publish", "live/shut", now, now+3600), invalid},
		{"signed URL, expired", signedOf(tokenSecret, "play", "live/shut", now-3600, now-60), expired},
		{"signed URL with another secret", signedOf("some other secret altogether", "play", "live/shut", now, now+3600),
			invalid},
		{"signed URL with a later expiry",
			strings.Replace(signedOf(tokenSecret, "play", "live/shut", now, now+3600), fmt.Sprint(now+3600),
				fmt.Sprint(now+3601), 1), invalid},
		{"truncated signed URL", "h1." + fmt.Sprint(now, ".", now+3600) + ".", invalid},
	}
}

// startTokens starts a target with a private room.
func startTokens(t *testing.T, flags ...string) *target {
	t.Helper()
	return start(t, append([]string{"--private=live/shut", "--token.secret=" + tokenSecret,
		"--token.previous=" + oldSecret, "--auth_failures=0"}, flags...)...)
}

// TestInvalidTokens tries each token by every protocol: all give the same answer.
func TestInvalidTokens(t *testing.T) {
	t.Parallel()
	s := startTokens(t, "--hls_start_wait=0s")
	rows := tokenRows()
	ways := map[string]func(t *testing.T, token string) answer{
		"FLV":            func(t *testing.T, token string) answer { return answerOf(t, s.FLV("shut"), token, "") },
		"FLV, as bearer": func(t *testing.T, token string) answer { return answerOf(t, s.FLV("shut"), "", token) },
		"HLS":            func(t *testing.T, token string) answer { return answerOf(t, s.HLS("shut"), token, "") },
		"WebSocket": func(t *testing.T, token string) answer {
			ctx, cancel := context.WithTimeout(t.Context(), longTimeout)
			defer cancel()
			ws, err := harness.OpenWebSocket(ctx, "ws://"+s.Addr("httpflv_addr")+"/live/shut.flv?token="+url.QueryEscape(token),
				nil)
			if err != nil {
				if strings.Contains(err.Error(), "414") {
					return answer{status: http.StatusRequestURITooLong}
				}
				t.Fatal(err)
			}
			defer ws.Close()
			_, err = ws.ReadMessage()
			var closed *harness.CloseError
			if !errors.As(err, &closed) {
				t.Fatalf("%v, want it closed", err)
			}
			code, _, coded := strings.Cut(closed.Text, ": ")
			if !coded {
				code = ""
			}
			return answer{closed.Code - 4000, code}
		},
		"RTMP": func(t *testing.T, token string) answer {
			p := s.dial(t)
			p.advance(connected)
			p.play("shut?token=" + url.QueryEscape(token))
			var got answer
			p.ends(func(m message) {
				if !m.IsCommand("onStatus") {
					return
				}
				for _, a := range []answer{missing, malformed, invalid, expired, notYetValid, wrongRoom, wrongAction,
					wrongAddress} {
					if bytes.Contains(m.Payload, []byte(a.code+": token ")) {
						got = a
					}
				}
				if bytes.Contains(m.Payload, []byte(notFound)) {
					got = allowed
				}
			})
			return got
		},
	}
	used := make(chan string, len(rows)*len(ways)) // tokens
	t.Run("group", func(t *testing.T) {
		for way, try := range ways {
			for i, r := range rows {
				t.Run(way+" "+r.name, func(t *testing.T) {
					t.Parallel()
					r := tokenRows()[i] // its times count from now, not from when this test was queued
					used <- r.token
					got := try(t, r.token)
					if tooLong := got.status == http.StatusRequestURITooLong && len(r.token) > 4096; got != r.want && !tooLong {
						t.Errorf("%+v, want %+v", got, r.want)
					}
				})
			}
		}
		t.Run("token in query and header", func(t *testing.T) {
			t.Parallel()
			for _, base := range []string{s.FLV("shut"), s.HLS("shut")} {
				if got := answerOf(t, base, rows[0].token, "another").status; got != 400 {
					t.Errorf("%s: %d, want 400", base, got)
				}
			}
		})
		t.Run("HEAD uses up no token", func(t *testing.T) {
			t.Parallel()
			for n, base := range []string{s.FLV("shut"), s.HLS("shut")} {
				now := time.Now().Unix()
				token := harness.JWT(tokenSecret, `{"alg":"HS256"}`,
					fmt.Sprintf(`{"act":"play","app":"live","room":"shut","exp":%d,"once":true,"jti":"%d"}`, now+600, n))
				for _, step := range []struct {
					method string
					want   answer
				}{{"HEAD", allowed}, {"HEAD", allowed}, {"GET", allowed}, {"HEAD", tokenUsed}, {"GET", tokenUsed}} {
					resp, _ := doRequest(t, "", operatorCall{method: step.method, target: base + "?token=" + token})
					if got := (answer{resp.StatusCode, resp.Header.Get("Livego-Error")}); got != step.want {
						t.Errorf("%s %s: %+v, want %+v", step.method, base, got, step.want)
					}
				}
			}
		})
		t.Run("extra query parameters", func(t *testing.T) {
			t.Parallel()
			if got := answerOf(t, s.FLV("shut")+"?room=other&x=y",
				signedOf(tokenSecret, "play", "live/shut", time.Now().Unix(), time.Now().Unix()+60), ""); got != allowed {
				t.Errorf("%+v, want %+v: a query parameter changes nothing", got, allowed)
			}
			if got := answerOf(t, s.FLV("shut")+"?token=x", "y", "").status; got != 400 {
				t.Errorf("two tokens: %d", got)
			}
		})
	})
	close(used)
	log := s.Stdout() + s.Stderr()
	for token := range used {
		if len(token) > 20 && strings.Contains(log, token) {
			t.Errorf("the log holds the token %q", token)
		}
	}
	s.audit(t, len(rows)*len(ways))
}

// answerOf requests a URL with a token in the query or in the header.
func answerOf(t *testing.T, target, token, bearer string) answer {
	t.Helper()
	if token != "" {
		sep := "?"
		if strings.Contains(target, "?") {
			sep = "&"
		}
		target += sep + "token=" + url.QueryEscape(token)
	}
	c := operatorCall{method: "GET", target: target}
	if bearer != "" {
		c.headers = []string{"Authorization: Bearer " + bearer}
	}
	resp, body := doRequest(t, "", c)
	code := resp.Header.Get("Livego-Error")
	if challenge := resp.Header.Get("WWW-Authenticate"); resp.StatusCode == http.StatusUnauthorized &&
		(strings.Contains(challenge, `error="invalid_token"`) != (code != "token_missing") ||
			!strings.HasPrefix(body, "token ")) {
		t.Errorf("challenge %q, %q", challenge, body)
	}
	return answer{resp.StatusCode, code}
}

// TestTokenToPublish publishes with tokens instead of keys.
func TestTokenToPublish(t *testing.T) {
	t.Parallel()
	s := startTokens(t)
	s.streamKey(t, "movie")
	token := func(act, room string, iat int64) string {
		return harness.JWT(tokenSecret, `{"alg":"HS256"}`,
			fmt.Sprintf(`{"act":%q,"app":"live","room":%q,"iat":%d,"exp":%d}`, act, room, iat, time.Now().Unix()+600))
	}
	publishes := func(token string) bool {
		p := s.dial(t)
		defer p.NetConn.Close()
		p.advance(connected)
		p.publish("movie?token=" + url.QueryEscape(token))
		m := p.await("onStatus", "NetStream.Publish.")
		return strings.Contains(string(m.Payload), "NetStream.Publish.Start")
	}
	now := time.Now().Unix()
	good := token("publish", "movie", now)
	for name, c := range map[string]struct {
		token string
		want  bool
	}{
		"good": {good, true}, "play token": {token("play", "movie", now), false},
		"other room":         {token("publish", "other", now), false},
		"older than the key": {token("publish", "movie", now-600), false}, "none": {"", false}, "garbage": {"x", false},
	} {
		if got := publishes(c.token); got != c.want {
			t.Errorf("%s publishes: %v", name, got)
		}
	}
	timer := time.NewTimer(1100 * time.Millisecond) // iat has a resolution of one second
	<-timer.C
	if e := s.WithT(t).Call("/control/reset?room=movie"); e.Status != 200 {
		t.Fatalf("reset: %d", e.Status)
	}
	if publishes(good) {
		t.Error("a token from before the reset publishes")
	}
	if timer = time.NewTimer(1100 * time.Millisecond); !publishes(token("publish", "movie",
		func() int64 { <-timer.C; return time.Now().Unix() }())) {
		t.Error("a token from after the reset does not publish")
	}
}

// TestTokenGuessesAreDelayed sends invalid tokens: after ten, further ones are delayed.
func TestTokenGuessesAreDelayed(t *testing.T) {
	t.Parallel()
	s := start(t, "--private=live/shut", "--token.secret="+tokenSecret, "--limit_loopback=true", "--auth_failures=10")
	for range 10 {
		answerOf(t, s.FLV("shut"), "guess", "")
	}
	began := time.Now()
	var slowest atomic.Int64
	t.Run("guesses", func(t *testing.T) {
		for n := range 8 {
			t.Run(fmt.Sprint(n), func(t *testing.T) {
				t.Parallel()
				if got := answerOf(t, s.FLV("shut"), "guess", ""); got != malformed {
					t.Errorf("%+v", got)
				}
				took := int64(time.Since(began))
				for old := slowest.Load(); took > old && !slowest.CompareAndSwap(old, took); old = slowest.Load() {
				}
			})
		}
	})
	if d := time.Duration(slowest.Load()); d < 500*time.Millisecond {
		t.Errorf("after ten invalid tokens, eight more took %v", d)
	}
}

// TestInvalidWebhookResponses has the webhook return invalid responses: no publisher is accepted.
func TestInvalidWebhookResponses(t *testing.T) {
	t.Parallel()
	var visited atomic.Int64
	elsewhere := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		visited.Add(1)
		fmt.Fprint(w, `{"allow":true}`)
	}))
	defer elsewhere.Close()
	answers := map[string]func(http.ResponseWriter, *http.Request){
		"yes":         func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, `{"allow":true}`) },
		"rename":      func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, `{"allow":true,"room":"elsewhere"}`) },
		"no":          func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, `{"allow":false,"reason":"not today"}`) },
		"text":        func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, `{"allow":"yes"}`) },
		"one":         func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, `{"allow":1}`) },
		"nothing":     func(http.ResponseWriter, *http.Request) {},
		"html":        func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "<h1>ok</h1>") },
		"more":        func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, `{"allow":true}{"allow":true}`) },
		"created":     func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(201); fmt.Fprint(w, `{"allow":true}`) },
		"unavailable": func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(503); fmt.Fprint(w, `{"allow":true}`) },
		"redirect":    func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, elsewhere.URL, http.StatusFound) },
		"ten": func(w http.ResponseWriter, _ *http.Request) {
			fmt.Fprint(w, `{"allow":true,"x":"`, strings.Repeat("x", 10<<20), `"}`)
		},
		"drip": func(w http.ResponseWriter, r *http.Request) {
			for range 100 {
				fmt.Fprint(w, " ")
				w.(http.Flusher).Flush()
				select {
				case <-time.After(100 * time.Millisecond):
				case <-r.Context().Done():
					return
				}
			}
			fmt.Fprint(w, `{"allow":true}`)
		},
		"climb": func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, `{"allow":true,"room":"../../etc"}`) },
	}
	program := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body := make([]byte, 4096)
		n, _ := r.Body.Read(body)
		for name, answer := range answers {
			if strings.Contains(string(body[:n]), `"room":"`+name+`"`) {
				answer(w, r)
			}
		}
	}))
	defer program.Close()
	s := start(t, "--hook.on_publish="+program.URL, "--hook.secret=a secret that signs the hooks of a test",
		"--hook.timeout=1s")
	for name := range answers {
		t.Run(name, func(t *testing.T) {
			p := s.dial(t)
			p.room = name
			p.advance(connected)
			began := harness.StartStopwatch()
			p.publish(p.streamKey())
			m := p.await("onStatus", "NetStream.Publish.")
			if got := strings.Contains(string(m.Payload), "NetStream.Publish.Start"); got != (name == "yes" ||
				name == "rename") {
				t.Errorf("the publisher is accepted: %v", got)
			}
			if began.Exceeded(replyTimeout) {
				t.Errorf("the reply took more than %v", replyTimeout)
			}
			if live := s.WithT(t).Stat().Publishers; name == "rename" &&
				!slices.ContainsFunc(live, func(e harness.StatEntry) bool { return e.Key == "live/elsewhere" }) {
				t.Errorf("the streams are %+v", live)
			}
			if name == "no" && !strings.Contains(string(m.Payload), "not today") {
				t.Errorf("the reply lacks the reason: %q", m.Payload)
			}
		})
	}
	if visited.Load() != 0 {
		t.Error("a redirect was followed")
	}
	harness.Eventually(t, longTimeout, "no stream is left", func() error {
		if p := s.WithT(t).Stat().Publishers; len(p) > 0 {
			return fmt.Errorf("%+v", p)
		}
		return nil
	})
}

// TestUnknownRoomsDoNotDelayEncoder has viewers from four addresses request unknown rooms while the
// play webhook does not answer: an encoder, which has another webhook, publishes at once, and the
// webhook is called for a viewer from a fifth address.
func TestUnknownRoomsDoNotDelayEncoder(t *testing.T) {
	t.Parallel()
	hang := make(chan struct{})
	asked := make(chan struct{}, 1000)
	named := make(chan struct{}, 1)
	program := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body := make([]byte, 4096)
		n, _ := r.Body.Read(body)
		switch {
		case r.URL.Path == "/publish":
			fmt.Fprint(w, `{"allow":true}`)
			return
		case strings.Contains(string(body[:n]), `"room":"real"`):
			named <- struct{}{}
		default:
			asked <- struct{}{}
		}
		<-hang
	}))
	defer program.Close()
	defer close(hang)
	s := start(t, "--hook.on_publish="+program.URL+"/publish", "--hook.on_play="+program.URL+"/play",
		"--hook.secret=a secret that signs the hooks of a test", "--hook.timeout=30s")
	for i := range 4 {
		for j := range 40 {
			s.dialRaw(t, fmt.Sprintf("127.0.0.%d", 2+i), "hls_addr",
				fmt.Sprintf("GET /live/made-up-%d-%d.m3u8 HTTP/1.1\r\nHost: h\r\n\r\n", i, j))
		}
	}
	await := func(what string, told <-chan struct{}) {
		t.Helper()
		select {
		case <-told:
		case <-time.After(longTimeout):
			t.Fatalf("%s: the webhook was not called", what)
		}
	}
	for range 48 { // 64 less the share of other addresses
		await("made-up rooms", asked)
	}
	p := s.dial(t)
	p.advance(connected)
	began := harness.StartStopwatch()
	p.publish(p.streamKey())
	if m := p.await("onStatus", "NetStream.Publish."); !strings.Contains(string(m.Payload), "NetStream.Publish.Start") {
		t.Errorf("the encoder gets %q", m.Payload)
	}
	if began.Exceeded(replyTimeout) {
		t.Errorf("the encoder waited for more than %v", replyTimeout)
	}
	s.dialRaw(t, "127.0.0.9", "hls_addr", "GET /live/real.m3u8 HTTP/1.1\r\nHost: h\r\n\r\n")
	await("a viewer from elsewhere", named)
}
