// Package batching decides how long frames are collected before they are written to viewers. It
// knows how many viewers a stream has and how busy the process is, and no stream.
package batching

import (
	"context"
	"runtime"
	"sync/atomic"
	"time"
)

// Batching windows for batch_window: auto. There is none for a few viewers, where it would save
// little. From minViewers on it is 1 ms for every ten viewers, up to 45 ms: there a viewer
// costs a third of the processor time of frame-by-frame writes, and half of all frames still arrive
// within 40 ms. A server that is busy for other reasons, such as many streams, also batches for few
// viewers.
const (
	maxWindow       = 45 * time.Millisecond
	minViewers      = 50 // viewers of one stream by one protocol
	windowPerViewer = time.Millisecond / 10
	minLoad         = 0.5 // share of the processors from which the load sets a window
	maxLoad         = 0.9 // share of the processors at which the window is the longest
	// A player shows audio with the picture, and there are more audio frames than pictures. From
	// audioLoad of the processors or minViewers viewers on, audio therefore waits for the
	// next picture and its window, if pictures come that often.
	audioLoad      = 0.25
	maxAudioWindow = 2 * maxWindow
)

// A Policy decides on batching windows: a fixed one, or one that depends on the viewers and on the
// load, which Run measures.
type Policy struct {
	fixed    atomic.Int64  // in nanoseconds; negative: it depends on the viewers and on the load
	permille atomic.Uint64 // share of the processors that this process uses, in 1/1000
}

// New returns a Policy. fixed is the window if auto is false.
func New(auto bool, fixed time.Duration) *Policy {
	p := new(Policy)
	p.Set(auto, fixed)
	return p
}

// Set replaces the arguments of New.
func (p *Policy) Set(auto bool, fixed time.Duration) {
	if auto {
		fixed = -1
	}
	p.fixed.Store(int64(fixed))
}

// Window returns the batching window for so many viewers of one stream by one protocol, and how
// long audio waits for the next picture.
func (p *Policy) Window(viewers int) (window, audio time.Duration) {
	if fixed := time.Duration(p.fixed.Load()); fixed >= 0 {
		return fixed, 2 * fixed
	}
	busy := float64(p.permille.Load()) / 1000
	if viewers >= minViewers || busy >= audioLoad {
		audio = maxAudioWindow
	}
	return autoWindow(viewers, busy), audio
}

// autoWindow returns the window for a number of viewers or that for a load, whichever is
// longer.
func autoWindow(viewers int, busy float64) time.Duration {
	byLoad := time.Duration((busy - minLoad) / (maxLoad - minLoad) * float64(maxWindow))
	byViewers := time.Duration(0)
	if viewers >= minViewers {
		byViewers = time.Duration(viewers) * windowPerViewer
	}
	return min(maxWindow, max(0, byLoad, byViewers)).Truncate(time.Millisecond)
}

// loadInterval is how often the load is measured. Each second has hundreds of frames. Each
// measurement is averaged with the previous value, because the window affects the load, and would
// oscillate.
const loadInterval = time.Second

// Run measures the load until ctx ends.
func (p *Policy) Run(ctx context.Context) {
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
		p.permille.Store((p.permille.Load() + uint64(1000*share)) / 2)
		at, used = now, nowUsed
	}
}
