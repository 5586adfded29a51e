package app

import (
	"context"
	"runtime"
	"sync/atomic"
	"time"

	"livego/internal/ops/config"
)

// How long frames are gathered. Not at all for a few viewers, where nothing is to be saved; then a
// millisecond for each ten, up to 45 ms, where a viewer costs a third of what he costs by the frame
// and half of all frames are still seen within 40 ms. A server whose processors are busy otherwise,
// with many streams, gathers for few viewers too.
const (
	maxBatchWindow       = 45 * time.Millisecond
	batchMinViewers      = 50 // viewers of one stream by one protocol
	batchWindowPerViewer = time.Millisecond / 10
	minBatchLoad         = 0.5 // of the processors
	maxBatchLoad         = 0.9 // at which frames are gathered as long as for hundreds of viewers
	// Nobody sees sound before the picture, and there is more of it: from audioBatchLoad of the
	// processors on, and where there are many viewers, it waits for the window that the next picture
	// opens, as long as pictures come that often.
	audioBatchLoad      = 0.25
	maxAudioBatchWindow = 2 * maxBatchWindow
)

// batchWindow returns how long frames are gathered for those who watch by a protocol, for a number
// of them, and how long sound waits for the picture.
func batchWindow(g config.BatchWindow, l *cpuLoad) func(string, int) (window, sound time.Duration) {
	if !g.Auto {
		return func(string, int) (_, _ time.Duration) { return g.Fixed, 2 * g.Fixed }
	}
	return func(proto string, viewers int) (_, sound time.Duration) {
		if viewers == 0 { // parts of the server, who choose themselves
			return 0, 0
		}
		busy := l.share()
		if viewers >= batchMinViewers || busy >= audioBatchLoad {
			sound = maxAudioBatchWindow
		}
		return autoBatchWindow(viewers, busy), sound
	}
}

// autoBatchWindow is the rule: what many viewers save, or what a busy server needs, whichever is longer.
func autoBatchWindow(viewers int, busy float64) time.Duration {
	byLoad := time.Duration((busy - minBatchLoad) / (maxBatchLoad - minBatchLoad) * float64(maxBatchWindow))
	byViewers := time.Duration(0)
	if viewers >= batchMinViewers {
		byViewers = time.Duration(viewers) * batchWindowPerViewer
	}
	return min(maxBatchWindow, max(0, byLoad, byViewers)).Truncate(time.Millisecond)
}

// A cpuLoad is how busy this process keeps its processors.
type cpuLoad struct {
	permille atomic.Uint64 // share in 1/1000
}

// share returns the share of the processors in use, 0 to 1, over the last seconds.
func (l *cpuLoad) share() float64 { return float64(l.permille.Load()) / 1000 }

// loadInterval is how often the load is looked at. A second has hundreds of frames; half of what
// one shows is kept from before, so that the window, which has an effect on what it goes by,
// settles.
const loadInterval = time.Second

// run looks at the load until ctx ends.
func (l *cpuLoad) run(ctx context.Context) {
	tick := time.NewTicker(loadInterval)
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
		l.permille.Store((l.permille.Load() + uint64(1000*share)) / 2)
		at, used = now, nowUsed
	}
}
