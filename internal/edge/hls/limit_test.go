package hls

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"livego/internal/live"
	"livego/internal/stream"
)

// newPrivate returns a scene in which every room is private, with five seconds of the movie.
func newPrivate(t *testing.T, o Options) *scene {
	o.Private = func(live.Name) bool { return true }
	c := newScene(t, o, stream.Options{})
	c.movie = c.publish(movie)
	c.write(c.movie, 5*time.Second)
	synctest.Wait()
	return c
}

// session lets a viewer in by a token and returns its media playlist.
func (c *scene) session(token string) string {
	c.t.Helper()
	return "/live/" + last(c.get("/live/movie.m3u8?format=ts&token="+token))
}

// segmentOf returns the address of a segment by the session of a media playlist, which need not have been asked for.
func segmentOf(media string) string {
	_, session, _ := strings.Cut(media, "?s=")
	return "/live/movie/100-0.ts?s=" + session
}

// from returns the address of viewer n.
func from(n int) string { return fmt.Sprintf("192.0.2.%d:1000", n) }

// tries returns the status of a request from an address.
func (c *scene) tries(target string, addr string) int {
	return c.do("GET", target, "Remote", addr).Code
}

// TestLimitHoldsForSegments has more sessions than a token allows: those that are refused get no segment either, whose name can be guessed,
// and nobody who watches is sent away for them.
func TestLimitHoldsForSegments(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newPrivate(t, Options{})
		first, second, other := c.session("limit-1-1"), c.session("limit-1-1"), c.session("limit-2-1")
		for range 3 {
			for _, step := range []struct {
				what, target string
				want         int
			}{
				{"the viewer's playlist", first, 200}, {"its segment", segmentOf(first), 200},
				{"a second playlist", second, 429}, {"a second viewer's segment", segmentOf(second), 429},
				{"another token's segment", segmentOf(other), 200}, {"and playlist", other, 200},
			} {
				if got := c.tries(step.target, from(1)); got != step.want {
					t.Errorf("%s: %d, want %d", step.what, got, step.want)
				}
			}
			pass(10 * time.Second)
		}
		w := c.do("GET", second)
		if w.Header().Get("Livego-Error") != "token_viewer_limit" || !strings.Contains(w.Body.String(), "limit reached (1)") {
			t.Errorf("refused with %v: %s", w.Header(), w.Body)
		}
		pass(31 * time.Second)
		if got := c.tries(segmentOf(second), from(1)); got != 200 {
			t.Errorf("once the first has left: %d", got)
		}
	})
}

// TestAskingFillsNothing asks for sessions by the hundred: nothing is kept of them, and the limit of a token holds.
func TestAskingFillsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newPrivate(t, Options{})
		for range 500 {
			c.session("limit-9-1000")
		}
		if guests, clients := c.remembered(); guests+clients != 0 {
			t.Errorf("%d guests and %d clients", guests, clients)
		}
		if a, b := c.session("limit-1-1"), c.session("limit-1-1"); c.tries(a, from(1)) != 200 || c.tries(b, from(2)) != 429 {
			t.Error("the limit does not hold")
		}
	})
}

// TestRoamingSession uses the session of a limited token from more and more addresses: with a few it counts once, then once for each.
func TestRoamingSession(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newPrivate(t, Options{})
		shared := c.session("limit-1-1")
		for n := range 40 {
			want := 200
			if n >= fewAddresses {
				want = 429
			}
			if got := c.tries(segmentOf(shared), from(n)); got != want {
				t.Errorf("from address %d: %d, want %d", n+1, got, want)
			}
			if got := c.tries(shared, from(0)); got != 200 {
				t.Errorf("the first address, after %d others: %d", n, got)
			}
		}
		// A phone moves on: what it left is forgotten after a minute.
		pass(20 * time.Second)
		c.tries(shared, from(0))
		pass(20 * time.Second)
		c.tries(shared, from(0))
		pass(21 * time.Second)
		if got := c.tries(shared, from(50)); got != 200 {
			t.Errorf("a new address a minute later: %d", got)
		}

		// Five may watch: a session on four addresses takes four places, and gives them back.
		many, one, two := c.session("limit-5-5"), c.session("limit-5-5"), c.session("limit-5-5")
		for n := range 4 {
			c.tries(many, from(n))
		}
		if got := [2]int{c.tries(one, from(60)), c.tries(two, from(61))}; got != [2]int{200, 429} {
			t.Errorf("beside a session on four addresses: %v", got)
		}
		for range 4 {
			pass(20 * time.Second)
			c.tries(many, from(0))
			c.tries(one, from(60))
		}
		if got := c.tries(two, from(61)); got != 200 {
			t.Errorf("a minute after it was on four addresses: %d", got)
		}
	})
}

// TestIPv6Addresses has one viewer use many addresses of its network, as privacy extensions do.
func TestIPv6Addresses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newPrivate(t, Options{})
		s := c.session("limit-1-1")
		for n := range 20 {
			if got := c.tries(s, fmt.Sprintf("[2001:db8::%x]:1", n+1)); got != 200 {
				t.Errorf("from address %d of a network: %d", n, got)
			}
		}
	})
}

// TestSharesOfAddresses has one address use many sessions: those without a limit are forgotten before they fetch media, the oldest first,
// and those with one are refused beyond its share. Other addresses notice nothing.
func TestSharesOfAddresses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newPrivate(t, Options{})
		flood, other := from(1), from(2)
		watching := c.session("good")
		c.tries(watching, flood)
		c.tries(segmentOf(watching), flood)
		c.tries(c.session("good"), other)
		for range 2 * maxUnfetched {
			if got := c.tries(c.session("good"), flood); got != 200 {
				t.Fatalf("a session more: %d", got)
			}
		}
		if guests, _ := c.remembered(); guests != maxUnfetched+2 {
			t.Errorf("%d guests, want %d that have fetched nothing, the one that has, and another's", guests, maxUnfetched)
		}

		for n := range maxLimited {
			if got := c.tries(c.session("limit-1-100000"), flood); got != 200 {
				t.Fatalf("limited session %d: %d", n, got)
			}
		}
		w := c.do("GET", c.session("limit-2-1"), "Remote", flood)
		if w.Code != 429 || w.Header().Get("Livego-Error") != "address_limit" {
			t.Errorf("beyond the share: %d %v", w.Code, w.Header())
		}
		if got := c.tries(c.session("limit-1-100000"), other); got != 200 {
			t.Errorf("another address: %d", got)
		}
		pass(time.Minute)
		if guests, clients := c.remembered(); guests+clients+len(c.srv.audience.limited)+len(c.srv.audience.unfetched) != 0 {
			t.Errorf("%d guests and %d clients are left", guests, clients)
		}
		if got := c.tries(c.session("limit-2-1"), flood); got != 200 {
			t.Errorf("after they left: %d", got)
		}
	})
}

// TestSharesOfThoseWhoFetched has one address use many sessions that fetch media, as somebody who knows of maxUnfetched does: beyond its
// share they are served and not counted, and other addresses are counted.
func TestSharesOfThoseWhoFetched(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newPrivate(t, Options{})
		flood, other := from(1), from(2)
		for n := range maxUnlimited + 10 {
			s := c.session("good")
			if got := c.tries(s, flood); got != 200 {
				t.Fatalf("session %d: %d", n, got)
			}
			if w := c.do("GET", segmentOf(s), "Remote", flood, "Range", "bytes=0-0"); w.Code != 206 {
				t.Fatalf("a byte of session %d: %d", n, w.Code)
			}
		}
		if guests, _ := c.remembered(); guests != maxUnlimited {
			t.Errorf("%d guests, want %d", guests, maxUnlimited)
		}
		c.tries(c.session("good"), other)
		if guests, _ := c.remembered(); guests != maxUnlimited+1 {
			t.Errorf("%d guests, want one more from another address", guests)
		}
		pass(time.Minute)
		if guests, clients := c.remembered(); guests+clients+len(c.srv.audience.unlimited)+len(c.srv.audience.unfetched) != 0 {
			t.Errorf("%d guests and %d clients are left", guests, clients)
		}
	})
}

// TestEndSessions ends the sessions of a room in use, asked for and held: they get no more, a new one does.
func TestEndSessions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newPrivate(t, Options{Part: 200 * ms})
		inUse, fresh, limited := c.session("good"), c.session("good"), c.session("limit-1-1")
		c.tries(inUse, from(1))
		c.tries(limited, from(2))
		_, session, _ := strings.Cut(inUse, "?")
		held := c.ask("/live/movie/index.m3u8?" + session + "&_HLS_msn=102")
		_, hint, _ := strings.Cut(c.get("/live/movie/index.m3u8?"+session), `PRELOAD-HINT:TYPE=PART,URI="`)
		hint, _, _ = strings.Cut(hint, `"`)
		part := c.ask("/live/movie/" + hint)
		synctest.Wait()
		if n := c.srv.EndSessions("live", "movie"); n != 2 {
			t.Errorf("%d were in use, want 2", n)
		}
		if n := len(c.watching()); n != 0 {
			t.Errorf("%d viewers are counted", n)
		}
		c.write(c.movie, 2*time.Second)
		if r := <-held; r.w.Code != 403 {
			t.Errorf("a request that was held: %d", r.w.Code)
		}
		if r := <-part; r.w.Code != 403 {
			t.Errorf("a request for a part that was held: %d", r.w.Code)
		}
		for _, s := range []string{inUse, fresh, limited, segmentOf(inUse), segmentOf(fresh)} {
			if w := c.do("GET", s); w.Code != 403 || w.Header().Get("Livego-Error") != "session_ended" {
				t.Errorf("%.30s: %d %v", s, w.Code, w.Header())
			}
		}
		if got := c.tries(c.session("limit-1-1"), from(3)); got != 200 {
			t.Errorf("a new session: %d", got)
		}
	})
}

// TestTwoSessions asks with a good session and a bad one, in either order: no answer is an empty one.
func TestTwoSessions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newPrivate(t, Options{})
		s := c.session("good")
		for _, target := range []string{s, segmentOf(s)} {
			for _, both := range []string{target + "&s=bad", strings.Replace(target, "?", "?s=bad&", 1)} {
				if w := c.do("GET", both); w.Code != 400 || w.Body.Len() == 0 {
					t.Errorf("%.30s: %d %q", both, w.Code, w.Body)
				}
			}
		}
	})
}
