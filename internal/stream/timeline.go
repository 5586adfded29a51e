package stream

import (
	"time"

	"livego/internal/media"
)

const (
	maxStepBack = time.Second      // a step back up to this is jitter and clamped; beyond it the clock was set
	maxGap      = 10 * time.Second // a gap up to this inside one connection is kept; beyond it the clock was set
	tick        = time.Millisecond // the least distance between clamped frames: RTMP and FLV count milliseconds
	defaultStep = 40 * time.Millisecond
)

// A timeline maps the time of one encoder after another onto the one clock of a stream: it starts
// at 0, never goes back within a track, and goes on over a new connection. All tracks share one
// offset, so their distance to each other is kept.
type timeline struct {
	started, rejoining bool
	offset             time.Duration // stream time less encoder time
	prevOffset         time.Duration // the offset before the last jump, for tracks that have not jumped yet
	end                time.Duration // largest DTS given out
	step               time.Duration // duration of the frame at end
	disc               uint32
	clocks             map[trackKey]*clock

	// an arrival, which is at arrivalBaseDTS for tracks that are paced by it; zero while there is none
	arrivalBase    time.Time
	arrivalBaseDTS time.Duration
}

type trackKey struct {
	kind media.Kind
	id   uint8
}

// A clock is the timeline of one track.
type clock struct {
	seen     bool          // has given a frame in this connection
	behind   bool          // still on the offset before the last jump
	shift    time.Duration // what brings a track that began absurdly far from the others to them
	last     time.Duration // last DTS given out
	hasLast  bool          // last is valid
	clamped  bool          // since the last frame that needed none, all have been
	step     time.Duration
	rate     uint32 // time scale of next
	next     int64  // sample-exact tick that continues the last audio frame
	nextSet  bool
	lastTick int64 // the last tick lastTick out
	check    clockCheck
}

// reconnect makes the next frame follow the last one without a hole, whatever its time.
func (t *timeline) reconnect() {
	if !t.started {
		return
	}
	t.rejoining = true
}

// setTimes sets the stream times, Ticks, Duration and Discontinuity of f, which holds encoder times.
func (t *timeline) setTimes(f *media.Frame) {
	c := t.clock(f.Track)
	if f.Track.Kind == media.Data {
		t.setDataTimes(c, f)
		return
	}
	switch {
	case !t.started:
		t.started, t.step = true, defaultStep
		t.offset = -f.DTS
	case t.rejoining:
		t.rejoining = false
		for _, c := range t.clocks {
			c.seen, c.behind, c.shift, c.check = false, false, 0, clockCheck{}
		}
		t.arrivalBase = time.Time{}
		t.jump(f)
	}
	dts := t.streamTime(c, f)
	switch {
	case c.hasLast && (dts < c.last || dts == c.last && c.clamped):
		dts, c.clamped = c.last+tick, true
	case dts < 0:
		dts = 0
	default:
		c.clamped = false
	}

	cts := f.PTS - f.DTS
	f.DTS, f.PTS = dts, dts+cts
	f.Discontinuity = t.disc
	f.Ticks = c.ticks(f)
	f.Duration = c.duration(f)
	c.seen, c.hasLast, c.last, c.step = true, true, dts, f.Duration
	if dts >= t.end {
		t.end, t.step = dts, f.Duration
	}
}

// streamTime maps the encoder time of f to stream time, as far as it is of use.
func (t *timeline) streamTime(c *clock, f *media.Frame) time.Duration {
	if c.check.observe(f.DTS, f.Arrived) {
		return t.arrivalTime(c, f)
	}
	dts, ok := t.mapTime(c, f.DTS)
	if ok {
		return dts
	}
	if c.check.observeJump(f.DTS, f.Arrived); c.check.unreliable {
		return t.arrivalTime(c, f)
	}
	t.jump(f)
	for _, o := range t.clocks {
		o.behind = o != c && o.seen
	}
	return f.DTS + t.offset + c.shift
}

// setDataTimes places script data, which encoders stamp as they please: it follows the clock of
// audio and video, and moves nothing.
func (t *timeline) setDataTimes(c *clock, f *media.Frame) {
	dts := f.DTS + t.offset
	if (dts - t.end).Abs() > maxStepBack {
		dts = t.end
	}
	dts = max(dts, c.last, 0)
	f.DTS, f.PTS, f.Discontinuity = dts, dts, t.disc
	f.Ticks = c.ticks(f)
	c.last = dts
}

// jump lets f follow the largest DTS given out by one frame.
func (t *timeline) jump(f *media.Frame) {
	t.prevOffset = t.offset
	t.offset = t.end + t.step - f.DTS - t.clock(f.Track).shift
	t.disc++
}

// mapTime maps encoder time dts to stream time by the offset that c is on. After a jump the tracks
// cross it one by one: each takes whichever offset brings it closer to its own last frame. It
// reports false when dts is a jump of its own.
func (t *timeline) mapTime(c *clock, dts time.Duration) (time.Duration, bool) {
	d := dts + t.offset + c.shift
	if !c.seen {
		if (d - t.end).Abs() > maxGap { // no skew of audio and video, but clocks that have nothing to do with each other
			c.shift = t.end - d
		}
		return d + c.shift, true
	}
	if c.behind {
		if old := dts + t.prevOffset + c.shift; (old - c.last).Abs() < (d - c.last).Abs() {
			return old, old >= c.last-maxStepBack && old <= c.last+maxGap
		}
	}
	if d < c.last-maxStepBack || d > c.last+maxGap && d > t.end+maxGap {
		return d, false
	}
	c.behind = false
	return d, true
}

func (t *timeline) clock(tr *media.Track) *clock {
	k := trackKey{tr.Kind, tr.ID}
	c := t.clocks[k]
	if c == nil {
		if t.clocks == nil {
			t.clocks = make(map[trackKey]*clock)
		}
		c = new(clock)
		t.clocks[k] = c
	}
	return c
}

// ticks returns f.DTS in the track's time scale. Audio goes on sample by sample as long as the
// millisecond clock agrees to half a frame: players hear what rounding to milliseconds does. Ticks
// never go back, as long as the time scale stays.
func (c *clock) ticks(f *media.Frame) int64 {
	rate, samples := f.Track.Timescale, int64(f.Track.FrameSamples)
	t := scale(f.DTS, rate)
	if f.Track.Kind != media.Audio || samples == 0 {
		return t
	}
	if c.nextSet && c.rate == rate {
		if max(t-c.next, c.next-t) <= samples/2 {
			t = c.next
		}
		t = max(t, c.lastTick+1)
	}
	c.next, c.lastTick, c.nextSet, c.rate = t+samples, t, true, rate
	return t
}

// duration returns how long f lasts: by its samples, else as long as the frame before it did.
func (c *clock) duration(f *media.Frame) time.Duration {
	if tr := f.Track; tr.FrameSamples > 0 && tr.SampleRate > 0 {
		return time.Duration(tr.FrameSamples) * time.Second / time.Duration(tr.SampleRate)
	}
	if d := f.DTS - c.last; c.hasLast && d > 0 && d <= maxStepBack {
		return d
	}
	if c.step > 0 {
		return c.step
	}
	return defaultStep
}

// scale converts d to ticks of 1/rate s, to the nearest, without overflow over centuries.
func scale(d time.Duration, rate uint32) int64 {
	s, rest := int64(d/time.Second), int64(d%time.Second)
	return s*int64(rate) + (rest*int64(rate)+int64(time.Second)/2)/int64(time.Second)
}
