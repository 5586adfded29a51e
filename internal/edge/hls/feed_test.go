package hls

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"livego/internal/media"
	"livego/internal/stream"
)

// TestSegmentingPanicIsRetried makes segmenting panic repeatedly while the stream is live. The
// process survives, the log is not flooded, and afterwards the playlist continues by the rules.
func TestSegmentingPanicIsRetried(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer // read while the feed is idle
		failing := false     // written while the feed is idle
		c := newTestServer(t, Options{
			Log: slog.New(slog.NewTextHandler(&log, nil)),
			MarkUsed: func(uint64) {
				if failing {
					panic("segmenting fails")
				}
			},
		}, stream.Options{})
		p := c.publish(movie)
		c.write(p, 5*time.Second)
		synctest.Wait()
		url := c.tsPlaylistURL()

		failing = true
		c.write(p, 2*time.Second)
		synctest.Wait()
		if n := strings.Count(log.String(), "\n"); n != 1 || strings.Count(log.String(), "level=ERROR") != 1 ||
			!strings.Contains(log.String(), "feed_test.go") || !strings.Contains(log.String(), "stream=live/movie") {
			t.Errorf("%d lines in the log:\n%s", n, log.String())
		}
		if _, files := segments(c.get(url)); len(files) != 2 {
			t.Errorf("after the panic: %v", files)
		}
		c.write(p, 5*time.Second)
		sleep(feedRetry / 2)
		if n := strings.Count(log.String(), "\n"); n != 1 {
			t.Errorf("%d log lines before the retry", n)
		}

		failing = false
		sleep(feedRetry)
		c.write(p, 5*time.Second)
		synctest.Wait()
		body := c.get(url)
		first, files := segments(body)
		if first != 100 || len(files) < 4 || strings.Count(body, "#EXT-X-DISCONTINUITY\n") != 1 ||
			strings.Contains(body, "ENDLIST") {
			t.Errorf("after recovery:\n%s", body)
		}
		names := map[string]bool{}
		for _, file := range files {
			if names[file] {
				t.Errorf("%s is listed twice", file)
			}
			names[file] = true
			c.get("/live/movie/" + file)
		}
		if n := strings.Count(log.String(), "\n"); n != 1 {
			t.Errorf("%d lines in the log:\n%s", n, log.String())
		}
	})
}

func TestLongKeyframeIntervalIsLogged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer // read while the feed is idle
		c := newTestServer(t, Options{Log: slog.New(slog.NewTextHandler(&log, nil))}, stream.Options{})
		p := c.publish(movie)
		for i := range 45 * 25 {
			at := time.Duration(i) * 40 * ms
			f := &media.Frame{Track: h264, Meta: &media.Meta{HasVideo: true}, DTS: at, PTS: at, Arrived: time.Now(),
				Payload: []byte{0, 0, 0, 2, 0x41, 0x9a}}
			if i%250 == 0 {
				f.RAP, f.Payload = media.Keyframe, []byte{0, 0, 0, 2, 0x65, 0x88}
			}
			if err := p.Write(f); err != nil {
				t.Fatal(err)
			}
			if i%25 == 0 {
				synctest.Wait()
			}
		}
		if got := log.String(); strings.Count(got, "\n") != 1 || !strings.Contains(got, "level=WARN") ||
			!strings.Contains(got, `keyframe_interval=10s`) || !strings.Contains(got, "stream=live/movie") {
			t.Errorf("log:\n%s", got)
		}
	})
}
