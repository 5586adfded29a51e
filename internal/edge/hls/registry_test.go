package hls

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"livego/internal/domain"
	"livego/internal/stream"
)

// countedViewers returns the viewers that the movie is counted to have.
func (c *testServer) countedViewers() []stream.ConnInfo {
	viewers := make([]stream.ConnInfo, 16)
	return viewers[:c.hub.Viewers(movie, 0, viewers)]
}

// registrySizes returns the number of sessions and of clients in the registry.
func (c *testServer) registrySizes() (sessions, clients int) {
	a := c.srv.registry
	a.mu.Lock()
	defer a.mu.Unlock()
	return len(a.sessions), len(a.byClient)
}

func TestViewersAreCounted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newTestServer(t, Options{}, stream.Options{})
		p := c.publish(movie)
		c.write(p, 5*time.Second)
		synctest.Wait()
		a, b := c.tsPlaylistURL(), c.tsPlaylistURL()
		if n := len(c.countedViewers()); n != 0 {
			t.Errorf("%d viewers before the first playlist request", n)
		}
		c.do("HEAD", a)
		c.get("/live/movie/ts.m3u8")
		c.get("/live/movie/ts.m3u8?s=forged")
		if n := len(c.countedViewers()); n != 0 {
			t.Errorf("%d viewers counted for requests without a session", n)
		}
		for range 3 {
			c.get(a, "User-Agent", "one")
		}
		n := len(c.get("/live/movie/100-0.ts", "User-Agent", "one"))
		c.get("/live/movie/100-0.ts", "User-Agent", "nobody")
		v := c.countedViewers()
		if len(v) != 1 || v[0].Proto != "hls" || v[0].URL != "http://example.com/live/movie.m3u8" || v[0].Remote == "" {
			t.Fatalf("viewers %+v", v)
		}
		if sum := int(v[0].VideoBytes + v[0].AudioBytes); sum != n || v[0].VideoBytes == 0 ||
			v[0].AudioBytes < v[0].VideoBytes {
			t.Errorf("%d bytes of video and %d of audio for a segment of %d", v[0].VideoBytes, v[0].AudioBytes, n)
		}
		sleep(20 * time.Second)
		c.get(b, "User-Agent", "two")
		if n := len(c.countedViewers()); n != 2 {
			t.Errorf("%d viewers, want 2", n)
		}
		sleep(12 * time.Second)
		if n := len(c.countedViewers()); n != 1 {
			t.Errorf("%d viewers after one stopped, want 1", n)
		}
		sleep(time.Minute)
		if sessions, clients := c.registrySizes(); sessions+clients+len(c.countedViewers()) != 0 {
			t.Errorf("%d sessions and %d clients are left after the timeout", sessions, clients)
		}
	})
}

func TestViewerIsCountedOnceAfterRepublish(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newTestServer(t, Options{}, stream.Options{})
		p := c.publish(movie)
		c.write(p, 3*time.Second)
		synctest.Wait()
		url := c.tsPlaylistURL()
		c.get(url)
		p.End(stream.Clean)
		c.get(url)
		synctest.Wait()
		c.write(c.publish(movie), 3*time.Second)
		c.get(url)
		if n := len(c.countedViewers()); n != 1 {
			t.Errorf("%d viewers of the second session, want 1", n)
		}
	})
}

func TestKickedViewerIsRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newTestServer(t, Options{}, stream.Options{})
		c.write(c.publish(movie), 3*time.Second)
		synctest.Wait()
		url, other := c.tsPlaylistURL(), c.tsPlaylistURL()
		c.get(url)
		if err := c.hub.Kick(c.countedViewers()[0].ID, errors.New("enough")); err != nil {
			t.Fatal(err)
		}
		c.get(other)
		for range 3 {
			if w := c.do("GET", url); w.Code != 403 || !strings.Contains(w.Body.String(), "disconnected") {
				t.Errorf("after the kick: %d %s", w.Code, w.Body)
			}
			sleep(time.Minute)
			c.get(other)
		}
		if n := len(c.countedViewers()); n != 1 {
			t.Errorf("%d viewers, want the other one only", n)
		}
		sleep(kickRetention + time.Second)
		if sessions, _ := c.registrySizes(); sessions != 0 {
			t.Errorf("%d kicked sessions are remembered", sessions)
		}
	})
}

// TestKickedSessionStaysRefused uses a session again long after it was kicked, but before it expires.
func TestKickedSessionStaysRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newTestServer(t, Options{}, stream.Options{})
		c.write(c.publish(movie), 3*time.Second)
		synctest.Wait()
		const lifetime = 3 * kickRetention
		token := c.srv.registry.issueToken(domain.Grant{Name: movie, Expires: time.Now().Add(lifetime)}, 0)
		url := "/live/movie/ts.m3u8?s=" + token
		c.get(url)
		if err := c.hub.Kick(c.countedViewers()[0].ID, errors.New("enough")); err != nil {
			t.Fatal(err)
		}
		sleep(lifetime - time.Minute)
		if w := c.do("GET", url); w.Code != 403 || w.Header().Get("Livego-Error") != string(domain.SessionEnded) {
			t.Errorf("after %v: %d %s", lifetime-time.Minute, w.Code, w.Body)
		}
		sleep(kickRetention + 2*time.Minute)
		if sessions, _ := c.registrySizes(); sessions != 0 {
			t.Errorf("%d expired sessions are remembered", sessions)
		}
	})
}

func TestDrainWaitsForViewers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newTestServer(t, Options{}, stream.Options{})
		c.srv.Drain(t.Context()) // without viewers
		c.write(c.publish(movie), 3*time.Second)
		synctest.Wait()
		watching, gone := c.tsPlaylistURL(), c.tsPlaylistURL()
		c.get(gone)
		sleep(time.Second)
		c.get(watching)
		c.hub.Close()
		go func() {
			sleep(2 * time.Second)
			if body := c.get(watching); lastLine(body) != "#EXT-X-ENDLIST" {
				t.Errorf("after the hub closed:\n%s", body)
			}
		}()
		begin := time.Now()
		c.srv.Drain(context.Background())
		if took := time.Since(begin); took < 3*time.Second || took > 4*time.Second {
			t.Errorf("drained in %v", took)
		}
	})
}

// TestKnownSessionDoesNotAllocate verifies the token of a session in use, as every request does.
func TestKnownSessionDoesNotAllocate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newPrivateServer(t, Options{})
		url := c.openSession("good")
		c.get(url)
		_, token, _ := strings.Cut(url, "?s=")
		if n := testing.AllocsPerRun(100, func() {
			if _, err := c.srv.registry.verifyToken(token, movie); err != nil {
				t.Fatal(err)
			}
		}); n > 0 {
			t.Errorf("%v allocations", n)
		}
	})
}
