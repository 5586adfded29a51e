package hls

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"livego/internal/stream"
)

// countedViewers returns who is counted as a viewer of the movie.
func (c *scene) countedViewers() []stream.ConnInfo {
	viewers := make([]stream.ConnInfo, 16)
	return viewers[:c.hub.Viewers(movie, 0, viewers)]
}

// registrySizes returns how many guests the audience knows, and how many clients.
func (c *scene) registrySizes() (guests, clients int) {
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
			t.Errorf("%d viewers before any asked for media", n)
		}
		c.do("HEAD", a)
		c.get("/live/movie/ts.m3u8")
		c.get("/live/movie/ts.m3u8?s=forged")
		if n := len(c.countedViewers()); n != 0 {
			t.Errorf("%d viewers of requests that count for none", n)
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
			t.Errorf("%d viewers after one fell silent, want 1", n)
		}
		sleep(time.Minute)
		if guests, clients := c.registrySizes(); guests+clients+len(c.countedViewers()) != 0 {
			t.Errorf("%d guests and %d clients left of viewers who are gone", guests, clients)
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
			t.Errorf("%d viewers, want the other", n)
		}
		sleep(kickRetention + time.Second)
		if guests, _ := c.registrySizes(); guests != 0 {
			t.Errorf("%d are remembered", guests)
		}
	})
}

func TestDrainWaitsForViewers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newTestServer(t, Options{}, stream.Options{})
		c.srv.Drain(t.Context()) // nobody is there
		c.write(c.publish(movie), 3*time.Second)
		synctest.Wait()
		patient, gone := c.tsPlaylistURL(), c.tsPlaylistURL()
		c.get(gone)
		sleep(time.Second)
		c.get(patient)
		c.hub.Close()
		go func() {
			sleep(2 * time.Second)
			if body := c.get(patient); lastLine(body) != "#EXT-X-ENDLIST" {
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
