package segment

import (
	"math"
	"slices"
	"strconv"
	"time"

	"livego/internal/container/fmp4"
	"livego/internal/media"
)

// A partCutter divides the open segment into parts. RFC 8216bis section 4.4.3.7 requires each part
// but the last of a segment to last between 85 % and 100 % of the part target. So the target is a
// whole number of frames, and parts have that many frames where the frame rate is constant.
type partCutter struct {
	target time.Duration // maximum duration of a part; 0 until it is fixed, or without parts
	// slow means that most of the last segment was frames longer than target: playlists list no
	// parts.
	slow          bool
	frameDuration time.Duration // duration of the frames at which parts are cut

	start      time.Duration // of the open part
	firstFrame int           // index of the open part's first frame in the segment
	cutPoints  []cutPoint    // possible ends of the open part, in order; may include its own first frame
}

// A cutPoint is a point before a frame.
type cutPoint struct {
	index int // of the frame in its segment
	at    time.Duration
}

// reset starts a segment at time at.
func (p *partCutter) reset(at time.Duration) {
	p.start, p.firstFrame, p.cutPoints = at, 0, p.cutPoints[:0]
}

// advance completes the parts that end at or before m. f is the frame that comes next.
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
		if !due || end.at >= s.start+s.maxDuration() { // the segment must end there
			break
		}
		p.close(s, end, f)
	}
	p.cutPoints = append(p.cutPoints, m)
}

// due returns the cut point at which the open part ends; false when it continues beyond m. The part
// ends at the frame nearest to the target. It ends earlier if the frame before m, whose duration
// was unknown, makes it too long. Else it ends at any frame that makes it long enough.
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

// close completes the open part at end. next is the first frame that is not written yet, nil when
// there is none.
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
	if next != nil && next.Track.Kind == media.Video { // audio frames have a known duration
		part.ends = []fmp4.TrackEnd{{Track: next.Track, Ticks: next.Ticks}}
	}
	o.parts = append(o.parts, part)
	p.start, p.firstFrame = end.at, end.index
	p.cutPoints = slices.DeleteFunc(p.cutPoints, func(m cutPoint) bool { return m.index < end.index })
	for i := range p.cutPoints { // a picture may have an earlier time than the audio before it
		p.cutPoints[i].at = max(p.cutPoints[i].at, p.start)
	}
}

// finish completes all parts of the open segment, which ends at m, and returns the time at which
// the playlist says it ends.
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
		// Ignore audio beyond the last picture: parts must add up to their segment.
		if next == nil && p.target > 0 {
			m.at = min(m.at, max(p.start+p.target, lastPictureEnd(s.open.frames[p.firstFrame:])))
		}
		p.close(s, m, next)
	}
	return m.at
}

// lastPictureEnd returns the end of the last picture of frames, 0 if there is none.
func lastPictureEnd(frames []*media.Frame) time.Duration {
	for _, f := range slices.Backward(frames) {
		if f.Track.Kind == media.Video {
			return f.DTS + f.Duration
		}
	}
	return 0
}

// cutAll fixes the part target by the frames of the open segment up to m, and cuts its parts. next
// is as in finish.
func (p *partCutter) cutAll(s *Segmenter, m cutPoint, next *media.Frame) {
	p.setTarget(s.open.frames, next, s.period.video != nil, s.opt.Part, s.target)
	if p.target == 0 {
		return
	}
	points := slices.Clone(p.cutPoints)
	p.cutPoints = p.cutPoints[:0]
	for _, k := range points {
		if k.at >= m.at {
			break
		}
		p.advance(s, k, s.open.frames[k.index])
	}
}

// audioOnlyFrom reports whether a segment with video has only audio from a frame of the open
// segment on. At the end, or before a discontinuity, that makes no part of its own: hls.js
// considers a stream ended when it has video and audio of the middle of the last part, and
// withholds the last pictures until then.
func (s *Segmenter) audioOnlyFrom(from int) bool {
	return s.period.video != nil &&
		!slices.ContainsFunc(s.open.frames[from:], func(f *media.Frame) bool { return f.Track.Kind == media.Video })
}

// minFrameSample is the time for which frames must be observed to know how much a part of them may
// exceed its nominal duration.
const minFrameSample = 900 * time.Millisecond

// slowFrameInterval is the frame interval from which on a stream has no parts: at a frame per
// second, as some cameras send, a part would be one frame, and players stay three parts behind.
const slowFrameInterval = time.Second

// setTarget sets the part target, once for the stream session: the whole number of frames nearest
// to wanted, plus the observed jitter, since RTMP's milliseconds and encoders' clocks are not exact.
// It sets none if the frame interval is slowFrameInterval or more. next is the frame after frames,
// nil if none follows without a gap.
func (p *partCutter) setTarget(frames []*media.Frame, next *media.Frame, video bool, wanted, most time.Duration) {
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
	if p.frameDuration >= slowFrameInterval && wanted < slowFrameInterval {
		return
	}
	if p.frameDuration <= 0 || p.frameDuration > most {
		p.frameDuration = wanted
	}
	n := max(1, int(math.Round(float64(wanted)/float64(p.frameDuration))))
	exact := time.Duration(n) * p.frameDuration
	longer := time.Duration(0)
	for i := n; i < len(times); i++ {
		longer = max(longer, times[i]-times[i-n]-exact)
	}
	if len(times) < int(minFrameSample/p.frameDuration) {
		longer *= 2 // so few frames have not shown all jitter
	}
	longer = min(longer, exact/10) // a longer time is no part of n frames
	p.target = min((exact + longer + time.Millisecond - 1).Truncate(time.Millisecond), most)
}

// playlistTarget returns the part target for playlists, 0 if they list no parts: what they announce
// about parts must be true.
func (p *partCutter) playlistTarget() time.Duration {
	if p.slow {
		return 0
	}
	return p.target
}

// detectSlow records whether s, which is complete, has frames so slow that parts of them exceed the
// target.
func (p *partCutter) detectSlow(s *Segment) {
	var longer time.Duration
	for _, part := range s.parts {
		if part.Duration > p.target {
			longer += part.Duration
		}
	}
	p.slow = longer > s.Duration/2
}

// frameInterval returns the average distance of the increasing times or, if that is far from the
// median, the median.
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

// independent reports whether a decoder can start with frames. Audio alone can start anywhere.
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
