package segment

import (
	"cmp"
	"fmt"
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
	// endless is how long a GOP that has not ended yet counts as none.
	endless = 30 * time.Second
	// minWindow is the least number of target durations that a playlist lists.
	minWindow = 8
)

// Options of a Segmenter.
type Options struct {
	Segment time.Duration // wished length of a segment; default 2 s
	Window  int           // target durations' worth of segments in the playlist; at least 8
	// Bytes bounds the memory of a stream's segments; default 128 MiB. A segment is cut at a quarter of it.
	Bytes int
	// Raise, when set, is told each media sequence number before it is published: see Numbers.
	Raise func(uint64)
}

// A Segmenter makes the segments of one session of a stream. Write and End are for one goroutine, the rest for any.
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
	gop    time.Duration // longest seen
	last   time.Duration // newest GOP
	apart  time.Duration // longest that two GOPs in a row were at least

	typical int // how many frames the last segment had
}

// A run is what lies between two discontinuities.
type run struct {
	disc         uint32
	video, audio *media.Track
	closed       bool // has a complete segment
	start        time.Duration
	arrived      time.Time // when the frame at start did
}

// New returns a Segmenter whose media and discontinuity sequence numbers begin at epoch, which no other session may have.
func New(epoch uint64, o Options) *Segmenter {
	o.Segment = cmp.Or(o.Segment, 2*time.Second)
	o.Window = max(o.Window, minWindow)
	o.Bytes = cmp.Or(o.Bytes, 128<<20)
	s := &Segmenter{opt: o, epoch: epoch, ready: make(chan struct{}), next: epoch, discs: epoch, rap: -1}
	s.list.Store(new(List))
	return s
}

// Next returns a Segmenter that takes over from s, which gets no more frames: for the session after that of s, or for the rest of
// the same where s gave an error. Its playlist goes on from that of s: the numbers continue, and its first segment is marked as
// discontinuous.
func (s *Segmenter) Next(epoch uint64) *Segmenter {
	n := New(epoch, s.opt)
	last := s.List()
	if last.listed == 0 {
		return n
	}
	newest := last.segments[len(last.segments)-1]
	n.next, n.discs = newest.sequence+1, newest.discs
	if epoch == s.epoch {
		n.least = s.start + step
	}
	n.list.Store(&List{segments: last.segments, listed: last.listed, Bytes: last.Bytes})
	return n
}

// List returns what there is to fetch now; never nil.
func (s *Segmenter) List() *List { return s.list.Load() }

// Ready is closed when there is a playlist. It is closed without one when the session ends without a segment.
func (s *Segmenter) Ready() <-chan struct{} { return s.ready }

// Write adds f, the next frame of the stream in its order, of a track that Carries accepts. An error is a fault of ours.
func (s *Segmenter) Write(f *media.Frame) error {
	s.newest = max(s.newest, f.DTS)
	if f.Track.Kind == media.Video {
		s.video = f.DTS
		if f.RAP != media.NoAccess {
			s.measure(f)
		}
	}
	if s.open == nil {
		s.begin(f, max(s.position(f), s.least), s.List().listed > 0)
	} else if joint := s.breaks(f); joint || s.due(f) {
		if err := s.cut(f, joint || *s.run.track(f.Track.Kind) == nil); err != nil {
			return err
		}
	}
	s.add(f)
	return nil
}

// Due returns the stream time before which Write completes nothing, but where a random access point, a new track or a joint of
// the timeline comes. For the writer.
func (s *Segmenter) Due() time.Duration {
	if s.open == nil {
		return 0
	}
	return min((s.slot(s.start)+1)*s.opt.Segment, s.start+s.limit())
}

// Pause completes the open segment with what it has, as the encoder is away. What comes after is marked as discontinuous.
func (s *Segmenter) Pause() error {
	if s.open == nil {
		return nil
	}
	err := s.publish(s.length(), false)
	s.open, s.least = nil, s.start+step
	return err
}

// End completes the last segment and the playlist.
func (s *Segmenter) End() error {
	last := s.List()
	switch {
	case s.open != nil:
		return s.publish(s.length(), true)
	case last.Playlist == nil:
		close(s.ready)
		return nil
	}
	l := *last // everything was complete already
	l.Ended = true
	if err := l.render(); err != nil {
		return err
	}
	s.list.Store(&l)
	return nil
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
		s.gop = max(s.gop, gop)
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
// the time stamps jump or the tracks change. A track that comes while the run has no complete segment is there from the start.
func (s *Segmenter) breaks(f *media.Frame) bool {
	if f.Discontinuity != s.run.disc {
		return true
	}
	t := *s.run.track(f.Track.Kind)
	return t != f.Track && (t != nil || s.run.closed)
}

// due reports whether the open segment is to be cut before f.
func (s *Segmenter) due(f *media.Frame) bool {
	at := s.position(f)
	length := at - s.start
	if length+f.Duration > s.limit() || s.open.size >= s.opt.Bytes/4 {
		return true // not where a decoder may start, but it must be somewhere
	}
	switch {
	case isRAP(f):
		// The first one in its slot of time. One before that, if the segment would become too long by waiting for the
		// next; min keeps a stream of keyframes only that had a long GOP once from a segment for each.
		return s.slot(at) > s.slot(s.start) || length+min(s.gop, s.target) > s.limit()
	case s.run.video == nil:
		return s.slot(at) > s.slot(s.start)
	}
	return false
}

func (s *Segmenter) slot(at time.Duration) time.Duration { return at / s.opt.Segment }

// cut completes the open segment and begins one with f. joint tells that f does not continue it.
func (s *Segmenter) cut(f *media.Frame, joint bool) error {
	at := max(s.position(f), s.start+step)
	length := at - s.start
	if joint || length > s.limit() { // what lies between the last frame and f is a hole, and no segment's
		joint, length = true, s.length()
	}
	if err := s.publish(length, false); err != nil {
		return err
	}
	s.begin(f, at, joint)
	return nil
}

// length returns the duration of the open segment by its frames.
func (s *Segmenter) length() time.Duration { return min(max(s.end-s.start, step), s.limit()) }

// begin opens a segment at time at, whose first frame is f. joint tells that something else was before it.
func (s *Segmenter) begin(f *media.Frame, at time.Duration, joint bool) {
	if joint {
		s.discs++
	}
	if s.open == nil || joint {
		s.join(f, at)
	}
	s.start, s.end = at, at
	s.open = &Segment{
		Name:     fmt.Sprintf("%d-%d", s.epoch, at.Milliseconds()),
		sequence: s.next,
		discs:    s.discs,
		joint:    joint,
		date:     s.run.arrived.Add(at - s.run.start),
		frames:   make([]*media.Frame, 0, s.typical),
	}
	s.next++
}

// join starts a run with f at time at. The other track goes on where only the parameters of one have changed.
func (s *Segmenter) join(f *media.Frame, at time.Duration) {
	r := run{disc: f.Discontinuity, start: at, arrived: f.Arrived}
	if f.Discontinuity == s.run.disc {
		r.video, r.audio = s.run.video, s.run.audio
	}
	s.run = r
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
	*s.run.track(f.Track.Kind) = f.Track
	o := s.open
	o.frames = append(o.frames, f)
	o.size += packed(len(f.Payload))
	if f.Track.Kind == media.Video {
		o.videoBytes += len(f.Payload)
	} else {
		o.audioBytes += len(f.Payload)
	}
	s.end = max(s.end, f.DTS+f.Duration)
}

// publish completes the open segment, length long, and publishes a list with it.
func (s *Segmenter) publish(length time.Duration, ended bool) error {
	s.fix(max(s.gop, length))
	o := s.open
	o.Duration, o.video, o.audio = length, s.run.video, s.run.audio
	s.run.closed, s.typical = true, len(o.frames)
	if s.opt.Raise != nil {
		s.opt.Raise(o.sequence)
	}

	old := s.List()
	if old.Playlist == nil { // nobody has seen the target yet
		s.target = max(s.target, length.Round(time.Second))
	}
	l := &List{Target: s.target, Ended: ended, listed: old.listed + 1}
	l.segments = append(append(make([]*Segment, 0, len(old.segments)+1), old.segments...), o)
	l.trim(s.opt.Window, s.opt.Bytes)
	if err := l.render(); err != nil {
		return err
	}
	s.list.Store(l)
	if old.Playlist == nil {
		close(s.ready)
	}
	return nil
}

// isRAP reports whether f is video that a decoder may start with.
func isRAP(f *media.Frame) bool { return f.Track.Kind == media.Video && f.RAP != media.NoAccess }
