package browser

import (
	"fmt"
	"testing"
	"time"

	"livego/e2e/harness"
)

// A gopStream is a stream whose keyframes are gop apart.
type gopStream struct {
	gop   time.Duration
	sound bool
}

// encode publishes the stream to room, with fps pictures a second.
func (g gopStream) encode(t *testing.T, s *harness.Server, room, fps string) {
	args := []string{"-re", "-f", "lavfi", "-i", "testsrc2=size=160x90:rate=" + fps}
	if g.sound {
		args = append(args, "-re", "-f", "lavfi", "-i", "sine=440:r=44100", "-c:a", "aac")
	}
	keys := fmt.Sprintf("expr:gte(t,n_forced*%g)", g.gop.Seconds())
	harness.FFmpeg(t, append(args, "-c:v", "libx264", "-preset", "veryfast", "-pix_fmt", "yuv420p", "-g", "9999",
		"-sc_threshold", "0",
		"-force_key_frames", keys, "-f", "flv", s.RTMP(s.Key(room)))...)
	s.AwaitLive(room)
}

// testLongGOPDoesNotStall plays streams whose keyframes are seconds apart by hls.js, with three
// players each. No player stalls: hls.js stops for tens of seconds if it misses the last part of a
// segment. That happens when the segment is listed while the worker of hls.js still has the part
// before the last one. The workers are slowed down, so that this is the case for three quarters of
// a part's duration.
func testLongGOPDoesNotStall(t *testing.T) {
	harness.Need(t, "ffmpeg")
	type run struct {
		part time.Duration
		fps  string
	}
	runs, gops, watched := []run{{200 * time.Millisecond, "25"}}, []time.Duration{10 * time.Second}, 14*time.Second
	if harness.Long() {
		watched = 60 * time.Second // ten segments with the longest GOP
		gops = []time.Duration{5 * time.Second, 10 * time.Second, 17 * time.Second}
		runs = nil
		for _, part := range []time.Duration{100 * time.Millisecond, 200 * time.Millisecond, 330 * time.Millisecond} {
			for _, fps := range []string{"25", "30000/1001", "30"} {
				runs = append(runs, run{part, fps})
			}
		}
	}
	for _, r := range runs {
		for _, gop := range gops {
			t.Run(fmt.Sprintf("%v parts at %s, GOP %v", r.part, r.fps, gop), func(t *testing.T) {
				s := harness.Start(t, harness.Options{NoRace: true, Flags: []string{"--hls_part=" + r.part.String()}})
				streams := []gopStream{{gop, true}}
				if harness.Long() {
					streams = append(streams, gopStream{gop, false})
				}
				slow := r.part * 3 / 4
				const players = 3
				var addresses []string
				for n, stream := range streams {
					room := fmt.Sprintf("movie%d", n)
					stream.encode(t, s, room, r.fps)
					for range players {
						addresses = append(addresses, fmt.Sprintf("%s#slow=%d", s.HLS(room), slow.Milliseconds()))
					}
				}
				checkNoStall(t, play(t, addresses...), watched)
			})
		}
	}
}

// checkNoStall observes the players for this time after all have started. No player may stall for
// longer than a busy browser does, nor, on a busy machine, for as long as one that waits for a part
// that never comes.
func checkNoStall(t *testing.T, p players, watched time.Duration) {
	t.Helper()
	const most, mostBusy = 7 * time.Second, 15 * time.Second
	began, moved, watches := map[int]playerState{}, map[int]playerState{}, map[int]harness.Stopwatch{}
	p.awaitFor(watched+patience, "playing", func(n int, s playerState) bool {
		if _, ok := began[n]; !ok {
			if s.Time > 0.5 {
				began[n], moved[n], watches[n] = s, s, harness.StartStopwatch()
			}
			return false
		}
		since := func(from playerState) time.Duration { return time.Duration(s.Now-from.Now) * time.Millisecond }
		if s.Time > moved[n].Time {
			moved[n], watches[n] = s, harness.StartStopwatch()
		}
		_, ours := watches[n].Elapsed()
		if still := since(moved[n]); still > mostBusy || still > most && ours > most {
			t.Fatalf("player %d of %s has stalled for %v: %+v", n, s.URL, still, s)
		}
		return since(began[n]) >= watched
	})
}
