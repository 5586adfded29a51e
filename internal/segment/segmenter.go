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
	// leeway is what a target duration leaves between itself and the GOP it is made for, which may vary.
	leeway = 250 * time.Millisecond
	// over is by how much a segment may exceed the target duration: rounded to a second it must not (RFC 8216, 4.3.3.1).
	over = 499 * time.Millisecond
	// maxSkew is how far a keyframe's DTS may be behind the newest frame's for its own time to be where a segment begins.
	maxSkew = time.Second
	// step is the least distance between the starts of segments, whose names count milliseconds.
	step = time.Millisecond
	// leastFirst is the least that a session's first segment of pictures lasts, wherever decoders may start before that.
	leastFirst = 400 * time.Millisecond
	// leastFrames is how many pictures that has at least, of which parts are to be made.
	leastFrames = 4
	// endless is how long a GOP that has not ended yet counts as none.
	endless = 30 * time.Second
	// minWindow is the least number of target durations that a playlist lists.
	minWindow = 8
	// frameCost is what a frame takes beside its payload.
	frameCost = 256
	// finishParts is how many part targets the last parts of a stream are in the playlist before the line of their segment. Players
	// stay holdBackParts behind, so they do not run out of media meanwhile.
	finishParts = 2
)

// Options of a Segmenter.
type Options struct {
	Segment time.Duration // wished length of a segment; default 2 s
	Part    time.Duration // wished length of a part; 0 for none
	Window  int           // target durations' worth of segments in the playlist; at least 8
	// TrackWait is how long, in stream time, the first segment after a joint waits for the other of picture and sound; default 2 s.
	TrackWait time.Duration
	// Bytes bounds the memory of a stream's segments; default 128 MiB. A segment is cut at a quarter of it.
	Bytes int
	// Raise, when set, is told each media sequence number before it is published: see Numbers.
	Raise func(uint64)
}

// A Segmenter makes the segments of one session of a stream. Write, Flush, Pause and End are for one goroutine, the rest for any.
type Segmenter struct {
	opt   Options
	epoch uint64
	list  atomic.Pointer[List]
	ready chan struct{} // closed with the first playlist, or at the end

	// The rest is the writer's.
	next   uint64        // media sequence number of the next segment
	discs  uint64        // discontinuity sequence number of the open segment
	target time.Duration // 0 until it is fixed
	run    run
	open   *Segment // nil before the first frame
	start  time.Duration
	least  time.Duration // the next segment begins no earlier, so that its name is new
	end    time.Duration // of the last frame of the open segment
	newest time.Duration // largest DTS
	video  time.Duration // DTS of the newest video frame
	rap    time.Duration // DTS of the newest random access point; negative before the first
	last   time.Duration // newest GOP
	apart  time.Duration // longest that two GOPs in a row were at least
	parts  parts
	first  bool                    // no segment of the session is complete
	skip   func(*media.Frame) bool // frames of before the anchor; nil when they have passed
	held   []*media.Frame          // sound of a new track, until the next picture tells whether the old ones go on
	waits  *media.Track            // of sound, which enters with the next segment; nil when there is none

	both     bool // the newest lineup has picture and sound
	typical  int  // how many frames the last segment had
	finished bool // all parts of the open segment are complete, and none follows
}

// A run is what lies between two discontinuities.
type run struct {
	disc         uint32
	video, audio *media.Track
	carried      *media.Track // that of the two which goes on from the run before, until a frame of it comes
	lineup       *lineup      // of its tracks; nil until something is complete: a track that comes until then was there from the start
	start        time.Duration
	arrived      time.Time // when the frame at start did
}

// New returns a Segmenter whose media and discontinuity sequence numbers begin at epoch, which no other session may have.
func New(epoch uint64, o Options) *Segmenter {
	o.Segment = cmp.Or(o.Segment, 2*time.Second)
	o.Window = max(o.Window, minWindow)
	o.TrackWait = cmp.Or(o.TrackWait, 2*time.Second)
	o.Bytes = cmp.Or(o.Bytes, 128<<20)
	s := &Segmenter{opt: o, epoch: epoch, ready: make(chan struct{}), next: epoch, discs: epoch, rap: -1, first: true}
	s.list.Store(&List{next: make(chan struct{}), waiting: newTurn(), complete: make(chan struct{}), zip: new(zipper)})
	return s
}

// Next returns a Segmenter that takes over from s, which gets no more frames: for the session after that of s, or for the rest of
// the same where a fault ended s. Its playlist goes on from that of s: the numbers continue, and its first segment is marked as
// discontinuous.
func (s *Segmenter) Next(epoch uint64) *Segmenter {
	n := New(epoch, s.opt)
	last := s.List().closed()
	if last.listed == 0 {
		return n
	}
	newest := last.newest()
	n.next, n.discs, n.both = newest.sequence+1, newest.discs, newest.lineup.both()
	if epoch == s.epoch {
		n.least = s.start + step
	}
	n.list.Store(last)
	return n
}

// An anchor is where a segment begins, and what has to be known of before it, so that whoever has the frames from there on makes the
// same segments of them, with the same names.
type anchor struct {
	epoch, sequence, discs uint64
	joint                  bool
	disc                   uint32 // of the run
	start                  time.Duration
	kind                   media.Kind    // of its first frame
	dts                    time.Duration // of that
	date                   time.Time
	target                 time.Duration
	part, frame            time.Duration // as in parts
	rap, last              time.Duration // as in Segmenter
	both                   bool          // the same
}

// anchor returns where the open segment begins, once a segment is complete.
func (s *Segmenter) anchor() anchor {
	f := s.open.frames[0]
	return anchor{
		epoch: s.epoch, sequence: s.open.sequence, discs: s.open.discs, joint: s.open.joint, disc: s.run.disc,
		start: s.start, kind: f.Track.Kind, dts: f.DTS, date: s.open.date,
		target: s.target, part: s.parts.target, frame: s.parts.frame, rap: s.rap, last: s.last, both: s.both,
	}
}

// newAt returns a Segmenter that begins at a and passes over the frames before it.
func newAt(a anchor, o Options) *Segmenter {
	s := New(a.epoch, o)
	s.next, s.discs, s.target, s.rap, s.last = a.sequence, a.discs, a.target, a.rap, a.last
	s.parts.target, s.parts.frame = a.part, a.frame
	s.newest, s.first, s.both = a.start, false, a.both
	s.skip = func(f *media.Frame) bool {
		if f.Track.Kind != a.kind || f.DTS < a.dts {
			return true
		}
		if s.begin(f, a.start, false); isRAP(f) {
			s.rap = -1 // it ended the GOP of which a tells
		}
		s.open.joint, s.open.date, s.run.arrived, s.run.disc = a.joint, a.date, a.date, a.disc
		return false
	}
	return s
}

// List returns what there is to fetch now; never nil.
func (s *Segmenter) List() *List { return s.list.Load() }

// Ready is closed when there is a playlist. It is closed without one when the session ends without a segment.
func (s *Segmenter) Ready() <-chan struct{} { return s.ready }

// Write adds f, the next frame of the stream in its order, of a track that Carries accepts: the first of its kind, where there are
// several. What is not added is sound whose track has come, or has got other parameters, in the middle of a GOP: it enters with the next
// segment, so that the picture goes on.
func (s *Segmenter) Write(f *media.Frame) {
	if s.skip != nil {
		if s.skip(f) {
			return
		}
		s.skip = nil
	}
	if s.finished {
		s.Pause()
	}
	if s.supersedes(f) {
		s.undo(f.Track.Kind)
	}
	s.newest = max(s.newest, f.DTS)
	if f.Track.Kind == media.Video {
		s.video = f.DTS
		if f.RAP != media.NoAccess {
			s.measure(f)
		}
	}
	if len(s.held) > 0 {
		s.decide(f)
	}
	switch joint := s.open != nil && s.breaks(f); {
	case s.open == nil:
		s.begin(f, max(s.position(f), s.least), s.List().listed > 0)
		s.add(f)
	case joint && s.interrupts(f):
		s.hold(f)
	case joint && len(s.held) > 0:
		s.release()
		s.Write(f)
	case !joint && !isRAP(f) && s.due(f) && s.splitAtPart(f):
		s.Write(f)
	case joint || s.due(f):
		s.cut(f, joint || s.waits != nil || *s.run.track(f.Track.Kind) == nil)
		s.add(f)
	default:
		s.goOn(f)
	}
}

// maxHeld is how many frames of sound wait for a picture: more than come between two where anybody looks at them.
const maxHeld = 100

// hold keeps f, sound that would interrupt a GOP, until the next picture.
func (s *Segmenter) hold(f *media.Frame) {
	switch {
	case s.waits != nil: // the GOP goes on
	case len(s.held) == 0 && s.rewind(f):
		s.goOn(f)
	default:
		s.held = append(s.held, f)
	}
}

// canHold reports whether f may be held too: all that is must have a place in one segment.
func (s *Segmenter) canHold(f *media.Frame) bool {
	size := len(f.Payload)
	for _, h := range s.held {
		size += len(h.Payload)
	}
	return len(s.held) < maxHeld && size <= s.opt.Bytes/4
}

// decide sees by f, which comes next, what becomes of the sound that is held. Where a GOP begins with f, or other pictures, that has come
// with it, as where one file follows another. Where the old pictures go on, or the old sound, it is not added.
func (s *Segmenter) decide(f *media.Frame) {
	switch t := s.held[0].Track; {
	case f.Track == t:
	case f.Track.Kind == media.Audio:
		s.held = nil
	case isRAP(f) || f.Track != s.run.video || f.Discontinuity != s.run.disc:
		s.release()
	default:
		s.waits, s.held = t, nil
	}
}

// release begins a segment with the sound that is held.
func (s *Segmenter) release() {
	held := s.held
	s.held = nil
	s.cut(held[0], true)
	for _, f := range held {
		s.add(f)
	}
}

// goOn adds f to the open segment, whose parts it may complete.
func (s *Segmenter) goOn(f *media.Frame) {
	if s.leads(f) {
		s.parts.reach(s, mark{len(s.open.frames), s.position(f)}, f)
		if s.run.video == nil && s.parts.from > 0 && s.slot(s.parts.start) > s.slot(s.start) {
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
	if s.parts.target == 0 {
		length := s.position(f) - s.start
		s.fix(max(s.last, length))
		s.parts.divide(s, mark{len(s.open.frames), s.start + length}, f)
	}
	if s.parts.from == 0 {
		return false
	}
	s.split(f)
	return true
}

// split completes the open segment with its last complete part. What came after that begins the next; where
// that is nothing, next does, which has not been added yet.
func (s *Segmenter) split(next *media.Frame) {
	rest, at := s.open.frames[s.parts.from:], s.parts.start
	first := next
	if len(rest) > 0 {
		first = rest[0]
	}
	s.give(s.parts.from)
	l := s.complete(at-s.start, first)
	s.begin(first, at, s.waits != nil)
	s.store(l)
	for i, f := range rest {
		if i == 0 {
			s.add(f)
		} else {
			s.goOn(f)
		}
	}
}

// supersedes reports whether f is of the track that is the first of its kind after all, and nothing has been shown of the one that
// was taken for it.
func (s *Segmenter) supersedes(f *media.Frame) bool {
	if s.open == nil || !s.first || s.run.lineup != nil {
		return false
	}
	t := *s.run.track(f.Track.Kind)
	return t != nil && f.Track.ID < t.ID
}

// undo takes the open segment back, which nobody has seen, as what it has of kind k is not to be in it. Pictures stay: where sound has to
// go, the next keyframe may be seconds away.
func (s *Segmenter) undo(k media.Kind) {
	o := s.open
	if o.joint {
		s.discs--
	}
	s.open, s.next, s.rap, s.newest = nil, s.next-1, -1, 0
	s.held, s.waits = nil, nil
	*s.run.track(k) = nil
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
	s.store(&List{
		Target: s.target, PartTarget: l.PartTarget, Bytes: l.Bytes, segments: l.segments, listed: l.listed, complete: l.complete,
		lined: l.open == nil || l.lined,
	})
}

// Due returns the stream time before which Write completes nothing, but where a random access point, a new track or a joint of
// the timeline comes: no part, or without parts no segment. For the writer.
func (s *Segmenter) Due(parts bool) time.Duration {
	if s.open == nil {
		return 0
	}
	segment := min((s.slot(s.start)+1)*s.opt.Segment, s.start+s.limit())
	if !parts || s.parts.target == 0 {
		return segment
	}
	return min(segment, s.parts.start+s.parts.target-s.parts.frame/2)
}

// Finish completes and publishes the last parts of the open segment, before Pause or End adds the line of that
// segment to the playlist, and returns how long that has to wait. hls.js does not request a part of a segment
// that has a line: without the wait it would miss the last parts.
//
// It returns 0 if no part is new. A frame that comes after Finish has the effect of Pause.
func (s *Segmenter) Finish() time.Duration {
	l := s.List()
	if s.open == nil || s.finished || !l.Ready || l.PartTarget == 0 || s.parts.target == 0 {
		return 0
	}
	s.parts.finish(s, mark{len(s.open.frames), s.start + s.length()}, nil)
	s.finished = true
	if l.open == s.open && len(l.parts) == len(s.open.parts) {
		return 0
	}
	s.Flush()
	return finishParts * l.PartTarget
}

// Pause completes the open segment with what it has, as the encoder is away. What comes after is marked as discontinuous.
func (s *Segmenter) Pause() {
	if s.open == nil {
		return
	}
	l := s.complete(s.length(), nil)
	l.Paused, s.least, s.open, s.held = true, s.start+step, nil, nil
	s.store(l)
}

// End completes the last segment and the playlist. Where nothing came, that is the playlist of the session before.
func (s *Segmenter) End() {
	last := s.List()
	var l *List
	switch {
	case s.open != nil:
		l = s.complete(s.length(), nil)
		s.open = nil
	case last.listed == 0:
		close(s.ready)
		return
	default:
		l = &List{
			Target: last.Target, PartTarget: last.PartTarget, Bytes: last.Bytes,
			segments: last.segments, listed: last.listed, complete: make(chan struct{}),
		}
	}
	l.Ended = true
	s.store(l)
}

// FarApart returns how far apart random access points are when that is more than a segment may last: who joins in between has no
// picture until the next. It is 0 when it is not; one long GOP alone may be a pause of the encoder. For the writer.
func (s *Segmenter) FarApart() time.Duration {
	if s.apart > s.limit() {
		return s.apart
	}
	if open := s.video - s.rap; s.rap >= 0 && open >= endless {
		return open
	}
	return 0
}

// measure learns from the random access point f how far they are apart; the first distance fixes the target duration.
func (s *Segmenter) measure(f *media.Frame) {
	if s.rap >= 0 && f.Discontinuity == s.run.disc {
		gop := f.DTS - s.rap
		s.apart, s.last = max(s.apart, min(s.last, gop)), gop
		s.fix(gop)
	}
	s.rap = f.DTS
}

// fix sets the target duration, once for the session: players rely on it.
func (s *Segmenter) fix(gop time.Duration) {
	if s.target != 0 {
		return
	}
	whole := func(d time.Duration) time.Duration {
		return max(time.Second, (d + time.Second - leeway).Truncate(time.Second))
	}
	wish := whole(s.opt.Segment)
	s.target = min(whole(max(s.opt.Segment, gop)), max(wish, maxTarget))
	for _, old := range s.List().current() { // of a session before, whose target was another
		s.target = max(s.target, old.Duration.Round(time.Second))
	}
}

// limit returns the longest that a segment may be.
func (s *Segmenter) limit() time.Duration {
	return cmp.Or(s.target, max(maxTarget, s.opt.Segment)) + over
}

// position returns where in stream time a segment that begins with f does. Where a track is far behind the others the frame's own
// time would make segments overlap.
func (s *Segmenter) position(f *media.Frame) time.Duration {
	if s.newest-f.DTS > maxSkew {
		return s.newest
	}
	return f.DTS
}

// breaks reports whether f does not continue what is in the open segment: RFC 8216 section 4.3.2.3 wants a discontinuity where
// the time stamps jump or the tracks change. A track that comes while nothing of the run is complete is there from the start, also
// in place of one that went on from the run before: encoders change the parameters of picture and sound at once.
//
// Where it is only that the encoder's clock was set, the time of the stream goes on, and so does what a decoder makes of the same
// tracks: the discontinuity is at the next place where one may start.
func (s *Segmenter) breaks(f *media.Frame) bool {
	t := *s.run.track(f.Track.Kind)
	if f.Discontinuity != s.run.disc {
		return t != f.Track || s.run.video == nil || isRAP(f)
	}
	if s.waits != nil && isRAP(f) {
		return true
	}
	if t == nil || t == s.run.carried { // nothing of it is in the run
		return t != f.Track && s.run.lineup != nil
	}
	return t != f.Track
}

// interrupts reports whether a segment that begins with f, which does not continue the open one, would begin in the middle of a GOP of
// pictures that go on. Where there is more sound than can be held, no pictures come.
func (s *Segmenter) interrupts(f *media.Frame) bool {
	if f.Track.Kind != media.Audio || f.Discontinuity != s.run.disc || s.run.video == nil || f.DTS-s.video > maxSkew || s.due(f) {
		return false
	}
	return s.waits != nil || s.canHold(f)
}

// rewind has what comes with f begin at the newest random access point, where nothing of what came since is of the kind of f or has
// been published. Where a part ended there, the hint at the next turns out to be wrong: that is the first of the next segment.
func (s *Segmenter) rewind(f *media.Frame) bool {
	o := s.open
	from := len(o.frames) - 1
	for ; from >= s.parts.from && !isRAP(o.frames[from]); from-- {
		if o.frames[from].Track.Kind == f.Track.Kind {
			return false
		}
	}
	if from < s.parts.from {
		return false
	}
	rest := o.frames[from:]
	if from == 0 {
		s.next-- // the open segment, of which there is nothing yet, is made again
		s.begin(rest[0], s.start, true)
	} else {
		at := s.parts.start
		if from > s.parts.from {
			at = max(s.position(rest[0]), s.start+step, at+step)
		}
		s.give(from)
		l := s.complete(at-s.start, rest[0])
		s.begin(rest[0], at, true)
		s.store(l)
	}
	s.add(rest[0])
	for _, f := range rest[1:] {
		s.goOn(f)
	}
	return true
}

// give leaves n frames to the open segment.
func (s *Segmenter) give(n int) {
	o, p := s.open, &s.parts
	o.frames = o.frames[:n:n]
	o.load, o.size = load{}, 0
	for _, f := range o.frames {
		o.load.add(f)
		o.size += len(f.Payload) + frameCost
	}
	p.marks = slices.DeleteFunc(p.marks, func(m mark) bool { return m.index >= n })
}

// due reports whether the open segment is to be cut before f.
func (s *Segmenter) due(f *media.Frame) bool {
	at := s.position(f)
	length := at - s.start
	if length+f.Duration > s.limit() || s.open.size >= s.opt.Bytes/4 {
		return true // not where a decoder may start, but it must be somewhere
	}
	switch {
	case s.awaits(f):
	case isRAP(f):
		// The first one in its slot of time. One before that, if the segment would become too long by waiting for the
		// next; min keeps GOPs that are longer than a segment may be from one for each half.
		// Sound alone that has come with it is no segment.
		alone := s.run.video != nil && s.run.video == s.run.carried
		return length+min(s.last, s.target) > s.limit() || !alone && (s.slot(at) > s.slot(s.start) || s.early(length))
	case s.run.video == nil && s.parts.target == 0:
		return s.slot(at) > s.slot(s.start) || s.early(length)
	}
	return false
}

// awaits reports whether a track of the run is still to come, as f comes: the encoder has announced picture and sound, or there were both
// before and it announces nothing. What is completed until then would have one of them alone, and players that have laid out their
// buffers end where that changes: to hls.js it is another kind of track.
func (s *Segmenter) awaits(f *media.Frame) bool {
	if s.run.lineup != nil || s.run.video != nil && s.run.audio != nil {
		return false
	}
	both := s.both
	if m := f.Meta; m != nil && (m.HasVideo || m.HasAudio) {
		both = m.HasVideo && m.HasAudio
	}
	return both && f.DTS-s.run.start < s.opt.TrackWait
}

// early reports whether a segment of that length is enough to begin a session with: who waits for it gets a picture sooner. Of pictures
// it is a GOP, but for those that are too short to tell how long parts are.
func (s *Segmenter) early(length time.Duration) bool {
	enough := s.opt.Segment / 2
	if s.run.video != nil && (s.opt.Part == 0 || len(s.parts.marks) >= leastFrames) {
		enough = min(enough, max(leastFirst, 2*s.opt.Part))
	}
	return s.first && length >= enough
}

// leads reports whether parts may be cut before f: at video, or at audio where there is no video or none comes.
func (s *Segmenter) leads(f *media.Frame) bool {
	return f.Track.Kind == media.Video || s.run.video == nil || f.DTS-s.video > maxSkew
}

func (s *Segmenter) slot(at time.Duration) time.Duration { return at / s.opt.Segment }

// cut completes the open segment and begins one with f. joint tells that f does not continue it.
func (s *Segmenter) cut(f *media.Frame, joint bool) {
	at := max(s.position(f), s.start+step, s.parts.start+step)
	length, next := at-s.start, f
	if joint || length > s.limit() { // what lies between the last frame and f is a hole, and no segment's
		joint, length, next = true, s.length(), nil
	}
	l := s.complete(length, next)
	s.begin(f, at, joint)
	s.store(l)
}

// length returns the duration of the open segment by its frames. What sound lasts longer than the last part may, by less than a
// frame, is not said: it would be a part of its own and make the one before it too short.
func (s *Segmenter) length() time.Duration {
	end := s.end
	if p := &s.parts; p.target > 0 && end > p.start+p.target && end <= p.start+p.target+p.frame {
		end = p.start + p.target
	}
	return min(max(end-s.start, step, s.parts.start-s.start+step), s.limit())
}

// begin opens a segment at time at, whose first frame is f. joint tells that something else was before it.
func (s *Segmenter) begin(f *media.Frame, at time.Duration, joint bool) {
	if joint {
		s.discs++
	}
	if s.open == nil || joint {
		s.join(f, at)
	}
	s.start, s.end, s.finished = at, at, false
	s.open = &Segment{
		Name:     fmt.Sprintf("%d-%d", s.epoch, at.Milliseconds()),
		sequence: s.next,
		discs:    s.discs,
		joint:    joint,
		date:     s.run.arrived.Add(at - s.run.start),
		number:   uint32(at.Milliseconds()),
		frames:   make([]*media.Frame, 0, s.typical),
	}
	s.next++
	s.parts.begin(at)
	if s.leads(f) {
		s.parts.marks = append(s.parts.marks, mark{0, at})
	}
	if s.opt.Raise != nil {
		s.opt.Raise(s.open.sequence)
	}
}

// join starts a run with f at time at. The other track goes on where only the parameters of one have changed, or the encoder's clock.
func (s *Segmenter) join(f *media.Frame, at time.Duration) {
	r := run{disc: f.Discontinuity, start: at, arrived: f.Arrived}
	if f.Discontinuity == s.run.disc || f.Track == *s.run.track(f.Track.Kind) {
		r.video, r.audio = s.run.video, cmp.Or(s.waits, s.run.audio)
		if r.carried = r.video; f.Track.Kind == media.Video {
			r.carried = r.audio
		}
	}
	s.run, s.waits = r, nil
}

// track returns where r keeps its track of kind k.
func (r *run) track(k media.Kind) **media.Track {
	if k == media.Video {
		return &r.video
	}
	return &r.audio
}

// add puts f into the open segment.
func (s *Segmenter) add(f *media.Frame) {
	t := s.run.track(f.Track.Kind)
	if *t == s.run.carried {
		s.run.carried = nil
	}
	*t = f.Track
	o := s.open
	o.frames = append(o.frames, f)
	o.load.add(f)
	o.size += len(f.Payload) + frameCost
	s.end = max(s.end, f.DTS+f.Duration)
}

// complete completes the open segment, length long, before the frame next, and returns a list with it. next is nil where none follows
// without a hole.
func (s *Segmenter) complete(length time.Duration, next *media.Frame) *List {
	s.fix(max(s.last, length))
	o, old := s.open, s.List()
	if !old.Ready { // nobody has seen the target yet
		s.target = max(s.target, length.Round(time.Second))
	}
	end := s.parts.start
	if !s.finished {
		end = s.parts.finish(s, mark{len(o.frames), s.start + length}, next)
	}
	o.Duration, s.typical, s.first = end-s.start, len(o.frames), false
	s.parts.judge(o)

	l := &List{Target: s.target, PartTarget: s.parts.shown(), listed: old.listed + 1, complete: make(chan struct{})}
	l.segments = append(append(make([]*Segment, 0, len(old.segments)+1), old.segments...), o)
	l.trim(s.opt.Window, s.opt.Bytes)
	return l
}

// store publishes l, with what is complete of the open segment, and wakes who waits for it.
func (s *Segmenter) store(l *List) {
	if s.open != nil {
		l.open, l.parts = s.open, s.open.parts[:len(s.open.parts):len(s.open.parts)]
		l.full = s.finished || s.parts.from > 0 && s.parts.start-s.start+s.parts.target > s.limit()
	}
	old := s.List()
	l.Ready, l.next, l.zip = true, make(chan struct{}), old.zip
	l.waiting, l.waited = newTurn(), old.waiting
	s.list.Store(l)
	close(old.next)
	old.waiting.leave()
	if l.complete != old.complete {
		close(old.complete)
	}
	if !old.Ready {
		close(s.ready)
	}
}

// lineup returns that of the open segment, whose tracks are all there now.
func (s *Segmenter) lineup() *lineup {
	if s.run.lineup == nil {
		s.run.lineup = newLineup(s.run.video, s.run.audio)
		s.both = s.run.lineup.both()
	}
	return s.run.lineup
}

// isRAP reports whether f is video that a decoder may start with.
func isRAP(f *media.Frame) bool { return f.Track.Kind == media.Video && f.RAP != media.NoAccess }
