package resilience

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"livego/e2e/harness"
	"livego/e2e/sample"
)

// TestViewersAmongManyMatchSource has viewers of every protocol judged as in the table, the bytes
// of every frame, while a crowd watches the same stream: what the server sends to many at once is
// what it sends to one.
func TestViewersAmongManyMatchSource(t *testing.T) {
	harness.Need(t, "ffmpeg")
	many, lasts := 150, 3*time.Second
	if harness.Long() {
		many, lasts = 1500, 20*time.Second
	} else {
		t.Parallel()
	}
	// the machine may be too slow for so many, and not for the sampled
	s := harness.Start(t, harness.Options{NoRace: true, Flags: flags("--max_latency=10s")})
	sc := newScenario(t, s, "many")
	sc.addEarlyViewers()
	e := sc.startEncoder(loadClip(t, sample.Small))
	sc.awaitProgress(time.Second)
	bench := harness.Livego(t, t.TempDir(), nil, "bench", "--play-only", "--play", s.RTMP(sc.room), "--play",
		s.FLV(sc.room),
		"--play", "ws"+strings.TrimPrefix(s.FLV(sc.room), "http"), "-n", strconv.Itoa(many), "--join", "1s", "-d",
		lasts.String(), "--json")
	harness.Eventually(t, maxWait, "the crowd is there", func() error {
		if n := len(s.Stat().Players); n < many {
			return fmt.Errorf("%d viewers", n)
		}
		return nil
	})
	sc.addLateViewers()
	sc.awaitProgress(lasts / 2)
	bench.Wait(lasts + maxWait) // its exit code tells of a busy machine too
	e.unpublish()
	sc.checkViewers()
	var m benchReport
	if err := json.Unmarshal([]byte(bench.Stdout()), &m); err != nil {
		t.Fatalf("livego bench: %v: %q\n%s", err, bench.Stdout(), bench.Stderr())
	}
	if v := m.Viewers; v.Joined != many || v.Lost > 0 {
		t.Errorf("of the crowd of %d: %+v", many, v)
	}
}
