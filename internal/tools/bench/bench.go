// Package bench measures streaming servers: it publishes streams to one, plays them many times
// over, and tells what arrived, how late, and at what cost. It speaks protocols and knows no
// server: livego is measured as any other is.
//
// Each video frame carries when it was sent (see marker), so that the delay is measured on every
// frame that every viewer gets. Viewers look at headers only, and on Linux thousands share a
// goroutine: the bench must cost less than the server. It watches its own load and says when it was
// too high for the result to mean anything.
package bench

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"runtime"
	"slices"
	"sync"
	"time"
)

// Options of a run. The zero value of a field that has a default stands for it.
type Options struct {
	// Publish is where streams go, one for each address: rtmp://, rtmps://, or tcp:// for FLV as it is. Empty: play only.
	Publish []string
	// Play is where viewers play. Viewer i plays Play[i mod len(Play)], which is stream i mod len(Publish).
	Play []string

	Bitrate int           // bits a second of the built-in stream, sound included: 2,670,000
	FPS     int           // frames a second: 30
	GOP     time.Duration // from key frame to key frame: 2 s
	File    string        // an FLV file to publish in its place, in a loop

	Settle   time.Duration // how long the streams run without viewers before the idle server is measured; 2 s
	Viewers  int           // 1
	Join     time.Duration // over which they come; 0: all at once
	Duration time.Duration // of the window that is measured, once all have come: 20 s
	Check    int           // every which viewer looks at every byte; 0: none

	PIDs       []int // of the server under test; empty: who listens at the addresses
	RecvBuffer int   // bytes of a viewer's receive buffer; 0: half a second of the stream, -1: the system's
	Insecure   bool  // accept any certificate

	Progress func(Progress) // told a few times a second; nil: nobody
}

// Progress is where a run is.
type Progress struct {
	Stage   string  // connecting, warming up, joining, settling, measuring or draining
	Done    float64 // share of the stage, 0 to 1
	Joined  int     // viewers who have seen a picture
	Viewers int     // wanted
	Lost    int     // viewers who are gone
}

const (
	windowLead       = 500 * time.Millisecond // from everybody's coming to the window
	lateFrames       = 2 * time.Second        // for frames that are still on their way when the window closes
	lateFramesHLS    = 15 * time.Second
	publishSpread    = time.Second // over which publishers begin
	minRecvBuffer    = 32 << 10
	progressInterval = 200 * time.Millisecond
)

func (o Options) withDefaults() Options {
	o.Bitrate = cmp.Or(o.Bitrate, 2_670_000)
	o.FPS = cmp.Or(o.FPS, 30)
	o.GOP = cmp.Or(o.GOP, 2*time.Second)
	o.Settle = cmp.Or(o.Settle, 2*time.Second)
	o.Viewers = cmp.Or(o.Viewers, 1)
	o.Duration = cmp.Or(o.Duration, 20*time.Second)
	if o.Progress == nil {
		o.Progress = func(Progress) {}
	}
	return o
}

// Run measures. It returns when the run is over, failed (the first publisher's error, or that
// nobody saw a picture), or ctx has ended. What viewers met is not an error but part of the result.
func Run(ctx context.Context, o Options) (*Result, error) {
	r, err := prepare(o.withDefaults())
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	var all sync.WaitGroup
	defer all.Wait()
	defer cancel(nil)
	start := func(f func(context.Context) error) {
		all.Go(func() {
			if err := f(ctx); err != nil {
				cancel(err)
			}
		})
	}
	if err := r.measure(ctx, start); err != nil {
		return nil, cmp.Or(context.Cause(ctx), err)
	}
	result := r.result()
	cancel(nil)
	all.Wait()
	return result, nil
}

// A run is the state of Run.
type run struct {
	Options
	measurement
	src        *source
	publishers []*publisher
	targets    []*target
	stats      []*viewerStats // one for each goroutine that reads many, the first for the rest as well
	arrivals   *partArrivals
	load       loadMonitor
	idle       usage
	started    time.Time
	connected  int // viewers connected while the window was open, on average
}

// prepare checks what can be checked before anything is connected.
func prepare(o Options) (*run, error) {
	r := &run{Options: o, started: time.Now()}
	r.clock = newClock()
	if len(o.Play) == 0 {
		return nil, errors.New("nothing to play")
	}
	if err := checkFileLimit(o.Viewers + len(o.Publish)); err != nil {
		return nil, err
	}
	for _, raw := range o.Play {
		t, err := parseTarget(raw)
		if err != nil {
			return nil, err
		}
		if t.proto == tcp {
			return nil, fmt.Errorf("%s can be published to, not played", raw)
		}
		r.targets = append(r.targets, t)
	}
	if len(o.Publish) > 0 {
		var err error
		if r.src, err = o.source(); err != nil {
			return nil, err
		}
	}
	for i, raw := range o.Publish {
		t, err := parseTarget(raw)
		if err != nil {
			return nil, err
		}
		r.publishers = append(r.publishers, &publisher{
			target: t, src: r.src, measurement: &r.measurement, insecure: o.Insecure,
			phase: o.GOP * time.Duration(i) / time.Duration(len(o.Publish)),
		})
	}
	for range min(runtime.NumCPU(), o.Viewers) {
		r.stats = append(r.stats, newViewerStats())
	}
	r.arrivals = newPartArrivals()
	return r, nil
}

func (o *Options) source() (*source, error) {
	if o.File != "" {
		return readSource(o.File)
	}
	return synthesize(o.Bitrate, o.FPS, o.GOP)
}

// measure goes through the stages of a run. start begins what goes on until the run is over.
func (r *run) measure(ctx context.Context, start func(func(context.Context) error)) error {
	if err := r.startPublishers(ctx, start); err != nil {
		return err
	}
	if r.load.pids = r.PIDs; len(r.load.pids) == 0 {
		r.load.pids = listeningProcesses(r.targets)
	}
	if idle, err := usageOf(r.load.pids); err == nil {
		r.idle = idle
	} else if len(r.PIDs) > 0 {
		return err
	}
	if err := r.startViewers(start); err != nil {
		return err
	}
	if err := r.runStage(ctx, joining, r.Join+connectTimeout, r.allJoined); err != nil {
		return err
	}
	if sum := r.total(); sum.joined == 0 {
		return fmt.Errorf("no viewer saw a picture: %s", mostCommon(sum.errors))
	}
	// Everybody knows the window before it opens, or frames at its edge would count for some only.
	from := r.now() + int64(windowLead)
	r.window.Store(&window{from, from + int64(r.Duration)})
	start(func(ctx context.Context) error { r.load.watchLag(ctx, &r.measurement); return nil })
	if err := r.runStage(ctx, "settling", windowLead, nil); err != nil {
		return err
	}
	r.load.start = r.load.sample()
	r.connected = r.total().connected
	if err := r.runStage(ctx, "measuring", r.Duration, nil); err != nil {
		return err
	}
	r.load.end = r.load.sample()
	r.connected = (r.connected + r.total().connected) / 2

	late := lateFrames
	if slices.ContainsFunc(r.targets, func(t *target) bool { return t.proto == HLS }) {
		late = lateFramesHLS
	}
	return r.runStage(ctx, "draining", late, r.allReceived)
}

// startPublishers starts the publishers and waits until the server has taken them and the streams have run for a while.
func (r *run) startPublishers(ctx context.Context, start func(func(context.Context) error)) error {
	if len(r.publishers) == 0 {
		return nil
	}
	var ready []chan struct{}
	for i, p := range r.publishers {
		accepted := make(chan struct{})
		ready = append(ready, accepted)
		// Encoders do not send in step.
		offset := publishSpread * time.Duration(i) / time.Duration(len(r.publishers))
		start(func(ctx context.Context) error {
			if !sleep(ctx, offset) {
				return nil
			}
			return p.run(ctx, accepted)
		})
	}
	accepted := func() bool {
		for len(ready) > 0 {
			select {
			case <-ready[0]:
				ready = ready[1:]
			default:
				return false
			}
		}
		return true
	}
	if err := r.runStage(ctx, "connecting", publishTimeout, accepted); err != nil {
		return err
	}
	if len(ready) > 0 {
		return errors.New("publishing: the server does not answer")
	}
	return r.runStage(ctx, "warming up", r.Settle, nil)
}

// startViewers starts the viewers: those of TLS and of HLS that polls each for himself, the others in crowds.
func (r *run) startViewers(start func(func(context.Context) error)) error {
	crowds := make([]*viewerGroup, len(r.stats))
	for i, t := range r.stats {
		crowds[i] = &viewerGroup{measurement: &r.measurement, stats: t, buffer: r.buffer()}
	}
	begin := time.Now()
	for i := range r.Viewers {
		t := r.targets[i%len(r.targets)]
		at := begin.Add(r.Join * time.Duration(i) / time.Duration(r.Viewers))
		group := i % len(crowds)
		v := newViewer(t, &r.measurement, r.stats[group], r.arrivals, r.Check > 0 && i%r.Check == 0)
		alone := func(watch func(context.Context)) {
			start(func(ctx context.Context) error {
				if sleep(ctx, time.Until(at)) {
					watch(ctx)
				}
				return nil
			})
		}
		switch {
		case t.proto == HLS:
			alone((&hlsViewer{viewer: v, conn: hlsConn{options: connOptions{insecure: r.Insecure}}}).run)
		case t.tls:
			alone(func(ctx context.Context) { v.run(ctx, connOptions{buffer: r.buffer(), insecure: r.Insecure}) })
		default:
			if err := crowds[group].add(v, i, at); err != nil {
				return err
			}
		}
	}
	for _, c := range crowds {
		start(c.run)
	}
	return nil
}

// buffer returns the size of viewers' receive buffers. In the system's own, which grow to
// megabytes, minutes of a slow viewer's delay would hide from the server.
func (r *run) buffer() int {
	if r.RecvBuffer != 0 || r.src == nil {
		return max(r.RecvBuffer, 0)
	}
	return max(int(r.src.bits/8/2), minRecvBuffer)
}

// runStage lasts until done, which is asked now and then, or for limit. It reports progress, and fails when ctx ends.
func (r *run) runStage(ctx context.Context, name string, limit time.Duration, done func() bool) error {
	const ask = 20 * time.Millisecond
	begin := time.Now()
	var shown time.Time
	for {
		elapsed := time.Since(begin)
		over := elapsed >= limit || done != nil && done()
		if time.Since(shown) >= progressInterval || over {
			shown = time.Now()
			r.reportProgress(name, elapsed.Seconds()/limit.Seconds())
		}
		if over {
			return nil
		}
		if !sleep(ctx, min(ask, limit-elapsed)) {
			return context.Cause(ctx)
		}
	}
}

// joining is the one stage whose end does not go by the clock.
const joining = "joining"

func (r *run) reportProgress(stage string, done float64) {
	p := Progress{Stage: stage, Done: min(done, 1), Viewers: r.Viewers}
	for _, t := range r.stats {
		t.mu.Lock()
		p.Joined += t.joined
		p.Lost += t.failed()
		t.mu.Unlock()
	}
	if stage == joining {
		p.Done = float64(p.Joined) / float64(p.Viewers)
	}
	r.Progress(p)
}

// allJoined tells whether each viewer has a picture or is gone.
func (r *run) allJoined() bool {
	n := 0
	for _, t := range r.stats {
		t.mu.Lock()
		n += t.joined + t.failed() - t.ended // those who had joined are in both
		t.mu.Unlock()
	}
	return n >= r.Viewers
}

// allReceived tells whether every frame has arrived.
func (r *run) allReceived() bool {
	var got int64
	for _, t := range r.stats {
		t.mu.Lock()
		got += t.frames
		t.mu.Unlock()
	}
	return r.src == nil || got >= r.expected()
}

// expected returns how many frames all viewers together should have got of those sent in the window.
func (r *run) expected() (n int64) {
	if len(r.publishers) == 0 {
		return 0
	}
	for i, p := range r.publishers {
		viewers := r.Viewers / len(r.publishers)
		if i < r.Viewers%len(r.publishers) {
			viewers++
		}
		p.mu.Lock()
		n += p.sent * int64(viewers)
		p.mu.Unlock()
	}
	return n
}

// total returns what all viewers have seen.
func (r *run) total() *viewerStats {
	all := newViewerStats()
	for _, t := range r.stats {
		all.merge(t)
	}
	return all
}

// result puts together what was measured.
func (r *run) result() *Result {
	sum := r.total()
	res := &Result{
		Started: r.started.UTC().Truncate(time.Second), Seconds: r.load.end.at.Sub(r.load.start.at).Seconds(),
		Viewers:  Viewers{Wanted: r.Viewers, Joined: sum.joined, Lost: sum.ended, Errors: sum.errors},
		Delivery: r.delivery(sum),
		Latency:  sum.latency.percentiles(), FirstPicture: sum.firstPicture.percentiles(),
		PartSpread: sum.partSpread.percentiles(),
		Server:     r.load.serverLoad(r.idle, r.connected), Bench: r.load.benchLoad(&sum.readDelay),
	}
	if silent := r.Viewers - sum.joined - (sum.failed() - sum.ended); silent > 0 {
		res.Viewers.Errors[errNoPicture.Error()] += silent
	}
	for _, t := range r.targets {
		if !slices.Contains(res.Protocols, t.proto) {
			res.Protocols = append(res.Protocols, t.proto)
		}
	}
	if r.src != nil {
		res.Stream = Stream{Source: r.src.name, Streams: len(r.publishers), Kbps: r.src.bits / 1000, FPS: r.src.fps}
	}
	var blocked histogram
	for _, p := range r.publishers {
		p.mu.Lock()
		blocked.merge(&p.blocked)
		p.mu.Unlock()
	}
	res.EncoderBlocked = blocked.percentiles()
	return res
}

func (r *run) delivery(sum *viewerStats) Delivery {
	d := Delivery{
		Mbps: 8 * float64(sum.bytes) / 1e6 / r.Duration.Seconds(), Frames: sum.frames, Expected: r.expected(),
		Missing: sum.missing, Repeats: sum.repeats, Gaps: sum.gaps, StepBack: sum.stepsBack,
		Checked: sum.checked, Corrupt: sum.corrupt,
	}
	if d.Expected > 0 {
		d.Share = float64(d.Frames) / float64(d.Expected)
	}
	return d
}

// mostCommon returns the error that most viewers met.
func mostCommon(errs map[string]int) string {
	if len(errs) == 0 {
		return errNoPicture.Error()
	}
	return slices.MaxFunc(slices.Sorted(maps.Keys(errs)), func(a, b string) int { return errs[a] - errs[b] })
}
