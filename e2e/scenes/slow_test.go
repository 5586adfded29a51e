package scenes

import "time"

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
	// max_latency, the age of the keyframe that he is moved to, and the rest for what is under way on a machine that plays thirty scenes.
	if most := 1500*time.Millisecond + time.Second + 2500*time.Millisecond; late > most {
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
