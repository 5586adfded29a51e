package e2e

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"livego/e2e/harness"
	"livego/e2e/mediacompare"
	"livego/e2e/rtmp"
	"livego/e2e/sample"
)

// TestShutdownEndsViewersCleanly checks that on SIGTERM each viewer's stream ends cleanly.
func TestShutdownEndsViewersCleanly(t *testing.T) {
	harness.Need(t, "ffmpeg")
	t.Parallel()
	s, src := harness.Start(t, harness.Options{}), load(t, sample.AV)
	push := s.PushTo(src.File(t), s.RTMP(s.Key("movie")), "-stream_loop", "-1")
	s.AwaitLive("movie")
	rtmp := watchRTMP(t, s.RTMP("movie"))
	waiting := watchRTMPEarly(t, s.RTMP("nobody"))
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	flv := async(func() (*mediacompare.FLVFile, error) { return watchFLV(ctx, harness.Client(), s.FLV("movie")) })
	src.awaitReceived(t, s, 2, 12)
	s.Stop()
	rtmp.WaitOK(5 * time.Second)
	waiting.Wait(5 * time.Second)
	push.Wait(5 * time.Second)
	if got, err := flv(); err != nil {
		t.Errorf("HTTP-FLV: %v", err)
	} else if len(got.Tags) < 10 {
		t.Errorf("HTTP-FLV: %d tags", len(got.Tags))
	}
}

// TestNoGoroutineLeft checks that no goroutine of a stream or its viewers remains.
func TestNoGoroutineLeft(t *testing.T) {
	harness.Need(t, "ffmpeg")
	t.Parallel()
	s, src := harness.Start(t, harness.Options{Flags: []string{"--publish_hold=1s"}}), load(t, sample.AV)
	before := s.Goroutines()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	for _, room := range []string{"one", "two", "three"} {
		push := src.push(s, t, room)
		s.AwaitLive(room)
		viewer := watchRTMP(t, s.RTMP(room))
		flv := async(func() (*mediacompare.FLVFile, error) { return watchFLV(ctx, harness.Client(), s.FLV(room)) })
		hls := async(func() (hlsView, error) { return watchHLS(ctx, harness.Client(), s.HLS(room)) })
		if room == "three" { // one encoder is lost instead of ended
			if _, err := mediaURL(ctx, harness.Client(), s.HLS(room)); err != nil {
				t.Error(err)
			}
			awaitPlayers(t, s, 3)
			push.Kill()
		}
		push.Wait(patience)
		viewer.Wait(patience)
		if _, err := flv(); err != nil {
			t.Errorf("HTTP-FLV: %v", err)
		}
		if _, err := hls(); err != nil {
			t.Errorf("HLS: %v", err)
		}
	}
	harness.Eventually(t, patience, "goroutines have exited", func() error {
		if n := s.Goroutines(); n > before+2 {
			return fmt.Errorf("%d goroutines, %d before the first stream:\n%s", n, before,
				harness.Get(t, s.API("/debug/pprof/goroutine?debug=1")))
		}
		return nil
	})
}

// TestRepublishWithoutMediaKeepsPlaylists publishes a room again by an encoder that sends no media
// and leaves, while viewers request its playlists: they get the playlists of the stream before.
func TestRepublishWithoutMediaKeepsPlaylists(t *testing.T) {
	harness.Need(t, "ffmpeg")
	t.Parallel()
	s, src := harness.Start(t, harness.Options{}), load(t, sample.AV)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	src.push(s, t, "movie").WaitOK(patience)
	master := s.HLS("movie")
	playlists := []string{master, master + "?format=ts", strings.Replace(master, ".m3u8", "/index.m3u8", 1)}
	for range 3 {
		c, err := rtmp.Dial(net.Dialer{}, s.Addr("rtmp_addr"), "live", patience)
		if err != nil {
			t.Fatal(err)
		}
		if err = c.Publish(s.Key("movie")); err == nil {
			err = c.AwaitStart("NetStream.Publish.Start", patience)
		}
		if err != nil {
			t.Fatal(err)
		}
		var answers []func() (int, error)
		for _, url := range playlists {
			answers = append(answers, async(func() (int, error) {
				resp, _, err := fetch(ctx, harness.Client(), url)
				if err != nil {
					return 0, err
				}
				return resp.StatusCode, nil
			}))
		}
		if err := c.Unpublish(s.Key("movie")); err != nil {
			t.Error(err)
		}
		c.NetConn.Close()
		for i, answer := range answers {
			if status, err := answer(); err != nil || status != http.StatusOK {
				t.Errorf("%s: HTTP %d, %v", playlists[i], status, err)
			}
		}
	}
}
