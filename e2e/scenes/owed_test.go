package scenes

import (
	"math/rand/v2"
	"time"

	"livego/e2e/sample"
)

// owedRows are promises that the server does not keep yet.
func owedRows() []row {
	const fewest = 60_000 // bytes a second, of a stream of four times as many
	// wild plays time stamps that say nothing: what counts is when frames come.
	wild := func(stamp func(ms int64) int64) func(*scene) {
		return func(sc *scene) {
			sc.gap, sc.lasts, sc.mostJoins = 700*time.Millisecond, 3*time.Second, 3
			sc.early()
			e := sc.encodeWith(load(sc.t, sample.Small), stamp)
			sc.flows(time.Second)
			sc.late()
			sc.flows(2500 * time.Millisecond)
			e.goodbye()
		}
	}
	return []row{
		{"F09 both", changed(1, 4, func(_, large *clip) *clip { return large.from(10 * time.Second) })},
		{"F17 all times 0", wild(func(int64) int64 { return 0 })},
		{"F17 all times equal", wild(func(int64) int64 { return 5_000_000 })},
		{"F17 random times", wild(func(int64) int64 { return int64(rand.Uint32()) })},
		{"F30 slow viewers", func(sc *scene) {
			sc.early()
			var slow []*viewer
			for _, proto := range []string{"rtmp", "flv", "ws"} {
				v := newViewer(proto, "slow")
				v.tap = newTap(wideOpen)
				slow = append(slow, v)
				sc.add(v)
			}
			e := sc.encode(load(sc.t, sample.Heavy))
			sc.flows(1500 * time.Millisecond)
			sc.viewers = sc.viewers[:len(all())]
			for _, v := range slow {
				v.tap.turn(fewest)
			}
			sc.flows(6 * time.Second)
			for _, v := range slow {
				v.tap.turn(wideOpen)
			}
			sc.flows(2 * time.Second)
			e.goodbye()
			for _, v := range slow {
				v.wait(sc.t)
				sc.judgeSlow(v)
			}
		}},
	}
}

// judgeSlow looks at what a viewer received who could not take all of it for a while: whole pieces, and nothing too old.
func (sc *scene) judgeSlow(v *viewer) {
	sc.t.Helper()
	late, seen := sc.delay(v)
	sc.t.Logf("%v: %d frames, the latest %v late", v, seen, late)
	gap, missing := sc.gap, sc.missing
	sc.gap, sc.missing = patience, len(sc.log)
	sc.judgeViewer(v)
	sc.gap, sc.missing = gap, missing
	if all := len(sc.log); seen > all*9/10 {
		sc.t.Errorf("%v: he got %d of %d frames: was he slow?", v, seen, all)
	}
	// max_latency, a second for what is under way, and the age of the keyframe that he is moved to.
	if most := 1500*time.Millisecond + 2*time.Second; late > most {
		sc.t.Errorf("%v: a frame came %v late, want at most %v", v, late, most)
	}
}

// delay returns how long after it was sent the latest frame came to v, and how many did.
func (sc *scene) delay(v *viewer) (late time.Duration, seen int) {
	sentAt := map[string]time.Time{}
	sc.mu.Lock()
	for _, s := range sc.log {
		sentAt[string(s.tag.Body)] = s.at
	}
	sc.mu.Unlock()
	for _, t := range v.tags {
		if at, ok := sentAt[string(t.Body)]; ok {
			seen++
			late = max(late, t.at.Sub(at))
		}
	}
	return late, seen
}
