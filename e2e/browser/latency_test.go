package browser

import (
	"slices"
	"testing"
	"time"

	"livego/e2e/harness"
)

// The clock in the picture: 16 bits of the Unix time in ms at which it goes to the encoder, the
// lowest at the left, each as wide as a macroblock.
const (
	clockFilter = "settb=1/1000,setpts=RTCTIME/1000,geq=lum='255*mod(floor(1000*T/pow(2,floor(X/16))),2)':cb=128:cr=128,setpts=N*40"
	clockPeriod = 1 << 16 // ms
)

// latency returns how long ago the picture was made that a player shows, and that is so by the time in the playlist.
func (s playerState) latency() (picture, playlist time.Duration) {
	ms := ((s.Now-s.Clock)%clockPeriod + clockPeriod) % clockPeriod
	return time.Duration(ms) * time.Millisecond, time.Duration(s.Now-s.Date) * time.Millisecond
}

// TestHLSLatency plays a stream whose picture shows the encoder's clock by hls.js as it comes, and
// looks at how late that is. hls.js stays behind by what it stalled once, which may be this
// machine's fault: it has three tries.
func TestHLSLatency(t *testing.T) {
	harness.Need(t, "ffmpeg")
	const (
		most   = 1500 * time.Millisecond
		honest = 250 * time.Millisecond // how far the times in the playlist may be off
		tries  = 3
	)
	s := harness.Start(t, harness.Options{NoRace: true})
	harness.FFmpeg(t, "-re", "-f", "lavfi", "-i", "color=size=256x144:rate=25", "-re", "-f", "lavfi", "-i",
		"sine=440:r=44100",
		"-vf", clockFilter, "-r", "25", "-c:v", "libx264", "-preset", "ultrafast", "-tune", "zerolatency", "-pix_fmt",
		"yuv420p", "-g", "50",
		"-c:a", "aac", "-f", "flv", s.RTMP(s.Key("movie")))
	s.AwaitLive("movie")
	for n := 1; ; n++ {
		picture, off := measureLatency(play(t, s.HLS("movie")))
		t.Logf("%v behind by the clock in the picture, which the playlist has to within %v", picture, off)
		if picture <= most && off <= honest {
			return
		}
		if n == tries {
			t.Fatalf("want %v at most, and the playlist's times to within %v", most, honest)
		}
	}
}

// measureLatency returns how far behind the encoder p, who plays one stream, is some seconds after
// he has begun, and how far the times in the playlist are off: medians of five seconds.
func measureLatency(p players) (picture, off time.Duration) {
	p.t.Helper()
	const samples, settle = 25, 4 // of 200 ms each; s
	from := p.awaitProgress("playing", nil, 256)[0].Time
	last := from
	var pictures, offs []time.Duration
	p.await("some seconds of it", func(_ int, s playerState) bool {
		if s.Time == last || s.Time < from+settle {
			return false
		}
		last = s.Time
		a, b := s.latency()
		pictures, offs = append(pictures, a), append(offs, (a-b).Abs())
		return len(pictures) >= samples
	})
	p.Kill()
	p.Wait(patience)
	slices.Sort(pictures)
	slices.Sort(offs)
	return pictures[samples/2], offs[samples/2]
}
