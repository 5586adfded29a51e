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

// jwtOf signs header and payload as they stand, by HS256; without a secret it leaves the signature out.
func jwtOf(secret, header, payload string) string {
	e := base64.RawURLEncoding
	text := e.EncodeToString([]byte(header)) + "." + e.EncodeToString([]byte(payload))
	if secret == "" {
		return text + "."
	}
	m := hmac.New(sha256.New, []byte(secret))
	m.Write([]byte(text))
	return text + "." + e.EncodeToString(m.Sum(nil))
}

// signedOf is a token of a signed URL, by what docs/keys.md says.
func signedOf(secret, action, stream string, iat, exp int64) string {
	times := fmt.Sprintf("%d.%d", iat, exp)
	m := hmac.New(sha256.New, []byte(secret))
	fmt.Fprintf(m, "livego h1\n%s\n%s\n%s\n", action, stream, times)
	return "h1." + times + "." + base64.RawURLEncoding.EncodeToString(m.Sum(nil))
}

// A tokenRow is a token, tried on the private room live/shut, in which nothing is live, and the
// code of its refusal. A viewer with a good token finds nothing there.
type tokenRow struct {
	name, token string
	want        answer
}

// An answer is the status by which a token is refused, or what it would be over HTTP, and the code that programs read.
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
		return jwtOf(tokenSecret, hs, claims(`"act":"play","app":"live","room":"shut",`+more, args...))
	}
	of := func(act, app, room string) string {
		return jwtOf(tokenSecret, hs, claims(`"act":%q,"app":%q,"room":%q,"iat":%d,"exp":%d`, act, app, room, now, now+3600))
	}
	header := func(h string) string { return jwtOf(tokenSecret, h, good) }
	return []tokenRow{
		{"good", jwtOf(tokenSecret, hs, good), allowed},
		{"none at all", "", missing},
		{"garbage", "x", malformed},
		{"4 KiB and more", strings.Repeat("x", 4097), malformed},
		{"T01 none", jwtOf("", `{"alg":"none"}`, good), invalid},
		{"T01 None, signed", header(`{"alg":"None"}`), invalid},
		{"T01 no alg", header(`{}`), invalid},
		{"T01 RS256 by the secret", header(`{"alg":"RS256"}`), invalid},
		{"T01 HS512 by HS256", header(`{"alg":"HS512"}`), invalid},
		{"T02 expired", play(`"exp":%d`, now-60), expired},
		{"T02 expired within the leeway", play(`"exp":%d`, now-5), allowed},
		{"T02 not yet", play(`"exp":%d,"nbf":%d`, now+3600, now+600), notYetValid},
		{"T02 no exp", play(`"nbf":%d`, now), malformed},
		{"T02 exp 2^63", play(`"exp":9223372036854775808`), malformed},
		{"T02 exp text", play(`"exp":"%d"`, now+3600), malformed},
		{"T02 exp float", play(`"exp":%d.5`, now+3600), malformed},
		{"T02 ten years", play(`"exp":%d`, now+10*365*86400), invalid},
		{"T03 wrong room", of("play", "live", "other"), wrongRoom},
		{"T03 case of the room", of("play", "live", "Shut"), wrongRoom},
		{"T03 wrong app", of("play", "other", "shut"), wrongRoom},
		{"T03 to publish", of("publish", "live", "shut"), wrongAction},
		{"T03 every room, as issued", of("play", "live", "*"), allowed},
		{"T03 every app", of("play", "*", "shut"), wrongRoom},
		{"T03 part of a name", of("play", "live", "sh*"), wrongRoom},
		{"T04 claim twice", play(`"room":"shut","exp":%d`, now+3600), malformed},
		{"T04 crit", header(`{"alg":"HS256","crit":["x"],"x":1}`), invalid},
		{"T04 no issuer", play(`"exp":%d`, now+3600), allowed}, // none is asked for here
		{"T06 kid of a path", header(`{"alg":"HS256","kid":"../../dev/null"}`), allowed},
		{"T06 jku, x5u, jwk", header(`{"alg":"HS256","jku":"http://169.254.169.254/","x5u":"file:///etc/passwd","jwk":{"kty":"oct","k":"AA"}}`), allowed},
		{"T07 the secret before", jwtOf(oldSecret, hs, good), allowed},
		{"T07 a secret of no time", jwtOf("some other secret altogether", hs, good), invalid},
		{"T10 another address", play(`"exp":%d,"ip":"192.0.2.1"`, now+3600), wrongAddress},
		{"T10 this address", play(`"exp":%d,"ip":"127.0.0.1"`, now+3600), allowed},
		{"T11 signed", signedOf(tokenSecret, "play", "live/shut", now, now+3600), allowed},
		{"T11 other stream", signedOf(tokenSecret, "play", "live/other", now, now+3600), invalid},
		{"T11 case", signedOf(tokenSecret, "play", "live/Shut", now, now+3600), invalid},
		{"T11 to publish", signedOf(tokenSecret, "publish", "live/shut", now, now+3600), invalid},
		{"T11 expired", signedOf(tokenSecret, "play", "live/shut", now-3600, now-60), expired},
		{"T11 another secret", signedOf("some other secret altogether", "play", "live/shut", now, now+3600), invalid},
		{"T11 end moved", strings.Replace(signedOf(tokenSecret, "play", "live/shut", now, now+3600), fmt.Sprint(now+3600),
			fmt.Sprint(now+3601), 1), invalid},
		{"T11 cut", "h1." + fmt.Sprint(now, ".", now+3600) + ".", invalid},
	}
}

// startTokens starts a target with private rooms.
func startTokens(t *testing.T, flags ...string) *target {
	t.Helper()
	return start(t, append([]string{"--private=live/shut", "--token.secret=" + tokenSecret,
		"--token.previous=" + oldSecret, "--auth_failures=0"}, flags...)...)
}

// TestInvalidTokens tries the rows T by every protocol: each gives the same answer to the same token.
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
	t.Run("group", func(t *testing.T) {
		for way, try := range ways {
			for _, r := range rows {
				t.Run(way+" "+r.name, func(t *testing.T) {
					t.Parallel()
					got := try(t, r.token)
					if tooLong := got.status == http.StatusRequestURITooLong && len(r.token) > 4096; got != r.want && !tooLong {
						t.Errorf("%+v, want %+v", got, r.want)
					}
				})
			}
		}
		t.Run("T09 query and header", func(t *testing.T) {
			t.Parallel()
			for _, base := range []string{s.FLV("shut"), s.HLS("shut")} {
				if got := answerOf(t, base, rows[0].token, "another").status; got != 400 {
					t.Errorf("%s: %d, want 400", base, got)
				}
			}
		})
		t.Run("T10 HEAD spends nothing", func(t *testing.T) {
			t.Parallel()
			for n, base := range []string{s.FLV("shut"), s.HLS("shut")} {
				now := time.Now().Unix()
				token := jwtOf(tokenSecret, `{"alg":"HS256"}`,
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
		t.Run("T11 extra argument", func(t *testing.T) {
			t.Parallel()
			if got := answerOf(t, s.FLV("shut")+"?room=other&x=y",
				signedOf(tokenSecret, "play", "live/shut", time.Now().Unix(), time.Now().Unix()+60), ""); got != allowed {
				t.Errorf("%+v, want %+v: an argument changes nothing", got, allowed)
			}
			if got := answerOf(t, s.FLV("shut")+"?token=x", "y", "").status; got != 400 {
				t.Errorf("two tokens: %d", got)
			}
		})
	})
	for _, r := range rows {
		if len(r.token) > 20 && strings.Contains(s.Stdout()+s.Stderr(), r.token) {
			t.Errorf("the log holds the token %q", r.name)
		}
	}
	s.audit(t, len(rows)*len(ways))
}

// answerOf asks for an address with a token in the query, or in the header.
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

// TestTokenToPublish publishes by tokens, T03 and T08.
func TestTokenToPublish(t *testing.T) {
	t.Parallel()
	s := startTokens(t)
	s.streamKey(t, "movie")
	token := func(act, room string, iat int64) string {
		return jwtOf(tokenSecret, `{"alg":"HS256"}`,
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
		"good": {good, true}, "T03 to play": {token("play", "movie", now), false},
		"T03 other room":          {token("publish", "other", now), false},
		"T08 from before the key": {token("publish", "movie", now-600), false}, "none": {"", false}, "garbage": {"x", false},
	} {
		if got := publishes(c.token); got != c.want {
			t.Errorf("%s publishes: %v", name, got)
		}
	}
	timer := time.NewTimer(1100 * time.Millisecond) // tokens say when they were made to the second
	<-timer.C
	if e := s.WithT(t).Call("/control/reset?room=movie"); e.Status != 200 {
		t.Fatalf("reset: %d", e.Status)
	}
	if publishes(good) {
		t.Error("T08: a token from before the reset publishes")
	}
	if timer = time.NewTimer(1100 * time.Millisecond); !publishes(token("publish", "movie",
		func() int64 { <-timer.C; return time.Now().Unix() }())) {
		t.Error("a token from after the reset does not publish")
	}
}

// TestTokenGuessesAreDelayed has somebody guess tokens, T12: after ten he waits, and others do not.
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
		t.Errorf("after ten bad tokens eight more took %v", d)
	}
}

// TestInvalidWebhookResponses has the operator's program answer what it should not, T13: nobody publishes.
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
				t.Errorf("it publishes: %v", got)
			}
			if began.Exceeded(replyTimeout) {
				t.Errorf("it took more than %v", replyTimeout)
			}
			if live := s.WithT(t).Stat().Publishers; name == "rename" &&
				!slices.ContainsFunc(live, func(e harness.StatEntry) bool { return e.Key == "live/elsewhere" }) {
				t.Errorf("it publishes %+v", live)
			}
			if name == "no" && !strings.Contains(string(m.Payload), "not today") {
				t.Errorf("the reason is not told: %q", m.Payload)
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

// TestUnknownRoomsDoNotDelayEncoder has viewers from four addresses ask for rooms that are made up
// while the program that is asked about viewers does not answer: an encoder, about which another is
// asked, publishes at once, and a viewer from a fifth address is asked about.
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
			t.Fatalf("%s: the program was not asked", what)
		}
	}
	for range 48 { // 64 less what is left for others
		await("made-up rooms", asked)
	}
	p := s.dial(t)
	p.advance(connected)
	began := harness.StartStopwatch()
	p.publish(p.streamKey())
	if m := p.await("onStatus", "NetStream.Publish."); !strings.Contains(string(m.Payload), "NetStream.Publish.Start") {
		t.Errorf("the encoder is told %q", m.Payload)
	}
	if began.Exceeded(replyTimeout) {
		t.Errorf("the encoder waited for more than %v", replyTimeout)
	}
	s.dialRaw(t, "127.0.0.9", "hls_addr", "GET /live/real.m3u8 HTTP/1.1\r\nHost: h\r\n\r\n")
	await("a viewer from elsewhere", named)
}
