package mkv

import (
	"slices"
	"time"
)

// maxReorder is how many frames may precede, in decoding order, a frame that is presented earlier:
// H.264 and HEVC allow 16.
const maxReorder = 16

// A dtsGenerator derives decoding times from presentation times: the nth frame gets the nth lowest
// of them, shifted back so that none is decoded after its presentation. It looks maxReorder frames
// ahead. The zero value is ready.
type dtsGenerator struct {
	sorted  []time.Duration // presentation times of pending frames, ascending
	pending []time.Duration // the same in decoding order
	shift   time.Duration
	started bool
	last    time.Duration
}

// add adds the presentation time of the next frame in decoding order.
func (o *dtsGenerator) add(pts time.Duration) {
	i, _ := slices.BinarySearch(o.sorted, pts)
	o.sorted = slices.Insert(o.sorted, i, pts)
	o.pending = append(o.pending, pts)
}

// next returns the decoding time of the next frame; false while it may depend on later frames,
// which at the end of the file do not exist.
func (o *dtsGenerator) next(end bool) (time.Duration, bool) {
	if len(o.pending) == 0 || len(o.pending) <= maxReorder && !end {
		return 0, false
	}
	if !o.started {
		o.computeShift()
	}
	at := o.sorted[0] - o.shift
	o.sorted, o.pending = o.sorted[1:], o.pending[1:]
	if at <= o.last && o.last != 0 {
		at = o.last + time.Microsecond // a frame needs a larger shift than those at the start
	}
	o.last = at
	return at, true
}

// computeShift finds how far back the decoding times of the frames at hand must be shifted.
func (o *dtsGenerator) computeShift() {
	o.started = true
	for i, pts := range o.pending {
		o.shift = max(o.shift, o.sorted[i]-pts)
	}
}
