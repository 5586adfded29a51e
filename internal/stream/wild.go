package stream

import (
	"time"

	"livego/internal/media"
)

// When the clock of an encoder is no clock. One that stands still clamps all frames to the same moment, and one that jumps about
// rebases the stream with each: both play at a speed that has nothing to do with what is shown. Neither is seen in a push that is
// sent faster than it plays, nor in one whose network stalls: there the encoder's time runs as fast as frames come, or faster.
const (
	wildFrames = 25              // in a look, below which a track tells nothing
	wildLook   = 2 * time.Second // of arrivals
	wildSlow   = 20              // times slower than frames come, a clock stands
	wildJumps  = 2               // in wildWithin, a clock jumps about: one is set once
	wildWithin = 10 * time.Second

	// maxPacedDrift is how far an audio track that is paced by arrival may be from it before it is set anew: it goes on sample by
	// sample otherwise, since frames come in bursts.
	maxPacedDrift = 500 * time.Millisecond
)

// A judge looks at the time stamps of one track of one connection.
type judge struct {
	since  time.Time     // when the look began
	from   time.Duration // the highest time stamp then
	top    time.Duration // the highest time stamp
	frames int
	jumps  []time.Time // the last wildJumps
	wild   bool
}

// look notes a frame of encoder time dts. It reports whether the time stamps are of no use, from now on.
func (j *judge) look(dts time.Duration, arrived time.Time) bool {
	if j.since.IsZero() {
		j.since, j.from, j.top = arrived, dts, dts
	}
	j.top = max(j.top, dts)
	j.frames++
	if elapsed := arrived.Sub(j.since); elapsed >= wildLook && j.frames >= wildFrames {
		j.wild = j.wild || j.top-j.from < elapsed/wildSlow
		j.since, j.from, j.frames = arrived, j.top, 0
	}
	return j.wild
}

// jump notes that the track's time stamps have jumped, to dts.
func (j *judge) jump(dts time.Duration, arrived time.Time) {
	j.since, j.from, j.top, j.frames = arrived, dts, dts, 0
	if len(j.jumps) == wildJumps {
		j.jumps = append(j.jumps[:0], j.jumps[1:]...)
	}
	j.jumps = append(j.jumps, arrived)
	if len(j.jumps) == wildJumps && arrived.Sub(j.jumps[0]) <= wildWithin && arrived.After(j.jumps[0]) {
		j.wild = true
	}
}

// paced returns the stream time of f, of a track whose time stamps are of no use, by when it arrived. All such tracks of a
// connection have the same clock.
func (t *timeline) paced(c *clock, f *media.Frame) time.Duration {
	if t.pacedFrom.IsZero() {
		t.pacedFrom, t.pacedAt = f.Arrived, t.end+t.step
	}
	dts := t.pacedAt + f.Arrived.Sub(t.pacedFrom)
	if next := c.last + c.step; c.any && f.Track.Kind == media.Audio && f.Track.FrameSamples > 0 && (next-dts).Abs() <= maxPacedDrift {
		dts = next
	}
	if c.any {
		dts = max(dts, c.last+tick)
	}
	return dts.Truncate(tick)
}

// wild reports whether a track of this connection is paced by arrival.
func (t *timeline) wild() bool { return !t.pacedFrom.IsZero() }
