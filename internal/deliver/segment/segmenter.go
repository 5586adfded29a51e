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
	// maxTarget bounds the target duration: players stay three target durations behind, and start
	// that much later.
	maxTarget = 6 * time.Second
	// gopTolerance is the part of a target duration that is reserved for variation of the GOP
	// duration.
	gopTolerance = 250 * time.Millisecond
	// maxOverrun is by how much a segment may exceed the target duration: rounded to a second it
	// must not (RFC 8216 section 4.3.3.1).
	maxOverrun = 499 * time.Millisecond
	// maxSkew is how far the DTS of a keyframe may be behind the newest DTS of all tracks for a
	// segment to start at the keyframe's own time.
	maxSkew = time.Second
	// minSpacing is the minimum distance between the starts of segments, because their names count
	// milliseconds.
	minSpacing = time.Millisecond
	// minFirstSegment is the minimum duration of the first segment of a stream session with video,
	// even where GOPs are shorter.
	minFirstSegment = 400 * time.Millisecond
	// minFirstFrames is the minimum number of pictures in that segment if it is to have parts.
	minFirstFrames = 4
	// endlessGOP is the duration from which on a GOP that has not ended counts as a long keyframe
	// interval.
	endlessGOP = 30 * time.Second
	// minWindow is the minimum number of target durations that a playlist lists.
	minWindow = 8
	// frameOverhead is the approximate memory of a frame in addition to its payload, in bytes.
	frameOverhead = 256
	// lastPartsTargets is for how many part targets the last parts of a stream are in the playlist
	// before the line of their segment. Players stay holdBackParts behind, so they do not run out
	// of media in that time.
	lastPartsTargets = 2
)

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
}

// A Segmenter cuts one stream session into segments. Write, Flush, Pause and End are for one
// goroutine, the other methods for any.
type Segmenter struct {
	opt   Options
	epoch uint64
	list  atomic.Pointer[List]
	ready chan struct{} // closed with the first playlist, or at the end

	// The writer goroutine owns the rest.
	nextSequence          uint64        // media sequence number of the next segment
	discontinuitySequence uint64        // discontinuity sequence number of the open segment
	target                time.Duration // target duration; 0 until it is fixed
	period                period
	open                  *Segment // nil before the first frame
	start                 time.Duration
	// minStart is the earliest start of the next segment, so that its name is new.
	minStart  time.Duration
	end       time.Duration // end of the last frame of the open segment
	newestDTS time.Duration // largest DTS
	videoDTS  time.Duration // DTS of the newest video frame
	// lastRAP is the DTS of the newest random access point; negative before the first.
	lastRAP      time.Duration
	lastGOP      time.Duration // duration of the newest GOP
	repeatedGOP  time.Duration // longest duration that two consecutive GOPs reached
	cutter       partCutter
	firstSegment bool // no segment of the stream session is complete
	// pendingAudio is audio of a new track, held until the next picture shows whether the GOP
	// continues.
	pendingAudio []*media.Frame
	nextAudio    *media.Track // audio track that starts with the next segment; nil when there is none

	hasBoth       bool // the newest track set has video and audio
	frameCapacity int  // number of frames of the last segment
	finished      bool // all parts of the open segment are complete, and no other follows
}

// A period is the media between two discontinuities.
type period struct {
	discontinuityNumber uint32
	video, audio        *media.Track
	// carriedOver is the track that continues from the period before, until its first frame.
	carriedOver *media.Track
	// trackSet is nil until something is complete: a track that starts before that belongs to the
	// period from its start.
	trackSet *trackSet
	start    time.Duration
	arrived  time.Time // arrival time of the frame at start
}

// New returns a Segmenter whose media and discontinuity sequence numbers start at epoch, which must
// be unique to the stream session.
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
	n.nextSequence, n.discontinuitySequence, n.hasBoth = newest.sequence+1, newest.discontinuitySequence,
		newest.trackSet.hasBoth()
	if epoch == s.epoch {
		n.minStart = s.start + minSpacing
	}
	n.list.Store(last)
	return n
}

// List returns the current list; never nil.
func (s *Segmenter) List() *List { return s.list.Load() }

// Ready is closed when there is a playlist. It is closed without one when the stream session ends
// without a segment.
func (s *Segmenter) Ready() <-chan struct{} { return s.ready }

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
	switch discontinuous := s.open != nil && s.isDiscontinuous(f); {
	case s.open == nil:
		s.openSegment(f, max(s.position(f), s.minStart), s.List().listed > 0)
		s.add(f)
	case discontinuous && s.interruptsGOP(f):
		s.holdAudio(f)
	case discontinuous && len(s.pendingAudio) > 0:
		s.releasePendingAudio()
		s.Write(f)
	case !discontinuous && !isRAP(f) && s.due(f) && s.splitAtPart(f):
		s.Write(f)
	case discontinuous || s.due(f):
		s.cut(f, discontinuous || s.nextAudio != nil || *s.period.track(f.Track.Kind) == nil)
		s.add(f)
	default:
		s.extend(f)
	}
}

// maxPendingAudio is the number of audio frames that may wait for a picture. It is more than come
// between two pictures of any usable frame rate.
const maxPendingAudio = 100

// holdAudio keeps f, audio that would interrupt a GOP, until the next picture.
func (s *Segmenter) holdAudio(f *media.Frame) {
	switch {
	case s.nextAudio != nil: // the GOP continues
	case len(s.pendingAudio) == 0 && s.rewindToRAP(f):
		s.extend(f)
	default:
		s.pendingAudio = append(s.pendingAudio, f)
	}
}

// canHoldAudio reports whether f may be held too: all held audio must fit into one segment.
func (s *Segmenter) canHoldAudio(f *media.Frame) bool {
	size := len(f.Payload)
	for _, h := range s.pendingAudio {
		size += len(h.Payload)
	}
	return len(s.pendingAudio) < maxPendingAudio && size <= s.opt.Bytes/4
}

// resolvePendingAudio decides by f, the next frame, what happens to the pending audio. If a GOP or
// another video track starts with f, the audio belongs to it, as where one file follows another,
// and starts a segment. If the old video or the old audio continues, the audio is dropped.
func (s *Segmenter) resolvePendingAudio(f *media.Frame) {
	switch t := s.pendingAudio[0].Track; {
	case f.Track == t:
	case f.Track.Kind == media.Audio:
		s.pendingAudio = nil
	case isRAP(f) || f.Track != s.period.video || f.Program.Discontinuity != s.period.discontinuityNumber:
		s.releasePendingAudio()
	default:
		s.nextAudio, s.pendingAudio = t, nil
	}
}

// releasePendingAudio starts a segment with the pending audio.
func (s *Segmenter) releasePendingAudio() {
	held := s.pendingAudio
	s.pendingAudio = nil
	s.cut(held[0], true)
	for _, f := range held {
		s.add(f)
	}
}

// extend adds f to the open segment, and completes parts that end before it.
func (s *Segmenter) extend(f *media.Frame) {
	if s.allowsPartCut(f) {
		s.cutter.advance(s, cutPoint{len(s.open.frames), s.position(f)}, f)
		if s.period.video == nil && s.cutter.firstFrame > 0 && s.slot(s.cutter.start) > s.slot(s.start) {
			s.split(f) // audio without video has reached the next time slot
		}
	}
	s.add(f)
}

// splitAtPart ends the open segment, which must be cut before f for its duration or size, with its
// last complete part. It returns false if there is no such part.
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

// split completes the open segment with its last complete part. The frames after that part start
// the next segment; if there are none, it starts with next, which is not added yet.
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

// supersedes reports whether f belongs to a track that precedes the current track of its kind, of
// which nothing has been published.
func (s *Segmenter) supersedes(f *media.Frame) bool {
	if s.open == nil || !s.firstSegment || s.period.trackSet != nil {
		return false
	}
	t := *s.period.track(f.Track.Kind)
	return t != nil && f.Track.ID < t.ID
}

// undo discards the open segment, of which nothing has been published, because its frames of kind k
// do not belong in it. Pictures are kept when audio is discarded: the next keyframe may be seconds
// away.
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

// Flush publishes the parts that were completed since the last call.
func (s *Segmenter) Flush() {
	l := s.List()
	if s.open == nil || !l.Ready || l.open == s.open && len(l.parts) == len(s.open.parts) {
		return
	}
	s.publish(&List{
		Target: s.target, PartTarget: l.PartTarget, Bytes: l.Bytes, segments: l.segments, listed: l.listed,
		segmentAdded: l.segmentAdded,
		hadLine:      l.open == nil || l.hadLine,
	})
}

// Due returns the stream time before which Write completes no part or, without parts, no segment. A
// random access point, a new track or a discontinuity of the timeline may complete one earlier. For
// the writer goroutine.
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

// Finish completes and publishes the last parts of the open segment, before Pause or End adds the
// line of that segment to the playlist. It returns how long the line must wait: hls.js does not
// request a part of a segment that has a line, and would miss the last parts.
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

// Pause completes the open segment with what it has, as the encoder is away. What comes after it is
// marked as discontinuous.
func (s *Segmenter) Pause() {
	if s.open == nil {
		return
	}
	l := s.complete(s.openDuration(), nil)
	l.Paused, s.minStart, s.open, s.pendingAudio = true, s.start+minSpacing, nil, nil
	s.publish(l)
}

// End completes the last segment and the playlist. If there were no frames, that is the playlist of
// the stream session before.
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

// LongKeyframeInterval returns the interval of random access points if it exceeds the maximum
// duration of a segment, else 0. A viewer that joins in between has no picture until the next one.
// One long GOP alone does not count: it may be a pause of the encoder. For the writer goroutine.
func (s *Segmenter) LongKeyframeInterval() time.Duration {
	if s.repeatedGOP > s.maxDuration() {
		return s.repeatedGOP
	}
	if open := s.videoDTS - s.lastRAP; s.lastRAP >= 0 && open >= endlessGOP {
		return open
	}
	return 0
}

// measureGOP updates the GOP durations at the random access point f; the first GOP fixes the target
// duration.
func (s *Segmenter) measureGOP(f *media.Frame) {
	if s.lastRAP >= 0 && f.Program.Discontinuity == s.period.discontinuityNumber {
		gop := f.DTS - s.lastRAP
		s.repeatedGOP, s.lastGOP = max(s.repeatedGOP, min(s.lastGOP, gop)), gop
		s.fixTarget(gop)
	}
	s.lastRAP = f.DTS
}

// fixTarget sets the target duration, once for the stream session: it must not change (RFC 8216
// section 6.2.1).
func (s *Segmenter) fixTarget(gop time.Duration) {
	if s.target != 0 {
		return
	}
	whole := func(d time.Duration) time.Duration {
		return max(time.Second, (d + time.Second - gopTolerance).Truncate(time.Second))
	}
	wanted := whole(s.opt.Segment)
	s.target = min(whole(max(s.opt.Segment, gop)), max(wanted, maxTarget))
	for _, old := range s.List().current() { // of an earlier session with another target
		s.target = max(s.target, old.Duration.Round(time.Second))
	}
}

// maxDuration returns the maximum duration of a segment.
func (s *Segmenter) maxDuration() time.Duration {
	return cmp.Or(s.target, max(maxTarget, s.opt.Segment)) + maxOverrun
}

// position returns the stream time at which a segment that begins with f starts. If a track is far
// behind the others, the frame's own time would make segments overlap.
func (s *Segmenter) position(f *media.Frame) time.Duration {
	if s.newestDTS-f.DTS > maxSkew {
		return s.newestDTS
	}
	return f.DTS
}

// isDiscontinuous reports whether f does not continue the open segment: RFC 8216 section 4.3.2.3
// requires a discontinuity where timestamps jump or tracks change. A track that starts while
// nothing of the period is complete belongs to the period from its start. So does a track that
// replaces one carried over from the period before: encoders change the parameters of video and
// audio at once.
//
// If only the encoder's clock was set, stream time continues, and a decoder of the same tracks can
// continue too: the discontinuity is at the next random access point.
func (s *Segmenter) isDiscontinuous(f *media.Frame) bool {
	t := *s.period.track(f.Track.Kind)
	if f.Program.Discontinuity != s.period.discontinuityNumber {
		return t != f.Track || s.period.video == nil || isRAP(f)
	}
	if s.nextAudio != nil && isRAP(f) {
		return true
	}
	if t == nil || t == s.period.carriedOver { // the period has no frame of it
		return t != f.Track && s.period.trackSet != nil
	}
	return t != f.Track
}

// interruptsGOP reports whether a segment that starts with f, which does not continue the open one,
// would start in the middle of a GOP of video that continues. If there is more audio than can be
// held, the video has stopped.
func (s *Segmenter) interruptsGOP(f *media.Frame) bool {
	if f.Track.Kind != media.Audio || f.Program.Discontinuity != s.period.discontinuityNumber || s.period.video == nil ||
		f.DTS-s.videoDTS > maxSkew || s.due(f) {
		return false
	}
	return s.nextAudio != nil || s.canHoldAudio(f)
}

// rewindToRAP moves the start of the new segment, which f requires, back to the newest random
// access point. It returns false if frames of f's kind came since then, or frames since then are
// published. If a part ended there, the preload hint for the next part turns out wrong: its frames
// become the first part of the next segment.
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
		s.nextSequence-- // the open segment, of which nothing is published, starts again
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

// truncateOpen keeps the first n frames of the open segment.
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
		return true // no random access point, but the segment must end
	}
	switch {
	case s.awaitsTrack(f):
	case isRAP(f):
		// At the first random access point in its time slot. At an earlier one, if the segment
		// would become too long until the next one; min prevents two segments per GOP where GOPs
		// exceed the maximum duration of a segment. Not if the segment has only the audio that came
		// with this picture.
		alone := s.period.video != nil && s.period.video == s.period.carriedOver
		return length+min(s.lastGOP, s.target) > s.maxDuration() || !alone &&
			(s.slot(at) > s.slot(s.start) || s.firstSegmentDue(length))
	case s.period.video == nil && s.cutter.target == 0:
		return s.slot(at) > s.slot(s.start) || s.firstSegmentDue(length)
	}
	return false
}

// awaitsTrack reports whether, when f comes, a track of the period is still expected: the encoder
// has announced video and audio, or there were both before and it announces nothing. A segment
// completed before that would have only one of them, and players that have created buffers for both
// stop there: hls.js does not support such a change.
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

// firstSegmentDue reports whether a duration is enough for the first segment of a stream session,
// so that waiting viewers get a picture sooner. With video that is a GOP, unless it is too short to
// show how long parts are.
func (s *Segmenter) firstSegmentDue(length time.Duration) bool {
	enough := s.opt.Segment / 2
	if s.period.video != nil && (s.opt.Part == 0 || len(s.cutter.cutPoints) >= minFirstFrames) {
		enough = min(enough, max(minFirstSegment, 2*s.opt.Part))
	}
	return s.firstSegment && length >= enough
}

// allowsPartCut reports whether a part may end before f: at video, or at audio if there is no video
// or none comes.
func (s *Segmenter) allowsPartCut(f *media.Frame) bool {
	return f.Track.Kind == media.Video || s.period.video == nil || f.DTS-s.videoDTS > maxSkew
}

func (s *Segmenter) slot(at time.Duration) time.Duration { return at / s.opt.Segment }

// cut completes the open segment and starts one with f. discontinuous means that f does not continue it.
func (s *Segmenter) cut(f *media.Frame, discontinuous bool) {
	at := max(s.position(f), s.start+minSpacing, s.cutter.start+minSpacing)
	length, next := at-s.start, f
	if discontinuous || length > s.maxDuration() { // the gap between the last frame and f belongs to no segment
		discontinuous, length, next = true, s.openDuration(), nil
	}
	l := s.complete(length, next)
	s.openSegment(f, at, discontinuous)
	s.publish(l)
}

// openDuration returns the duration of the open segment by its frames. It does not count audio that
// exceeds the maximum duration of the last part by less than a frame: that would become a part of
// its own, and the part before it too short.
func (s *Segmenter) openDuration() time.Duration {
	end := s.end
	if p := &s.cutter; p.target > 0 && end > p.start+p.target && end <= p.start+p.target+p.frameDuration {
		end = p.start + p.target
	}
	return min(max(end-s.start, minSpacing, s.cutter.start-s.start+minSpacing), s.maxDuration())
}

// openSegment starts a segment at time at, whose first frame is f. discontinuous means that f does not
// continue what was before it.
func (s *Segmenter) openSegment(f *media.Frame, at time.Duration, discontinuous bool) {
	if discontinuous {
		s.discontinuitySequence++
	}
	if s.open == nil || discontinuous {
		s.startPeriod(f, at)
	}
	s.start, s.end, s.finished = at, at, false
	s.open = &Segment{
		Name:                  fmt.Sprintf("%d-%d", s.epoch, at.Milliseconds()),
		sequence:              s.nextSequence,
		discontinuitySequence: s.discontinuitySequence,
		discontinuity:         discontinuous,
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

// startPeriod starts a period with f at time at. The other track continues if only the parameters
// of one track have changed, or the encoder's clock.
func (s *Segmenter) startPeriod(f *media.Frame, at time.Duration) {
	r := period{discontinuityNumber: f.Program.Discontinuity, start: at, arrived: f.Arrived}
	if f.Program.Discontinuity == s.period.discontinuityNumber || f.Track == *s.period.track(f.Track.Kind) {
		r.video, r.audio = s.period.video, cmp.Or(s.nextAudio, s.period.audio)
		if r.carriedOver = r.video; f.Track.Kind == media.Video {
			r.carriedOver = r.audio
		}
	}
	s.period, s.nextAudio = r, nil
}

// track returns a pointer to r's track of kind k.
func (r *period) track(k media.Kind) **media.Track {
	if k == media.Video {
		return &r.video
	}
	return &r.audio
}

// add appends f to the open segment.
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

// complete completes the open segment with the given duration, before the frame next, and returns a
// list with it. next is nil if none follows without a gap.
func (s *Segmenter) complete(length time.Duration, next *media.Frame) *List {
	s.fixTarget(max(s.lastGOP, length))
	o, old := s.open, s.List()
	if !old.Ready { // no client has read the target yet
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

// publish stores l, with the complete parts of the open segment, and wakes the waiters.
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

// openTrackSet returns the track set of the open segment. All its tracks are known when this is
// called.
func (s *Segmenter) openTrackSet() *trackSet {
	if s.period.trackSet == nil {
		s.period.trackSet = newTrackSet(s.period.video, s.period.audio)
		s.hasBoth = s.period.trackSet.hasBoth()
	}
	return s.period.trackSet
}

// isRAP reports whether f is a random access point of a video track.
func isRAP(f *media.Frame) bool { return f.Track.Kind == media.Video && f.RAP != media.NoRandomAccess }
