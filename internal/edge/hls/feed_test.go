package hls

import (
	"bytes"
	"context"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"livego/internal/domain"
	"livego/internal/media"
	"livego/internal/stream"
)

// TestSegmentingPanicIsRetried makes segmenting panic while the stream is live. The process
// survives, and afterwards the playlist continues by the rules.
func TestSegmentingPanicIsRetried(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const pause = time.Second
		var log bytes.Buffer // read while the feed is idle
		failing := false     // written while the feed is idle
		c := newTestServer(t, Options{
			Log: slog.New(slog.NewTextHandler(&log, nil)),
			MarkUsed: func(uint64) {
				if failing {
					panic("segmenting fails")
				}
			},
		}, stream.Options{RestartPause: pause})
		p := c.publish(movie)
		c.write(p, 5*time.Second)
		synctest.Wait()
		url := c.tsPlaylistURL()

		failing = true
		c.write(p, 2*time.Second)
		synctest.Wait()
		if n := strings.Count(log.String(), "\n"); n != 1 || strings.Count(log.String(), "level=ERROR") != 1 ||
			!strings.Contains(log.String(), "feed_test.go") ||
			!strings.Contains(log.String(), "consumer=hls stream=live/movie") {
			t.Errorf("%d lines in the log:\n%s", n, log.String())
		}
		if _, files := segments(c.get(url)); len(files) != 2 {
			t.Errorf("after the panic: %v", files)
		}
		c.write(p, 5*time.Second)
		sleep(pause / 2)
		if n := strings.Count(log.String(), "\n"); n != 1 {
			t.Errorf("%d log lines before the retry", n)
		}

		failing = false
		sleep(pause)
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

// TestSegmentingThatKeepsFailingIsOff makes the segmenter of one stream panic at every segment, as a
// hostile stream might. HLS of that stream is then off, with a reason in the response, until the
// stream starts again. The stream itself and HLS of another stream continue.
func TestSegmentingThatKeepsFailingIsOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		failing := true // written while the feeds are idle
		var log bytes.Buffer
		c := newTestServer(t, Options{
			Log: slog.New(slog.NewTextHandler(&log, nil)),
			MarkUsed: func(seq uint64) { // the movie has epoch 100, the other stream 200
				if failing && seq < 200 {
					panic("segmenting fails")
				}
			},
		}, stream.Options{})
		p := c.publish(movie)
		other := c.publish(domain.Name{App: "live", Room: "other"})
		answer := c.getAsync("/live/movie.m3u8") // waits for the first segment
		for range 10 {
			c.write(p, 4*time.Second)
			c.at -= 4 * time.Second
			c.write(other, 4*time.Second)
			sleep(4 * time.Second)
		}
		if r := <-answer; r.w.Code != 503 {
			t.Errorf("a request from before: %d %s", r.w.Code, r.w.Body)
		}
		for _, path := range []string{"/live/movie.m3u8", "/live/movie/index.m3u8", "/live/movie/ts.m3u8"} {
			before := time.Now()
			if w := c.do("GET", path); w.Code != 503 || !strings.Contains(w.Body.String(), "HLS of live/movie has failed") ||
				time.Since(before) != 0 {
				t.Errorf("%s: %d %s after %v", path, w.Code, w.Body, time.Since(before))
			}
		}
		if in, _ := c.hub.Info(movie); len(in.Off) != 1 || in.Off[0] != "hls" || in.Frames == 0 || in.Held {
			t.Errorf("the stream: %+v", in)
		}
		if _, files := segments(c.get("/live/other/ts.m3u8")); len(files) < 5 {
			t.Errorf("the other stream: %v", files)
		}
		if n := strings.Count(log.String(), "\n"); n != 2 {
			t.Errorf("%d lines in the log:\n%s", n, log.String())
		}

		failing = false
		p.End(stream.Clean)
		p = c.publish(movie)
		c.write(p, 5*time.Second)
		if _, files := segments(c.get(c.tsPlaylistURL())); len(files) == 0 {
			t.Error("no segments of the next session")
		}
	})
}

// TestRequestBeforeFeed requests a stream that has started when its feed has not: the request waits
// for the feed.
func TestRequestBeforeFeed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newTestServer(t, Options{}, stream.Options{})
		late := New(c.hub, newFakeAuthorizer(), *c.srv.options())
		p := c.publish(movie)
		c.write(p, 5*time.Second)
		synctest.Wait()
		c.srv = late
		answer := c.getAsync("/live/movie.m3u8")
		synctest.Wait()
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() {
			defer close(done)
			late.Run(ctx)
		}()
		if r := <-answer; r.w.Code != 200 {
			t.Errorf("%d %s", r.w.Code, r.w.Body)
		}
		p.End(stream.Clean)
		stop()
		<-done
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
