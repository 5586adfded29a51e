package stream

import (
	"slices"
	"time"

	"livego/internal/domain"
	"livego/internal/ops/histogram"
)

// Totals are sums over all streams. Counts, bytes and histograms are those since the start of the
// server, also of streams, publishers and viewers that are gone: they never fall.
type Totals struct {
	Live, Held int            // streams of now, with and without a publisher
	Replicated int            // streams of now that other servers own
	Publishers map[string]int // of now, by protocol
	Received   map[string]uint64
	Viewers    map[string]ViewerTotals // by the viewers' protocol

	Starts, Holds, Resumes, Ends uint64 // of streams
	Takeovers                    uint64 // publishers that replaced another one
	Conflicts                    uint64 // publishers that were refused because there was another one
	Switches                     uint64 // changes of the active publisher between primary and backup
}

// ViewerTotals are sums over the viewers of one protocol.
type ViewerTotals struct {
	Viewers int    // of now
	Joins   uint64 // viewers so far
	Bytes   uint64 // payload bytes sent
	Skips   uint64 // how often viewers have skipped to a newer keyframe

	// Delay is how far viewers were behind the newest frame at each write, as in ConnInfo.Delay
	// without what the kernel held. It is empty for viewers that fetch files (HLS).
	Delay histogram.Snapshot
	// FirstFrame is the time from joining a stream to the first media that was sent.
	FirstFrame histogram.Snapshot
}

// Bounds of the histograms, shared by all of a kind. The delay of a viewer in time is a batching
// window, at most 200 ms; max_latency is 4 s by default.
var (
	delayBounds = []time.Duration{
		20 * time.Millisecond, 50 * time.Millisecond, 100 * time.Millisecond, 200 * time.Millisecond,
		500 * time.Millisecond, time.Second, 2 * time.Second, 4 * time.Second, 8 * time.Second, 30 * time.Second,
	}
	firstFrameBounds = []time.Duration{
		5 * time.Millisecond, 10 * time.Millisecond, 25 * time.Millisecond, 50 * time.Millisecond,
		100 * time.Millisecond, 250 * time.Millisecond, 500 * time.Millisecond, time.Second,
		2500 * time.Millisecond, 5 * time.Second, 10 * time.Second,
	}
)

// endedTotals keeps the counts of streams and publishers that are gone. Under Hub.mu.
type endedTotals struct {
	events    [Skipped + 1]uint64 // by EventType
	takeovers uint64
	conflicts uint64
	received  map[string]uint64
	viewers   protoCounters
	// draining are the counters of ended streams that may have viewers, which still count.
	draining []*protoCounters
}

// addPublisher adds the bytes of p, which is detached.
func (e *endedTotals) addPublisher(p *Publisher) {
	if e.received == nil {
		e.received = make(map[string]uint64)
	}
	e.received[p.opt.Proto] += p.received()
}

// addViewers adds the counters of a stream that has ended.
func (e *endedTotals) addViewers(c *protoCounters) {
	e.draining = append(e.draining, c)
	e.sum()
}

// sum adds the counters of ended streams without viewers.
func (e *endedTotals) sum() {
	e.draining = slices.DeleteFunc(e.draining, func(c *protoCounters) bool {
		if c.watched() {
			return false
		}
		e.viewers.add(c)
		return true
	})
}

// received returns the payload bytes that p has received.
func (p *Publisher) received() uint64 { return p.video.total.Load() + p.audio.total.Load() }

// Totals returns the sums over all streams. Its cost depends on the number of streams, not on that
// of viewers.
func (h *Hub) Totals() Totals {
	t := Totals{Publishers: map[string]int{}, Received: map[string]uint64{}, Viewers: map[string]ViewerTotals{}}
	sum := new(protoCounters)
	h.mu.Lock()
	e := &h.ended
	e.sum()
	sum.add(&e.viewers) // under the lock, as sum moves counts of streams there
	counters := slices.Clone(e.draining)
	for proto, n := range e.received {
		t.Received[proto] = n
	}
	for _, s := range h.streams {
		if !s.session {
			continue
		}
		counters = append(counters, s.counters)
		switch {
		case s.replica != nil:
			t.Replicated++
		case s.published():
			t.Live++
		default:
			t.Held++
		}
		for _, p := range []*Publisher{s.pubs[domain.Primary], s.pubs[domain.Backup]} {
			if p != nil {
				t.Publishers[p.opt.Proto]++
				t.Received[p.opt.Proto] += p.received()
			}
		}
	}
	t.Starts, t.Holds, t.Resumes, t.Ends = e.events[Started], e.events[Held], e.events[Resumed], e.events[Ended]
	t.Takeovers, t.Conflicts = e.takeovers, e.conflicts
	h.mu.Unlock()

	t.Switches = h.switches.Load()
	for _, c := range counters {
		sum.add(c)
		for _, p := range c.all() {
			sum.of(p.proto).viewers.Add(p.viewers.Load())
		}
	}
	for _, p := range sum.all() {
		t.Viewers[p.proto] = ViewerTotals{Viewers: int(p.viewers.Load()), Joins: p.joins.Load(), Bytes: p.bytes.Load(),
			Skips: p.skips.Load(), Delay: p.delay.Snapshot(), FirstFrame: p.firstFrame.Snapshot()}
	}
	return t
}
