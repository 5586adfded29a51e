package hostile

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"livego/e2e/harness"
)

const (
	operatorSecret = "a secret that signs what operators show"
	asJSON         = "Content-Type: application/json"
	asForm         = "Content-Type: application/x-www-form-urlencoded"
)

// An operatorCall is a request to the operator's listener.
type operatorCall struct {
	name, method, target string
	body                 string
	headers              []string // "Host" sets the host
	want                 []int    // any of
}

// doRequest sends a request and returns the response with its body.
func doRequest(t *testing.T, base string, c operatorCall) (*http.Response, string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), longTimeout)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, c.method, base+c.target, strings.NewReader(c.body))
	if err != nil {
		t.Fatal(err)
	}
	if c.body == "" {
		r.Body = nil
	}
	for _, h := range c.headers {
		name, value, _ := strings.Cut(h, ": ")
		if r.Header.Add(name, value); name == "Host" {
			r.Host = value
		}
	}
	client := harness.Client()
	client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	resp, err := client.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 4<<20))
	if err != nil {
		t.Fatal(err)
	}
	return resp, string(body)
}

// operatorCalls are invalid requests to the operator's HTTP, sent from this machine. None may have
// an effect. Those that need a credential use the admin token.
func operatorCalls(admin string) []operatorCall {
	const form, keys, tokens = "/control/get?room=victim", "/api/v1/keys", "/api/v1/tokens"
	canary := strings.Repeat("c4n4ry", 8)
	calls := []operatorCall{
		{name: "GET on import", method: "GET", target: keys + "/import", want: []int{401}}, // the credential is checked first
		{name: "import without a credential", method: "POST", target: keys + "/import", body: `{"keys":[]}`,
			headers: []string{asJSON}, want: []int{401}},
		{name: "export without a credential", method: "GET", target: keys + "/export", want: []int{401}},
		{name: "GET on tokens", method: "GET", target: tokens, want: []int{405}},
		{name: "HEAD on /control", method: "HEAD", target: form, want: []int{405}},
		{name: "PUT", method: "PUT", target: keys, body: "{}", headers: []string{asJSON}, want: []int{405}},
		{name: "PATCH", method: "PATCH", target: keys + "/x", body: "{}", headers: []string{asJSON}, want: []int{405}},
		{name: "TRACE", method: "TRACE", target: keys, want: []int{405}},
		{name: "PUT on /control", method: "PUT", target: form, want: []int{405}},
		{name: "method override", method: "GET", target: keys, headers: []string{"X-HTTP-Method-Override: DELETE"},
			want: []int{200}},
		{name: "no room", method: "GET", target: "/control/get", want: []int{400}},
		{name: "empty room", method: "GET", target: "/control/get?room=", want: []int{400}},
		{name: "two rooms", method: "GET", target: "/control/get?room=a&room=b", want: []int{400}},
		{name: "room in query and body", method: "POST", target: "/control/get?room=a", body: "room=b",
			headers: []string{asForm}, want: []int{400}},
		{name: "room array", method: "GET", target: "/control/get?room[]=a", want: []int{400}},
		{name: "two rooms in /api/v1", method: "GET", target: keys + "?room=a&room=b", want: []int{400}},
		{name: "invalid UTF-8", method: "GET", target: "/control/get?room=%ff%fe", want: []int{400}},
		{name: "NUL", method: "GET", target: "/control/get?room=a%00", want: []int{400}},
		{name: "value of 1 MB", method: "POST", target: "/control/get", body: "room=" + strings.Repeat("a", 1<<20),
			headers: []string{asForm}, want: []int{413}},
		{name: "unknown room", method: "GET", target: keys + "?room=nobody", want: []int{200, 404}},
		{name: "unknown key ID", method: "DELETE", target: keys + "/nobody", want: []int{404}},
		{name: "path traversal in key ID", method: "DELETE", target: keys + "/..%2f..%2fx", want: []int{400, 404}},
		{name: "key as ID", method: "DELETE", target: keys + "/" + canary, want: []int{404}},
		{name: "form on a cross-site page", method: "POST", target: "/control/get", body: "room=victim",
			headers: []string{asForm, "Origin: http://evil.example"}, want: []int{403}},
		{name: "image on a cross-site page", method: "GET", target: form,
			headers: []string{"Sec-Fetch-Site: cross-site", "Sec-Fetch-Mode: no-cors"}, want: []int{403}},
		{name: "sandboxed page", method: "POST", target: form, headers: []string{"Origin: null"}, want: []int{403}},
		{name: "another port of this host", method: "POST", target: form, headers: []string{"Sec-Fetch-Site: same-site"},
			want: []int{403}},
		{name: "token for a cross-site page", method: "POST", target: tokens,
			body: `{"action":"play","app":"live","room":"x"}`, headers: []string{asJSON, "Origin: http://evil.example"},
			want: []int{401, 403}},
		{name: "DNS rebinding", method: "GET", target: form, headers: []string{"Host: attacker.tld"}, want: []int{403}},
		{name: "proxy that claims a loopback client", method: "GET", target: form,
			headers: []string{"X-Forwarded-For: 127.0.0.1"}, want: []int{403}},
		{name: "pprof command line", method: "GET", target: "/debug/pprof/cmdline", want: []int{404}},
		{name: "expvar", method: "GET", target: "/debug/vars", want: []int{404}},
		{name: "profiles through a proxy", method: "GET", target: "/debug/pprof/",
			headers: []string{"X-Forwarded-For: 192.0.2.1"}, want: []int{403}},
		{name: "two credentials", method: "GET", target: "/stat/livestat?jwt=a",
			headers: []string{"Authorization: Bearer b"}, want: []int{400}},
		{name: "gzip bomb", method: "POST", target: form, body: "\x1f\x8b\x08",
			headers: []string{"Content-Encoding: gzip"}, want: []int{415}},
		{name: "limit -1", method: "GET", target: keys + "?limit=-1", want: []int{400}},
		{name: "limit 10^9", method: "GET", target: keys + "?limit=1000000000", want: []int{400}},
		{name: "limit abc", method: "GET", target: keys + "?limit=abc", want: []int{400}},
		{name: "forged cursor", method: "GET", target: keys + "?after=..%2f..", want: []int{400}},
	}
	for name, body := range map[string]string{
		"no JSON": "room=a", "depth": strings.Repeat("[", 10_000),
		"whole depth":  strings.Repeat("[", 10_000) + strings.Repeat("]", 10_000),
		"member twice": `{"room":"a","room":"b"}`, "1e400": `{"keys":[{"room":"a","generation":1e400}]}`,
		"NaN": `{"room":NaN}`, "null": `null`,
		"null room": `{"room":null}`, "number": `{"room":7}`, "trailing data": `{"room":"a"}{}`,
		"BOM": "\ufeff" + `{"room":"a"}`, "NUL": `{"room":"a\u0000"}`,
		"unknown field": `{"room":"a","` + canary + `":1}`, "not UTF-8": "{\"room\":\"\xff\"}", "array": `[]`, "empty": ``,
	} {
		for _, path := range []string{keys, tokens, keys + "/import"} {
			headers := []string{asJSON, "Authorization: Bearer " + admin}
			calls = append(calls, operatorCall{name: name + " to " + path, method: "POST", target: path, body: body,
				headers: headers, want: []int{400}})
		}
	}
	for _, path := range []string{keys, tokens} {
		calls = append(calls, operatorCall{name: "100 KB to " + path, method: "POST", target: path,
			body: `{"room":"` + strings.Repeat("a", 100_000) + `"}`, headers: []string{asJSON}, want: []int{413}})
	}
	calls = append(calls, relayCalls(canary)...)
	for n, name := range badNames {
		if len(name) > 3000 {
			continue
		}
		quoted, _ := json.Marshal(name)
		add := func(where, method, target, body string, want ...int) {
			calls = append(calls, operatorCall{name: fmt.Sprintf("name %d %s %.20q", n, where, name), method: method,
				target: target, body: body, headers: []string{asJSON}, want: want})
		}
		add("key's room", "POST", keys, fmt.Sprintf(`{"room":%s}`, quoted), 400)
		add("key's app", "POST", keys, fmt.Sprintf(`{"room":"a","app":%s}`, quoted), 400)
		add("token's room", "POST", tokens, fmt.Sprintf(`{"action":"play","app":"live","room":%s}`, quoted), 400)
		add("token's app", "POST", tokens, fmt.Sprintf(`{"action":"play","app":%s,"room":"a"}`, quoted), 400)
		add("relay's room", "GET", "/control/pull?oper=start&app=live&url=rtmp%3A%2F%2Fh%2Fa%2Fb&name="+url.QueryEscape(name),
			"", 400)
		add("relay's app", "GET", "/control/push?oper=start&name=a&url=rtmp%3A%2F%2Fh%2Fa%2Fb&app="+url.QueryEscape(name), "",
			400)
		add("livestat", "GET", "/stat/livestat?room=live%2f"+url.QueryEscape(name), "", 400, 404)
		add("list", "GET", keys+"?room="+url.QueryEscape(name), "", 400)
		add("cursor", "GET", keys+"?after="+url.QueryEscape(name), "", 400)
		add("statics", "GET", "/statics/"+url.PathEscape(name), "", 400, 404, 301)
	}
	return calls
}

// adminToken returns the admin token of a server.
func adminToken(t *testing.T, dataDir string) string {
	t.Helper()
	token, err := os.ReadFile(filepath.Join(dataDir, "admin.token"))
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(token))
}

// TestInvalidOperatorRequests sends operatorCalls to a server that requires no credential.
func TestInvalidOperatorRequests(t *testing.T) {
	t.Parallel()
	s := start(t, "--token.secret=a secret that signs the tokens of a test")
	calls := operatorCalls(adminToken(t, s.DataDir))
	t.Run("group", func(t *testing.T) {
		for _, c := range calls {
			t.Run(c.name, func(t *testing.T) {
				t.Parallel()
				resp, body := doRequest(t, s.API(""), c)
				if !slices.Contains(c.want, resp.StatusCode) {
					t.Errorf("HTTP %d %.200s, want one of %d", resp.StatusCode, body, c.want)
				}
				if strings.Contains(body, strings.Repeat("c4n4ry", 8)) {
					t.Errorf("the response repeats the input: %.300s", body)
				}
				for _, h := range []string{"Access-Control-Allow-Origin", "Access-Control-Allow-Credentials"} {
					if v := resp.Header.Get(h); v != "" {
						t.Errorf("%s: %s", h, v)
					}
				}
				if csp := resp.Header.Get("Content-Security-Policy"); !strings.Contains(csp, "frame-ancestors 'none'") ||
					resp.Header.Get("X-Content-Type-Options") != "nosniff" {
					t.Errorf("security headers: %v", resp.Header)
				}
			})
		}
		t.Run("preflight", func(t *testing.T) {
			t.Parallel()
			for _, target := range []string{"/control/get?room=victim", "/api/v1/keys", "/api/v1/tokens"} {
				resp, _ := doRequest(t, s.API(""),
					operatorCall{method: "OPTIONS", target: target,
						headers: []string{"Origin: http://evil.example", "Access-Control-Request-Method: POST"}})
				if resp.StatusCode < 400 || resp.Header.Get("Access-Control-Allow-Origin") != "" {
					t.Errorf("%s: HTTP %d %v", target, resp.StatusCode, resp.Header)
				}
			}
		})
		t.Run("log injection", func(t *testing.T) {
			t.Parallel()
			p := s.dial(t)
			p.advance(handshaken)
			p.send(connect("live\n\x1b[2Jlevel=ERROR msg=forged"))
			p.ends(func(message) {})
			doRequest(t, s.API(""), operatorCall{method: "GET", target: "/x%0alevel=ERROR%20msg=forged",
				headers: []string{"User-Agent: a\tb", "Host: attacker.tld"}})
		})
		t.Run("statistics under churn", func(t *testing.T) { t.Parallel(); statisticsUnderChurn(t, s) })
	})
	// No refused request may have created a room.
	_, body := doRequest(t, s.API(""), operatorCall{method: "GET", target: "/api/v1/keys?limit=1000"})
	var list struct{ Keys []struct{ Room string } }
	if err := json.Unmarshal([]byte(body), &list); err != nil {
		t.Fatal(err)
	}
	for _, k := range list.Keys {
		if k.Room != "first" && !strings.HasPrefix(k.Room, "churn") && !strings.HasPrefix(k.Room, "TestInvalidOperator") {
			t.Errorf("the room %q was created", k.Room)
		}
	}
	for line := range strings.Lines(s.Stderr()) {
		if strings.HasPrefix(line, "level=ERROR") || strings.HasPrefix(line, "msg=forged") {
			t.Errorf("a line of the log was forged: %q", line)
		}
	}
	s.audit(t, len(calls)+10)
}

// statisticsUnderChurn requests statistics while streams start and end.
func statisticsUnderChurn(t *testing.T, s *target) {
	stop := make(chan struct{})
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			select {
			case <-stop:
				return
			default:
			}
			p := s.dial(t)
			p.room = "churn"
			p.advance(publishing)
			// The room is free again when the server has closed the connection.
			p.NetConn.(*net.TCPConn).CloseWrite()
			p.NetConn.SetReadDeadline(time.Now().Add(longTimeout))
			io.Copy(io.Discard, p.NetConn)
			p.NetConn.Close()
		}
	}()
	var took []time.Duration
	for range 100 {
		began := harness.StartStopwatch()
		if resp, body := doRequest(t, s.API(""),
			operatorCall{method: "GET", target: "/stat/livestat"}); resp.StatusCode != 200 {
			t.Errorf("HTTP %d %s", resp.StatusCode, body)
		}
		_, ours := began.Elapsed()
		took = append(took, ours)
	}
	close(stop)
	<-done
	// The goal is 100 ms; this machine runs a dozen of these tests at a time.
	if slices.Sort(took); took[50] > 100*time.Millisecond {
		t.Errorf("half of the responses took more than %v", took[50])
	}
}

// TestInvalidCredentials sends invalid credentials to every route with every method: all get the
// same response.
func TestInvalidCredentials(t *testing.T) {
	t.Parallel()
	s := harness.Start(t, harness.Options{NoRace: true,
		Flags: []string{"--auth_failures=0", "--jwt.secret=" + operatorSecret, "--token.secret=" + operatorSecret + "!"}})
	good, exp := adminToken(t, s.DataDir), time.Now().Add(time.Hour).Unix()
	if resp, _ := doRequest(t, s.API(""),
		operatorCall{method: "GET", target: "/stat/livestat",
			headers: []string{"Authorization: Bearer " + good}}); resp.StatusCode != 200 {
		t.Fatalf("the admin token: HTTP %d", resp.StatusCode)
	}
	bad := map[string]string{
		"none": "", "garbage": "x", "another admin token": strings.Repeat("a", 48),
		"expired":        harness.JWT(operatorSecret, `{"alg":"HS256"}`, `{"role":"admin","exp":1}`),
		"alg none":       harness.JWT("", `{"alg":"none"}`, `{"role":"admin"}`),
		"alg None":       harness.JWT("", `{"alg":"None"}`, `{"role":"admin"}`),
		"another secret": harness.JWT("another", `{"alg":"HS256"}`, fmt.Sprintf(`{"role":"admin","exp":%d}`, exp)),
		"publish token": harness.JWT(operatorSecret+"!", `{"alg":"HS256"}`,
			fmt.Sprintf(`{"act":"publish","app":"live","room":"movie","exp":%d}`, exp)),
		"publish token with this secret": harness.JWT(operatorSecret, `{"alg":"HS256"}`,
			fmt.Sprintf(`{"act":"publish","app":"live","room":"movie","exp":%d}`, exp)),
		"no such role": harness.JWT(operatorSecret, `{"alg":"HS256"}`, `{"role":"root"}`),
		"crit header":  harness.JWT(operatorSecret, `{"alg":"HS256","crit":["x"]}`, `{"role":"admin"}`),
		"too long":     strings.Repeat("x", 5000),
	}
	inputs := 0
	for _, route := range []string{
		"/", "/control/get?room=x", "/control/reset?room=x", "/control/delete?room=x", "/control/push?x=y",
		"/control/pull?x=y", "/stat/livestat", "/statics/",
		"/api/v1/keys", "/api/v1/keys/export", "/api/v1/keys/import", "/api/v1/keys/x", "/api/v1/keys/x/rotate",
		"/api/v1/tokens", "/api/v1/events", "/api/v1/events/stream",
		"/api/v1/relays", "/api/v1/relays/x", "/api/v1/recordings", "/api/v1/recordings/x", "/api/v1/recordings/x/file",
		"/api/v1/rooms", "/api/v1/rooms/x", "/api/v1/streams", "/api/v1/streams/live/x", "/api/v1/streams/live/x/history",
		"/api/v1/sessions", "/api/v1/sessions/1", "/api/v1/settings", "/api/v1/settings/diff", "/api/v1/settings/level",
		"/api/v1/settings/validate", "/api/v1/config/reload", "/api/v1/server",
		"/api/v1/openapi.json", "/api/v1/x",
		"/debug/pprof/", "/debug/pprof/heap", "/nothing",
	} {
		want := 403
		if strings.HasPrefix(route, "/api/v1") {
			want = 401
		}
		for _, method := range []string{"GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"} {
			uniform := ""
			for name, credential := range bad {
				inputs++
				var headers []string
				if credential != "" {
					headers = []string{"Authorization: Bearer " + credential}
				}
				resp, body := doRequest(t, s.API(""), operatorCall{method: method, target: route, headers: headers})
				if resp.StatusCode != want {
					t.Errorf("%s %s with %s: HTTP %d %.100s, want %d", method, route, name, resp.StatusCode, body, want)
				}
				if uniform == "" {
					uniform = body
				}
				if body != uniform {
					t.Errorf("%s %s with %s returns %q, want %q", method, route, name, body, uniform)
				}
			}
		}
	}
	// Collectors on this machine need no credential for /metrics; clients behind a proxy do.
	for header, want := range map[string]int{"Accept: */*": 200, "X-Forwarded-For: 192.0.2.1": 403,
		"Authorization: Bearer garbage": 403} {
		inputs++
		if resp, body := doRequest(t, s.API(""), operatorCall{method: "GET", target: "/metrics",
			headers: []string{header}}); resp.StatusCode != want {
			t.Errorf("GET /metrics with %s: HTTP %d %.100s, want %d", header, resp.StatusCode, body, want)
		}
	}
	// The lowest role that each route allows, and the one below it.
	roles := []string{"read", "operate", "admin"}
	for route, least := range map[string]int{
		"GET /stat/livestat": 0, "GET /api/v1/keys": 0, "GET /api/v1/events": 0, "GET /api/v1/relays": 0,
		"GET /control/get?room=x": 1, "POST /control/reset?room=x": 1,
		"DELETE /api/v1/keys/x": 1, "POST /api/v1/keys/x/rotate": 1, "POST /api/v1/tokens": 1,
		"GET /api/v1/keys/export": 2, "POST /api/v1/keys/import": 2,
		"GET /debug/pprof/": 2, "POST /api/v1/relays": 1, "GET /api/v1/relays/x": 0, "DELETE /api/v1/relays/x": 1,
		"GET /api/v1/recordings": 0, "GET /api/v1/recordings/x": 0, "GET /api/v1/recordings/x/file": 0,
		"DELETE /api/v1/recordings/x": 1,
		"GET /api/v1/rooms":           0, "GET /api/v1/rooms/x": 0, "PUT /api/v1/rooms/x": 1, "DELETE /api/v1/rooms/x": 1,
		"GET /api/v1/streams": 0, "GET /api/v1/streams/live/x": 0, "DELETE /api/v1/streams/live/x": 1,
		"GET /api/v1/sessions": 0, "DELETE /api/v1/sessions?room=x": 1, "DELETE /api/v1/sessions/1": 1,
		"GET /api/v1/settings": 1, "HEAD /api/v1/settings": 1, "GET /api/v1/settings/diff": 1, "PATCH /api/v1/settings": 1,
		"DELETE /api/v1/settings/level": 1, "DELETE /api/v1/settings/rtmp_addr": 2,
		"POST /api/v1/settings/validate": 1, "POST /api/v1/config/reload": 1, "GET /metrics": 0, "GET /api/v1/server": 0,
	} {
		method, target, _ := strings.Cut(route, " ")
		for n, role := range roles {
			inputs++
			token := harness.JWT(operatorSecret, `{"alg":"HS256"}`, fmt.Sprintf(`{"role":%q,"exp":%d}`, role, exp))
			resp, body := doRequest(t, s.API(""),
				operatorCall{method: method, target: target, headers: []string{"Authorization: Bearer " + token, asJSON}})
			if refused := resp.StatusCode == 401 || resp.StatusCode == 403; refused != (n < least) {
				t.Errorf("%s as %s: HTTP %d %.100s", route, role, resp.StatusCode, body)
			}
		}
	}
	t.Logf("%d requests", inputs)
	log := s.Stdout() + s.Stderr()
	for _, secret := range []string{good, operatorSecret} {
		if strings.Contains(log, secret) {
			t.Errorf("the log holds %q", secret)
		}
	}
	if bytes.Contains([]byte(log), []byte("panic")) {
		t.Error("a panic is in the log")
	}
}
