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

// TestViewersAmongManyMatchSource checks viewers of every protocol as in the table, every frame of
// them, while many others watch the same stream: the server sends the same to many as to one.
func TestViewersAmongManyMatchSource(t *testing.T) {
	harness.Need(t, "ffmpeg")
	many, duration := 150, 3*time.Second
	if harness.Long() {
		many, duration = 1500, 20*time.Second
	} else {
		t.Parallel()
	}
	// The machine may be too slow for so many viewers, and not for the checked ones.
	s := harness.Start(t, harness.Options{NoRace: true, Flags: flags("--max_latency=10s")})
	sc := newScenario(t, s, "many")
	sc.addEarlyViewers()
	e := sc.startEncoder(loadClip(t, sample.Small))
	sc.awaitProgress(time.Second)
	bench := harness.Livego(t, t.TempDir(), nil, "bench", "--play-only", "--play", s.RTMP(sc.room), "--play",
		s.FLV(sc.room),
		"--play", "ws"+strings.TrimPrefix(s.FLV(sc.room), "http"), "-n", strconv.Itoa(many), "--join", "1s", "-d",
		duration.String(), "--json")
	harness.Eventually(t, maxWait, "all viewers have joined", func() error {
		if n := len(s.Stat().Players); n < many {
			return fmt.Errorf("%d viewers", n)
		}
		return nil
	})
	sc.addLateViewers()
	sc.awaitProgress(duration / 2)
	bench.Wait(duration + maxWait) // its exit code also reports a busy machine
	e.unpublish()
	sc.checkViewers()
	var m benchReport
	if err := json.Unmarshal([]byte(bench.Stdout()), &m); err != nil {
		t.Fatalf("livego bench: %v: %q\n%s", err, bench.Stdout(), bench.Stderr())
	}
	if v := m.Viewers; v.Joined != many || v.Lost > 0 {
		t.Errorf("of %d viewers: %+v", many, v)
	}
}
