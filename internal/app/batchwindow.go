package app

import (
	"context"
	"runtime"
	"sync/atomic"
	"time"

	"livego/internal/ops/config"
)

// Batching windows for batch_window: auto. There is none for a few viewers, where it would save
// little. From batchMinViewers on it is 1 ms for every ten viewers, up to 45 ms: there a viewer
// costs a third of the processor time of frame-by-frame writes, and half of all frames still arrive
// within 40 ms. A server that is busy for other reasons, such as many streams, also batches for few
// viewers.
const (
	maxBatchWindow       = 45 * time.Millisecond
	batchMinViewers      = 50 // viewers of one stream by one protocol
	batchWindowPerViewer = time.Millisecond / 10
	minBatchLoad         = 0.5 // share of the processors from which the load sets a window
	maxBatchLoad         = 0.9 // share of the processors at which the window is the longest
	// A player shows audio with the picture, and there are more audio frames than pictures. From
	// audioBatchLoad of the processors or batchMinViewers viewers on, audio therefore waits for the
	// next picture and its window, if pictures come that often.
	audioBatchLoad      = 0.25
	maxAudioBatchWindow = 2 * maxBatchWindow
)

// batchWindow returns a function from a protocol and its number of viewers to their batching
// window, and to how long audio waits for the next picture.
func batchWindow(setting config.BatchWindow, l *cpuLoad) func(string, int) (window, audio time.Duration) {
	if !setting.Auto {
		return func(string, int) (_, _ time.Duration) { return setting.Fixed, 2 * setting.Fixed }
	}
	return func(proto string, viewers int) (_, audio time.Duration) {
		if viewers == 0 { // subscribers inside the server, which batch by themselves
			return 0, 0
		}
		busy := l.share()
		if viewers >= batchMinViewers || busy >= audioBatchLoad {
			audio = maxAudioBatchWindow
		}
		return autoBatchWindow(viewers, busy), audio
	}
}

// autoBatchWindow returns the window for a number of viewers or that for a load, whichever is
// longer.
func autoBatchWindow(viewers int, busy float64) time.Duration {
	byLoad := time.Duration((busy - minBatchLoad) / (maxBatchLoad - minBatchLoad) * float64(maxBatchWindow))
	byViewers := time.Duration(0)
	if viewers >= batchMinViewers {
		byViewers = time.Duration(viewers) * batchWindowPerViewer
	}
	return min(maxBatchWindow, max(0, byLoad, byViewers)).Truncate(time.Millisecond)
}

// A cpuLoad measures how busy this process keeps the processors.
type cpuLoad struct {
	permille atomic.Uint64 // share of the processors, in 1/1000
}

// share returns the share of the processors in use over the last seconds, from 0 to 1.
func (l *cpuLoad) share() float64 { return float64(l.permille.Load()) / 1000 }

// loadInterval is how often the load is measured. Each second has hundreds of frames. Each
// measurement is averaged with the previous value, because the window affects the load, and would
// oscillate.
const loadInterval = time.Second

// run measures the load until ctx ends.
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
