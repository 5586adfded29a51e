package segment

import (
	"math"
	"slices"
	"strconv"
	"time"

	"livego/internal/container/fmp4"
	"livego/internal/media"
)

// partCutter divides the open segment. RFC 8216bis section 4.4.3.7 wants each part but the last of
// a segment to be between 85 % and 100 % of the part target: so that is a whole number of frames,
// and partCutter hold as many wherever frames are regular.
type partCutter struct {
	target        time.Duration // no part is longer; 0 until it is fixed, or where there are none
	slow          bool          // the last segment was mostly frames that last longer than target: parts are not shown
	frameDuration time.Duration // what a frameDuration lasts that parts are cut at

	start      time.Duration // of the open part
	firstFrame int           // index of its first frame in the segment
	cutPoints  []cutPoint    // where it may end, in order; its own first frame may be among them
}

// A cutPoint is a place before a frame.
type cutPoint struct {
	index int // of the frame in its segment
	at    time.Duration
}

// reset is where a segment begins.
func (p *partCutter) reset(at time.Duration) {
	p.start, p.firstFrame, p.cutPoints = at, 0, p.cutPoints[:0]
}

// advance completes the parts that end at or before m, where f comes next.
func (p *partCutter) advance(s *Segmenter, m cutPoint, f *media.Frame) {
	if s.opt.Part == 0 {
		return
	}
	if n := len(p.cutPoints); n > 0 {
		m.at = max(m.at, p.cutPoints[n-1].at)
	}
	m.at = max(m.at, p.start)
	for p.target > 0 && !s.awaitsTrack(f) {
		end, due := p.due(m, s.open.frames)
		if !due || end.at >= s.start+s.maxDuration() { // where the segment has to end
			break
		}
		p.close(s, end, f)
	}
	p.cutPoints = append(p.cutPoints, m)
}

// due returns the mark where the open part ends; false when it goes on beyond m. It ends at the
// frame that is nearest to the target, and before that where it would be too long with the frame
// before m, which nobody could know to be so long; or else at whatever frame makes it long enough.
func (p *partCutter) due(m cutPoint, frames []*media.Frame) (end cutPoint, due bool) {
	if m.index == p.firstFrame || m.at-p.start+p.frameDuration/2 <= p.target {
		return m, false
	}
	if m.at-p.start <= p.target {
		return m, true
	}
	end = m
	for _, k := range slices.Backward(p.cutPoints) {
		if k.index <= p.firstFrame || k.at == p.start {
			break
		}
		if end = k; k.at-p.start <= p.target {
			break
		}
	}
	if l := end.at - p.start; l > p.target || l < p.target*85/100 {
		for i := len(frames) - 1; i > p.firstFrame; i-- {
			if l := frames[i].DTS - p.start; l >= p.target*85/100 && l <= p.target {
				return cutPoint{i, frames[i].DTS}, true
			}
		}
	}
	return end, true
}

// close completes the open part at end. next is the frame that was not written yet, nil when there is none.
func (p *partCutter) close(s *Segmenter, end cutPoint, next *media.Frame) {
	o := s.open
	if p.firstFrame == 0 {
		o.trackSet = s.openTrackSet()
	}
	frames := o.frames[p.firstFrame:end.index:end.index]
	part := &Part{
		Name: o.partName(len(o.parts)), Duration: end.at - p.start, segment: o, frames: frames,
		independent: independent(frames, s.period.video), number: o.number + uint32(len(o.parts)),
	}
	for _, f := range frames {
		part.totals.add(f)
	}
	if end.index < len(o.frames) {
		next = o.frames[end.index]
	}
	if next != nil && next.Track.Kind == media.Video { // audio tells its duration by itself
		part.ends = []fmp4.TrackEnd{{Track: next.Track, Ticks: next.Ticks}}
	}
	o.parts = append(o.parts, part)
	p.start, p.firstFrame = end.at, end.index
	p.cutPoints = slices.DeleteFunc(p.cutPoints, func(m cutPoint) bool { return m.index < end.index })
	for i := range p.cutPoints { // a picture whose time is before that of the sound that came before it
		p.cutPoints[i].at = max(p.cutPoints[i].at, p.start)
	}
}

// finish completes all parts of the open segment, which ends at m, and returns the time that it is said to end at.
func (p *partCutter) finish(s *Segmenter, m cutPoint, next *media.Frame) time.Duration {
	if p.target == 0 && s.opt.Part > 0 {
		p.cutAll(s, m, next)
	}
	for p.target > 0 && m.at-p.start > p.target {
		end, due := p.due(m, s.open.frames)
		if !due || end.at >= m.at || next == nil && s.audioOnlyFrom(end.index) && m.at-p.start < 2*p.target {
			break
		}
		p.close(s, end, next)
	}
	if m.index > p.firstFrame {
		// what sound outlasts the pictures by is not said: parts last as long as their segment
		if next == nil && p.target > 0 {
			m.at = min(m.at, max(p.start+p.target, lastPictureEnd(s.open.frames[p.firstFrame:])))
		}
		p.close(s, m, next)
	}
	return m.at
}

// lastPictureEnd returns when the last picture of frames ends, 0 where there is none.
func lastPictureEnd(frames []*media.Frame) time.Duration {
	for _, f := range slices.Backward(frames) {
		if f.Track.Kind == media.Video {
			return f.DTS + f.Duration
		}
	}
	return 0
}

// cutAll fixes the part target by the frames of the open segment up to m, and completes its parts. next is as
// in finish.
func (p *partCutter) cutAll(s *Segmenter, m cutPoint, next *media.Frame) {
	p.setTarget(s.open.frames, next, s.period.video != nil, s.opt.Part, s.target)
	if p.target == 0 {
		return
	}
	marks := slices.Clone(p.cutPoints)
	p.cutPoints = p.cutPoints[:0]
	for _, k := range marks {
		if k.at >= m.at {
			break
		}
		p.advance(s, k, s.open.frames[k.index])
	}
}

// audioOnlyFrom reports whether from a frame of the open segment on there is sound alone, where
// there are pictures before. At the end of all, or before a joint, that makes no part of its own:
// hls.js takes a stream for over when it has pictures and sound of the middle of the last part, and
// keeps the last pictures to itself until then.
func (s *Segmenter) audioOnlyFrom(from int) bool {
	return s.period.video != nil &&
		!slices.ContainsFunc(s.open.frames[from:], func(f *media.Frame) bool { return f.Track.Kind == media.Video })
}

// minFrameSample is how long frames are looked at that tell how long a part of them may take.
const minFrameSample = 900 * time.Millisecond

// slowFrameInterval is how far apart frames are that are no stream for low latency: of a frame a second, as some
// cameras send, a part would be a frame, and players stay three parts behind.
const slowFrameInterval = time.Second

// setTarget sets the part target, once for the session: the whole number of frames that is nearest
// to wish, and what these have been seen to take longer, since RTMP's milliseconds and encoders'
// clocks are not exact. It sets none where frames are slowest apart or more. next is the frame
// after frames, nil when none follows without a hole.
func (p *partCutter) setTarget(frames []*media.Frame, next *media.Frame, video bool, wish, most time.Duration) {
	kind := media.Audio
	if video {
		kind = media.Video
	}
	var times []time.Duration
	for _, f := range frames {
		if f.Track.Kind == kind && (len(times) == 0 || f.DTS > times[len(times)-1]) {
			times = append(times, f.DTS)
			p.frameDuration = f.Duration
		}
	}
	if len(times) == 1 && next != nil && next.Track.Kind == kind && next.DTS > times[0] {
		times = append(times, next.DTS)
	}
	if d := frameInterval(times); d > 0 {
		p.frameDuration = d
	}
	if p.frameDuration >= slowFrameInterval && wish < slowFrameInterval {
		return
	}
	if p.frameDuration <= 0 || p.frameDuration > most {
		p.frameDuration = wish
	}
	n := max(1, int(math.Round(float64(wish)/float64(p.frameDuration))))
	exact := time.Duration(n) * p.frameDuration
	longer := time.Duration(0)
	for i := n; i < len(times); i++ {
		longer = max(longer, times[i]-times[i-n]-exact)
	}
	if len(times) < int(minFrameSample/p.frameDuration) {
		longer *= 2 // so few have not shown it all
	}
	longer = min(longer, exact/10) // what is longer than that is no part of n frames
	p.target = min((exact + longer + time.Millisecond - 1).Truncate(time.Millisecond), most)
}

// playlistTarget returns the part target that playlists have, 0 where they have none: what they say
// of parts must be true.
func (p *partCutter) playlistTarget() time.Duration {
	if p.slow {
		return 0
	}
	return p.target
}

// detectSlow sees by s, which is complete, whether frames have become so slow that parts of them would be longer
// than the target.
func (p *partCutter) detectSlow(s *Segment) {
	var longer time.Duration
	for _, part := range s.parts {
		if part.Duration > p.target {
			longer += part.Duration
		}
	}
	p.slow = longer > s.Duration/2
}

// frameInterval returns how far times, which rise, are apart: on average, unless that is far from what it mostly is.
func frameInterval(times []time.Duration) time.Duration {
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
			return f.RAP == media.Keyframe
		}
	}
	return video == nil
}

// partName returns the name of a part of s by its index.
func (s *Segment) partName(index int) string { return s.Name + "." + strconv.Itoa(index) }
