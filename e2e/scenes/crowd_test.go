package scenes

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"livego/e2e/rig"
	"livego/e2e/sample"
)

// TestSampledAmongMany has viewers of every protocol judged as in the table, the bytes of every frame, while a crowd watches the same
// stream: what the server sends to many at once is what it sends to one.
func TestSampledAmongMany(t *testing.T) {
	rig.Need(t, "ffmpeg")
	many, lasts := 150, 3*time.Second
	if rig.Long() {
		many, lasts = 1500, 20*time.Second
	} else {
		t.Parallel()
	}
	s := rig.Start(t, rig.Options{Plain: true, Flags: flags("--max_latency=10s")}) // the machine may be too slow for so many, and not for the sampled
	sc := newScene(t, s, "many")
	sc.early()
	e := sc.encode(load(t, sample.Small))
	sc.flows(time.Second)
	bench := rig.Livego(t, t.TempDir(), nil, "bench", "--play-only", "--play", s.RTMP(sc.room), "--play", s.FLV(sc.room),
		"--play", "ws"+strings.TrimPrefix(s.FLV(sc.room), "http"), "-n", strconv.Itoa(many), "--join", "1s", "-d", lasts.String(), "--json")
	rig.Eventually(t, patience, "the crowd is there", func() error {
		if n := len(s.Stat().Players); n < many {
			return fmt.Errorf("%d viewers", n)
		}
		return nil
	})
	sc.late()
	sc.flows(lasts / 2)
	bench.Wait(lasts + patience) // its exit code tells of a busy machine too
	e.goodbye()
	sc.judge()
	var m measured
	if err := json.Unmarshal([]byte(bench.Stdout()), &m); err != nil {
		t.Fatalf("livego bench: %v: %q\n%s", err, bench.Stdout(), bench.Stderr())
	}
	if v := m.Viewers; v.Joined != many || v.Lost > 0 {
		t.Errorf("of the crowd of %d: %+v", many, v)
	}
}
