package browser

import (
	"strings"
	"testing"

	"livego/e2e/harness"
)

// testSlowCameraPlays plays a camera without sound that sends one picture a second, and a keyframe
// every four seconds, by hls.js: it plays on, and no request times out. It would if the playlist
// announced parts that do not come when it says.
func testSlowCameraPlays(t *testing.T) {
	harness.Need(t, "ffmpeg")
	s := harness.Start(t, harness.Options{NoRace: true})
	harness.FFmpeg(t, "-re", "-f", "lavfi", "-i", "testsrc2=size=160x90:rate=1", "-c:v", "libx264", "-preset", "veryfast",
		"-tune", "zerolatency", "-pix_fmt", "yuv420p", "-g", "4", "-sc_threshold", "0", "-f", "flv", s.RTMP(s.Key("camera")))
	s.AwaitLive("camera")
	p := play(t, s.HLS("camera"))
	began := p.await("playing", func(_ int, s playerState) bool { return s.Time > 0.5 && s.Frames > 0 })[0]
	const watched = 10 // s, more than two segments
	last := p.await("ten seconds more", func(_ int, s playerState) bool { return s.Time > began.Time+watched })[0]
	for _, e := range last.Errors {
		if strings.Contains(e, "TimeOut") {
			t.Errorf("hls.js reports %q", last.Errors)
			break
		}
	}
	if took := float64(last.Now-began.Now) / 1000; took > watched+8 || last.Frames < began.Frames+watched-3 {
		t.Errorf("%d s took %.1f s, with %d pictures: %+v", watched, took, last.Frames-began.Frames, last)
	}
}
