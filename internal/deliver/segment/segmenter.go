package segment

import (
	"cmp"
	"time"

	"livego/internal/media"
)

// minWindow is the minimum number of target durations that a playlist lists.
const minWindow = 8

// Options of a Segmenter.
type Options struct {
	Segment time.Duration // intended duration of a segment; default 2 s
	Part    time.Duration // intended duration of a part; 0: no parts
	Window  int           // target durations that the playlist lists; at least 8
	// TrackWait is how long, in stream time, the first segment after a discontinuity waits for the
	// missing one of video and audio; default 2 s.
	TrackWait time.Duration
	// Bytes bounds the memory of a stream's segments; default 128 MiB. A segment is cut when it
	// reaches a quarter of it.
	Bytes int
	// MarkUsed, when set, receives each media sequence number before it is published: see
	// SequenceAllocator.
	MarkUsed func(uint64)
	Counters *Counters // may be nil
	// KeepUnlisted makes segments stay after they have left the playlist whether or not a playlist with
	// them was rendered here: another server may have rendered one.
	KeepUnlisted bool
}

// A Segmenter cuts one stream session into segments: its rule decides where they end, its builder
// makes them and their parts, and its publisher publishes them as Lists. Write, Flush, Finish, Pause,
// End, Due and LongKeyframeInterval are for one goroutine, the other methods for any.
type Segmenter struct {
	publisher
	builder
	sealed  func(Sealed)             // may be nil
	carried [media.Data + 1]struct { // by kind
		track   *media.Track // the newest
		carries bool
	}
}

// New returns a Segmenter whose media and discontinuity sequence numbers start at epoch, which must
// be unique to the stream session.
func New(epoch uint64, o Options) *Segmenter {
	o.Segment = cmp.Or(o.Segment, 2*time.Second)
	o.Window = max(o.Window, minWindow)
	o.TrackWait = cmp.Or(o.TrackWait, 2*time.Second)
	o.Bytes = cmp.Or(o.Bytes, 128<<20)
	s := new(Segmenter)
	s.opt, s.state = o, state{
		epoch: epoch, nextSequence: epoch, discontinuitySequence: epoch, lastRAP: -1, firstSegment: true,
	}
	s.ready = make(chan struct{})
	s.list.Store((&List{compressor: new(compressor)}).completed())
	return s
}

// Successor returns a Segmenter that continues the playlist of s, which must get no more frames. It
// is for the stream session after that of s or, with the same epoch, for the rest of the same
// session after a failure. The sequence numbers continue, and the first segment is marked as
// discontinuous.
func (s *Segmenter) Successor(epoch uint64) *Segmenter {
	n := New(epoch, s.opt)
	last := s.List().completed()
	if last.listed == 0 {
		return n
	}
	newest := last.newest()
	n.nextSequence, n.discontinuitySequence = newest.sequence+1, newest.discontinuitySequence
	n.continues, n.endDate = true, newest.date.Add(newest.duration)
	for _, old := range last.current() { // their target may be another
		n.minTarget = max(n.minTarget, old.duration.Round(time.Second))
	}
	if epoch == s.epoch {
		n.minStart = s.start + minSpacing
	}
	n.list.Store(last)
	return n
}

// From returns the Seq of the first frame of which no complete segment has been made: the first one of
// the open segment. It is for the goroutine that writes.
func (s *Segmenter) From() uint64 {
	switch {
	case len(s.frames) > 0:
		return s.frames[0].Seq
	case len(s.held) > 0:
		return s.held[0].Seq
	}
	return s.nextFrame
}

// IsOpen reports whether the open segment has that media sequence number. It is for the goroutine that
// writes.
func (s *Segmenter) IsOpen(sequence uint64) bool { return s.open && sequence == s.nextSequence-1 }

// StartAt sets the Seq of the first frame for WriteStream; default 0.
func (s *Segmenter) StartAt(seq uint64) { s.nextFrame = seq }

// WriteStream adds f, the next frame of a stream session, if it belongs in a segment: its track is the
// default of its kind, Carries accepts it, and a decoder that has got the frames so far can use it. If
// frames before it are missing, nothing of them is published: the open segment ends, and f starts what
// is not continuous with it.
func (s *Segmenter) WriteStream(f *media.Frame) {
	if f.Seq != s.nextFrame {
		s.Pause()
		s.raps = 0
	}
	s.nextFrame = f.Seq + 1
	if f.Program.IsDefault(f.Track) && s.carries(f.Track) && s.decodable(f) {
		s.Write(f)
	}
}

// carries is Carries for the newest track of each kind.
func (s *Segmenter) carries(t *media.Track) bool {
	k := &s.carried[t.Kind]
	if k.track != t {
		k.track, k.carries = t, Carries(t)
	}
	return k.carries
}

// Write adds f, the next frame of the stream in its order. Its track is the default of its kind, and
// Carries accepts it.
//
// Write drops audio whose track starts, or changes its parameters, in the middle of a GOP: the
// track starts with the next segment, so that the video continues.
func (s *Segmenter) Write(f *media.Frame) {
	if s.finished {
		s.Pause()
	}
	if s.supersedes(f) {
		for _, old := range s.discard(f.Track.Kind) {
			// The next keyframe may be seconds away.
			if old.Track.Kind == media.Video && f.Track.Kind == media.Audio {
				s.Write(old)
			}
		}
	}
	s.observe(f)
	for measured := false; ; {
		action, end := s.decide(&s.buffer, f, measured)
		switch action {
		case startSegment:
			if !end.discontinuous { // before something of the period is complete, which has its tracks
				s.period.join(f.Track)
			}
			s.divide(end, f)
			s.add(f)
			return
		case extendSegment:
			s.extend(f)
			return
		case holdFrame:
			s.held = append(s.held, f)
			return
		case dropFrame:
			return
		case measureParts:
			s.fixTarget(max(s.lastGOP, s.position(f)-s.start))
			s.measureParts(cutPoint{len(s.frames), s.position(f)}, f)
			if measured = true; s.firstFrame > 0 {
				s.divide(s.endAtPart(), f)
			}
		case divideSegment:
			s.divide(end, f)
		case startWithHeld:
			held := s.held
			s.held = nil
			s.divide(end, held[0])
			for _, f := range held {
				s.add(f)
			}
		case deferHeld:
			s.nextAudio, s.held = s.held[0].Track, nil
		case dropHeld:
			s.held = nil
		}
	}
}

// extend adds f to the open segment, and completes parts that end before it.
func (s *Segmenter) extend(f *media.Frame) {
	s.period.join(f.Track) // as in Write
	if s.allowsPartEnd(f) {
		s.endParts(cutPoint{len(s.frames), s.position(f)}, f)
		if s.dueAtPart() {
			s.divide(s.endAtPart(), f)
		}
	}
	s.add(f)
}

// divide ends the open segment, if there is one, at end, and starts the next one there with the frames
// since then. If there are none, it starts with f, which is not added yet.
func (s *Segmenter) divide(end boundary, f *media.Frame) {
	rest := s.frames[end.index:]
	if len(rest) > 0 {
		f = rest[0]
	}
	next := f
	if end.gap {
		next = nil
	}
	var l *List
	if end.index > 0 {
		l = s.complete(end.index, end.length, next)
	} else if s.open { // nothing of the open segment is published: it starts again
		s.nextSequence--
	}
	s.openSegment(f, end.at, end.discontinuous)
	if l != nil {
		s.publish(l)
	}
	for i, f := range rest {
		if i == 0 {
			s.add(f)
		} else {
			s.extend(f)
		}
	}
}

// complete completes the open segment as builder.complete, and returns the list with it.
func (s *Segmenter) complete(n int, length time.Duration, next *media.Frame) *List {
	done := s.builder.complete(n, length, next)
	if s.sealed != nil {
		s.sealed(Sealed{done})
	}
	l := s.List().with(done)
	if l.Target, l.PartTarget = s.target, s.partTarget; s.slow {
		l.PartTarget = 0 // what playlists announce about parts must be true
	}
	l.trim(&s.opt)
	return l
}

// completeLast completes the open segment, after which nothing follows without a gap, and returns
// the list with it.
func (s *Segmenter) completeLast() *List {
	l := s.complete(len(s.frames), s.openDuration(), nil)
	s.open, s.segment, s.buffer = false, nil, buffer{}
	s.minStart = s.start + minSpacing
	return l
}

func (s *Segmenter) publish(l *List) { s.publisher.publish(l, s.segment, s.isFull()) }

// Flush publishes the parts that were completed since the last call.
func (s *Segmenter) Flush() {
	if l := s.List(); s.open && l.Ready && !l.hasPartsOf(s.segment) {
		s.publish(l.next())
	}
}

// Finish completes and publishes the last parts of the open segment, before Pause or End adds the
// line of that segment to the playlist. It returns how long the line must wait: hls.js does not
// request a part of a segment that has a line, and would miss the last parts.
//
// It returns 0 if no part is new. A frame that comes after Finish has the effect of Pause.
func (s *Segmenter) Finish() time.Duration {
	l := s.List()
	if !s.open || s.finished || !l.Ready || l.PartTarget == 0 {
		return 0
	}
	s.completeParts(cutPoint{len(s.frames), s.start + s.openDuration()}, nil)
	s.finished = true
	if l.hasPartsOf(s.segment) {
		return 0
	}
	s.Flush()
	return lastPartsTargets * l.PartTarget
}

// Pause completes the open segment with what it has, as the encoder is away. What comes after it is
// marked as discontinuous.
func (s *Segmenter) Pause() {
	if !s.open {
		return
	}
	l := s.completeLast()
	l.Paused = true
	s.publish(l)
}

// End completes the last segment and the playlist. If there were no frames, that is the playlist of
// the stream session before.
func (s *Segmenter) End() {
	l := s.List()
	switch {
	case s.open:
		l = s.completeLast()
	case l.listed == 0:
		s.markReady()
		return
	default:
		l = l.next()
		l.segmentAdded = make(chan struct{})
	}
	l.Ended = true
	s.publish(l)
}

// Abandon ends the playlist without what is in no complete segment: frames that follow are missing
// here, and another server may make the rest of the open segment.
func (s *Segmenter) Abandon() {
	s.open, s.segment, s.buffer = false, nil, buffer{}
	s.End()
}
