package e2e

import (
	"context"
	"fmt"
	"testing"
	"time"

	"livego/e2e/harness"
	"livego/e2e/mediacompare"
	"livego/e2e/sample"
)

// TestPublisherReconnectKeepsViewers kills the encoder and starts it again: viewers by every
// protocol stay connected and get one continuous stream.
func TestPublisherReconnectKeepsViewers(t *testing.T) {
	harness.Need(t, "ffmpeg")
	t.Parallel()
	s, src := harness.Start(t, harness.Options{}), load(t, sample.AV)
	first := s.PushTo(src.File(t), s.RTMP(s.Key("movie")), "-stream_loop", "-1")
	s.AwaitLive("movie")
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	rtmp := watchRTMP(t, s.RTMP("movie"))
	flv := async(func() (*mediacompare.FLVFile, error) { return watchFLV(ctx, harness.Client(), s.FLV("movie")) })
	hls := async(func() (hlsView, error) { return watchHLS(ctx, harness.Client(), s.HLS("movie")) })
	src.awaitReceived(t, s, 3, 12)
	first.Kill()
	first.Wait(patience)
	second := src.push(s, t, "movie")
	second.WaitOK(patience)

	checkReconnect(t, "RTMP", src.packets, frames(t, rtmp))
	if file, err := flv(); err != nil {
		t.Errorf("HTTP-FLV: %v", err)
	} else if got, err := file.Packets(); err != nil {
		t.Errorf("HTTP-FLV: %v", err)
	} else {
		checkReconnect(t, "HTTP-FLV", src.packets, got)
	}
	if got, err := hls(); err != nil {
		t.Errorf("HLS: %v", err)
	} else {
		if got.discontinuities != 1 {
			t.Errorf("HLS: %d discontinuities, want 1", got.discontinuities)
		}
		checkReconnect(t, "HLS", src.decoderUnits, got.units)
	}
}

// checkReconnect checks that got is a part of a first push and then the whole of a second one, on
// one time line without gaps or backward steps.
func checkReconnect(t *testing.T, label string, want, got mediacompare.Stream) {
	t.Helper()
	video := got.Of(mediacompare.Video)
	pictures := len(want.Of(mediacompare.Video))
	if len(video) < pictures+10 {
		t.Errorf("%s: %d pictures, want more than the %d of the second push", label, len(video), pictures)
		return
	}
	join := video[len(video)-pictures].DTS
	second := mediacompare.Stream{}
	for _, u := range got {
		if u.DTS >= join {
			second = append(second, u)
		}
	}
	if m, err := mediacompare.Compare(want, second, mediacompare.TSTick); err != nil {
		t.Errorf("%s: after the reconnect: %v", label, err)
	} else if m.Video.First != 0 || m.Video.Missing() != 0 || m.Audio.Missing() != 0 {
		t.Errorf("%s: after the reconnect: %+v", label, m)
	}
	if err := checkSteps(video, 100*time.Millisecond); err != nil {
		t.Errorf("%s: video: %v", label, err)
	}
	if err := checkSteps(got.Of(mediacompare.Audio), 100*time.Millisecond); err != nil {
		t.Errorf("%s: audio: %v", label, err)
	}
}

// checkSteps checks that DTS never goes back and never steps by more than most.
func checkSteps(s mediacompare.Stream, most time.Duration) error {
	for i := 1; i < len(s); i++ {
		if step := s[i].DTS - s[i-1].DTS; step < 0 || step > most {
			return fmt.Errorf("DTS steps by %v from unit %d (%v) to the next (%v)", step, i-1, s[i-1], s[i])
		}
	}
	return nil
}
