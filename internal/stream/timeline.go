package stream

import (
	"time"

	"livego/internal/media"
)

const (
	maxStepBack = time.Second      // a longer step back means that the clock was set
	maxGap      = 10 * time.Second // a longer gap means that the clock was set
	tick        = time.Millisecond // between clamped frames: RTMP and FLV count milliseconds
	defaultStep = 40 * time.Millisecond
)

// A timeline maps the time of successive encoders to the clock of a stream. That clock starts at 0,
// never goes back within a track, and continues after a reconnect. All tracks share one offset, so
// the distance between them is kept.
type timeline struct {
	started, rejoining bool
	offset             time.Duration // stream time less encoder time
	prevOffset         time.Duration // offset before the last jump, for tracks before it
	end                time.Duration // largest DTS assigned
	step               time.Duration // duration of the frame at end
	disc               uint32
	clocks             map[trackKey]*clock

	// arrivalBase is an arrival time whose stream time is arrivalBaseDTS, for tracks that are
	// timestamped by arrival; zero if there are none.
	arrivalBase    time.Time
	arrivalBaseDTS time.Duration
}

type trackKey struct {
	kind media.Kind
	id   uint8
}

// A clock is the timeline of one track.
type clock struct {
	seen     bool          // has had a frame in this connection
	behind   bool          // still on the offset before the last jump
	shift    time.Duration // correction of a track that started too far from the others
	last     time.Duration // last DTS assigned
	hasLast  bool          // last is valid
	clamped  bool          // all frames since the last valid timestamp were clamped
	step     time.Duration
	rate     uint32 // timescale of next
	next     int64  // sample-exact tick that follows the last audio frame
	nextSet  bool
	lastTick int64 // last tick assigned
	check    clockCheck
}

// reconnect starts a discontinuity, in which the first frame follows the last one without a gap,
// whatever its time.
func (t *timeline) reconnect() {
	if t.started && !t.rejoining {
		t.rejoining = true
		t.disc++
	}
}

// setTimes replaces the encoder times of f by stream times, and sets EncoderDTS, Ticks and Duration. disc is
// then the discontinuity of f.
func (t *timeline) setTimes(f *media.Frame) {
	f.EncoderDTS = f.DTS
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
	f.Ticks = c.ticks(f)
	f.Duration = c.duration(f)
	c.seen, c.hasLast, c.last, c.step = true, true, dts, f.Duration
	if dts >= t.end {
		t.end, t.step = dts, f.Duration
	}
}

// streamTime maps the encoder time of f to stream time, unless its clock is unreliable.
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
	t.disc++
	t.jump(f)
	for _, o := range t.clocks {
		o.behind = o != c && o.seen
	}
	return f.DTS + t.offset + c.shift
}

// setDataTimes is setTimes for script data. Encoders timestamp it arbitrarily, so it follows the
// clock of audio and video and never moves it.
func (t *timeline) setDataTimes(c *clock, f *media.Frame) {
	dts := f.DTS + t.offset
	if (dts - t.end).Abs() > maxStepBack {
		dts = t.end
	}
	dts = max(dts, c.last, 0)
	f.DTS, f.PTS = dts, dts
	f.Ticks = c.ticks(f)
	c.last = dts
}

// jump makes f follow the largest DTS assigned by one frame.
func (t *timeline) jump(f *media.Frame) {
	t.prevOffset = t.offset
	t.offset = t.end + t.step - f.DTS - t.clock(f.Track).shift
}

// mapTime maps encoder time dts to stream time by the offset of c. After a jump the tracks cross it
// one by one: each takes the offset that brings it closer to its own last frame. It returns false
// if dts is a jump.
func (t *timeline) mapTime(c *clock, dts time.Duration) (time.Duration, bool) {
	d := dts + t.offset + c.shift
	if !c.seen {
		if (d - t.end).Abs() > maxGap { // not skew of audio and video, but unrelated clocks
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
	if c.behind { // its timestamps have jumped with those of another track
		c.behind, c.check.since = false, time.Time{}
	}
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

// ticks returns f.DTS in the track's timescale. Audio continues sample by sample while the
// millisecond clock agrees to half a frame, because rounding to milliseconds is audible. Ticks
// never go back while the timescale stays the same.
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

// duration returns how long f lasts: by its samples, otherwise as long as the frame before it.
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

// scale converts d to ticks of 1/rate s, rounded to the nearest, without overflow over centuries.
func scale(d time.Duration, rate uint32) int64 {
	s, rest := int64(d/time.Second), int64(d%time.Second)
	return s*int64(rate) + (rest*int64(rate)+int64(time.Second)/2)/int64(time.Second)
}
