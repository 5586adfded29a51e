package api

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"livego/internal/domain"
	"livego/internal/stream"
)

// TestEndSessions checks that the sessions of a room are ended by the API and by deletion of the
// room, but not by a reset.
func TestEndSessions(t *testing.T) {
	s := newFixture(t, nil)
	for _, c := range []struct {
		method, target string
		status         int
		ended          string // "" for none
	}{
		{"DELETE", "/api/v1/sessions?room=movie", 200, "/movie"},
		{"DELETE", "/api/v1/sessions?room=movie&app=live", 200, "live/movie"},
		{"DELETE", "/api/v1/sessions", 400, ""},
		{"DELETE", "/api/v1/sessions?room=..", 400, ""},
		{"DELETE", "/api/v1/sessions?room=a&room=b", 400, ""},
		{"DELETE", "/api/v1/sessions?room=movie&app=nothing", 404, ""},
		{"GET", "/api/v1/sessions?room=movie", 200, ""},
		{"GET", "/control/get?room=movie", 200, ""},
		{"GET", "/control/reset?room=movie", 200, ""},
		{"GET", "/control/delete?room=nobody", 404, ""},
		{"GET", "/control/delete?room=movie", 200, "/movie"},
	} {
		s.ended = nil
		w := s.do(c.method, c.target, "")
		if w.Code != c.status || strings.Join(s.ended, " ") != c.ended {
			t.Errorf("%s %s: %d %s, ended %q", c.method, c.target, w.Code, w.Body, s.ended)
		}
		if c.method == "DELETE" && c.status == 200 && !strings.Contains(w.Body.String(), `"ended":3`) {
			t.Errorf("%s: %s", c.target, w.Body)
		}
	}
}

// listedSessions are the sessions of a page.
type listedSessions struct {
	Sessions []session
	Next     string
}

// watchAll publishes two streams, and adds viewers of all protocols, a relay and a part of the server.
func (s *fixture) watchAll() (p *stream.Publisher, viewers map[string]*stream.Viewer) {
	s.t.Helper()
	movie, quiet := domain.Name{App: "live", Room: "movie"}, domain.Name{App: "quiet", Room: "other"}
	p = s.publish(movie, domain.KeyRef{})
	s.publish(quiet, domain.KeyRef{})
	viewers = map[string]*stream.Viewer{}
	for i, proto := range []string{"rtmp", "flv", "ws", "hls"} {
		viewers[proto] = s.watch(movie, proto, "http://h/live/movie", 1000*(i+1), 0)
	}
	for _, o := range []stream.ViewerOptions{
		{Proto: "push", Internal: true, Relay: true, Remote: "[2001:db8::9]:1935"}, {Proto: "record", Internal: true},
		{Proto: "flv", TLS: true, Agent: "VLC " + strings.Repeat("k", domain.KeyLength), Remote: "198.51.100.4:99"},
	} {
		v, err := s.hub.Join(movie, o)
		if err != nil {
			s.t.Fatal(err)
		}
		s.t.Cleanup(v.Leave)
	}
	return p, viewers
}

func TestListSessions(t *testing.T) {
	s := newFixture(t, nil)
	if w := s.get("/api/v1/sessions"); w.Body.String() != `{"sessions":[]}` {
		t.Errorf("no sessions: %d %s", w.Code, w.Body)
	}
	s.watchAll()
	for query, want := range map[string]string{
		"":                                   "pub pub rtmp flv ws hls push flv",
		"?sort=-id":                          "flv push hls ws flv rtmp pub pub",
		"?kind=publisher":                    "pub pub",
		"?kind=viewer":                       "rtmp flv ws hls push flv",
		"?app=quiet":                         "pub",
		"?room=movie&proto=flv":              "flv flv",
		"?remote=192.0.2.8":                  "rtmp flv ws hls",
		"?remote=192.0.2.0/24&sort=-bytes":   "pub pub hls ws flv rtmp",
		"?remote=2001:db8::/32":              "push",
		"?room=nobody":                       "",
		"?kind=viewer&sort=proto,-bytes":     "flv flv hls push rtmp ws",
		"?sort=-bytes&limit=3":               "pub pub hls next",
		"?sort=delay_ms,skips,bitrate,since": "pub pub rtmp flv ws hls push flv",
	} {
		list := decode[listedSessions](t, s.get("/api/v1/sessions"+query), 200)
		got := []string{}
		for _, v := range list.Sessions {
			if v.Kind == kindPublisher {
				v.Proto = "pub"
			}
			got = append(got, v.Proto)
		}
		if list.Next != "" {
			got = append(got, "next")
		}
		if strings.Contains(query, "bitrate") { // all differ by the clock
			slices.Sort(got)
			want = "flv flv hls pub pub push rtmp ws"
		}
		if strings.Join(got, " ") != want {
			t.Errorf("%s: %q, want %q", query, got, want)
		}
	}
	list := decode[listedSessions](t, s.get("/api/v1/sessions?app=live"), 200).Sessions
	if p := list[0]; p.Role != "primary" || !p.Active || p.Encoder != "OBS <b>30</b>" || p.Bytes != 328_500 ||
		p.Remote != "192.0.2.7:5000" || p.DelayMS != nil || p.Relay || time.Since(p.Since) > time.Minute {
		t.Errorf("the publisher is %+v", p)
	}
	if v := list[2]; v.Bytes != 2000 || v.TLS || v.Relay || v.App != "live" || v.Room != "movie" {
		t.Errorf("a viewer is %+v", v)
	}
	if v := list[5]; !v.Relay || v.Kind != kindViewer {
		t.Errorf("the relay is %+v", v)
	}
	if v := list[6]; !v.TLS || strings.Contains(v.UserAgent, "kkk") {
		t.Errorf("a viewer by TLS is %+v", v)
	}
	for _, query := range []string{"?kind=x", "?proto=udp", "?remote=host", "?remote=fe80::1%25eth0", "?sort=key"} {
		if w := s.get("/api/v1/sessions" + query); w.Code != 400 {
			t.Errorf("%s: %d %s", query, w.Code, w.Body)
		}
	}
}

// TestEndSession gets and ends sessions one by one.
func TestEndSession(t *testing.T) {
	s := newFixture(t, nil)
	p, viewers := s.watchAll()
	for _, id := range []string{"0", "-1", "x", "99999", "18446744073709551616"} {
		for _, method := range []string{"GET", "DELETE"} {
			if w := s.do(method, "/api/v1/sessions/"+id, ""); w.Code != 404 {
				t.Errorf("%s %s: %d %s", method, id, w.Code, w.Body)
			}
		}
	}
	for _, v := range decode[listedSessions](t, s.get("/api/v1/sessions?room=movie"), 200).Sessions {
		got := decode[session](t, s.get("/api/v1/sessions/"+v.ID), 200)
		if got.Bitrate = v.Bitrate; fmt.Sprint(got) != fmt.Sprint(v) {
			t.Errorf("got %+v, listed %+v", got, v)
		}
		if w := s.do("DELETE", "/api/v1/sessions/"+v.ID, ""); w.Code != 204 {
			t.Fatalf("end %s: %d %s", v.Proto, w.Code, w.Body)
		}
		for _, method := range []string{"GET", "DELETE"} {
			if w := s.do(method, "/api/v1/sessions/"+v.ID, ""); w.Code != 404 {
				t.Errorf("%s %s after the end: %d", method, v.Proto, w.Code)
			}
		}
	}
	if list := decode[listedSessions](t, s.get("/api/v1/sessions?room=movie"), 200); len(list.Sessions) != 0 {
		t.Errorf("left: %+v", list.Sessions)
	}
	for proto, v := range viewers {
		if err := v.Reason(); domain.CodeOf(err) != domain.SessionEnded {
			t.Errorf("%s: %v", proto, err)
		}
	}
	if err := p.Err(); domain.CodeOf(err) != domain.SessionEnded {
		t.Errorf("the publisher: %v", err)
	}
	if in, ok := s.hub.Info(p.Name()); !ok || !in.Held {
		t.Error("the stream of the publisher is not held")
	}
}
