// Package bench measures streaming servers: it publishes streams to a server, plays each of them
// many times, and reports what arrived, with what delay, and at what cost. It speaks protocols and
// knows no particular server: livego is measured like any other.
//
// Each video frame carries the time when it was sent (see marker), so the latency is measured for
// every frame of every viewer. Viewers read headers only, and on Linux thousands of them share a
// goroutine: the bench must cost less than the server. It measures its own load and marks the
// result as void when that was too high.
package bench

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"maps"
	"runtime"
	"slices"
	"sync"
	"time"
)

// Options are the settings of a run. Zero means the default of a field that has one.
type Options struct {
	// Publish lists the addresses to publish to, one stream for each: rtmp://, rtmps://, or tcp://
	// for plain FLV. Empty: play only.
	Publish []string
	// Play lists the addresses to play. Viewer i plays Play[i mod len(Play)], which must be stream
	// i mod len(Publish).
	Play []string

	Bitrate int           // bit/s of the built-in stream, audio included; default 2,670,000
	FPS     int           // frames per second; default 30
	GOP     time.Duration // keyframe interval; default 2 s
	File    string        // an FLV file to publish in a loop instead

	Settle   time.Duration // how long the streams run before the idle server is measured; default 2 s
	Viewers  int           // default 1
	Join     time.Duration // period over which viewers connect; 0: all at once
	Duration time.Duration // of the measured window, after all have joined; default 20 s
	Check    int           // one viewer in Check verifies every byte; 0: none

	Storm     int           // more viewers that join when the window opens; they count in Result.Storm only
	StormJoin time.Duration // period over which they connect; default 5 s

	HTTP2     bool // play https:// by HTTP/2, except WebSocket
	TLSResume bool // resume a TLS session in each handshake of a viewer

	Poll         string        // a URL that is requested while the window is open, such as a server's statistics
	PollInterval time.Duration // default 100 ms

	PIDs       []int // of the server under test; empty: the processes that listen at the addresses
	RecvBuffer int   // receive buffer of a viewer in bytes; 0: half a second of the stream, -1: the system's default
	Insecure   bool  // accept any certificate

	Progress func(Progress) // called a few times per second; may be nil
}

// Progress is the state of a run.
type Progress struct {
	Stage   string  // connecting, warming up, joining, settling, measuring or draining
	Done    float64 // fraction of the stage, 0 to 1
	Joined  int     // viewers that have received a keyframe
	Viewers int     // requested
	Lost    int     // viewers that have disconnected or failed
}

const (
	windowLead       = 500 * time.Millisecond // from the last join to the window
	lateFrames       = 2 * time.Second        // wait for frames that are in flight when the window closes
	lateFramesHLS    = 15 * time.Second
	publishSpread    = time.Second // period over which publishers start
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
	o.StormJoin = cmp.Or(o.StormJoin, 5*time.Second)
	o.PollInterval = cmp.Or(o.PollInterval, 100*time.Millisecond)
	if o.Progress == nil {
		o.Progress = func(Progress) {}
	}
	return o
}

// Run measures. It returns when the run is complete, when it failed (the first publisher's error,
// or no viewer received a keyframe), or when ctx has ended. Errors of viewers are part of the
// result.
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
	stats      []*viewerStats // one for each viewer group
	storm      []*viewerStats // of the viewers of Options.Storm
	poller     *poller        // nil without Options.Poll
	arrivals   *partArrivals
	sessions   tls.ClientSessionCache // nil: full handshakes
	load       loadMonitor
	idle       usage
	started    time.Time
	connected  int // average of connected viewers in the window
}

// prepare validates the options before anything connects.
func prepare(o Options) (*run, error) {
	r := &run{Options: o, started: time.Now()}
	r.clock = newClock()
	if len(o.Play) == 0 {
		return nil, errors.New("no play address")
	}
	if err := checkFileLimit(o.Viewers + o.Storm + len(o.Publish)); err != nil {
		return nil, err
	}
	for _, raw := range o.Play {
		t, err := parseTarget(raw)
		if err != nil {
			return nil, err
		}
		if t.proto == tcp {
			return nil, fmt.Errorf("%s: tcp addresses can be published to, not played", raw)
		}
		t.http2 = o.HTTP2 && t.tls && t.proto != RTMP && t.proto != WS
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
			target: t, src: r.src, measurement: &r.measurement, options: connOptions{insecure: o.Insecure},
			phase: o.GOP * time.Duration(i) / time.Duration(len(o.Publish)),
		})
	}
	r.stats, r.storm = newGroupStats(o.Viewers), newGroupStats(o.Storm)
	r.arrivals = newPartArrivals()
	if o.TLSResume {
		r.sessions = tls.NewLRUClientSessionCache(len(r.targets))
	}
	return r, nil
}

// newGroupStats returns the statistics of the groups of so many viewers.
func newGroupStats(viewers int) (stats []*viewerStats) {
	for range min(runtime.NumCPU(), viewers) {
		stats = append(stats, newViewerStats())
	}
	return stats
}

func (o *Options) source() (*source, error) {
	if o.File != "" {
		return readSource(o.File)
	}
	return synthesize(o.Bitrate, o.FPS, o.GOP)
}

// measure goes through the stages of a run. start runs a function in a goroutine until the run
// ends.
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
	if err := r.openSessions(ctx); err != nil {
		return err
	}
	r.startViewers(start, r.stats, r.Viewers, 0, r.Join)
	if err := r.runStage(ctx, joining, r.Join+connectTimeout, r.allJoined); err != nil {
		return err
	}
	if sum := total(r.stats); sum.joined == 0 {
		return fmt.Errorf("no viewer received a keyframe: %s", mostCommon(sum.errors))
	}
	// Set the window before it opens: otherwise some viewers would not count the frames at its
	// edge.
	from := r.now() + int64(windowLead)
	r.window.Store(&window{from, from + int64(r.Duration)})
	start(func(ctx context.Context) error { r.load.watchLag(ctx, &r.measurement); return nil })
	if err := r.runStage(ctx, "settling", windowLead, nil); err != nil {
		return err
	}
	r.load.start = r.load.sample()
	r.connected = r.countConnected()
	if r.Poll != "" {
		r.poller = &poller{url: r.Poll, interval: r.PollInterval, done: make(chan struct{})}
		start(func(ctx context.Context) error { r.poller.run(ctx, r.Duration); return nil })
	}
	r.startViewers(start, r.storm, r.Storm, r.Viewers, r.StormJoin)
	if err := r.runStage(ctx, "measuring", r.Duration, nil); err != nil {
		return err
	}
	r.load.end = r.load.sample()
	r.connected = (r.connected + r.countConnected()) / 2

	late := lateFrames
	if slices.ContainsFunc(r.targets, func(t *target) bool { return t.proto == HLS }) {
		late = lateFramesHLS
	}
	return r.runStage(ctx, "draining", late, r.allReceived)
}

// startPublishers starts the publishers and waits until the server has accepted them and the
// streams have run for Settle.
func (r *run) startPublishers(ctx context.Context, start func(func(context.Context) error)) error {
	if len(r.publishers) == 0 {
		return nil
	}
	var ready []chan struct{}
	for i, p := range r.publishers {
		accepted := make(chan struct{})
		ready = append(ready, accepted)
		// Real encoders do not start at the same time.
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
		return errors.New("publishing: the server does not respond")
	}
	return r.runStage(ctx, "warming up", r.Settle, nil)
}

// openSessions opens a TLS session with each target, which viewers then resume.
func (r *run) openSessions(ctx context.Context) error {
	for _, t := range r.targets {
		if r.sessions == nil || !t.tls {
			continue
		}
		if err := openSession(ctx, t, connOptions{insecure: r.Insecure, sessions: r.sessions}); err != nil {
			return fmt.Errorf("opening a TLS session: %w", err)
		}
	}
	return nil
}

// openSession connects to t until the server sends something: its session tickets come first.
func openSession(ctx context.Context, t *target, o connOptions) error {
	ctx, cancel := context.WithTimeout(ctx, connectTimeout)
	defer cancel()
	nc, err := dial(ctx, t, o)
	if err != nil {
		return err
	}
	defer nc.Close()
	defer context.AfterFunc(ctx, func() { nc.Close() })()
	if _, err := nc.Write(newViewer(t, &measurement{}, newViewerStats(), nil, false).client.open()); err != nil {
		return err
	}
	_, err = nc.Read(make([]byte, 1))
	return err
}

// startViewers starts viewers in groups, one for each of stats, from now on over the period join.
// first is the number of the first viewer in the run.
func (r *run) startViewers(start func(func(context.Context) error), stats []*viewerStats, viewers, first int,
	join time.Duration) {
	o := connOptions{buffer: r.buffer(), insecure: r.Insecure, sessions: r.sessions}
	groups := make([]*viewerGroup, len(stats))
	for i, t := range stats {
		groups[i] = &viewerGroup{measurement: &r.measurement, stats: t, options: o}
	}
	startTime := time.Now()
	for i := range viewers {
		at := startTime.Add(join * time.Duration(i) / time.Duration(viewers))
		group := i % len(groups)
		v := newViewer(r.targets[i%len(r.targets)], &r.measurement, stats[group], r.arrivals, r.Check > 0 && i%r.Check == 0)
		groups[group].add(v, first+i, at)
	}
	for _, c := range groups {
		start(c.run)
	}
}

// buffer returns the receive buffer size of viewers in bytes. The system's own buffers grow to
// megabytes, which would hide minutes of a slow viewer's delay from the server.
func (r *run) buffer() int {
	if r.RecvBuffer != 0 || r.src == nil {
		return max(r.RecvBuffer, 0)
	}
	return max(int(r.src.bits/8/2), minRecvBuffer)
}

// runStage waits until done returns true, or for limit. It reports progress, and fails when ctx
// ends.
func (r *run) runStage(ctx context.Context, name string, limit time.Duration, done func() bool) error {
	const interval = 20 * time.Millisecond
	startTime := time.Now()
	var reported time.Time
	for {
		elapsed := time.Since(startTime)
		over := elapsed >= limit || done != nil && done()
		if time.Since(reported) >= progressInterval || over {
			reported = time.Now()
			r.reportProgress(name, elapsed.Seconds()/limit.Seconds())
		}
		if over {
			return nil
		}
		if !sleep(ctx, min(interval, limit-elapsed)) {
			return context.Cause(ctx)
		}
	}
}

// joining is the only stage that does not end by time.
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

// allJoined reports whether each viewer has received a keyframe or has failed.
func (r *run) allJoined() bool {
	n := 0
	for _, t := range r.stats {
		t.mu.Lock()
		n += t.joined + t.failed() - t.ended // joined viewers that ended are in both
		t.mu.Unlock()
	}
	return n >= r.Viewers
}

// allReceived reports whether every frame has arrived.
func (r *run) allReceived() bool {
	var got int64
	for _, t := range r.stats {
		t.mu.Lock()
		got += t.frames
		t.mu.Unlock()
	}
	return r.src == nil || got >= r.expected()
}

// expected returns how many frames sent in the window all viewers together should have received.
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

// total returns the sum of statistics.
func total(stats []*viewerStats) *viewerStats {
	all := newViewerStats()
	for _, t := range stats {
		all.merge(t)
	}
	return all
}

// countConnected returns how many viewers are connected.
func (r *run) countConnected() int { return total(r.stats).connected + total(r.storm).connected }

// result assembles the result.
func (r *run) result() *Result {
	sum := total(r.stats)
	res := &Result{
		Started: r.started.UTC().Truncate(time.Second), Seconds: r.load.end.at.Sub(r.load.start.at).Seconds(),
		Joins:    sum.joins(r.Viewers),
		Delivery: r.delivery(sum),
		Latency:  sum.latency.percentiles(), PartSpread: sum.partSpread.percentiles(),
		Server: r.load.serverLoad(r.idle, r.connected), Bench: r.load.benchLoad(&sum.readDelay),
	}
	if r.poller != nil {
		res.Polls = r.poller.result()
	}
	if r.Storm > 0 {
		storm := total(r.storm).joins(r.Storm)
		res.Storm = &storm
	}
	for _, t := range r.targets {
		if !slices.Contains(res.Protocols, t.protocol()) {
			res.Protocols = append(res.Protocols, t.protocol())
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

// mostCommon returns the error that most viewers had.
func mostCommon(errs map[string]int) string {
	if len(errs) == 0 {
		return errNoPicture.Error()
	}
	return slices.MaxFunc(slices.Sorted(maps.Keys(errs)), func(a, b string) int { return errs[a] - errs[b] })
}
