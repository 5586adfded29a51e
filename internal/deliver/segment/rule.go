package segment

import (
	"cmp"
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
	// maxPendingAudio is the number of audio frames that may wait for a picture. It is more than
	// come between two pictures of any usable frame rate.
	maxPendingAudio = 100
	// frameOverhead is the approximate memory of a frame in addition to its payload, in bytes.
	frameOverhead = 256
)

// A rule decides where segments and parts end, by the times, kinds and random access points of
// frames. It does no I/O, allocates only to set the part target, and changes no frame: it is a
// value, and a copy of it makes the same decisions about the same frames.
type rule struct {
	opt Options
	state
}

// A state is what the decisions about the open segment depend on, apart from its frames. Its copy at
// the start of a segment is all that another segmenter needs to continue there with the same names,
// times and numbers.
type state struct {
	epoch        uint64
	nextSequence uint64 // media sequence number of the next segment

	// Of the frames that WriteStream got.
	nextFrame uint64 // Seq of the next one
	raps      int    // random access points since the first frame or the last that is missing; at most 2

	// Fixed by the first segments, for the stream session.
	target        time.Duration // target duration; 0 until it is fixed
	minTarget     time.Duration // minimum of it, because of segments of an earlier session
	partTarget    time.Duration // maximum duration of a part; 0 until it is fixed, or without parts
	frameDuration time.Duration // duration of the frames at which parts end

	newestDTS   time.Duration // largest DTS
	videoDTS    time.Duration // DTS of the newest video frame
	lastRAP     time.Duration // DTS of the newest random access point; negative before the first
	lastGOP     time.Duration // duration of the newest GOP
	repeatedGOP time.Duration // longest duration that two consecutive GOPs reached

	firstSegment bool // no segment of the stream session is complete
	// slow means that most of the last segment was frames longer than partTarget: playlists list no
	// parts.
	slow      bool
	continues bool          // segments precede the next one, which is discontinuous if none is open
	minStart  time.Duration // earliest start of the next segment, so that its name is new
	endDate   time.Time     // wall clock time of the end of the last complete segment; zero if there is none
	period    period
	nextAudio *media.Track // audio track that starts with the next segment; nil when there is none

	// Of the open segment or, if none is open, of the last one.
	open                  bool
	discontinuitySequence uint64 // discontinuity sequence number
	discontinuous         bool   // it does not continue the segment before
	start                 time.Duration
	end                   time.Duration // end of its last frame
	size                  int           // approximate memory of its frames
	partStart             time.Duration // start of the open part
	firstFrame            int           // index of the open part's first frame in the segment
	finished              bool          // all its parts are complete, and no other follows
}

// A period is the media between two discontinuities.
type period struct {
	discontinuityNumber uint32
	video, audio        *media.Track
	// carriedOver is the track that continues from the period before, until its first frame.
	carriedOver *media.Track
	// fixed means that something is complete: a track that starts before that belongs to the period
	// from its start.
	fixed   bool
	start   time.Duration
	arrived time.Time // arrival time of the frame at start, or the end of the segment before if that is later
}

// join records that p has a frame of t.
func (p *period) join(t *media.Track) {
	known := p.track(t.Kind)
	if *known == p.carriedOver {
		p.carriedOver = nil
	}
	*known = t
}

// track returns a pointer to p's track of kind k.
func (p *period) track(k media.Kind) **media.Track {
	if k == media.Video {
		return &p.video
	}
	return &p.audio
}

// A buffer is the frames of which no complete segment has been made.
type buffer struct {
	frames []*media.Frame // of the open segment
	points []cutPoint     // possible ends of the open part, in order; may include its own first frame
	// held is audio of a new track, held until the next picture shows whether the GOP continues.
	held []*media.Frame
}

// A cutPoint is a point before a frame.
type cutPoint struct {
	index int // of the frame in its segment
	at    time.Duration
}

// An action is what becomes of a frame.
type action uint8

const (
	extendSegment action = iota // it belongs to the open segment
	startSegment                // it starts a segment, and the open one, if there is one, ends before it
	divideSegment               // the last frames of the open segment start the next one; decide again
	measureParts                // the same, with the part target, which is to be measured; decide again
	holdFrame                   // it is audio that waits for the next picture
	dropFrame                   // it is audio of a track that starts with the next segment
	startWithHeld               // the held audio starts a segment; decide again
	dropHeld                    // the old audio continues: the held audio is dropped; decide again
	deferHeld                   // the old video continues: the held track starts with the next segment; decide again
)

// A boundary is the end of the open segment and the start of the next one.
type boundary struct {
	index         int           // of the frame of the open segment that starts the next one
	length        time.Duration // duration of the open segment
	at            time.Duration // start of the next one
	discontinuous bool          // it does not continue the open one
	gap           bool          // the time between length and at belongs to no segment
}

// observe records f, the next frame, before decide.
func (r *rule) observe(f *media.Frame) {
	r.newestDTS = max(r.newestDTS, f.DTS)
	if f.Track.Kind != media.Video {
		return
	}
	r.videoDTS = f.DTS
	if f.RAP == media.NoRandomAccess {
		return
	}
	if r.lastRAP >= 0 && f.Program.Discontinuity == r.period.discontinuityNumber {
		gop := f.DTS - r.lastRAP
		r.repeatedGOP, r.lastGOP = max(r.repeatedGOP, min(r.lastGOP, gop)), gop
		r.fixTarget(gop)
	}
	r.lastRAP = f.DTS
}

// decodable reports whether a decoder can use f, and counts random access points. Pictures before the
// first one are not decodable, nor are the leading pictures of the first one.
func (r *rule) decodable(f *media.Frame) bool {
	switch {
	case f.Track.Kind != media.Video:
		return true
	case f.RAP != media.NoRandomAccess:
		r.raps = min(r.raps+1, 2)
		return true
	}
	return r.raps > 1 || r.raps == 1 && !f.Leading
}

// supersedes reports whether f belongs to a track that precedes the current track of its kind, of
// which nothing has been published.
func (r *rule) supersedes(f *media.Frame) bool {
	if !r.open || !r.firstSegment || r.period.fixed {
		return false
	}
	t := *r.period.track(f.Track.Kind)
	return t != nil && f.Track.ID < t.ID
}

// decide returns what becomes of f, and the boundary where it ends a segment or starts one.
// measured means that the part target was measured before f.
func (r *rule) decide(b *buffer, f *media.Frame, measured bool) (action, boundary) {
	if !r.open {
		return startSegment, boundary{at: max(r.position(f), r.minStart), discontinuous: r.continues}
	}
	if len(b.held) > 0 && f.Track != b.held[0].Track {
		// If a GOP or another video track starts with f, the audio belongs to it, as where one file
		// follows another.
		switch {
		case f.Track.Kind == media.Audio:
			return dropHeld, boundary{}
		case isRAP(f) || f.Track != r.period.video || f.Program.Discontinuity != r.period.discontinuityNumber:
			return startWithHeld, r.endBefore(len(b.frames), b.held[0], true)
		}
		return deferHeld, boundary{}
	}
	discontinuous := r.isDiscontinuous(f)
	due := r.due(f, len(b.points))
	switch {
	case discontinuous && !due && r.interruptsGOP(b, f):
		if r.nextAudio != nil { // the GOP continues
			return dropFrame, boundary{}
		}
		if len(b.held) == 0 {
			if end, ok := r.endAtRAP(b.frames, f.Track.Kind); ok {
				return divideSegment, end
			}
		}
		return holdFrame, boundary{}
	case discontinuous && len(b.held) > 0:
		return startWithHeld, r.endBefore(len(b.frames), b.held[0], true)
	case !discontinuous && !due:
		return extendSegment, boundary{}
	case !discontinuous && !isRAP(f) && r.opt.Part > 0 && r.partTarget == 0 && !measured:
		return measureParts, boundary{}
	case !discontinuous && !isRAP(f) && r.opt.Part > 0 && r.firstFrame > 0:
		return divideSegment, r.endAtPart()
	}
	return startSegment, r.endBefore(len(b.frames), f,
		discontinuous || r.nextAudio != nil || *r.period.track(f.Track.Kind) == nil)
}

// endBefore returns the boundary before f, after the n frames of the open segment. discontinuous
// means that f does not continue it.
func (r *rule) endBefore(n int, f *media.Frame, discontinuous bool) boundary {
	at := max(r.position(f), r.start+minSpacing, r.partStart+minSpacing)
	if discontinuous || at-r.start > r.maxDuration() {
		return boundary{n, r.openDuration(), at, true, true}
	}
	return boundary{n, at - r.start, at, false, false}
}

// endAtPart returns the boundary at the end of the last complete part.
func (r *rule) endAtPart() boundary {
	return boundary{r.firstFrame, r.partStart - r.start, r.partStart, r.nextAudio != nil, false}
}

// endAtRAP returns the boundary at the newest random access point, for a frame of kind k that
// requires a new segment; false if frames of that kind came since then, or frames since then are
// published. If a part ended there, the preload hint for the next part turns out wrong: its frames
// become the first part of the next segment.
func (r *rule) endAtRAP(frames []*media.Frame, k media.Kind) (boundary, bool) {
	for i := len(frames) - 1; i >= r.firstFrame; i-- {
		f := frames[i]
		switch {
		case isRAP(f) && i == r.firstFrame:
			return boundary{i, r.partStart - r.start, r.partStart, true, false}, true
		case isRAP(f):
			at := max(r.position(f), r.start+minSpacing, r.partStart+minSpacing)
			return boundary{i, at - r.start, at, true, false}, true
		case f.Track.Kind == k:
			return boundary{}, false
		}
	}
	return boundary{}, false
}

// startAt starts a segment with f at time at. discontinuous means that f does not continue what was
// before it.
func (r *rule) startAt(f *media.Frame, at time.Duration, discontinuous bool) {
	if discontinuous {
		r.discontinuitySequence++
	}
	if !r.open || discontinuous {
		r.startPeriod(f, at)
	}
	r.open, r.discontinuous, r.finished = true, discontinuous, false
	r.nextSequence++
	r.start, r.end, r.size = at, at, 0
	r.partStart, r.firstFrame = at, 0
}

// startPeriod starts a period with f at time at. The other track continues if only the parameters
// of one track have changed, or the encoder's clock. The date never goes back: the encoder may have
// sent what was before faster than in real time.
func (r *rule) startPeriod(f *media.Frame, at time.Duration) {
	p := period{discontinuityNumber: f.Program.Discontinuity, start: at, arrived: f.FirstArrival()}
	if p.arrived.Before(r.endDate) {
		p.arrived = r.endDate
	}
	if f.Program.Discontinuity == r.period.discontinuityNumber || f.Track == *r.period.track(f.Track.Kind) {
		p.video, p.audio = r.period.video, cmp.Or(r.nextAudio, r.period.audio)
		if p.carriedOver = p.video; f.Track.Kind == media.Video {
			p.carriedOver = p.audio
		}
	}
	r.period, r.nextAudio = p, nil
}

// add records that f belongs to the open segment.
func (r *rule) add(f *media.Frame) {
	r.period.join(f.Track)
	r.size += len(f.Payload) + frameOverhead
	r.end = max(r.end, f.DTS+f.Duration)
}

// endSegment ends the open segment, which has the given duration.
func (r *rule) endSegment(length time.Duration) {
	r.fixTarget(max(r.lastGOP, length))
	if r.firstSegment { // no client has read the target yet
		r.target = max(r.target, length.Round(time.Second))
	}
	r.firstSegment, r.continues = false, true
}

// fixTarget sets the target duration, once for the stream session: it must not change (RFC 8216
// section 6.2.1).
func (r *rule) fixTarget(gop time.Duration) {
	if r.target != 0 {
		return
	}
	whole := func(d time.Duration) time.Duration {
		return max(time.Second, (d + time.Second - gopTolerance).Truncate(time.Second))
	}
	wanted := whole(r.opt.Segment)
	r.target = max(r.minTarget, min(whole(max(r.opt.Segment, gop)), max(wanted, maxTarget)))
}

// maxDuration returns the maximum duration of a segment.
func (r *rule) maxDuration() time.Duration {
	return cmp.Or(r.target, max(maxTarget, r.opt.Segment)) + maxOverrun
}

// position returns the stream time at which a segment that begins with f starts. If a track is far
// behind the others, the frame's own time would make segments overlap.
func (r *rule) position(f *media.Frame) time.Duration {
	if r.newestDTS-f.DTS > maxSkew {
		return r.newestDTS
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
func (r *rule) isDiscontinuous(f *media.Frame) bool {
	t := *r.period.track(f.Track.Kind)
	if f.Program.Discontinuity != r.period.discontinuityNumber {
		return t != f.Track || r.period.video == nil || isRAP(f)
	}
	if r.nextAudio != nil && isRAP(f) {
		return true
	}
	if t == nil || t == r.period.carriedOver { // the period has no frame of it
		return t != f.Track && r.period.fixed
	}
	return t != f.Track
}

// interruptsGOP reports whether a segment that starts with f, which does not continue the open one,
// would start in the middle of a GOP of video that continues. If there is more audio than can be
// held, the video has stopped.
func (r *rule) interruptsGOP(b *buffer, f *media.Frame) bool {
	if f.Track.Kind != media.Audio || f.Program.Discontinuity != r.period.discontinuityNumber || r.period.video == nil ||
		f.DTS-r.videoDTS > maxSkew {
		return false
	}
	size := len(f.Payload) // all held audio must fit into one segment
	for _, h := range b.held {
		size += len(h.Payload)
	}
	return r.nextAudio != nil || len(b.held) < maxPendingAudio && size <= r.opt.Bytes/4
}

// due reports whether the open segment is to be cut before f. points is the number of possible ends
// of its open part.
func (r *rule) due(f *media.Frame, points int) bool {
	at := r.position(f)
	length := at - r.start
	if length+f.Duration > r.maxDuration() || r.size >= r.opt.Bytes/4 {
		return true // no random access point, but the segment must end
	}
	switch {
	case r.awaitsTrack(f):
	case isRAP(f):
		// At the first random access point in its time slot. At an earlier one, if the segment
		// would become too long until the next one; min prevents two segments per GOP where GOPs
		// exceed the maximum duration of a segment. Not if the segment has only the audio that came
		// with this picture.
		alone := r.period.video != nil && r.period.video == r.period.carriedOver
		return length+min(r.lastGOP, r.target) > r.maxDuration() || !alone &&
			(r.slot(at) > r.slot(r.start) || r.firstSegmentDue(length, points))
	case r.period.video == nil && r.partTarget == 0:
		return r.slot(at) > r.slot(r.start) || r.firstSegmentDue(length, points)
	}
	return false
}

// dueAtPart reports whether the open segment ends with its last complete part: audio without video
// has reached the next time slot.
func (r *rule) dueAtPart() bool {
	return r.period.video == nil && r.firstFrame > 0 && r.slot(r.partStart) > r.slot(r.start)
}

// awaitsTrack reports whether, when f comes, the period has no frame yet of a kind that the stream
// has or awaits. A segment completed before that would have only one of video and audio, and players
// that have created buffers for both stop there: hls.js does not support such a change.
func (r *rule) awaitsTrack(f *media.Frame) bool {
	missing := media.Video
	if r.period.video != nil {
		missing = media.Audio
	}
	if r.period.fixed || *r.period.track(missing) != nil || f.DTS-r.period.start >= r.opt.TrackWait {
		return false
	}
	t := f.Program.Default(missing)
	return f.Program.Awaited.Has(missing) || t != nil && Carries(t)
}

// firstSegmentDue reports whether a duration is enough for the first segment of a stream session,
// so that waiting viewers get a picture sooner. With video that is a GOP, unless it is too short to
// show how long parts are.
func (r *rule) firstSegmentDue(length time.Duration, points int) bool {
	enough := r.opt.Segment / 2
	if r.period.video != nil && (r.opt.Part == 0 || points >= minFirstFrames) {
		enough = min(enough, max(minFirstSegment, 2*r.opt.Part))
	}
	return r.firstSegment && length >= enough
}

func (r *rule) slot(at time.Duration) time.Duration { return at / r.opt.Segment }

// openDuration returns the duration of the open segment by its frames. It does not count audio that
// exceeds the maximum duration of the last part by less than a frame: that would become a part of
// its own, and the part before it too short.
func (r *rule) openDuration() time.Duration {
	end := r.end
	if last := r.partStart + r.partTarget; r.partTarget > 0 && end > last && end <= last+r.frameDuration {
		end = last
	}
	return min(max(end-r.start, minSpacing, r.partStart-r.start+minSpacing), r.maxDuration())
}

// Due returns the stream time before which Write completes no part or, without parts, no segment. A
// random access point, a new track or a discontinuity of the timeline may complete one earlier.
func (r *rule) Due(parts bool) time.Duration {
	if !r.open {
		return 0
	}
	segment := min((r.slot(r.start)+1)*r.opt.Segment, r.start+r.maxDuration())
	if !parts || r.partTarget == 0 {
		return segment
	}
	return min(segment, r.partStart+r.partTarget-r.frameDuration/2)
}

// isFull reports whether the open segment has no room for another part.
func (r *rule) isFull() bool {
	return r.finished || r.firstFrame > 0 && r.partStart-r.start+r.partTarget > r.maxDuration()
}

// LongKeyframeInterval returns the interval of random access points if it exceeds the maximum
// duration of a segment, else 0. A viewer that joins in between has no picture until the next one.
// One long GOP alone does not count: it may be a pause of the encoder.
func (r *rule) LongKeyframeInterval() time.Duration {
	if r.repeatedGOP > r.maxDuration() {
		return r.repeatedGOP
	}
	if open := r.videoDTS - r.lastRAP; r.lastRAP >= 0 && open >= endlessGOP {
		return open
	}
	return 0
}

// isRAP reports whether f is a random access point of a video track.
func isRAP(f *media.Frame) bool { return f.Track.Kind == media.Video && f.RAP != media.NoRandomAccess }
