package segment

import (
	"math"
	"slices"
	"time"

	"livego/internal/media"
)

// RFC 8216bis section 4.4.3.7 requires each part but the last of a segment to last between 85 % and
// 100 % of the part target. So the target is a whole number of frames, and parts have that many
// frames where the frame rate is constant.
const minPartPercent = 85

const (
	// minFrameSample is the time for which frames must be observed to know how much a part of them
	// may exceed its nominal duration.
	minFrameSample = 900 * time.Millisecond
	// slowFrameInterval is the frame interval from which on a stream has no parts: at a frame per
	// second, as some cameras send, a part would be one frame, and players stay three parts behind.
	slowFrameInterval = time.Second
)

// allowsPartEnd reports whether a part may end before f: at video, or at audio if there is no video
// or none comes.
func (r *rule) allowsPartEnd(f *media.Frame) bool {
	return f.Track.Kind == media.Video || r.period.video == nil || f.DTS-r.videoDTS > maxSkew
}

// partEnd returns the point at which the open part ends; false when it continues beyond m. The part
// ends at the frame nearest to the target. It ends earlier if the frame before m, whose duration
// was unknown, makes it too long. Else it ends at any frame that makes it long enough.
func (r *rule) partEnd(b *buffer, m cutPoint) (end cutPoint, ok bool) {
	length := m.at - r.partStart
	if m.index == r.firstFrame || length+r.frameDuration/2 <= r.partTarget {
		return m, false
	}
	if length <= r.partTarget {
		return m, true
	}
	end = m
	for _, p := range slices.Backward(b.points) {
		if p.index <= r.firstFrame || p.at == r.partStart {
			break
		}
		if end = p; p.at-r.partStart <= r.partTarget {
			break
		}
	}
	if r.isWholePart(end.at) {
		return end, true
	}
	for i := m.index - 1; i > r.firstFrame; i-- {
		if at := b.frames[i].DTS; r.isWholePart(at) {
			return cutPoint{i, at}, true
		}
	}
	return end, true
}

// isWholePart reports whether the open part has the duration of any but the last of its segment if
// it ends at a time.
func (r *rule) isWholePart(at time.Duration) bool {
	length := at - r.partStart
	return length >= r.partTarget*minPartPercent/100 && length <= r.partTarget
}

// endPart ends the open part at a point, and starts the next one there.
func (r *rule) endPart(b *buffer, end cutPoint) {
	r.partStart, r.firstFrame = end.at, end.index
	b.points = slices.DeleteFunc(b.points, func(p cutPoint) bool { return p.index < end.index })
	for i := range b.points { // a picture may have an earlier time than the audio before it
		b.points[i].at = max(b.points[i].at, end.at)
	}
}

// setPartTarget sets the part target, once for the stream session: the whole number of frames
// nearest to the wanted duration, plus the observed jitter, since RTMP's milliseconds and encoders'
// clocks are not exact. It sets none if the frame interval is slowFrameInterval or more. next is the
// frame after frames, nil if none follows without a gap.
func (r *rule) setPartTarget(frames []*media.Frame, next *media.Frame) {
	kind := media.Audio
	if r.period.video != nil {
		kind = media.Video
	}
	var times []time.Duration
	for _, f := range frames {
		if f.Track.Kind == kind && (len(times) == 0 || f.DTS > times[len(times)-1]) {
			times = append(times, f.DTS)
			r.frameDuration = f.Duration
		}
	}
	if len(times) == 1 && next != nil && next.Track.Kind == kind && next.DTS > times[0] {
		times = append(times, next.DTS)
	}
	if d := frameInterval(times); d > 0 {
		r.frameDuration = d
	}
	wanted := r.opt.Part
	if r.frameDuration >= slowFrameInterval && wanted < slowFrameInterval {
		return
	}
	if r.frameDuration <= 0 || r.frameDuration > r.target {
		r.frameDuration = wanted
	}
	n := max(1, int(math.Round(float64(wanted)/float64(r.frameDuration))))
	exact := time.Duration(n) * r.frameDuration
	longer := time.Duration(0)
	for i := n; i < len(times); i++ {
		longer = max(longer, times[i]-times[i-n]-exact)
	}
	if len(times) < int(minFrameSample/r.frameDuration) {
		longer *= 2 // so few frames have not shown all jitter
	}
	longer = min(longer, exact/10) // a longer time is no part of n frames
	r.partTarget = min((exact + longer + time.Millisecond - 1).Truncate(time.Millisecond), r.target)
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
