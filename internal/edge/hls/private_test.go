package hls

import (
	"compress/gzip"
	"io"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// TestPrivatePlaylistCompression requests playlists of a private room: each has the session of its
// viewer only and is for no cache, and those above a size are compressed.
func TestPrivatePlaylistCompression(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newPrivateServer(t, Options{Window: 120})
		check := func(what, url string, compressed bool) {
			t.Helper()
			w := c.do("GET", url, "Accept-Encoding", "gzip")
			if got := w.Header().Get("Content-Encoding") == "gzip"; w.Code != 200 || got != compressed ||
				w.Header().Get("Cache-Control") != "no-store" || w.Header().Get("Etag") != "" {
				t.Errorf("%s: %d %v", what, w.Code, w.Header())
			}
			plain := c.get(url)
			if compressed {
				z, err := gzip.NewReader(w.Body)
				if err != nil {
					t.Fatal(err)
				}
				if b, err := io.ReadAll(z); err != nil || string(b) != plain {
					t.Errorf("%s: decompressed, %v:\n%s", what, err, b)
				}
			}
			_, session, _ := strings.Cut(url, "?")
			if n := strings.Count(plain, ".ts?"); n == 0 || n != strings.Count(plain, "?"+session+"\n") {
				t.Errorf("%s: %d URIs in\n%s", what, n, plain)
			}
		}
		first, second := c.openSession("good"), c.openSession("good")
		check("short playlist", first, false)
		for range 45 {
			c.write(c.movie, 5*time.Second)
			synctest.Wait()
		}
		check("long playlist", first, true)
		check("long playlist of another viewer", second, true)
	})
}
