package browser

import (
	"fmt"
	"testing"
	"time"

	"livego/e2e/rig"
)

// A gopStream is a stream whose keyframes are so far apart.
type gopStream struct {
	gop   time.Duration
	sound bool
}

// encode pushes it to room, of fps pictures a second.
func (g gopStream) encode(t *testing.T, s *rig.Server, room, fps string) {
	args := []string{"-re", "-f", "lavfi", "-i", "testsrc2=size=160x90:rate=" + fps}
	if g.sound {
		args = append(args, "-re", "-f", "lavfi", "-i", "sine=440:r=44100", "-c:a", "aac")
	}
	keys := fmt.Sprintf("expr:gte(t,n_forced*%g)", g.gop.Seconds())
	rig.FFmpeg(t, append(args, "-c:v", "libx264", "-preset", "veryfast", "-pix_fmt", "yuv420p", "-g", "9999", "-sc_threshold", "0",
		"-force_key_frames", keys, "-f", "flv", s.RTMP(s.Key(room)))...)
	s.AwaitLive(room)
}

// TestLongGOP plays streams whose keyframes are seconds apart by hls.js, three players each, over a line on
// which each answer takes three quarters of a part. None of them stands still: hls.js stops for tens of seconds
// where it misses the last part of a segment, and it does so when the playlist with that comes while the part
// before is on its way.
func TestLongGOP(t *testing.T) {
	rig.Need(t, "ffmpeg")
	type run struct {
		part time.Duration
		fps  string
	}
	runs, watched := []run{{200 * time.Millisecond, "25"}}, 12*time.Second
	streams := []gopStream{{10 * time.Second, true}}
	if rig.Long() {
		watched = 60 * time.Second // ten segments of the longest
		runs, streams = nil, nil
		for _, part := range []time.Duration{100 * time.Millisecond, 200 * time.Millisecond, 330 * time.Millisecond} {
			for _, fps := range []string{"25", "30000/1001", "30"} {
				runs = append(runs, run{part, fps})
			}
		}
		for _, gop := range []time.Duration{5 * time.Second, 10 * time.Second, 17 * time.Second} {
			streams = append(streams, gopStream{gop, true}, gopStream{gop, false})
		}
	}
	for _, r := range runs {
		t.Run(fmt.Sprintf("%v at %s", r.part, r.fps), func(t *testing.T) {
			s := rig.Start(t, rig.Options{Plain: true, Flags: []string{"--hls_part=" + r.part.String()}})
			const players = 3
			var addresses []string
			for n, stream := range streams {
				room := fmt.Sprintf("movie%d", n)
				stream.encode(t, s, room, r.fps)
				for range players {
					addresses = append(addresses, fmt.Sprintf("%s#lag=%d", s.HLS(room), (r.part*3/4).Milliseconds()))
				}
			}
			neverStill(t, play(t, addresses...), watched)
		})
	}
}

// neverStill plays for so long on the players' clocks. None may fall back behind the clock on the wall by
// more than a moment.
func neverStill(t *testing.T, p players, watched time.Duration) {
	t.Helper()
	const most = 5 * time.Second // hls.js in a busy browser stops for less, and where it misses a part for longer
	began := map[int]state{}
	p.awaitFor(watched+patience, "playing", func(n int, s state) bool {
		first, ok := began[n]
		if !ok {
			if s.Time > 0.5 {
				began[n] = s
			}
			return false
		}
		played := time.Duration((s.Time - first.Time) * float64(time.Second))
		wall := time.Duration(s.Now-first.Now) * time.Millisecond
		if wall-played > most {
			t.Fatalf("player %d of %s has stood still for %v of %v: %+v", n, s.URL, wall-played, wall, s)
		}
		return wall >= watched
	})
}
