package e2e

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"livego/e2e/essence"
	"livego/e2e/rig"
	"livego/e2e/rtmp"
	"livego/e2e/sample"
)

// TestStopWithViewers checks that SIGTERM gives every viewer a proper end.
func TestStopWithViewers(t *testing.T) {
	rig.Need(t, "ffmpeg")
	t.Parallel()
	s, src := rig.Start(t, rig.Options{}), load(t, sample.AV)
	push := s.PushTo(src.File(t), s.RTMP(s.Key("movie")), "-stream_loop", "-1")
	s.AwaitLive("movie")
	rtmp := watchRTMP(t, s.RTMP("movie"))
	waiting := waitRTMP(t, s.RTMP("nobody"))
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	flv := async(func() (*essence.FLVFile, error) { return watchFLV(ctx, rig.Client(), s.FLV("movie")) })
	src.awaitSeen(t, s, 2, 12)
	s.Stop()
	rtmp.OK(5 * time.Second)
	waiting.Wait(5 * time.Second)
	push.Wait(5 * time.Second)
	if got, err := flv(); err != nil {
		t.Errorf("HTTP-FLV: %v", err)
	} else if len(got.Tags) < 10 {
		t.Errorf("HTTP-FLV: %d tags", len(got.Tags))
	}
}

// TestNothingStays checks that no goroutine is left of a stream and its viewers.
func TestNothingStays(t *testing.T) {
	rig.Need(t, "ffmpeg")
	t.Parallel()
	s, src := rig.Start(t, rig.Options{Flags: []string{"--publish_hold=1s"}}), load(t, sample.AV)
	before := s.Goroutines()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	for _, room := range []string{"one", "two", "three"} {
		push := src.push(s, t, room)
		s.AwaitLive(room)
		viewer := watchRTMP(t, s.RTMP(room))
		flv := async(func() (*essence.FLVFile, error) { return watchFLV(ctx, rig.Client(), s.FLV(room)) })
		hls := async(func() (hlsView, error) { return watchHLS(ctx, rig.Client(), s.HLS(room)) })
		if room == "three" { // one that is lost rather than ended
			if _, err := mediaURL(ctx, rig.Client(), s.HLS(room)); err != nil {
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
	rig.Eventually(t, patience, "goroutines gone", func() error {
		if n := s.Goroutines(); n > before+2 {
			return fmt.Errorf("%d goroutines, %d before the first stream:\n%s", n, before, rig.Get(t, s.API("/debug/pprof/goroutine?debug=1")))
		}
		return nil
	})
}

// TestPublishedAgainWithoutMedia publishes a room that was watched before with an encoder that sends no media and leaves, while viewers
// ask for its playlists: they get what is kept.
func TestPublishedAgainWithoutMedia(t *testing.T) {
	rig.Need(t, "ffmpeg")
	t.Parallel()
	s, src := rig.Start(t, rig.Options{}), load(t, sample.AV)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	src.push(s, t, "movie").OK(patience)
	master := s.HLS("movie")
	playlists := []string{master, master + "?format=ts", strings.Replace(master, ".m3u8", "/index.m3u8", 1)}
	for range 3 {
		c, err := rtmp.Open(net.Dialer{}, s.Addr("rtmp_addr"), "live", patience)
		if err != nil {
			t.Fatal(err)
		}
		if err = c.Publish(s.Key("movie")); err == nil {
			err = c.Started("NetStream.Publish.Start", patience)
		}
		if err != nil {
			t.Fatal(err)
		}
		var answers []func() (int, error)
		for _, url := range playlists {
			answers = append(answers, async(func() (int, error) {
				resp, _, err := fetch(ctx, rig.Client(), url)
				if err != nil {
					return 0, err
				}
				return resp.StatusCode, nil
			}))
		}
		if err := c.Unpublish(s.Key("movie")); err != nil {
			t.Error(err)
		}
		c.NC.Close()
		for i, answer := range answers {
			if status, err := answer(); err != nil || status != http.StatusOK {
				t.Errorf("%s: HTTP %d, %v", playlists[i], status, err)
			}
		}
	}
}
