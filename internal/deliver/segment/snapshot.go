package segment

import (
	"fmt"
	"slices"
	"time"

	"livego/internal/container/fmp4"
	"livego/internal/media"
)

// A Snapshot is the complete state of a Segmenter between two frames: what another Segmenter needs to
// make the same files, playlists and names of the frames that follow. It refers to the frames of the
// open segment, and describes the complete segments without their bytes. It is immutable.
type Snapshot struct {
	// Frames are those of which no complete segment has been made, ordered by Seq. Shared: do not
	// modify.
	Frames []*media.Frame

	opt    Options // without what belongs to the Segmenter's server
	state  state
	held   int // number of the newest Frames that are held
	points []cutPoint
	tracks *trackSet    // of the period; nil until something of it is complete
	parts  []openPart   // complete parts of the open segment
	list   listSnapshot // the current List
}

// An openPart is a complete part of an open segment: its frames start where those of the part before
// end.
type openPart struct {
	duration time.Duration
	end      int // number of the segment's frames up to its end
	// next is the track, and ticks the time, of the picture that ends it; nil if none does.
	next  *media.Track
	ticks int64
}

// A listSnapshot is a List without the bytes of its segments.
type listSnapshot struct {
	ready, paused, ended bool
	target, partTarget   time.Duration
	segments             []segmentSnapshot
	listed               int
	parts                int // number of published parts of the open segment
	open                 bool
	full, hadLine        bool
}

// A segmentSnapshot describes a complete segment.
type segmentSnapshot struct {
	name                  string
	duration              time.Duration
	sequence              uint64
	discontinuitySequence uint64
	discontinuity         bool
	date                  time.Time
	trackSet              *trackSet
	parts                 []partSnapshot
	totals                byteTotals
	size                  int
	keep                  time.Duration
	listed                bool
}

// A partSnapshot describes a part of a complete segment.
type partSnapshot struct {
	duration    time.Duration
	independent bool
	payload     [2]int // as in byteTotals
}

// Next returns the Seq of the first frame that the Segmenter has not got.
func (sn *Snapshot) Next() uint64 { return sn.state.nextFrame }

// Epoch returns that of the stream session.
func (sn *Snapshot) Epoch() uint64 { return sn.state.epoch }

// From returns the Seq of the oldest frame that sn refers to, or Next if it refers to none.
func (sn *Snapshot) From() uint64 {
	if len(sn.Frames) > 0 {
		return sn.Frames[0].Seq
	}
	return sn.Next()
}

// trackSets returns the track sets of sn, each once, in the order of their first use.
func (sn *Snapshot) trackSets() (sets []*trackSet) {
	add := func(t *trackSet) {
		if t != nil && !slices.Contains(sets, t) {
			sets = append(sets, t)
		}
	}
	for i := range sn.list.segments {
		add(sn.list.segments[i].trackSet)
	}
	add(sn.tracks)
	return sets
}

// Snapshot returns the state of s between the frames that were written and the next one. It copies
// pointers only. It is for the goroutine that writes.
func (s *Segmenter) Snapshot() *Snapshot {
	sn := &Snapshot{
		Frames: slices.Concat(s.frames, s.buffer.held), opt: s.opt, state: s.state, held: len(s.buffer.held),
		points: slices.Clone(s.points), tracks: s.tracks, list: s.List().snapshot(),
	}
	sn.opt.MarkUsed, sn.opt.Counters, sn.opt.KeepUnlisted = nil, nil, false
	if s.segment == nil {
		return sn
	}
	end := 0
	for _, p := range s.segment.parts {
		end += len(p.frames)
		o := openPart{duration: p.duration, end: end}
		if len(p.ends) > 0 {
			o.next, o.ticks = p.ends[0].Track, p.ends[0].Ticks
		}
		sn.parts = append(sn.parts, o)
	}
	return sn
}

func (l *List) snapshot() listSnapshot {
	sn := listSnapshot{
		ready: l.Ready, paused: l.Paused, ended: l.Ended, target: l.Target, partTarget: l.PartTarget, listed: l.listed,
		parts: len(l.parts), open: l.open != nil, full: l.full, hadLine: l.hadLine,
		segments: make([]segmentSnapshot, len(l.segments)),
	}
	for i, s := range l.segments {
		sn.segments[i] = segmentSnapshot{
			name: s.name, duration: s.duration, sequence: s.sequence, discontinuitySequence: s.discontinuitySequence,
			discontinuity: s.discontinuity, date: s.date, trackSet: s.trackSet, totals: s.totals, size: s.size,
			keep: s.keep, listed: s.listed.Load(),
		}
		for _, p := range s.parts {
			sn.segments[i].parts = append(sn.segments[i].parts, partSnapshot{p.duration, p.independent, p.totals.payload})
		}
	}
	return sn
}

// Restore replaces the state of s by sn, and publishes the list of sn. The complete segments of sn
// have no bytes until AddFile. It is for the goroutine that writes.
func (s *Segmenter) Restore(sn *Snapshot) {
	o := sn.opt
	o.MarkUsed, o.Counters, o.KeepUnlisted = s.opt.MarkUsed, s.opt.Counters, s.opt.KeepUnlisted
	s.opt, s.state, s.tracks, s.segment = o, sn.state, sn.tracks, nil
	frames := len(sn.Frames) - sn.held
	s.buffer = buffer{
		frames: slices.Clone(sn.Frames[:frames]), points: slices.Clone(sn.points), held: slices.Clone(sn.Frames[frames:]),
	}
	if len(s.buffer.held) == 0 {
		s.buffer.held = nil
	}
	if s.open {
		s.restoreOpenSegment(sn.parts)
	}
	l := sn.list.restore(s.opt.Counters)
	if sn.list.open && s.open {
		l.open, l.parts = s.segment, s.segment.parts[:sn.list.parts:sn.list.parts]
	}
	s.replace(l)
}

// restoreOpenSegment makes the open segment with its complete parts.
func (s *Segmenter) restoreOpenSegment(parts []openPart) {
	s.segment = s.newSegment()
	from := 0
	for i, p := range parts {
		frames := s.frames[from:p.end:p.end]
		q := &part{
			name: s.segment.partName(i), duration: p.duration, segment: s.segment, frames: frames,
			independent: independent(frames, s.period.video), number: s.segment.number + uint32(i),
		}
		for _, f := range frames {
			q.totals.add(f)
		}
		if p.next != nil {
			q.ends = []fmp4.TrackEnd{{Track: p.next, Ticks: p.ticks}}
		}
		s.segment.parts = append(s.segment.parts, q)
		from = p.end
	}
	if len(parts) > 0 {
		s.segment.trackSet = s.tracks
	}
}

// restore returns the List, without an open segment.
func (sn *listSnapshot) restore(c *Counters) *List {
	l := &List{
		Ready: sn.ready, Paused: sn.paused, Ended: sn.ended, Target: sn.target, PartTarget: sn.partTarget,
		listed: sn.listed, full: sn.full, hadLine: sn.hadLine, segments: make([]*segment, len(sn.segments)),
		compressor: new(compressor), updated: make(chan struct{}), waiters: newWaiterGroup(),
		segmentAdded: make(chan struct{}),
	}
	for i := range sn.segments {
		l.segments[i] = sn.segments[i].restore(c)
		l.frameBytes += l.segments[i].size
	}
	return l
}

func (sn *segmentSnapshot) restore(c *Counters) *segment {
	s := &segment{
		name: sn.name, duration: sn.duration, sequence: sn.sequence, discontinuitySequence: sn.discontinuitySequence,
		discontinuity: sn.discontinuity, date: sn.date, trackSet: sn.trackSet, totals: sn.totals, size: sn.size,
		keep: sn.keep, counters: c, remote: true,
	}
	s.listed.Store(sn.listed)
	for i, p := range sn.parts {
		s.parts = append(s.parts, &part{
			name: s.partName(i), duration: p.duration, independent: p.independent, segment: s,
			totals: byteTotals{payload: p.payload},
		})
	}
	return s
}

// AddFile gives a complete segment of Restore, or a part of one, its bytes, which it owns. It reports
// false if there is no such file, or it has its bytes. It is for any goroutine.
func (l *List) AddFile(name string, data []byte) bool {
	f := l.File(name)
	if !f.Absent() {
		return false
	}
	f.rendered.set(data)
	return true
}

// AbsentFiles returns the names of the listed segments in format f that have no bytes yet, newest
// first.
func (l *List) AbsentFiles(f Format) (names []string) {
	for _, s := range slices.Backward(l.current()) {
		name := s.name + extPart
		if f == TS {
			name = s.name + extTS
		}
		if file := s.file(name, "", f); file.Absent() && !s.trackSet.tracks[f].empty() {
			names = append(names, name)
		}
	}
	return names
}

// newSegment returns the open segment, without frames.
func (b *builder) newSegment() *segment {
	return &segment{
		name:                  fmt.Sprintf("%d-%d", b.epoch, b.start.Milliseconds()),
		sequence:              b.nextSequence - 1,
		discontinuitySequence: b.discontinuitySequence,
		discontinuity:         b.discontinuous,
		date:                  b.period.arrived.Add(b.start - b.period.start),
		number:                uint32(b.start.Milliseconds()),
		counters:              b.opt.Counters,
	}
}
