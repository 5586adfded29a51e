package e2e

import (
	"context"
	"fmt"
	"testing"
	"time"

	"livego/e2e/essence"
	"livego/e2e/rig"
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
	awaitPlayers(t, s, 2)
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
