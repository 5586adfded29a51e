package mkv

import (
	"slices"
	"time"
)

// maxReorder is how many pictures may come, in the order of decoding, before one that is shown earlier: H.264 and HEVC allow 16.
const maxReorder = 16

// An order makes decoding times of presentation times: the nth picture is decoded at the nth earliest of these, moved back so that
// none is shown before. It looks maxReorder pictures ahead. The zero order is ready.
type order struct {
	waiting []time.Duration // of pictures whose decoding time has not been given, in the order of presentation
	queue   []time.Duration // the same in the order of decoding
	back    time.Duration
	begun   bool
	last    time.Duration
}

// add takes the presentation time of the next picture in the order of decoding.
func (o *order) add(pts time.Duration) {
	i, _ := slices.BinarySearch(o.waiting, pts)
	o.waiting = slices.Insert(o.waiting, i, pts)
	o.queue = append(o.queue, pts)
}

// decode returns the decoding time of the next picture; false while it may depend on those that come. At the end it does not.
func (o *order) decode(end bool) (time.Duration, bool) {
	if len(o.queue) == 0 || len(o.queue) <= maxReorder && !end {
		return 0, false
	}
	if !o.begun {
		o.begin()
	}
	at := o.waiting[0] - o.back
	o.waiting, o.queue = o.waiting[1:], o.queue[1:]
	if at <= o.last && o.last != 0 {
		at = o.last + time.Microsecond // a picture too early for what was seen at the beginning
	}
	o.last = at
	return at, true
}

// begin finds how far back the decoding times of the pictures at hand must go.
func (o *order) begin() {
	o.begun = true
	for i, pts := range o.queue {
		o.back = max(o.back, o.waiting[i]-pts)
	}
}
