package segment

import (
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"livego/internal/media"
)

const (
	// lastPartsTargets is for how many part targets the last parts of a stream are in the playlist
	// before the line of their segment. Players stay holdBackParts behind, so they do not run out
	// of media in that time.
	lastPartsTargets = 2
	// minListed is the number of segments that stay in the playlist whatever their size: RFC 8216
	// section 6.3.3 has players start three target durations from the end.
	minListed = 3
	// renderedTargets is for how many target durations after its end the rendered bytes of a segment
	// stay. Players start three target durations from the end of the playlist, and request a segment
	// soon after it is listed.
	renderedTargets = 3
	// renderedParts is how many of the newest parts stay rendered. Players request parts when they are
	// new, and start holdBackParts from the end. An older one that is requested is rendered again, and
	// stays for partTargets target durations after the end of its segment.
	renderedParts = 2 * holdBackParts
	partTargets   = 1
	// maxPerTarget is the number of segments per target duration beyond which a playlist stops
	// growing. An encoder that changes its parameters with each frame must not fill the memory with
	// playlists.
	maxPerTarget = 8
)

// A publisher publishes the lists of a stream session, each in place of the last.
type publisher struct {
	list      atomic.Pointer[List]
	ready     chan struct{} // closed with the first playlist, or at the end
	readyOnce sync.Once
}

// List returns the current list; never nil.
func (p *publisher) List() *List { return p.list.Load() }

// Ready is closed when there is a playlist. It is closed without one when the stream session ends
// without a segment.
func (p *publisher) Ready() <-chan struct{} { return p.ready }

// publish stores l, with the complete parts of the open segment, and wakes the requests that wait
// for it. open is nil when no segment is open; full means that it has no room for another part.
func (p *publisher) publish(l *List, open *segment, full bool) {
	if open != nil {
		l.open, l.parts, l.full = open, open.parts[:len(open.parts):len(open.parts)], full
		l.dropOldPart()
	}
	l.Ready = true
	p.replace(l)
}

// replace stores l, and wakes the requests that wait for it.
func (p *publisher) replace(l *List) {
	old := p.List()
	p.list.Store(l)
	close(old.updated)
	old.waiters.remove()
	if l.segmentAdded != old.segmentAdded {
		close(old.segmentAdded)
	}
	if l.Ready {
		p.markReady()
	}
}

// markReady closes ready.
func (p *publisher) markReady() { p.readyOnce.Do(func() { close(p.ready) }) }

// dropOldPart drops the rendered bytes of the newest part that is not one of renderedParts.
func (l *List) dropOldPart() {
	parts := l.parts
	if s := l.newest(); s != nil && !s.remote && s.rendered[FMP4].cached() == nil { // else its parts are slices of it
		parts = slices.Concat(s.parts, parts)
	}
	if i := len(parts) - 1 - renderedParts; i >= 0 {
		parts[i].rendered.drop()
	}
}

// hasPartsOf reports whether l has all complete parts of the open segment.
func (l *List) hasPartsOf(open *segment) bool {
	return l.open == open && len(l.parts) == len(open.parts)
}

// next returns the list after l with the same segments.
func (l *List) next() *List {
	return &List{
		Target: l.Target, PartTarget: l.PartTarget, frameBytes: l.frameBytes, segments: l.segments, listed: l.listed,
		hadLine: l.open == nil || l.hadLine, segmentAdded: l.segmentAdded, compressor: l.compressor,
		updated: make(chan struct{}), waiters: newWaiterGroup(), previousWaiters: l.waiters,
	}
}

// with returns the list after l with another segment.
func (l *List) with(s *segment) *List {
	n := l.next()
	n.hadLine, n.segmentAdded = false, make(chan struct{})
	n.segments = append(append(make([]*segment, 0, len(l.segments)+1), l.segments...), s)
	n.listed, n.frameBytes = n.listed+1, n.frameBytes+s.size
	return n
}

// completed returns l, not ready, with the open segment completed by its published parts: the list
// that a new stream session starts from.
func (l *List) completed() *List {
	n := l.next()
	if len(l.parts) > 0 {
		o := l.open
		s := &segment{
			name: o.name, sequence: o.sequence, discontinuitySequence: o.discontinuitySequence, discontinuity: o.discontinuity,
			date: o.date, number: o.number, trackSet: o.trackSet, parts: l.parts,
			counters: o.counters,
		}
		var frames []*media.Frame
		for _, p := range l.parts {
			s.duration += p.duration
			frames = append(frames, p.frames...)
		}
		s.setFrames(frames)
		n = l.with(s)
	}
	n.segmentAdded, n.previousWaiters = make(chan struct{}), nil // nothing waits for it
	return n
}

// trim removes segments that are older than the window of o from the playlist of l, and drops segments
// that left it long enough ago or exceed the bound of bytes. l must own its slice.
func (l *List) trim(o *Options) {
	targets, bytes := o.Window, o.Bytes
	window, most := time.Duration(targets)*l.Target, targets*maxPerTarget
	listed := l.Duration()
	for _, s := range l.current() {
		s.keep = max(s.keep, listed)
	}
	for cur := l.current(); l.listed > minListed && (listed-cur[0].duration >= window || l.listed > most); cur = cur[1:] {
		cur[0].keep += listed
		listed -= cur[0].duration
		l.listed--
	}

	var kept time.Duration
	l.frameBytes = 0
	rendered := 0
	for _, s := range slices.Backward(l.segments) {
		switch { // what is dropped is rendered again for a late player
		case kept >= renderedTargets*l.Target:
			s.dropRendered()
		case kept >= partTargets*l.Target:
			s.dropParts()
		}
		kept += s.duration
		l.frameBytes += s.size
		rendered += s.renderedBytes()
	}
	// A segment that was in no playlist that was sent is never requested.
	for len(l.segments) > l.listed {
		oldest := l.segments[0]
		if after := kept - oldest.duration; (o.KeepUnlisted || oldest.listed.Load()) && after < oldest.keep &&
			len(l.segments) <= 3*most && l.frameBytes+rendered <= bytes {
			break
		}
		kept -= oldest.duration
		l.dropOldest()
	}
	for _, s := range l.current() {
		if l.frameBytes+rendered <= bytes {
			return
		}
		rendered -= s.renderedBytes()
		s.dropRendered() // rendered again on request
	}
	for l.listed > minListed && l.frameBytes > bytes {
		l.listed--
		l.dropOldest()
	}
}

// dropOldest removes the oldest segment, also from the array.
func (l *List) dropOldest() {
	l.frameBytes -= l.segments[0].size
	l.segments[0] = nil
	l.segments = l.segments[1:]
}

// A waiterGroup counts the requests that wait for an event. Its channel done is closed when the
// event has occurred and the last of them has stopped waiting.
type waiterGroup struct {
	count atomic.Int64 // waiting requests, plus one until the event occurs
	done  chan struct{}
}

func newWaiterGroup() *waiterGroup {
	g := &waiterGroup{done: make(chan struct{})}
	g.count.Store(1)
	return g
}

// add registers a waiter. It returns false when done is closed: a group is used once.
func (g *waiterGroup) add() bool {
	for {
		n := g.count.Load()
		if n == 0 {
			return false
		}
		if g.count.CompareAndSwap(n, n+1) {
			return true
		}
	}
}

func (g *waiterGroup) remove() {
	if g.count.Add(-1) == 0 {
		close(g.done)
	}
}
