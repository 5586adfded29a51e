package hls

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"livego/internal/deliver/segment"
	"livego/internal/stream"
)

// TestStatistics counts what is made and rendered, and the requests that wait.
func TestStatistics(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newLowLatencyServer(t, stream.Options{})
		p := c.publish(movie)
		c.write(p, 5*time.Second)
		synctest.Wait()
		url := c.fmp4PlaylistURL()
		c.get(url)
		synctest.Wait() // the feed completes the parts so far
		_, files := segments(c.get(url))
		for range 2 {
			c.get("/live/movie/" + strings.TrimSuffix(files[0], ".m4s") + ".0.m4s")
			c.get("/live/movie/" + files[0])
		}
		want := Statistics{Counts: segment.Counts{Segments: 2, Parts: 24, RenderedSegments: 1, RenderedParts: 1}}
		if got := c.srv.Statistics(); got != want {
			t.Errorf("%+v, want %+v", got, want)
		}
		last := want
		last.Blocked, last.BlockedTotal = 1, 1
		next := c.getAsync(url + "&_HLS_msn=102&_HLS_part=6")
		synctest.Wait()
		if got := c.srv.Statistics(); got != last {
			t.Errorf("while a request waits: %+v, want %+v", got, last)
		}
		if r := <-next; r.w.Code != 503 { // after three target durations without a frame
			t.Errorf("%d %s", r.w.Code, r.w.Body)
		}
		last.Blocked, last.BlockedTimeouts = 0, 1
		if got := c.srv.Statistics(); got.Blocked != 0 || got.BlockedTotal != 1 || got.BlockedTimeouts != 1 {
			t.Errorf("after the time-out: %+v", got)
		}
	})
}
