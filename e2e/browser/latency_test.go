package browser

import (
	"slices"
	"strings"
	"testing"
	"time"

	"livego/e2e/harness"
)

// The clock in the picture: 16 bits of the Unix time in ms at which the picture goes to the
// encoder, the lowest bit at the left, each bit as wide as a macroblock.
const (
	clockFilter = "settb=1/1000,setpts=RTCTIME/1000," +
		"geq=lum='255*mod(floor(1000*T/pow(2,X)),2)':cb=128:cr=128,scale=256:144:flags=neighbor,setsar=1,setpts=N*40"
	clockPeriod = 1 << 16 // ms
)

// latency returns the age of the picture that a player shows: by the clock in the picture, and by
// the time in the playlist.
func (s playerState) latency() (picture, playlist time.Duration) {
	ms := ((s.Now-s.Clock)%clockPeriod + clockPeriod) % clockPeriod
	return time.Duration(ms) * time.Millisecond, time.Duration(s.Now-s.Date) * time.Millisecond
}

// testHLSLatency plays a stream whose picture shows the encoder's clock by hls.js, and measures the
// latency. hls.js stays behind by the length of a stall, which this machine may have caused: the
// test tries three times, and more often on a busy machine. The player sends CMCD with its requests, by
// which the server counts it.
func testHLSLatency(t *testing.T) {
	harness.Need(t, "ffmpeg")
	const (
		maxLatency     = 1500 * time.Millisecond
		clockTolerance = 250 * time.Millisecond // tolerance of the times in the playlist
		tries          = 3
		tryLimit       = 30 * time.Second
	)
	s := harness.Start(t, harness.Options{NoRace: true})
	encodeClock(t, s.RTMP(s.Key("movie")))
	s.AwaitLive("movie")
	watch := harness.StartStopwatch()
	for n := 1; ; n++ {
		picture, off := measureLatency(play(t, s.HLS("movie")+"#cmcd"))
		t.Logf("latency %v by the clock in the picture, the playlist's times are off by %v", picture, off)
		if picture <= maxLatency && off <= clockTolerance {
			awaitReports(t, s, func(groups map[string]int, _ float64) bool {
				return len(groups) == 1 && groups["hls chrome"] >= 1
			})
			return
		}
		if n >= tries && watch.Exceeded(tryLimit) {
			t.Fatalf("want a latency of at most %v, and the playlist's times within %v", maxLatency, clockTolerance)
		}
	}
}

// encodeClock publishes one stream, whose picture shows the clock, to each of the URLs.
func encodeClock(t *testing.T, urls ...string) *harness.Process {
	t.Helper()
	return harness.FFmpeg(t, "-re", "-f", "lavfi", "-i", "color=size=16x2:rate=25", "-re", "-f", "lavfi", "-i",
		"sine=440:r=44100", "-map", "0:v", "-map", "1:a",
		"-vf", clockFilter, "-r", "25", "-c:v", "libx264", "-preset", "ultrafast", "-tune", "zerolatency", "-pix_fmt",
		"yuv420p", "-g", "50", "-flags", "+global_header",
		"-c:a", "aac", "-f", "tee", "[f=flv]"+strings.Join(urls, "|[f=flv]"))
}

// measureLatency returns the latency of p, which plays one stream, some seconds after its start,
// and the error of the times in the playlist: medians over five seconds.
func measureLatency(p players) (picture, off time.Duration) {
	p.t.Helper()
	const samples, settle = 25, 4 // of 200 ms each; in s
	pictures, offs := sampleLatency(p, samples, settle)
	slices.Sort(offs[0])
	return pictures[0][samples/2], offs[0][samples/2]
}

// sampleLatency returns the latency of each of p, in order, from settle seconds after the start on, and the
// errors of the times in the playlist. It stops the browser.
func sampleLatency(p players, samples int, settle float64) (pictures, offs [][]time.Duration) {
	p.t.Helper()
	from := p.awaitProgress("playing", nil, 256)
	pictures, offs = make([][]time.Duration, len(from)), make([][]time.Duration, len(from))
	last := make([]float64, len(from))
	p.await("enough samples", func(n int, s playerState) bool {
		if s.Time != last[n] && s.Time >= from[n].Time+settle {
			last[n] = s.Time
			a, b := s.latency()
			pictures[n], offs[n] = append(pictures[n], a), append(offs[n], (a-b).Abs())
		}
		return len(pictures[n]) >= samples
	})
	p.Kill()
	p.Wait(patience)
	for _, all := range pictures {
		slices.Sort(all)
	}
	return pictures, offs
}
