package stream

import (
	"time"

	"livego/internal/media"
)

// Limits of unreliable-clock detection. An encoder clock that stands still clamps all frames to the
// same time, and one that jumps often rebases the stream each time; both make it play at a wrong
// speed. A file that is pushed faster than real time, or over a network that stalls, is not
// affected: its timestamps advance at least as fast as its frames arrive.
const (
	minCheckFrames  = 25              // frames in an interval that are needed for a decision
	checkInterval   = 2 * time.Second // in arrival time
	stalledRatio    = 20              // a clock so many times slower than arrivals is stalled
	maxClockJumps   = 2               // in clockJumpWindow; a clock that is set jumps once
	clockJumpWindow = 10 * time.Second

	// maxArrivalDrift is how far an audio track that is timestamped by arrival may drift from it.
	// Within that it continues sample by sample, because frames arrive in bursts.
	maxArrivalDrift = 500 * time.Millisecond
)

// A clockCheck checks the timestamps of one track of one connection.
type clockCheck struct {
	since      time.Time     // start of the interval; zero: the next frame starts one
	from       time.Duration // the highest timestamp then
	top        time.Duration // the highest timestamp
	frames     int
	jumps      []time.Time // the last maxClockJumps
	unreliable bool
}

// observe records a frame with encoder time dts. It reports whether the timestamps are unreliable.
func (j *clockCheck) observe(dts time.Duration, arrived time.Time) bool {
	if j.since.IsZero() {
		j.since, j.from, j.top, j.frames = arrived, dts, dts, 0
	}
	j.top = max(j.top, dts)
	j.frames++
	if elapsed := arrived.Sub(j.since); elapsed >= checkInterval && j.frames >= minCheckFrames {
		j.unreliable = j.unreliable || j.top-j.from < elapsed/stalledRatio
		j.since, j.from, j.frames = arrived, j.top, 0
	}
	return j.unreliable
}

// observeJump records that the track's timestamps have jumped to dts.
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

// arrivalTime returns the stream time of f, of a track with unreliable timestamps, from its
// arrival. All such tracks of a connection share one clock.
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

// unreliable reports whether a track of this connection is timestamped by arrival.
func (t *timeline) unreliable() bool { return !t.arrivalBase.IsZero() }
