package api

import (
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"livego/internal/control/auth"
	"livego/internal/domain"
)

// TestServerInfo checks what the console starts with: the role of the caller, and the addresses as the caller sees
// them.
func TestServerInfo(t *testing.T) {
	s := newFixture(t, func(o *Options) {
		o.Started, o.RTMPS, o.HTTPS = time.Now().Add(-time.Minute), "rtmps://:1936", "https://:7443"
		o.Listeners = []Listener{{"RTMP", "[::]:1935", false}}
		o.Features = Features{Tokens: true}
		o.Apps = append(o.Apps, App{Name: "hls-only", HLS: true})
		o.Ready = func() error { return domain.Errorf(domain.Unavailable, "not yet") }
	})
	var got serverInfo
	if err := json.Unmarshal(s.get("/api/v1/server").Body.Bytes(), &got.Body); err != nil {
		t.Fatal(err)
	}
	b := got.Body
	if b.Version != "1.2.3" || b.Uptime < 60 || b.Ready || b.Role != "admin" || b.CSRFToken != "" || b.Expires != nil ||
		!b.Features.Tokens || len(b.Listeners) != 1 || b.Memory.Used == 0 {
		t.Errorf("%+v", b)
	}
	if len(b.Apps) != 3 || b.Apps[0].App != "live" || !b.Apps[0].Relays || b.Apps[1].Relays {
		t.Fatalf("apps %+v", b.Apps)
	}
	shown := func(list []address) (urls []string) {
		for _, a := range list {
			urls = append(urls, a.Protocol+" "+a.URL)
		}
		return urls
	}
	for _, c := range []struct {
		list []address
		want string
	}{
		{b.Apps[0].Publish, "rtmp rtmp://localhost:1935/live, rtmp rtmps://localhost:1936/live"},
		{b.Apps[0].Play, "rtmp rtmp://localhost:1935/live/{room}, " +
			"flv http://localhost:7001/live/{room}.flv, ws ws://localhost:7001/live/{room}.flv, " +
			"page http://localhost:7001/live/{room}, " +
			"hls http://localhost:7002/live/{room}.m3u8, rtmp rtmps://localhost:1936/live/{room}, " +
			"flv https://localhost:7443/live/{room}.flv, ws wss://localhost:7443/live/{room}.flv, " +
			"page https://localhost:7443/live/{room}, " +
			"hls https://localhost:7443/live/{room}.m3u8"},
		{b.Apps[1].Play, "rtmp rtmp://localhost:1935/quiet/{room}, rtmp rtmps://localhost:1936/quiet/{room}"},
		{b.Apps[2].Play, "rtmp rtmp://localhost:1935/hls-only/{room}, " +
			"hls http://localhost:7002/hls-only/{room}.m3u8, page http://localhost:7002/hls-only/{room}, " +
			"rtmp rtmps://localhost:1936/hls-only/{room}, " +
			"hls https://localhost:7443/hls-only/{room}.m3u8, page https://localhost:7443/hls-only/{room}"},
	} {
		if got := strings.Join(shown(c.list), ", "); got != c.want {
			t.Errorf("addresses\n got %s\nwant %s", got, c.want)
		}
	}
}

// TestServerInfoOfSession checks that a browser that has logged in gets its CSRF token and its role.
func TestServerInfoOfSession(t *testing.T) {
	s, token := newAuthFixture(t)
	w := s.do("POST", "/login", "credential="+token, fromOutside, publicHost, form)
	cookie, _, _ := strings.Cut(w.Header().Get("Set-Cookie"), ";")
	var got serverInfo
	w = s.get("/api/v1/server", fromOutside, publicHost, "Cookie: "+cookie)
	if err := json.Unmarshal(w.Body.Bytes(), &got.Body); err != nil {
		t.Fatal(err)
	}
	if got.Body.Role != "admin" || got.Body.Expires == nil || !domain.LooksLikeKey(got.Body.CSRFToken) {
		t.Errorf("%+v", got.Body)
	}
	wantStatus(t, s.do("PUT", "/api/v1/rooms/movie", "{}", fromOutside, publicHost, jsonContent, "Cookie: "+cookie), 401)
	wantStatus(t, s.do("PUT", "/api/v1/rooms/movie", "{}", fromOutside, publicHost, jsonContent, "Cookie: "+cookie,
		auth.CSRFHeader+": "+got.Body.CSRFToken), 201)
	wantStatus(t, s.get("/api/v1/server", fromOutside, publicHost), 401)
}

// TestConsole checks that the console is served in place of the plain page, to those who may see it, with a policy that
// allows the viewers' listeners and no inline script; and that its files are public.
func TestConsole(t *testing.T) {
	s, token := newAuthFixture(t)
	s.options.Console = func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "console") }
	s.options.Files = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, r.URL.Path)
	})
	s.options.HTTPS, s.options.PublicURL = "https://:7443", "https://tv.example/x"
	s.handler = New(s.options)
	w := s.get("/", "Authorization: Bearer "+token, fromOutside, publicHost)
	if wantStatus(t, w, 200); w.Body.String() != "console" {
		t.Errorf("body %s", w.Body)
	}
	viewers := "http://live.example:7001 http://live.example:7002 https://live.example:7443 https://tv.example"
	want := "default-src 'none'; script-src 'self'; style-src 'self'; font-src 'self'; img-src 'self' data: blob: " +
		viewers + "; media-src 'self' blob: " + viewers + "; connect-src 'self' " + viewers + " " +
		"ws://live.example:7001 ws://live.example:7002 wss://live.example:7443 wss://tv.example; worker-src 'self' blob:; " +
		"base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
	if got := w.Header().Get("Content-Security-Policy"); got != want {
		t.Errorf("policy\n got %s\nwant %s", got, want)
	}
	w = s.get("/", fromOutside, publicHost, asBrowser)
	if wantStatus(t, w, 403); !strings.Contains(w.Body.String(), "<form") {
		t.Errorf("without a credential: %s", w.Body)
	}
	login := s.do("POST", "/login", "credential="+token, fromOutside, publicHost, form)
	cookie, _, _ := strings.Cut(login.Header().Get("Set-Cookie"), ";")
	another := "?jwt=" + token // of somebody who may have another role: the console logs in by it
	wantStatus(t, s.get("/"+another, fromOutside, publicHost, "Cookie: "+cookie), 200)
	wantStatus(t, s.get("/stat/livestat"+another, fromOutside, publicHost, "Cookie: "+cookie), 400)
	wantStatus(t, s.get("/?jwt=x", fromOutside, publicHost), 403)
	const file = "/.livego/console.js"
	if w := s.get(file, fromOutside, publicHost); w.Code != 200 || w.Body.String() != file {
		t.Errorf("file: %d %s", w.Code, w.Body)
	}
	wantStatus(t, s.do("POST", "/.livego/console.js", "", fromOutside, publicHost), 405)
	wantStatus(t, s.get("/.livego/console.js", fromOutside, "Host: a<b>"), 400)
}
