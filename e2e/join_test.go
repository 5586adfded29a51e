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

// TestEncoderComesBack kills the encoder and starts it again: viewers of every protocol stay, and see one stream whose time goes on.
func TestEncoderComesBack(t *testing.T) {
	rig.Need(t, "ffmpeg")
	t.Parallel()
	s, src := rig.Start(t, rig.Options{}), load(t, sample.AV)
	first := s.PushTo(src.File(t), s.RTMP(s.Key("movie")), "-stream_loop", "-1")
	s.AwaitLive("movie")
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	rtmp := watchRTMP(t, s.RTMP("movie"))
	flv := async(func() (*essence.FLVFile, error) { return watchFLV(ctx, rig.Client(), s.FLV("movie")) })
	hls := async(func() (hlsView, error) { return watchHLS(ctx, rig.Client(), s.HLS("movie")) })
	src.awaitSeen(t, s, 3, 12)
	first.Kill()
	first.Wait(patience)
	second := src.push(s, t, "movie")
	second.OK(patience)

	checkJoin(t, "RTMP", src.packets, frames(t, rtmp))
	if file, err := flv(); err != nil {
		t.Errorf("HTTP-FLV: %v", err)
	} else if got, err := file.Packets(); err != nil {
		t.Errorf("HTTP-FLV: %v", err)
	} else {
		checkJoin(t, "HTTP-FLV", src.packets, got)
	}
	if got, err := hls(); err != nil {
		t.Errorf("HLS: %v", err)
	} else {
		if got.joins != 1 {
			t.Errorf("HLS: %d discontinuities, want one", got.joins)
		}
		checkJoin(t, "HLS", src.essence, got.units)
	}
}

// checkJoin checks that got is something of a first push and then the whole of a second one, on one clock without a hole or a step
// back.
func checkJoin(t *testing.T, who string, want, got essence.Stream) {
	t.Helper()
	video := got.Of(essence.Video)
	pictures := len(want.Of(essence.Video))
	if len(video) < pictures+10 {
		t.Errorf("%s: %d pictures, want more than the %d of the second push", who, len(video), pictures)
		return
	}
	join := video[len(video)-pictures].DTS
	second := essence.Stream{}
	for _, u := range got {
		if u.DTS >= join {
			second = append(second, u)
		}
	}
	if m, err := essence.Compare(want, second, essence.TSTick); err != nil {
		t.Errorf("%s: after the join: %v", who, err)
	} else if m.Video.First != 0 || m.Video.Missing() != 0 || m.Audio.Missing() != 0 {
		t.Errorf("%s: after the join: %+v", who, m)
	}
	if err := steady(video, 100*time.Millisecond); err != nil {
		t.Errorf("%s: video: %v", who, err)
	}
	if err := steady(got.Of(essence.Audio), 100*time.Millisecond); err != nil {
		t.Errorf("%s: audio: %v", who, err)
	}
}

// steady checks that time goes forward, by no more than most a step.
func steady(s essence.Stream, most time.Duration) error {
	for i := 1; i < len(s); i++ {
		if step := s[i].DTS - s[i-1].DTS; step < 0 || step > most {
			return fmt.Errorf("a step of %v from number %d (%v) to the next (%v)", step, i-1, s[i-1], s[i])
		}
	}
	return nil
}
