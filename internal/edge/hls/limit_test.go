package hls

import (
	"fmt"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"livego/internal/domain"
	"livego/internal/stream"
)

// newPrivateServer returns a server on which every room is private, with five seconds of the movie.
func newPrivateServer(t *testing.T, o Options) *testServer {
	o.Private = func(domain.Name) bool { return true }
	c := newTestServer(t, o, stream.Options{})
	c.movie = c.publish(movie)
	c.write(c.movie, 5*time.Second)
	synctest.Wait()
	return c
}

// openSession starts a viewer session with a token and returns the URL of its media playlist.
func (c *testServer) openSession(token string) string {
	c.t.Helper()
	return "/live/" + lastLine(c.get("/live/movie.m3u8?format=ts&token="+token))
}

// segmentURL returns the URL of a segment with the session of a media playlist URL, which may be
// unused.
func segmentURL(media string) string {
	_, session, _ := strings.Cut(media, "?s=")
	return "/live/movie/100-0.ts?s=" + session
}

// viewerAddr returns the address of viewer n.
func viewerAddr(n int) string { return fmt.Sprintf("192.0.2.%d:1000", n) }

// status returns the status of a request from an address.
func (c *testServer) status(target string, addr string) int {
	return c.do("GET", target, "Remote", addr).Code
}

// TestViewerLimitHoldsForSegments uses more sessions than a token allows. The refused sessions get
// no segment either, although its name can be guessed, and the viewers that already watch continue.
func TestViewerLimitHoldsForSegments(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newPrivateServer(t, Options{})
		first, second, other := c.openSession("limit-1-1"), c.openSession("limit-1-1"), c.openSession("limit-2-1")
		for range 3 {
			for _, step := range []struct {
				what, target string
				want         int
			}{
				{"playlist of the first session", first, 200}, {"segment of the first session", segmentURL(first), 200},
				{"playlist of a second session", second, 429}, {"segment of a second session", segmentURL(second), 429},
				{"segment with another token", segmentURL(other), 200}, {"playlist with another token", other, 200},
			} {
				if got := c.status(step.target, viewerAddr(1)); got != step.want {
					t.Errorf("%s: %d, want %d", step.what, got, step.want)
				}
			}
			sleep(10 * time.Second)
		}
		w := c.do("GET", second)
		if w.Header().Get("Livego-Error") != "token_viewer_limit" || !strings.Contains(w.Body.String(), "limit reached (1)") {
			t.Errorf("refused with header %v: %s", w.Header(), w.Body)
		}
		sleep(31 * time.Second)
		if got := c.status(segmentURL(second), viewerAddr(1)); got != 200 {
			t.Errorf("after the first session ended: %d", got)
		}
	})
}

// TestUnusedSessionsAreNotStored requests hundreds of sessions: none is stored, and the viewer
// limit of a token holds.
func TestUnusedSessionsAreNotStored(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newPrivateServer(t, Options{})
		for range 500 {
			c.openSession("limit-9-1000")
		}
		if sessions, clients := c.registrySizes(); sessions+clients != 0 {
			t.Errorf("%d sessions and %d clients", sessions, clients)
		}
		if a, b := c.openSession("limit-1-1"), c.openSession("limit-1-1"); c.status(a, viewerAddr(1)) != 200 ||
			c.status(b, viewerAddr(2)) != 429 {
			t.Error("the viewer limit does not hold")
		}
	})
}

// TestRoamingSessionCountsAddresses uses a limited session from more and more addresses: with a few
// it counts once, then once for each.
func TestRoamingSessionCountsAddresses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newPrivateServer(t, Options{})
		shared := c.openSession("limit-1-1")
		for n := range 40 {
			want := 200
			if n >= maxRoamAddresses {
				want = 429
			}
			if got := c.status(segmentURL(shared), viewerAddr(n)); got != want {
				t.Errorf("from address %d: %d, want %d", n+1, got, want)
			}
			if got := c.status(shared, viewerAddr(0)); got != 200 {
				t.Errorf("from the first address, after %d others: %d", n, got)
			}
		}
		// A phone moves between networks: its old address expires after a minute.
		sleep(20 * time.Second)
		c.status(shared, viewerAddr(0))
		sleep(20 * time.Second)
		c.status(shared, viewerAddr(0))
		sleep(21 * time.Second)
		if got := c.status(shared, viewerAddr(50)); got != 200 {
			t.Errorf("from a new address a minute later: %d", got)
		}

		// Five viewers are allowed: a session on four addresses uses four slots, and releases them.
		many, one, two := c.openSession("limit-5-5"), c.openSession("limit-5-5"), c.openSession("limit-5-5")
		for n := range 4 {
			c.status(many, viewerAddr(n))
		}
		if got := [2]int{c.status(one, viewerAddr(60)), c.status(two, viewerAddr(61))}; got != [2]int{200, 429} {
			t.Errorf("besides a session on four addresses: %v", got)
		}
		for range 4 {
			sleep(20 * time.Second)
			c.status(many, viewerAddr(0))
			c.status(one, viewerAddr(60))
		}
		if got := c.status(two, viewerAddr(61)); got != 200 {
			t.Errorf("a minute after the session left three addresses: %d", got)
		}
	})
}

// TestIPv6NetworkCountsAsOneAddress uses many addresses of one network, as privacy extensions do.
func TestIPv6NetworkCountsAsOneAddress(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newPrivateServer(t, Options{})
		s := c.openSession("limit-1-1")
		for n := range 20 {
			if got := c.status(s, fmt.Sprintf("[2001:db8::%x]:1", n+1)); got != 200 {
				t.Errorf("from address %d of the network: %d", n, got)
			}
		}
	})
}

// TestSessionsPerAddressAreBounded uses many sessions from one address. Unlimited sessions without
// media are dropped, the oldest first, and limited ones are refused beyond the limit per address.
// Other addresses are not affected.
func TestSessionsPerAddressAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newPrivateServer(t, Options{})
		flood, other := viewerAddr(1), viewerAddr(2)
		watching := c.openSession("good")
		c.status(watching, flood)
		c.status(segmentURL(watching), flood)
		c.status(c.openSession("good"), other)
		for range 2 * maxUnfetched {
			if got := c.status(c.openSession("good"), flood); got != 200 {
				t.Fatalf("another session: %d", got)
			}
		}
		if sessions, _ := c.registrySizes(); sessions != maxUnfetched+2 {
			t.Errorf("%d sessions, want %d without media, the one with media, and one from another address", sessions,
				maxUnfetched)
		}

		for n := range maxLimited {
			if got := c.status(c.openSession("limit-1-100000"), flood); got != 200 {
				t.Fatalf("limited session %d: %d", n, got)
			}
		}
		w := c.do("GET", c.openSession("limit-2-1"), "Remote", flood)
		if w.Code != 429 || w.Header().Get("Livego-Error") != "address_limit" {
			t.Errorf("beyond the limit per address: %d %v", w.Code, w.Header())
		}
		if got := c.status(c.openSession("limit-1-100000"), other); got != 200 {
			t.Errorf("from another address: %d", got)
		}
		sleep(time.Minute)
		if sessions, clients := c.registrySizes(); sessions+clients+len(c.srv.registry.limited)+
			len(c.srv.registry.unfetched) != 0 {
			t.Errorf("%d sessions and %d clients are left", sessions, clients)
		}
		if got := c.status(c.openSession("limit-2-1"), flood); got != 200 {
			t.Errorf("after the sessions expired: %d", got)
		}
	})
}

// TestFetchingSessionsPerAddressAreBounded uses many sessions from one address that fetch media, as
// a client that knows of maxUnfetched would: beyond the limit they are served and not counted, and
// other addresses are counted.
func TestFetchingSessionsPerAddressAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newPrivateServer(t, Options{})
		flood, other := viewerAddr(1), viewerAddr(2)
		for n := range maxUnlimited + 10 {
			s := c.openSession("good")
			if got := c.status(s, flood); got != 200 {
				t.Fatalf("session %d: %d", n, got)
			}
			if w := c.do("GET", segmentURL(s), "Remote", flood, "Range", "bytes=0-0"); w.Code != 206 {
				t.Fatalf("a range request of session %d: %d", n, w.Code)
			}
		}
		if sessions, _ := c.registrySizes(); sessions != maxUnlimited {
			t.Errorf("%d sessions, want %d", sessions, maxUnlimited)
		}
		c.status(c.openSession("good"), other)
		if sessions, _ := c.registrySizes(); sessions != maxUnlimited+1 {
			t.Errorf("%d sessions, want one more from another address", sessions)
		}
		sleep(time.Minute)
		if sessions, clients := c.registrySizes(); sessions+clients+len(c.srv.registry.unlimited)+
			len(c.srv.registry.unfetched) != 0 {
			t.Errorf("%d sessions and %d clients are left", sessions, clients)
		}
	})
}

// TestEndSessions ends the sessions of a room, unused, in use and blocked: they get nothing more, a
// new session does.
func TestEndSessions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newPrivateServer(t, Options{Part: 200 * ms})
		inUse, fresh, limited := c.openSession("good"), c.openSession("good"), c.openSession("limit-1-1")
		c.status(inUse, viewerAddr(1))
		c.status(limited, viewerAddr(2))
		_, session, _ := strings.Cut(inUse, "?")
		held := c.getAsync("/live/movie/index.m3u8?" + session + "&_HLS_msn=102")
		synctest.Wait() // the requests so far have parts made: the hint is for one that no frame completes yet
		_, hint, _ := strings.Cut(c.get("/live/movie/index.m3u8?"+session), `PRELOAD-HINT:TYPE=PART,URI="`)
		hint, _, _ = strings.Cut(hint, `"`)
		part := c.getAsync("/live/movie/" + hint)
		synctest.Wait()
		if n := c.srv.EndSessions("live", "movie"); n != 2 {
			t.Errorf("%d sessions were in use, want 2", n)
		}
		if n := len(c.countedViewers()); n != 0 {
			t.Errorf("%d viewers are counted", n)
		}
		c.write(c.movie, 2*time.Second)
		if r := <-held; r.w.Code != 403 {
			t.Errorf("a blocked reload: %d", r.w.Code)
		}
		if r := <-part; r.w.Code != 403 {
			t.Errorf("a blocked request for a part: %d", r.w.Code)
		}
		for _, s := range []string{inUse, fresh, limited, segmentURL(inUse), segmentURL(fresh)} {
			if w := c.do("GET", s); w.Code != 403 || w.Header().Get("Livego-Error") != "session_ended" {
				t.Errorf("%.30s: %d %v", s, w.Code, w.Header())
			}
		}
		if got := c.status(c.openSession("limit-1-1"), viewerAddr(3)); got != 200 {
			t.Errorf("a new session: %d", got)
		}
	})
}

// TestTwoSessionParametersAreRefused sends a valid and an invalid session, in either order: no
// response is empty.
func TestTwoSessionParametersAreRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newPrivateServer(t, Options{})
		s := c.openSession("good")
		for _, target := range []string{s, segmentURL(s)} {
			for _, both := range []string{target + "&s=bad", strings.Replace(target, "?", "?s=bad&", 1)} {
				if w := c.do("GET", both); w.Code != 400 || w.Body.Len() == 0 {
					t.Errorf("%.30s: %d %q", both, w.Code, w.Body)
				}
			}
		}
	})
}

// A deadlineRecorder records the deadline of a response.
type deadlineRecorder struct {
	*httptest.ResponseRecorder
	deadline time.Time
}

func (w *deadlineRecorder) SetWriteDeadline(t time.Time) error {
	w.deadline = t
	return nil
}

// TestResponseDeadline checks in which time a client must receive a response: AnswerTimeout, or
// four times as long as the response plays, whichever is longer.
func TestResponseDeadline(t *testing.T) {
	for timeout, want := range map[time.Duration][2]time.Duration{ // of a playlist, of a segment of 10 s
		0:                {30 * time.Second, 40 * time.Second},
		5 * time.Second:  {5 * time.Second, 40 * time.Second},
		50 * time.Second: {50 * time.Second, 50 * time.Second},
	} {
		synctest.Test(t, func(t *testing.T) {
			c := newTestServer(t, Options{Segment: 10 * time.Second, AnswerTimeout: timeout}, stream.Options{})
			c.movie = c.publish(movie)
			for range 20 {
				c.write(c.movie, 2*time.Second)
				synctest.Wait()
			}
			media := c.tsPlaylistURL()
			_, files := segments(c.get(media))
			for i, target := range []string{media, "/live/movie/" + files[len(files)-1]} {
				w := &deadlineRecorder{ResponseRecorder: httptest.NewRecorder()}
				c.srv.ServeHTTP(w, httptest.NewRequest("GET", "http://example.com"+target, nil))
				if got := time.Until(w.deadline); w.Code != 200 || got != want[i] {
					t.Errorf("AnswerTimeout %v, %s: %d within %v, want %v", timeout, target, w.Code, got, want[i])
				}
			}
		})
	}
}

// TestSessionsPerTokenAreBounded uses many sessions of one token from many addresses, until its
// viewer limit is reached. The sessions beyond are refused and not stored. Viewers with another
// token, and those without a limit, are served.
func TestSessionsPerTokenAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const share = 100
		c := newPrivateServer(t, Options{})
		for n := range 3 * share {
			s, from, want := c.openSession(fmt.Sprintf("limit-1-%d", share)), fmt.Sprintf("[2001:db8:0:%x::1]:1", n), 200
			if n >= share {
				want = 429
			}
			for _, target := range []string{segmentURL(s), s} {
				if w := c.do("GET", target, "Remote", from); w.Code != want ||
					want == 429 && w.Header().Get("Livego-Error") != "token_viewer_limit" {
					t.Fatalf("session %d: %d %v, want %d", n, w.Code, w.Header(), want)
				}
			}
		}
		if sessions, clients := c.registrySizes(); sessions != share || clients > share {
			t.Errorf("%d sessions and %d clients are stored, want %d", sessions, clients, share)
		}
		for _, token := range []string{"limit-2-1", "good"} {
			if s := c.openSession(token); c.status(s, viewerAddr(1)) != 200 || c.status(segmentURL(s), viewerAddr(1)) != 200 {
				t.Errorf("a viewer with token %s is refused", token)
			}
		}
	})
}
