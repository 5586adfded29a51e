package segment

import (
	"cmp"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"livego/internal/media"
)

const (
	// maxTarget bounds the target duration: players stay three of them behind, and start so much later.
	maxTarget = 6 * time.Second
	// gopTolerance is what a target duration leaves between itself and the GOP it is made for, which may vary.
	gopTolerance = 250 * time.Millisecond
	// maxOverrun is by how much a segment may exceed the target duration: rounded to a second it must
	// not (RFC 8216, 4.3.3.1).
	maxOverrun = 499 * time.Millisecond
	// maxSkew is how far a keyframe's DTS may be behind the newest frame's for its own time to be where a segment begins.
	maxSkew = time.Second
	// minSpacing is the least distance between the starts of segments, whose names count milliseconds.
	minSpacing = time.Millisecond
	// minFirstSegment is the least that a session's first segment of pictures lasts, wherever decoders
	// may start before that.
	minFirstSegment = 400 * time.Millisecond
	// minFirstFrames is how many pictures that has at least, of which parts are to be made.
	minFirstFrames = 4
	// endlessGOP is how long a GOP that has not ended yet counts as none.
	endlessGOP = 30 * time.Second
	// minWindow is the least number of target durations that a playlist lists.
	minWindow = 8
	// frameOverhead is what a frame takes beside its payload.
	frameOverhead = 256
	// lastPartsTargets is how many part targets the last parts of a stream are in the playlist before
	// the line of their segment. Players stay holdBackParts behind, so they do not run out of media
	// meanwhile.
	lastPartsTargets = 2
)

// Options of a Segmenter.
type Options struct {
	Segment time.Duration // wished length of a segment; default 2 s
	Part    time.Duration // wished length of a part; 0 for none
	Window  int           // target durations' worth of segments in the playlist; at least 8
	// TrackWait is how long, in stream time, the first segment after a joint waits for the other of
	// picture and sound; default 2 s.
	TrackWait time.Duration
	// Bytes bounds the memory of a stream's segments; default 128 MiB. A segment is cut at a quarter of it.
	Bytes int
	// MarkUsed, when set, is told each media sequence number before it is published: see Numbers.
	MarkUsed func(uint64)
}

// A Segmenter makes the segments of one session of a stream. Write, Flush, Pause and End are for
// one goroutine, the rest for any.
type Segmenter struct {
	opt   Options
	epoch uint64
	list  atomic.Pointer[List]
	ready chan struct{} // closed with the first playlist, or at the end

	// The rest is the writer's.
	nextSequence          uint64        // media sequence number of the nextSequence segment
	discontinuitySequence uint64        // discontinuity sequence number of the open segment
	target                time.Duration // 0 until it is fixed
	period                period
	open                  *Segment // nil before the first frame
	start                 time.Duration
	minStart              time.Duration // the next segment begins no earlier, so that its name is new
	end                   time.Duration // of the last frame of the open segment
	newestDTS             time.Duration // largest DTS
	videoDTS              time.Duration // DTS of the newest videoDTS frame
	lastRAP               time.Duration // DTS of the newest random access point; negative before the first
	lastGOP               time.Duration // newest GOP
	repeatedGOP           time.Duration // longest that two GOPs in a row were at least
	cutter                partCutter
	firstSegment          bool                    // no segment of the session is complete
	beforeAnchor          func(*media.Frame) bool // frames of before the anchor; nil when they have passed
	// sound of a new track, until the next picture tells whether the old ones go on
	pendingAudio []*media.Frame
	nextAudio    *media.Track // of sound, which enters with the next segment; nil when there is none

	hasBoth       bool // the newest lineup has picture and sound
	frameCapacity int  // how many frames the last segment had
	finished      bool // all parts of the open segment are complete, and none follows
}

// A period is what lies between two discontinuities.
type period struct {
	discontinuityNumber uint32
	video, audio        *media.Track
	carriedOver         *media.Track // that of the two which goes on from the run before, until a frame of it comes
	// of its tracks; nil until something is complete: a track that comes until then was there from the
	// start
	trackSet *trackSet
	start    time.Duration
	arrived  time.Time // when the frame at start did
}

// New returns a Segmenter whose media and discontinuity sequence numbers begin at epoch, which no
// other session may have.
func New(epoch uint64, o Options) *Segmenter {
	o.Segment = cmp.Or(o.Segment, 2*time.Second)
	o.Window = max(o.Window, minWindow)
	o.TrackWait = cmp.Or(o.TrackWait, 2*time.Second)
	o.Bytes = cmp.Or(o.Bytes, 128<<20)
	s := &Segmenter{opt: o, epoch: epoch, ready: make(chan struct{}), nextSequence: epoch, discontinuitySequence: epoch,
		lastRAP: -1, firstSegment: true}
	s.list.Store(&List{updated: make(chan struct{}), waiters: newWaiterGroup(), segmentAdded: make(chan struct{}),
		compressor: new(compressor)})
	return s
}

// Successor returns a Segmenter that takes over from s, which gets no more frames: for the session
// after that of s, or for the rest of the same where a fault ended s. Its playlist goes on from
// that of s: the numbers continue, and its first segment is marked as discontinuous.
func (s *Segmenter) Successor(epoch uint64) *Segmenter {
	n := New(epoch, s.opt)
	last := s.List().completed()
	if last.listed == 0 {
		return n
	}
	newest := last.newest()
	n.nextSequence, n.discontinuitySequence, n.hasBoth = newest.sequence+1, newest.discontinuitySequence,
		newest.trackSet.hasBoth()
	if epoch == s.epoch {
		n.minStart = s.start + minSpacing
	}
	n.list.Store(last)
	return n
}

// An anchor is where a segment begins, and what has to be known of before it, so that whoever has
// the frames from there on makes the same segments of them, with the same names.
type anchor struct {
	epoch, sequence, discontinuitySequence uint64
	discontinuity                          bool
	discontinuityNumber                    uint32 // of the run
	start                                  time.Duration
	kind                                   media.Kind    // of its first frame
	dts                                    time.Duration // of that
	date                                   time.Time
	target                                 time.Duration
	partTarget, frameDuration              time.Duration // as in parts
	lastRAP, lastGOP                       time.Duration // as in Segmenter
	hasBoth                                bool          // the same
}

// anchor returns where the open segment begins, once a segment is complete.
func (s *Segmenter) anchor() anchor {
	f := s.open.frames[0]
	return anchor{
		epoch: s.epoch, sequence: s.open.sequence, discontinuitySequence: s.open.discontinuitySequence,
		discontinuity: s.open.discontinuity, discontinuityNumber: s.period.discontinuityNumber,
		start: s.start, kind: f.Track.Kind, dts: f.DTS, date: s.open.date,
		target: s.target, partTarget: s.cutter.target, frameDuration: s.cutter.frameDuration, lastRAP: s.lastRAP,
		lastGOP: s.lastGOP, hasBoth: s.hasBoth,
	}
}

// newAtAnchor returns a Segmenter that begins at a and passes over the frames before it.
func newAtAnchor(a anchor, o Options) *Segmenter {
	s := New(a.epoch, o)
	s.nextSequence, s.discontinuitySequence, s.target, s.lastRAP, s.lastGOP = a.sequence, a.discontinuitySequence,
		a.target, a.lastRAP, a.lastGOP
	s.cutter.target, s.cutter.frameDuration = a.partTarget, a.frameDuration
	s.newestDTS, s.firstSegment, s.hasBoth = a.start, false, a.hasBoth
	s.beforeAnchor = func(f *media.Frame) bool {
		if f.Track.Kind != a.kind || f.DTS < a.dts {
			return true
		}
		if s.openSegment(f, a.start, false); isRAP(f) {
			s.lastRAP = -1 // it ended the GOP of which a tells
		}
		s.open.discontinuity, s.open.date, s.period.arrived, s.period.discontinuityNumber = a.discontinuity, a.date, a.date,
			a.discontinuityNumber
		return false
	}
	return s
}

// List returns what there is to fetch now; never nil.
func (s *Segmenter) List() *List { return s.list.Load() }

// Ready is closed when there is a playlist. It is closed without one when the session ends without a segment.
func (s *Segmenter) Ready() <-chan struct{} { return s.ready }

// Write adds f, the next frame of the stream in its order, of a track that Carries accepts: the
// first of its kind, where there are several. What is not added is sound whose track has come, or
// has got other parameters, in the middle of a GOP: it enters with the next segment, so that the
// picture goes on.
func (s *Segmenter) Write(f *media.Frame) {
	if s.beforeAnchor != nil {
		if s.beforeAnchor(f) {
			return
		}
		s.beforeAnchor = nil
	}
	if s.finished {
		s.Pause()
	}
	if s.supersedes(f) {
		s.undo(f.Track.Kind)
	}
	s.newestDTS = max(s.newestDTS, f.DTS)
	if f.Track.Kind == media.Video {
		s.videoDTS = f.DTS
		if f.RAP != media.NoRandomAccess {
			s.measureGOP(f)
		}
	}
	if len(s.pendingAudio) > 0 {
		s.resolvePendingAudio(f)
	}
	switch joint := s.open != nil && s.isDiscontinuous(f); {
	case s.open == nil:
		s.openSegment(f, max(s.position(f), s.minStart), s.List().listed > 0)
		s.add(f)
	case joint && s.interruptsGOP(f):
		s.holdAudio(f)
	case joint && len(s.pendingAudio) > 0:
		s.releasePendingAudio()
		s.Write(f)
	case !joint && !isRAP(f) && s.due(f) && s.splitAtPart(f):
		s.Write(f)
	case joint || s.due(f):
		s.cut(f, joint || s.nextAudio != nil || *s.period.track(f.Track.Kind) == nil)
		s.add(f)
	default:
		s.extend(f)
	}
}

// maxPendingAudio is how many frames of sound wait for a picture: more than come between two where
// anybody looks at them.
const maxPendingAudio = 100

// holdAudio keeps f, sound that would interrupt a GOP, until the next picture.
func (s *Segmenter) holdAudio(f *media.Frame) {
	switch {
	case s.nextAudio != nil: // the GOP goes on
	case len(s.pendingAudio) == 0 && s.rewindToRAP(f):
		s.extend(f)
	default:
		s.pendingAudio = append(s.pendingAudio, f)
	}
}

// canHoldAudio reports whether f may be held too: all that is must have a place in one segment.
func (s *Segmenter) canHoldAudio(f *media.Frame) bool {
	size := len(f.Payload)
	for _, h := range s.pendingAudio {
		size += len(h.Payload)
	}
	return len(s.pendingAudio) < maxPendingAudio && size <= s.opt.Bytes/4
}

// resolvePendingAudio sees by f, which comes next, what becomes of the sound that is held. Where a
// GOP begins with f, or other pictures, that has come with it, as where one file follows another.
// Where the old pictures go on, or the old sound, it is not added.
func (s *Segmenter) resolvePendingAudio(f *media.Frame) {
	switch t := s.pendingAudio[0].Track; {
	case f.Track == t:
	case f.Track.Kind == media.Audio:
		s.pendingAudio = nil
	case isRAP(f) || f.Track != s.period.video || f.Discontinuity != s.period.discontinuityNumber:
		s.releasePendingAudio()
	default:
		s.nextAudio, s.pendingAudio = t, nil
	}
}

// releasePendingAudio begins a segment with the sound that is held.
func (s *Segmenter) releasePendingAudio() {
	held := s.pendingAudio
	s.pendingAudio = nil
	s.cut(held[0], true)
	for _, f := range held {
		s.add(f)
	}
}

// extend adds f to the open segment, whose parts it may complete.
func (s *Segmenter) extend(f *media.Frame) {
	if s.allowsPartCut(f) {
		s.cutter.advance(s, cutPoint{len(s.open.frames), s.position(f)}, f)
		if s.period.video == nil && s.cutter.firstFrame > 0 && s.slot(s.cutter.start) > s.slot(s.start) {
			s.split(f) // sound alone has reached the next slot of time
		}
	}
	s.add(f)
}

// splitAtPart ends the open segment, which is to be cut before f for its length or size, with its last
// complete part. It reports false where it has none.
func (s *Segmenter) splitAtPart(f *media.Frame) bool {
	if s.opt.Part == 0 {
		return false
	}
	if s.cutter.target == 0 {
		length := s.position(f) - s.start
		s.fixTarget(max(s.lastGOP, length))
		s.cutter.cutAll(s, cutPoint{len(s.open.frames), s.start + length}, f)
	}
	if s.cutter.firstFrame == 0 {
		return false
	}
	s.split(f)
	return true
}

// split completes the open segment with its last complete part. What came after that begins the next; where
// that is nothing, next does, which has not been added yet.
func (s *Segmenter) split(next *media.Frame) {
	rest, at := s.open.frames[s.cutter.firstFrame:], s.cutter.start
	first := next
	if len(rest) > 0 {
		first = rest[0]
	}
	s.truncateOpen(s.cutter.firstFrame)
	l := s.complete(at-s.start, first)
	s.openSegment(first, at, s.nextAudio != nil)
	s.publish(l)
	for i, f := range rest {
		if i == 0 {
			s.add(f)
		} else {
			s.extend(f)
		}
	}
}

// supersedes reports whether f is of the track that is the first of its kind after all, and nothing
// has been shown of the one that was taken for it.
func (s *Segmenter) supersedes(f *media.Frame) bool {
	if s.open == nil || !s.firstSegment || s.period.trackSet != nil {
		return false
	}
	t := *s.period.track(f.Track.Kind)
	return t != nil && f.Track.ID < t.ID
}

// undo takes the open segment back, which nobody has seen, as what it has of kind k is not to be in
// it. Pictures stay: where sound has to go, the next keyframe may be seconds away.
func (s *Segmenter) undo(k media.Kind) {
	o := s.open
	if o.discontinuity {
		s.discontinuitySequence--
	}
	s.open, s.nextSequence, s.lastRAP, s.newestDTS = nil, s.nextSequence-1, -1, 0
	s.pendingAudio, s.nextAudio = nil, nil
	*s.period.track(k) = nil
	if k == media.Video {
		return
	}
	for _, f := range o.frames {
		if f.Track.Kind == media.Video {
			s.Write(f)
		}
	}
}

// Flush publishes the parts that are complete since it was called last.
func (s *Segmenter) Flush() {
	l := s.List()
	if s.open == nil || !l.Ready || l.open == s.open && len(l.parts) == len(s.open.parts) {
		return
	}
	s.publish(&List{
		Target: s.target, PartTarget: l.PartTarget, Bytes: l.Bytes, segments: l.segments, listed: l.listed,
		segmentAdded: l.segmentAdded,
		lined:        l.open == nil || l.lined,
	})
}

// Due returns the stream time before which Write completes nothing, but where a random access
// point, a new track or a joint of the timeline comes: no part, or without parts no segment. For
// the writer.
func (s *Segmenter) Due(parts bool) time.Duration {
	if s.open == nil {
		return 0
	}
	segment := min((s.slot(s.start)+1)*s.opt.Segment, s.start+s.maxDuration())
	if !parts || s.cutter.target == 0 {
		return segment
	}
	return min(segment, s.cutter.start+s.cutter.target-s.cutter.frameDuration/2)
}

// Finish completes and publishes the last parts of the open segment, before Pause or End adds the line of that
// segment to the playlist, and returns how long that has to wait. hls.js does not request a part of a segment
// that has a line: without the wait it would miss the last parts.
//
// It returns 0 if no part is new. A frame that comes after Finish has the effect of Pause.
func (s *Segmenter) Finish() time.Duration {
	l := s.List()
	if s.open == nil || s.finished || !l.Ready || l.PartTarget == 0 || s.cutter.target == 0 {
		return 0
	}
	s.cutter.finish(s, cutPoint{len(s.open.frames), s.start + s.openDuration()}, nil)
	s.finished = true
	if l.open == s.open && len(l.parts) == len(s.open.parts) {
		return 0
	}
	s.Flush()
	return lastPartsTargets * l.PartTarget
}

// Pause completes the open segment with what it has, as the encoder is away. What comes after is
// marked as discontinuous.
func (s *Segmenter) Pause() {
	if s.open == nil {
		return
	}
	l := s.complete(s.openDuration(), nil)
	l.Paused, s.minStart, s.open, s.pendingAudio = true, s.start+minSpacing, nil, nil
	s.publish(l)
}

// End completes the last segment and the playlist. Where nothing came, that is the playlist of the session before.
func (s *Segmenter) End() {
	last := s.List()
	var l *List
	switch {
	case s.open != nil:
		l = s.complete(s.openDuration(), nil)
		s.open = nil
	case last.listed == 0:
		close(s.ready)
		return
	default:
		l = &List{
			Target: last.Target, PartTarget: last.PartTarget, Bytes: last.Bytes,
			segments: last.segments, listed: last.listed, segmentAdded: make(chan struct{}),
		}
	}
	l.Ended = true
	s.publish(l)
}

// LongKeyframeInterval returns how far apart random access points are when that is more than a
// segment may last: who joins in between has no picture until the next. It is 0 when it is not; one
// long GOP alone may be a pause of the encoder. For the writer.
func (s *Segmenter) LongKeyframeInterval() time.Duration {
	if s.repeatedGOP > s.maxDuration() {
		return s.repeatedGOP
	}
	if open := s.videoDTS - s.lastRAP; s.lastRAP >= 0 && open >= endlessGOP {
		return open
	}
	return 0
}

// measureGOP learns from the random access point f how far they are apart; the first distance fixes
// the target duration.
func (s *Segmenter) measureGOP(f *media.Frame) {
	if s.lastRAP >= 0 && f.Discontinuity == s.period.discontinuityNumber {
		gop := f.DTS - s.lastRAP
		s.repeatedGOP, s.lastGOP = max(s.repeatedGOP, min(s.lastGOP, gop)), gop
		s.fixTarget(gop)
	}
	s.lastRAP = f.DTS
}

// fixTarget sets the target duration, once for the session: players rely on it.
func (s *Segmenter) fixTarget(gop time.Duration) {
	if s.target != 0 {
		return
	}
	whole := func(d time.Duration) time.Duration {
		return max(time.Second, (d + time.Second - gopTolerance).Truncate(time.Second))
	}
	wish := whole(s.opt.Segment)
	s.target = min(whole(max(s.opt.Segment, gop)), max(wish, maxTarget))
	for _, old := range s.List().current() { // of a session before, whose target was another
		s.target = max(s.target, old.Duration.Round(time.Second))
	}
}

// maxDuration returns the longest that a segment may be.
func (s *Segmenter) maxDuration() time.Duration {
	return cmp.Or(s.target, max(maxTarget, s.opt.Segment)) + maxOverrun
}

// position returns where in stream time a segment that begins with f does. Where a track is far
// behind the others the frame's own time would make segments overlap.
func (s *Segmenter) position(f *media.Frame) time.Duration {
	if s.newestDTS-f.DTS > maxSkew {
		return s.newestDTS
	}
	return f.DTS
}

// isDiscontinuous reports whether f does not continue what is in the open segment: RFC 8216 section
// 4.3.2.3 wants a discontinuity where the time stamps jump or the tracks change. A track that comes
// while nothing of the run is complete is there from the start, also in place of one that went on
// from the run before: encoders change the parameters of picture and sound at once.
//
// Where it is only that the encoder's clock was set, the time of the stream goes on, and so does
// what a decoder makes of the same tracks: the discontinuity is at the next place where one may
// start.
func (s *Segmenter) isDiscontinuous(f *media.Frame) bool {
	t := *s.period.track(f.Track.Kind)
	if f.Discontinuity != s.period.discontinuityNumber {
		return t != f.Track || s.period.video == nil || isRAP(f)
	}
	if s.nextAudio != nil && isRAP(f) {
		return true
	}
	if t == nil || t == s.period.carriedOver { // nothing of it is in the run
		return t != f.Track && s.period.trackSet != nil
	}
	return t != f.Track
}

// interruptsGOP reports whether a segment that begins with f, which does not continue the open one,
// would begin in the middle of a GOP of pictures that go on. Where there is more sound than can be
// held, no pictures come.
func (s *Segmenter) interruptsGOP(f *media.Frame) bool {
	if f.Track.Kind != media.Audio || f.Discontinuity != s.period.discontinuityNumber || s.period.video == nil ||
		f.DTS-s.videoDTS > maxSkew || s.due(f) {
		return false
	}
	return s.nextAudio != nil || s.canHoldAudio(f)
}

// rewindToRAP has what comes with f begin at the newest random access point, where nothing of what
// came since is of the kind of f or has been published. Where a part ended there, the hint at the
// next turns out to be wrong: that is the first of the next segment.
func (s *Segmenter) rewindToRAP(f *media.Frame) bool {
	o := s.open
	from := len(o.frames) - 1
	for ; from >= s.cutter.firstFrame && !isRAP(o.frames[from]); from-- {
		if o.frames[from].Track.Kind == f.Track.Kind {
			return false
		}
	}
	if from < s.cutter.firstFrame {
		return false
	}
	rest := o.frames[from:]
	if from == 0 {
		s.nextSequence-- // the open segment, of which there is nothing yet, is made again
		s.openSegment(rest[0], s.start, true)
	} else {
		at := s.cutter.start
		if from > s.cutter.firstFrame {
			at = max(s.position(rest[0]), s.start+minSpacing, at+minSpacing)
		}
		s.truncateOpen(from)
		l := s.complete(at-s.start, rest[0])
		s.openSegment(rest[0], at, true)
		s.publish(l)
	}
	s.add(rest[0])
	for _, f := range rest[1:] {
		s.extend(f)
	}
	return true
}

// truncateOpen leaves n frames to the open segment.
func (s *Segmenter) truncateOpen(n int) {
	o, p := s.open, &s.cutter
	o.frames = o.frames[:n:n]
	o.totals, o.size = byteTotals{}, 0
	for _, f := range o.frames {
		o.totals.add(f)
		o.size += len(f.Payload) + frameOverhead
	}
	p.cutPoints = slices.DeleteFunc(p.cutPoints, func(m cutPoint) bool { return m.index >= n })
}

// due reports whether the open segment is to be cut before f.
func (s *Segmenter) due(f *media.Frame) bool {
	at := s.position(f)
	length := at - s.start
	if length+f.Duration > s.maxDuration() || s.open.size >= s.opt.Bytes/4 {
		return true // not where a decoder may start, but it must be somewhere
	}
	switch {
	case s.awaitsTrack(f):
	case isRAP(f):
		// The first one in its slot of time. One before that, if the segment would become too long by waiting for the
		// next; min keeps GOPs that are longer than a segment may be from one for each half.
		// Sound alone that has come with it is no segment.
		alone := s.period.video != nil && s.period.video == s.period.carriedOver
		return length+min(s.lastGOP, s.target) > s.maxDuration() || !alone &&
			(s.slot(at) > s.slot(s.start) || s.firstSegmentDue(length))
	case s.period.video == nil && s.cutter.target == 0:
		return s.slot(at) > s.slot(s.start) || s.firstSegmentDue(length)
	}
	return false
}

// awaitsTrack reports whether a track of the run is still to come, as f comes: the encoder has
// announced picture and sound, or there were both before and it announces nothing. What is
// completed until then would have one of them alone, and players that have laid out their buffers
// end where that changes: to hls.js it is another kind of track.
func (s *Segmenter) awaitsTrack(f *media.Frame) bool {
	if s.period.trackSet != nil || s.period.video != nil && s.period.audio != nil {
		return false
	}
	both := s.hasBoth
	if m := f.Meta; m != nil && (m.HasVideo || m.HasAudio) {
		both = m.HasVideo && m.HasAudio
	}
	return both && f.DTS-s.period.start < s.opt.TrackWait
}

// firstSegmentDue reports whether a segment of that length is enough to begin a session with: who
// waits for it gets a picture sooner. Of pictures it is a GOP, but for those that are too short to
// tell how long parts are.
func (s *Segmenter) firstSegmentDue(length time.Duration) bool {
	enough := s.opt.Segment / 2
	if s.period.video != nil && (s.opt.Part == 0 || len(s.cutter.cutPoints) >= minFirstFrames) {
		enough = min(enough, max(minFirstSegment, 2*s.opt.Part))
	}
	return s.firstSegment && length >= enough
}

// allowsPartCut reports whether parts may be cut before f: at video, or at audio where there is no video or none comes.
func (s *Segmenter) allowsPartCut(f *media.Frame) bool {
	return f.Track.Kind == media.Video || s.period.video == nil || f.DTS-s.videoDTS > maxSkew
}

func (s *Segmenter) slot(at time.Duration) time.Duration { return at / s.opt.Segment }

// cut completes the open segment and begins one with f. joint tells that f does not continue it.
func (s *Segmenter) cut(f *media.Frame, joint bool) {
	at := max(s.position(f), s.start+minSpacing, s.cutter.start+minSpacing)
	length, next := at-s.start, f
	if joint || length > s.maxDuration() { // what lies between the last frame and f is a hole, and no segment's
		joint, length, next = true, s.openDuration(), nil
	}
	l := s.complete(length, next)
	s.openSegment(f, at, joint)
	s.publish(l)
}

// openDuration returns the duration of the open segment by its frames. What sound lasts longer than
// the last part may, by less than a frame, is not said: it would be a part of its own and make the
// one before it too short.
func (s *Segmenter) openDuration() time.Duration {
	end := s.end
	if p := &s.cutter; p.target > 0 && end > p.start+p.target && end <= p.start+p.target+p.frameDuration {
		end = p.start + p.target
	}
	return min(max(end-s.start, minSpacing, s.cutter.start-s.start+minSpacing), s.maxDuration())
}

// openSegment opens a segment at time at, whose first frame is f. joint tells that something else was before it.
func (s *Segmenter) openSegment(f *media.Frame, at time.Duration, joint bool) {
	if joint {
		s.discontinuitySequence++
	}
	if s.open == nil || joint {
		s.startPeriod(f, at)
	}
	s.start, s.end, s.finished = at, at, false
	s.open = &Segment{
		Name:                  fmt.Sprintf("%d-%d", s.epoch, at.Milliseconds()),
		sequence:              s.nextSequence,
		discontinuitySequence: s.discontinuitySequence,
		discontinuity:         joint,
		date:                  s.period.arrived.Add(at - s.period.start),
		number:                uint32(at.Milliseconds()),
		frames:                make([]*media.Frame, 0, s.frameCapacity),
	}
	s.nextSequence++
	s.cutter.reset(at)
	if s.allowsPartCut(f) {
		s.cutter.cutPoints = append(s.cutter.cutPoints, cutPoint{0, at})
	}
	if s.opt.MarkUsed != nil {
		s.opt.MarkUsed(s.open.sequence)
	}
}

// startPeriod starts a run with f at time at. The other track goes on where only the parameters of
// one have changed, or the encoder's clock.
func (s *Segmenter) startPeriod(f *media.Frame, at time.Duration) {
	r := period{discontinuityNumber: f.Discontinuity, start: at, arrived: f.Arrived}
	if f.Discontinuity == s.period.discontinuityNumber || f.Track == *s.period.track(f.Track.Kind) {
		r.video, r.audio = s.period.video, cmp.Or(s.nextAudio, s.period.audio)
		if r.carriedOver = r.video; f.Track.Kind == media.Video {
			r.carriedOver = r.audio
		}
	}
	s.period, s.nextAudio = r, nil
}

// track returns where r keeps its track of kind k.
func (r *period) track(k media.Kind) **media.Track {
	if k == media.Video {
		return &r.video
	}
	return &r.audio
}

// add puts f into the open segment.
func (s *Segmenter) add(f *media.Frame) {
	t := s.period.track(f.Track.Kind)
	if *t == s.period.carriedOver {
		s.period.carriedOver = nil
	}
	*t = f.Track
	o := s.open
	o.frames = append(o.frames, f)
	o.totals.add(f)
	o.size += len(f.Payload) + frameOverhead
	s.end = max(s.end, f.DTS+f.Duration)
}

// complete completes the open segment, length long, before the frame next, and returns a list with
// it. next is nil where none follows without a hole.
func (s *Segmenter) complete(length time.Duration, next *media.Frame) *List {
	s.fixTarget(max(s.lastGOP, length))
	o, old := s.open, s.List()
	if !old.Ready { // nobody has seen the target yet
		s.target = max(s.target, length.Round(time.Second))
	}
	end := s.cutter.start
	if !s.finished {
		end = s.cutter.finish(s, cutPoint{len(o.frames), s.start + length}, next)
	}
	o.Duration, s.frameCapacity, s.firstSegment = end-s.start, len(o.frames), false
	s.cutter.detectSlow(o)

	l := &List{Target: s.target, PartTarget: s.cutter.playlistTarget(), listed: old.listed + 1,
		segmentAdded: make(chan struct{})}
	l.segments = append(append(make([]*Segment, 0, len(old.segments)+1), old.segments...), o)
	l.trim(s.opt.Window, s.opt.Bytes)
	return l
}

// publish publishes l, with what is complete of the open segment, and wakes who waits for it.
func (s *Segmenter) publish(l *List) {
	if s.open != nil {
		l.open, l.parts = s.open, s.open.parts[:len(s.open.parts):len(s.open.parts)]
		l.full = s.finished || s.cutter.firstFrame > 0 && s.cutter.start-s.start+s.cutter.target > s.maxDuration()
	}
	old := s.List()
	l.Ready, l.updated, l.compressor = true, make(chan struct{}), old.compressor
	l.waiters, l.previousWaiters = newWaiterGroup(), old.waiters
	s.list.Store(l)
	close(old.updated)
	old.waiters.remove()
	if l.segmentAdded != old.segmentAdded {
		close(old.segmentAdded)
	}
	if !old.Ready {
		close(s.ready)
	}
}

// openTrackSet returns that of the open segment, whose tracks are all there now.
func (s *Segmenter) openTrackSet() *trackSet {
	if s.period.trackSet == nil {
		s.period.trackSet = newTrackSet(s.period.video, s.period.audio)
		s.hasBoth = s.period.trackSet.hasBoth()
	}
	return s.period.trackSet
}

// isRAP reports whether f is video that a decoder may start with.
func isRAP(f *media.Frame) bool { return f.Track.Kind == media.Video && f.RAP != media.NoRandomAccess }
