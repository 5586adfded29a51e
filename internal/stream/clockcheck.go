package stream

import (
	"time"

	"livego/internal/media"
)

// When the clock of an encoder is no clock. One that stands still clamps all frames to the same
// moment, and one that jumps about rebases the stream with each: both play at a speed that has
// nothing to do with what is shown. Neither is seen in a push that is sent faster than it plays,
// nor in one whose network stalls: there the encoder's time runs as fast as frames come, or faster.
const (
	minCheckFrames  = 25              // in a look, below which a track tells nothing
	checkInterval   = 2 * time.Second // of arrivals
	stalledRatio    = 20              // times slower than frames come, a clock stands
	maxClockJumps   = 2               // in clockJumpWindow, a clock jumps about: one is set once
	clockJumpWindow = 10 * time.Second

	// maxArrivalDrift is how far an audio track that is paced by arrival may be from it before it is
	// set anew: it goes on sample by sample otherwise, since frames come in bursts.
	maxArrivalDrift = 500 * time.Millisecond
)

// A clockCheck looks at the time stamps of one track of one connection.
type clockCheck struct {
	since      time.Time     // when the look began
	from       time.Duration // the highest time stamp then
	top        time.Duration // the highest time stamp
	frames     int
	jumps      []time.Time // the last maxClockJumps
	unreliable bool
}

// observe notes a frame of encoder time dts. It reports whether the time stamps are of no use, from now on.
func (j *clockCheck) observe(dts time.Duration, arrived time.Time) bool {
	if j.since.IsZero() {
		j.since, j.from, j.top = arrived, dts, dts
	}
	j.top = max(j.top, dts)
	j.frames++
	if elapsed := arrived.Sub(j.since); elapsed >= checkInterval && j.frames >= minCheckFrames {
		j.unreliable = j.unreliable || j.top-j.from < elapsed/stalledRatio
		j.since, j.from, j.frames = arrived, j.top, 0
	}
	return j.unreliable
}

// observeJump notes that the track's time stamps have jumped, to dts.
func (j *clockCheck) observeJump(dts time.Duration, arrived time.Time) {
	j.since, j.from, j.top, j.frames = arrived, dts, dts, 0
	if len(j.jumps) == maxClockJumps {
		j.jumps = append(j.jumps[:0], j.jumps[1:]...)
	}
	j.jumps = append(j.jumps, arrived)
	if len(j.jumps) == maxClockJumps && arrived.Sub(j.jumps[0]) <= clockJumpWindow && arrived.After(j.jumps[0]) {
		j.unreliable = true
	}
}

// arrivalTime returns the stream time of f, of a track whose time stamps are of no use, by when it
// arrived. All such tracks of a connection have the same clock.
func (t *timeline) arrivalTime(c *clock, f *media.Frame) time.Duration {
	if t.arrivalBase.IsZero() {
		t.arrivalBase, t.arrivalBaseDTS = f.Arrived, t.end+t.step
	}
	dts := t.arrivalBaseDTS + f.Arrived.Sub(t.arrivalBase)
	if next := c.last + c.step; c.hasLast && f.Track.Kind == media.Audio && f.Track.FrameSamples > 0 &&
		(next-dts).Abs() <= maxArrivalDrift {
		dts = next
	}
	if c.hasLast {
		dts = max(dts, c.last+tick)
	}
	return dts.Truncate(tick)
}

// unreliable reports whether a track of this connection is paced by arrival.
func (t *timeline) unreliable() bool { return !t.arrivalBase.IsZero() }
