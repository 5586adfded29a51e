package browser

import (
	"slices"
	"testing"
	"time"

	"livego/e2e/rig"
)

// The clock in the picture: 16 bits of the Unix time in ms at which it goes to the encoder, the lowest at the left, each as wide as a
// macroblock.
const (
	clockFilter = "settb=1/1000,setpts=RTCTIME/1000,geq=lum='255*mod(floor(1000*T/pow(2,floor(X/16))),2)':cb=128:cr=128,setpts=N*40"
	clockTurn   = 1 << 16 // ms
)

// behind returns how long ago the picture was made that a player shows, and that is so by the time in the playlist.
func (s state) behind() (picture, playlist time.Duration) {
	ms := ((s.Now-s.Clock)%clockTurn + clockTurn) % clockTurn
	return time.Duration(ms) * time.Millisecond, time.Duration(s.Now-s.Date) * time.Millisecond
}

// TestLatency plays a stream whose picture shows the encoder's clock by hls.js as it comes, and looks at how late that is.
func TestLatency(t *testing.T) {
	rig.Need(t, "ffmpeg")
	const (
		most    = 1500 * time.Millisecond
		honest  = 250 * time.Millisecond // how far the times in the playlist may be off
		samples = 25                     // of 200 ms each
	)
	s := rig.Start(t, rig.Options{Plain: true})
	rig.FFmpeg(t, "-re", "-f", "lavfi", "-i", "color=size=256x144:rate=25", "-re", "-f", "lavfi", "-i", "sine=440:r=44100",
		"-vf", clockFilter, "-r", "25", "-c:v", "libx264", "-preset", "ultrafast", "-tune", "zerolatency", "-pix_fmt", "yuv420p", "-g", "50", "-c:a", "aac",
		"-f", "flv", s.RTMP(s.Key("movie")))
	s.AwaitLive("movie")
	p := play(t, s.HLS("movie"))
	from := p.goOn("playing", nil, 256)[0].Time

	var picture, playlist, off []time.Duration
	p.await("some seconds of it", func(_ int, s state) bool {
		if s.Time == from || s.Time < 4 {
			return false
		}
		from = s.Time
		a, b := s.behind()
		picture, playlist, off = append(picture, a), append(playlist, b), append(off, (a-b).Abs())
		return len(picture) >= samples
	})
	for _, l := range [][]time.Duration{picture, playlist, off} {
		slices.Sort(l)
	}
	t.Logf("median %v, at most %v, by the playlist %v", picture[samples/2], picture[samples-1], playlist[samples/2])
	if m := picture[samples/2]; m > most {
		t.Errorf("%v behind the encoder, want %v at most", m, most)
	}
	if m := off[samples/2]; m > honest {
		t.Errorf("the time in the playlist is %v off", m)
	}
}
