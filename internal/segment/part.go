package segment

import (
	"math"
	"slices"
	"strconv"
	"time"

	"livego/internal/container/fmp4"
	"livego/internal/media"
)

// parts divides the open segment. RFC 8216bis section 4.4.3.7 wants each part but the last of a segment to be between 85 % and 100 %
// of the part target: so that is a whole number of frames, and parts hold as many wherever frames are regular.
type parts struct {
	target time.Duration // no part is longer; 0 until it is fixed, or where there are none
	slow   bool          // the last segment was mostly frames that last longer than target: parts are not shown
	frame  time.Duration // what a frame lasts that parts are cut at

	start time.Duration // of the open part
	from  int           // index of its first frame in the segment
	marks []mark        // where it may end, in order; its own first frame may be among them
}

// A mark is a place before a frame.
type mark struct {
	index int // of the frame in its segment
	at    time.Duration
}

// begin is where a segment begins.
func (p *parts) begin(at time.Duration) { p.start, p.from, p.marks = at, 0, p.marks[:0] }

// reach completes the parts that end at or before m, where f comes next.
func (p *parts) reach(s *Segmenter, m mark, f *media.Frame) {
	if s.opt.Part == 0 {
		return
	}
	if n := len(p.marks); n > 0 {
		m.at = max(m.at, p.marks[n-1].at)
	}
	m.at = max(m.at, p.start)
	for p.target > 0 && !s.awaits(f) {
		end, due := p.due(m, s.open.frames)
		if !due || end.at >= s.start+s.limit() { // where the segment has to end
			break
		}
		p.close(s, end, f)
	}
	p.marks = append(p.marks, m)
}

// due returns the mark where the open part ends; false when it goes on beyond m. It ends at the frame that is nearest to the target,
// and before that where it would be too long with the frame before m, which nobody could know to be so long; or else at whatever frame
// makes it long enough.
func (p *parts) due(m mark, frames []*media.Frame) (end mark, due bool) {
	if m.index == p.from || m.at-p.start+p.frame/2 <= p.target {
		return m, false
	}
	if m.at-p.start <= p.target {
		return m, true
	}
	end = m
	for _, k := range slices.Backward(p.marks) {
		if k.index <= p.from || k.at == p.start {
			break
		}
		if end = k; k.at-p.start <= p.target {
			break
		}
	}
	if l := end.at - p.start; l > p.target || l < p.target*85/100 {
		for i := len(frames) - 1; i > p.from; i-- {
			if l := frames[i].DTS - p.start; l >= p.target*85/100 && l <= p.target {
				return mark{i, frames[i].DTS}, true
			}
		}
	}
	return end, true
}

// close completes the open part at end. next is the frame that was not written yet, nil when there is none.
func (p *parts) close(s *Segmenter, end mark, next *media.Frame) {
	o := s.open
	if p.from == 0 {
		o.lineup = s.lineup()
	}
	frames := o.frames[p.from:end.index:end.index]
	part := &Part{
		Name: o.partName(len(o.parts)), Duration: end.at - p.start, segment: o, frames: frames,
		independent: independent(frames, s.run.video), number: o.number + uint32(len(o.parts)),
	}
	for _, f := range frames {
		part.load.add(f)
	}
	if end.index < len(o.frames) {
		next = o.frames[end.index]
	}
	if next != nil && next.Track.Kind == media.Video { // audio tells its duration by itself
		part.ends = []fmp4.End{{Track: next.Track, Ticks: next.Ticks}}
	}
	o.parts = append(o.parts, part)
	p.start, p.from = end.at, end.index
	p.marks = slices.DeleteFunc(p.marks, func(m mark) bool { return m.index < end.index })
	for i := range p.marks { // a picture whose time is before that of the sound that came before it
		p.marks[i].at = max(p.marks[i].at, p.start)
	}
}

// finish completes all parts of the open segment, which ends at m, and returns the time that it is said to end at.
func (p *parts) finish(s *Segmenter, m mark, next *media.Frame) time.Duration {
	if p.target == 0 && s.opt.Part > 0 {
		p.divide(s, m, next)
	}
	for p.target > 0 && m.at-p.start > p.target {
		end, due := p.due(m, s.open.frames)
		if !due || end.at >= m.at || next == nil && s.tail(end.index) && m.at-p.start < 2*p.target {
			break
		}
		p.close(s, end, next)
	}
	if m.index > p.from {
		if next == nil && p.target > 0 { // what sound outlasts the pictures by is not said: parts last as long as their segment
			m.at = min(m.at, max(p.start+p.target, shownUntil(s.open.frames[p.from:])))
		}
		p.close(s, m, next)
	}
	return m.at
}

// shownUntil returns when the last picture of frames ends, 0 where there is none.
func shownUntil(frames []*media.Frame) time.Duration {
	for _, f := range slices.Backward(frames) {
		if f.Track.Kind == media.Video {
			return f.DTS + f.Duration
		}
	}
	return 0
}

// divide fixes the part target by the frames of the open segment up to m, and completes its parts. next is as
// in finish.
func (p *parts) divide(s *Segmenter, m mark, next *media.Frame) {
	p.fix(s.open.frames, next, s.run.video != nil, s.opt.Part, s.target)
	if p.target == 0 {
		return
	}
	marks := slices.Clone(p.marks)
	p.marks = p.marks[:0]
	for _, k := range marks {
		if k.at >= m.at {
			break
		}
		p.reach(s, k, s.open.frames[k.index])
	}
}

// tail reports whether from a frame of the open segment on there is sound alone, where there are pictures before. At the end of all, or
// before a joint, that makes no part of its own: hls.js takes a stream for over when it has pictures and sound of the middle of the last
// part, and keeps the last pictures to itself until then.
func (s *Segmenter) tail(from int) bool {
	return s.run.video != nil && !slices.ContainsFunc(s.open.frames[from:], func(f *media.Frame) bool { return f.Track.Kind == media.Video })
}

// enoughFrames is how long frames are looked at that tell how long a part of them may take.
const enoughFrames = 900 * time.Millisecond

// slowest is how far apart frames are that are no stream for low latency: of a frame a second, as some
// cameras send, a part would be a frame, and players stay three parts behind.
const slowest = time.Second

// fix sets the part target, once for the session: the whole number of frames that is nearest to wish, and what these have been seen to
// take longer, since RTMP's milliseconds and encoders' clocks are not exact. It sets none where frames are
// slowest apart or more. next is the frame after frames, nil when none follows without a hole.
func (p *parts) fix(frames []*media.Frame, next *media.Frame, video bool, wish, most time.Duration) {
	kind := media.Audio
	if video {
		kind = media.Video
	}
	var times []time.Duration
	for _, f := range frames {
		if f.Track.Kind == kind && (len(times) == 0 || f.DTS > times[len(times)-1]) {
			times = append(times, f.DTS)
			p.frame = f.Duration
		}
	}
	if len(times) == 1 && next != nil && next.Track.Kind == kind && next.DTS > times[0] {
		times = append(times, next.DTS)
	}
	if d := interval(times); d > 0 {
		p.frame = d
	}
	if p.frame >= slowest && wish < slowest {
		return
	}
	if p.frame <= 0 || p.frame > most {
		p.frame = wish
	}
	n := max(1, int(math.Round(float64(wish)/float64(p.frame))))
	exact := time.Duration(n) * p.frame
	longer := time.Duration(0)
	for i := n; i < len(times); i++ {
		longer = max(longer, times[i]-times[i-n]-exact)
	}
	if len(times) < int(enoughFrames/p.frame) {
		longer *= 2 // so few have not shown it all
	}
	longer = min(longer, exact/10) // what is longer than that is no part of n frames
	p.target = min((exact + longer + time.Millisecond - 1).Truncate(time.Millisecond), most)
}

// shown returns the part target that playlists have, 0 where they have none: what they say of parts must be true.
func (p *parts) shown() time.Duration {
	if p.slow {
		return 0
	}
	return p.target
}

// judge sees by s, which is complete, whether frames have become so slow that parts of them would be longer
// than the target.
func (p *parts) judge(s *Segment) {
	var longer time.Duration
	for _, part := range s.parts {
		if part.Duration > p.target {
			longer += part.Duration
		}
	}
	p.slow = longer > s.Duration/2
}

// interval returns how far times, which rise, are apart: on average, unless that is far from what it mostly is.
func interval(times []time.Duration) time.Duration {
	n := len(times) - 1
	if n < 1 {
		return 0
	}
	steps := make([]time.Duration, n)
	for i := range steps {
		steps[i] = times[i+1] - times[i]
	}
	slices.Sort(steps)
	average, median := (times[n]-times[0])/time.Duration(n), steps[n/2]
	if (average - median).Abs() > median/20 {
		return median
	}
	return average
}

// independent reports whether a decoder may start with frames: with audio alone anywhere.
func independent(frames []*media.Frame, video *media.Track) bool {
	for _, f := range frames {
		if f.Track == video {
			return f.RAP == media.Key
		}
	}
	return video == nil
}

// partName returns the name of a part of s by its index.
func (s *Segment) partName(index int) string { return s.Name + "." + strconv.Itoa(index) }
