package mkv

import (
	"slices"
	"time"
)

// maxReorder is how many pictures may come, in the order of decoding, before one that is shown
// earlier: H.264 and HEVC allow 16.
const maxReorder = 16

// An dtsGenerator makes decoding times of presentation times: the nth picture is decoded at the nth
// earliest of these, moved back so that none is shown before. It looks maxReorder pictures ahead.
// The zero dtsGenerator is ready.
type dtsGenerator struct {
	sorted  []time.Duration // of pictures whose decoding time has not been given, in the order of presentation
	pending []time.Duration // the same in the order of decoding
	shift   time.Duration
	started bool
	last    time.Duration
}

// add takes the presentation time of the next picture in the order of decoding.
func (o *dtsGenerator) add(pts time.Duration) {
	i, _ := slices.BinarySearch(o.sorted, pts)
	o.sorted = slices.Insert(o.sorted, i, pts)
	o.pending = append(o.pending, pts)
}

// next returns the decoding time of the next picture; false while it may depend on those that come.
// At the end it does not.
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
		at = o.last + time.Microsecond // a picture too early for what was seen at the beginning
	}
	o.last = at
	return at, true
}

// computeShift finds how far back the decoding times of the pictures at hand must go.
func (o *dtsGenerator) computeShift() {
	o.started = true
	for i, pts := range o.pending {
		o.shift = max(o.shift, o.sorted[i]-pts)
	}
}
