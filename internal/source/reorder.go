package source

import (
	"slices"
	"time"

	"livego/internal/media"
)

// An reorderBuffer sorts frames by their decoding times: containers give them out as they are
// complete, or interleave them coarsely. It looks ahead until it has frames of each kind, or for a
// while. The zero reorderBuffer is ready.
type reorderBuffer struct {
	waiting    []*media.Frame
	bytes      int
	newest     time.Duration
	kinds      [4]bool // that have been seen
	flushCount int     // so many of waiting are before a jump of the times, and go first as they stand
}

const (
	lookahead      = 2 * time.Second
	lookaheadBytes = 32 << 20
	timestampJump  = 5 * time.Second // a larger distance of a frame from the newest is none that interleaving makes
)

func (o *reorderBuffer) push(f *media.Frame) {
	if len(o.waiting) > 0 && (f.DTS-o.newest).Abs() > timestampJump {
		o.flushCount = len(o.waiting)
	}
	o.newest = f.DTS
	o.kinds[f.Track.Kind] = true
	o.bytes += len(f.Payload)
	at := len(o.waiting)
	for at > o.flushCount && o.waiting[at-1].DTS > f.DTS {
		at--
	}
	o.waiting = slices.Insert(o.waiting, at, f)
}

// ready reports whether the first frame is known.
func (o *reorderBuffer) ready() bool {
	switch {
	case len(o.waiting) == 0:
		return false
	case o.flushCount > 0, o.bytes > lookaheadBytes, o.waiting[len(o.waiting)-1].DTS-o.waiting[0].DTS > lookahead:
		return true
	}
	var have [4]bool
	for _, f := range o.waiting {
		have[f.Track.Kind] = true
	}
	return have == o.kinds && (o.kinds[media.Video] && o.kinds[media.Audio])
}

// pop returns the first frame, nil if there is none.
func (o *reorderBuffer) pop() *media.Frame {
	if len(o.waiting) == 0 {
		return nil
	}
	f := o.waiting[0]
	o.waiting = o.waiting[1:]
	o.bytes -= len(f.Payload)
	o.flushCount = max(o.flushCount-1, 0)
	return f
}
