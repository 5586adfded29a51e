package segment

import (
	"slices"
	"time"

	"livego/internal/container/fmp4"
	"livego/internal/media"
)

// A builder makes segments and parts of frames, where its rule says that they end.
type builder struct {
	rule
	buffer
	segment  *segment  // the open one; nil when there is none
	tracks   *trackSet // of the period; nil until something of it is complete
	capacity int       // number of frames of the last segment
}

// openSegment starts a segment with f, which is not added yet.
func (b *builder) openSegment(f *media.Frame, at time.Duration, discontinuous bool) {
	if b.startAt(f, at, discontinuous); !b.period.fixed {
		b.tracks = nil
	}
	b.segment = b.newSegment()
	b.frames, b.points = make([]*media.Frame, 0, b.capacity), b.points[:0]
	if b.allowsPartEnd(f) {
		b.points = append(b.points, cutPoint{0, at})
	}
	if b.opt.MarkUsed != nil {
		b.opt.MarkUsed(b.segment.sequence)
	}
}

// add appends f to the open segment.
func (b *builder) add(f *media.Frame) {
	b.rule.add(f)
	b.frames = append(b.frames, f)
}

// endParts completes the parts of the open segment that end at or before m. f is the frame that
// comes next.
func (b *builder) endParts(m cutPoint, f *media.Frame) {
	if b.opt.Part == 0 {
		return
	}
	if n := len(b.points); n > 0 {
		m.at = max(m.at, b.points[n-1].at)
	}
	m.at = max(m.at, b.partStart)
	for b.partTarget > 0 && !b.awaitsTrack(f) {
		end, ok := b.partEnd(&b.buffer, m)
		if !ok || end.at >= b.start+b.maxDuration() { // the segment must end there
			break
		}
		b.completePart(end, f)
	}
	b.points = append(b.points, m)
}

// completePart completes the open part at end. next is the first frame that is not written yet, nil
// when there is none.
func (b *builder) completePart(end cutPoint, next *media.Frame) {
	if b.tracks == nil { // all tracks of the period are known
		b.tracks = newTrackSet(b.period.video, b.period.audio)
		b.period.fixed = true
	}
	o := b.segment
	if len(o.parts) == 0 { // else it is published
		o.trackSet = b.tracks
	}
	frames := b.frames[b.firstFrame:end.index:end.index]
	p := &part{
		name: o.partName(len(o.parts)), duration: end.at - b.partStart, segment: o, frames: frames,
		independent: independent(frames, b.period.video), number: o.number + uint32(len(o.parts)),
	}
	for _, f := range frames {
		p.totals.add(f)
	}
	if end.index < len(b.frames) {
		next = b.frames[end.index]
	}
	if next != nil && next.Track.Kind == media.Video { // audio frames have a known duration
		p.ends = []fmp4.TrackEnd{{Track: next.Track, Ticks: next.Ticks}}
	}
	o.parts = append(o.parts, p)
	b.opt.Counters.addPart()
	b.endPart(&b.buffer, end)
}

// completeParts completes all parts of the open segment, which ends at m, and returns the time at
// which the playlist says it ends. next is the frame after it, nil if none follows without a gap.
func (b *builder) completeParts(m cutPoint, next *media.Frame) time.Duration {
	if b.partTarget == 0 && b.opt.Part > 0 {
		b.measureParts(m, next)
	}
	for b.partTarget > 0 && m.at-b.partStart > b.partTarget {
		end, ok := b.partEnd(&b.buffer, m)
		if !ok || end.at >= m.at || next == nil && b.audioOnlyFrom(end.index) && m.at-b.partStart < 2*b.partTarget {
			break
		}
		b.completePart(end, next)
	}
	if m.index > b.firstFrame {
		// Ignore audio beyond the last picture: parts must add up to their segment.
		if next == nil && b.partTarget > 0 {
			m.at = min(m.at, max(b.partStart+b.partTarget, lastPictureEnd(b.frames[b.firstFrame:])))
		}
		b.completePart(m, next)
	}
	return m.at
}

// measureParts sets the part target by the frames of the open segment up to m, and completes its
// parts. next is as in completeParts.
func (b *builder) measureParts(m cutPoint, next *media.Frame) {
	if b.setPartTarget(b.frames, next); b.partTarget == 0 {
		return
	}
	points := slices.Clone(b.points)
	b.points = b.points[:0]
	for _, p := range points {
		if p.at >= m.at {
			break
		}
		b.endParts(p, b.frames[p.index])
	}
}

// complete completes the open segment with the given duration before its frame n, and returns it.
// next is as in completeParts.
func (b *builder) complete(n int, length time.Duration, next *media.Frame) *segment {
	b.endSegment(length)
	b.frames = b.frames[:n:n]
	b.points = slices.DeleteFunc(b.points, func(p cutPoint) bool { return p.index >= n })
	end := b.partStart
	if !b.finished {
		end = b.completeParts(cutPoint{n, b.start + length}, next)
	}
	o := b.segment
	o.duration = end - b.start
	b.endDate = o.date.Add(o.duration)
	b.opt.Counters.addSegment()
	o.setFrames(b.frames)
	var longer time.Duration
	for _, p := range o.parts {
		if p.duration > b.partTarget {
			longer += p.duration
		}
	}
	b.slow = longer > o.duration/2
	b.capacity = n
	return o
}

// discard discards the open segment, of which nothing has been published, because its frames of
// kind k do not belong in it, and returns its frames.
func (b *builder) discard(k media.Kind) []*media.Frame {
	frames := b.frames
	b.open, b.segment, b.buffer = false, nil, buffer{}
	b.nextSequence--
	if b.discontinuous {
		b.discontinuitySequence--
	}
	b.lastRAP, b.newestDTS, b.nextAudio = -1, 0, nil
	*b.period.track(k) = nil
	return frames
}

// audioOnlyFrom reports whether a segment with video has only audio from a frame of the open
// segment on. At the end, or before a discontinuity, that makes no part of its own: hls.js
// considers a stream ended when it has video and audio of the middle of the last part, and
// withholds the last pictures until then.
func (b *builder) audioOnlyFrom(from int) bool {
	return b.period.video != nil &&
		!slices.ContainsFunc(b.frames[from:], func(f *media.Frame) bool { return f.Track.Kind == media.Video })
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

// independent reports whether a decoder can start with frames. Audio alone can start anywhere.
func independent(frames []*media.Frame, video *media.Track) bool {
	for _, f := range frames {
		if f.Track == video {
			return f.RAP == media.Keyframe
		}
	}
	return video == nil
}
