package source

import (
	"slices"
	"time"

	"livego/internal/media"
)

// A reorderBuffer sorts frames by decoding time, because some containers interleave tracks
// coarsely. It reads ahead until it has frames of each kind, up to the limits below. The zero
// reorderBuffer is ready to use.
type reorderBuffer struct {
	waiting    []*media.Frame
	bytes      int
	newest     time.Duration
	kinds      [4]bool // kinds that had a frame
	flushCount int     // the first flushCount frames precede a timestamp jump, and are returned in their order
}

const (
	lookahead      = 2 * time.Second
	lookaheadBytes = 32 << 20
	timestampJump  = 5 * time.Second // a larger step is a jump, not interleaving
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

// ready reports whether the next frame is final.
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

// pop returns the next frame, nil if there is none.
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
