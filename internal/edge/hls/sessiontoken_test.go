package hls

import (
	"net/http/httptest"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"livego/internal/domain"
	"livego/internal/quality"
	"livego/internal/stream"
)

// grants cover every form of session token.
func grants() []domain.Grant {
	pass, expires := domain.ViewerLimit{ID: [16]byte{1, 2, 3}, Max: 7}, time.Unix(1<<33, 0)
	v4, v6 := netip.MustParseAddr("192.0.2.7"), netip.MustParseAddr("2001:db8::7")
	return []domain.Grant{
		{Name: movie},
		{Name: movie, Expires: expires},
		{Name: movie, Expires: expires, ViewerLimit: pass},
		{Name: movie, Expires: expires, Address: v4},
		{Name: movie, Expires: expires, ViewerLimit: pass, Address: v4},
		{Name: movie, Expires: expires, ViewerLimit: pass, Address: v6},
	}
}

func newTestRegistry(t testing.TB) *sessionRegistry {
	hub := stream.NewHub(stream.Options{})
	t.Cleanup(hub.Close)
	return newSessionRegistry(hub, newFakeAuthorizer(), Options{})
}

func TestSessionTokens(t *testing.T) {
	a, b := newTestRegistry(t), newTestRegistry(t)
	for i, grant := range grants() {
		playback := quality.ID(i) << 40
		good := a.issueToken(grant, playback)
		token, err := a.verifyToken(good, movie)
		expires := int64(0)
		if !grant.Expires.IsZero() {
			expires = grant.Expires.Unix()
		}
		if err != nil || token.viewerLimit != grant.ViewerLimit || token.address != grant.Address ||
			token.expires != expires || token.playback != playback {
			t.Errorf("%+v decoded as %+v, %v", grant, token, err)
		}
		if again := a.issueToken(grant, playback); again == good {
			t.Error("two tokens are equal")
		}
		for i := range len(good) {
			for _, to := range []string{"", "A", "!", "AA"} {
				if s := good[:i] + to + good[i+1:]; s != good {
					if _, err := a.verifyToken(s, movie); domain.KindOf(err) != domain.Denied {
						t.Errorf("session %q is accepted, made from %q: %v", s, good, err)
					}
				}
			}
		}
		for name, open := range map[string]func() error{
			"another room":   func() error { _, err := a.verifyToken(good, domain.Name{App: "live", Room: "movi"}); return err },
			"another server": func() error { _, err := b.verifyToken(good, movie); return err },
		} {
			if err := open(); domain.CodeOf(err) != domain.SessionInvalid {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
	if _, err := a.verifyToken("", movie); domain.CodeOf(err) != domain.SessionMissing {
		t.Errorf("without a session: %v", err)
	}
}

// TestSharedSecrets has servers with secrets, before and after a restart: a session is valid on each that
// knows the secret which signed it.
func TestSharedSecrets(t *testing.T) {
	hub := stream.NewHub(stream.Options{})
	t.Cleanup(hub.Close)
	server := func(secrets ...string) *sessionRegistry {
		return newSessionRegistry(hub, newFakeAuthorizer(), Options{Secrets: secrets})
	}
	servers := []*sessionRegistry{server("old"), server("old"), server("new", "old"), server("new"), server(), server()}
	for issuer, valid := range [][]int{{0, 1, 2}, {0, 1, 2}, {2, 3}, {2, 3}, {4}, {5}} {
		for i, grant := range grants() {
			text := servers[issuer].issueToken(grant, quality.ID(i))
			for n, s := range servers {
				_, err := s.verifyToken(text, movie)
				if want := slices.Contains(valid, n); (err == nil) != want {
					t.Errorf("session %+v of server %d on server %d: %v, want valid: %v", grant, issuer, n, err, want)
				}
			}
		}
	}
}

func TestSessionTokenChecks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hub := stream.NewHub(stream.Options{})
		defer hub.Close()
		a := newSessionRegistry(hub, newFakeAuthorizer(), Options{})
		check := func(s string, from string) domain.Code {
			t.Helper()
			token, err := a.verifyToken(s, movie)
			if err != nil {
				t.Fatal(err)
			}
			r := httptest.NewRequest("GET", "/", nil)
			r.RemoteAddr = from
			return domain.CodeOf(a.authorize(token, movie, r))
		}
		const here, there = "192.0.2.7:1", "192.0.2.8:1"
		brief := a.issueToken(domain.Grant{Name: movie, Expires: time.Now().Add(time.Minute)}, 0)
		bound := a.issueToken(domain.Grant{Name: movie, Address: netip.MustParseAddr("192.0.2.7")}, 0)
		for _, c := range []struct {
			name, session, from string
			want                domain.Code
		}{
			{"before it expires", brief, here, ""},
			{"another address", brief, there, ""},
			{"bound, from its address", bound, here, ""},
			{"bound, from another", bound, there, domain.SessionAddress},
			{"bound, from none", bound, "pipe", domain.SessionAddress},
		} {
			if got := check(c.session, c.from); got != c.want {
				t.Errorf("%s: %q, want %q", c.name, got, c.want)
			}
		}
		sleep(time.Minute)
		if got := check(brief, here); got != domain.SessionExpired {
			t.Errorf("after it expired: %q", got)
		}

		a.endSessions("vod", movie.Room)
		if got := check(bound, here); got != "" {
			t.Errorf("after the sessions of another app were ended: %q", got)
		}
		for _, app := range []string{movie.App, ""} {
			before := a.issueToken(domain.Grant{Name: movie}, 0)
			a.endSessions(app, movie.Room)
			if got := check(before, here); got != domain.SessionEnded {
				t.Errorf("ended in app %q: %q", app, got)
			}
			if got := check(a.issueToken(domain.Grant{Name: movie}, 0), here); got != "" {
				t.Errorf("a newer session: %q", got)
			}
		}
	})
}

// TestEndedRoomsAreBounded ends the sessions of more rooms than are remembered: what was ended
// stays ended.
func TestEndedRoomsAreBounded(t *testing.T) {
	a := newTestRegistry(t)
	first := a.issueToken(domain.Grant{Name: movie}, 0)
	a.endSessions("live", "movie")
	for n := range maxEndedRooms + 10 {
		a.endSessions("live", string(rune('a'+n%26))+time.Duration(n).String())
	}
	token, err := a.verifyToken(first, movie)
	if err != nil {
		t.Fatal(err)
	}
	if got := domain.CodeOf(a.authorize(token, movie,
		httptest.NewRequest("GET", "/", nil))); got != domain.SessionEnded || len(a.ended) > maxEndedRooms {
		t.Errorf("%q, %d ended rooms are remembered", got, len(a.ended))
	}
}

// FuzzSessionToken checks that no forged text is accepted as a session, and that no two texts are
// the same session.
func FuzzSessionToken(f *testing.F) {
	a := newTestRegistry(f)
	made := map[string]bool{}
	for _, grant := range grants() {
		s := a.issueToken(grant, 0)
		made[s] = true
		f.Add(s)
	}
	f.Add("")
	f.Fuzz(func(t *testing.T, s string) {
		var token sessionToken
		ok := a.decode(&token, s)
		if !ok {
			return
		}
		if a.coding.EncodeToString(token.encoded[:token.length]) != s {
			t.Errorf("%q is another text for the same session", s)
		}
		if a.verify(&token, movie) && !made[s] {
			t.Errorf("%q is accepted", s)
		}
	})
}

// queries are query strings and their meaning; they seed the fuzzer too.
var queries = []struct {
	raw  string
	want query
	bad  bool
}{
	{"", query{part: -1}, false},
	{"s=a", query{session: "a", part: -1}, false},
	{"x=1&s=a&&=&s=a", query{session: "a", part: -1}, false},
	{"%73=a%2Db", query{session: "a-b", part: -1}, false},
	{"s=GOOD&s=bad", query{}, true},
	{"s=GOOD&%73=bad", query{}, true},
	{"s=GOOD&s=", query{}, true},
	{"s=&s=GOOD", query{}, true},
	{"s=%zz", query{}, true},
	{"%zz=1&s=a", query{session: "a", part: -1}, false},
	{"format=ts&format=fmp4", query{}, true},
	{"format=ts", query{format: "ts", part: -1}, false},
	{"_HLS_msn=7", query{blocks: true, msn: 7, part: -1}, false},
	{"_HLS_msn=7&_HLS_part=2&_HLS_skip=YES", query{blocks: true, msn: 7, part: 2, skip: true}, false},
	{"_HLS_msn=7&_HLS_msn=8", query{}, true},
	{"_HLS_msn=", query{}, true},
	{"_HLS_msn=-1", query{}, true},
	{"_HLS_part=1", query{}, true},
	{"_HLS_part=&_HLS_msn=1", query{}, true},
}

func TestParseQuery(t *testing.T) {
	for _, c := range queries {
		if got, err := parseQuery(c.raw); got != c.want || (err != nil) != c.bad {
			t.Errorf("%q: %+v, %v", c.raw, got, err)
		}
	}
}

func FuzzQuery(f *testing.F) {
	for _, c := range queries {
		f.Add(c.raw)
	}
	f.Fuzz(func(t *testing.T, raw string) {
		got, err := parseQuery(raw)
		again, errAgain := parseQuery(raw + "&" + raw)
		if got != again || (err == nil) != (errAgain == nil) {
			t.Errorf("%q: %+v, %v; repeated: %+v, %v", raw, got, err, again, errAgain)
		}
		if err == nil && got.session != "" {
			if _, err := parseQuery(raw + "&s=x" + got.session); err == nil {
				t.Errorf("%q: a second session is accepted", raw)
			}
		}
	})
}

// TestNoSessions leaves the session out of a multivariant playlist that many viewers may share, and of no
// other.
func TestNoSessions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newTestServer(t, Options{NoSessions: true},
			stream.Options{})
		c.movie = c.publish(movie)
		c.write(c.movie, 5*time.Second)
		synctest.Wait()
		for _, tt := range []struct {
			path    string
			session bool
		}{
			{"/live/movie.m3u8", false},
			{"/live/movie.m3u8?format=ts", false},
			{"/live/movie.m3u8?token=good", true},
			{"/live/movie.m3u8?token=limit-1-5", true},
			{"/live/alias.m3u8", true}, // without a session its media playlist is refused
		} {
			w := c.do("GET", tt.path)
			body := w.Body.String()
			if w.Code != 200 || strings.Contains(body, "?s=") != tt.session ||
				(w.Header().Get("Cache-Control") == cacheNone) != tt.session {
				t.Errorf("%s: %d %v\n%s", tt.path, w.Code, w.Header(), body)
			}
			if !tt.session && c.do("GET", tt.path).Body.String() != body {
				t.Errorf("%s: two viewers get different playlists", tt.path)
			}
		}
		c.get("/live/movie/index.m3u8")
		if n := len(c.srv.registry.sessions); n != 0 {
			t.Errorf("%d viewers are counted", n)
		}
	})
}
