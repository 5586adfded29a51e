package app

import (
	"context"
	"runtime"
	"sync/atomic"
	"time"

	"livego/internal/config"
)

// How long frames are gathered. Not at all for a few viewers, where nothing is to be saved; then a millisecond for each ten, up to
// 45 ms, where a viewer costs a third of what he costs by the frame and half of all frames are still seen within 40 ms. A server
// whose processors are busy otherwise, with many streams, gathers for few viewers too.
const (
	gatherMost     = 45 * time.Millisecond
	gatherFrom     = 50 // viewers of one stream by one protocol
	gatherByViewer = time.Millisecond / 10
	busyFrom       = 0.5 // of the processors
	busyMost       = 0.9 // at which frames are gathered as long as for hundreds of viewers
	// Nobody sees sound before the picture, and there is more of it: from soundWaits of the processors on, and where there are many
	// viewers, it waits for the window that the next picture opens, as long as pictures come that often.
	soundWaits = 0.25
	soundMost  = 2 * gatherMost
)

// gather returns how long frames are gathered for those who watch by a protocol, for a number of them, and how long sound waits for
// the picture.
func gather(g config.Gather, l *load) func(string, int) (window, sound time.Duration) {
	if !g.Auto {
		return func(string, int) (_, _ time.Duration) { return g.Window, 2 * g.Window }
	}
	return func(proto string, viewers int) (_, sound time.Duration) {
		if viewers == 0 { // parts of the server, who choose themselves
			return 0, 0
		}
		busy := l.share()
		if viewers >= gatherFrom || busy >= soundWaits {
			sound = soundMost
		}
		return window(viewers, busy), sound
	}
}

// window is the rule: what many viewers save, or what a busy server needs, whichever is longer.
func window(viewers int, busy float64) time.Duration {
	byLoad := time.Duration((busy - busyFrom) / (busyMost - busyFrom) * float64(gatherMost))
	byViewers := time.Duration(0)
	if viewers >= gatherFrom {
		byViewers = time.Duration(viewers) * gatherByViewer
	}
	return min(gatherMost, max(0, byLoad, byViewers)).Truncate(time.Millisecond)
}

// A load is how busy this process keeps its processors.
type load struct {
	busy atomic.Uint64 // share in 1/1000
}

// share returns the share of the processors in use, 0 to 1, over the last seconds.
func (l *load) share() float64 { return float64(l.busy.Load()) / 1000 }

// loadEvery is how often the load is looked at. A second has hundreds of frames; half of what one shows is kept from before, so that
// the window, which has an effect on what it goes by, settles.
const loadEvery = time.Second

// watch looks at the load until ctx ends.
func (l *load) watch(ctx context.Context) {
	tick := time.NewTicker(loadEvery)
	defer tick.Stop()
	at, used := time.Now(), cpuTime()
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		now, nowUsed := time.Now(), cpuTime()
		share := float64(nowUsed-used) / float64(now.Sub(at)) / float64(runtime.GOMAXPROCS(0))
		l.busy.Store((l.busy.Load() + uint64(1000*share)) / 2)
		at, used = now, nowUsed
	}
}
