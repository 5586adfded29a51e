package health

import (
	"math"
	"slices"
	"time"

	"livego/internal/media"
)

const (
	intervalWindow = 64 // frame intervals that are compared
	minIntervals   = 16
	// An interval is irregular if it differs from the median by more than a third and by more than
	// this: RTMP rounds to milliseconds, and the clocks of phones are not exact.
	minDeviationMS = 3
)

// intervals are the last intervals between frames of video, in ms.
type intervals struct {
	ring [intervalWindow]uint16
	n    int // intervals so far

	median int // of the last ones; 0 if there are too few
}

func (v *intervals) add(d time.Duration) {
	v.ring[v.n%intervalWindow] = uint16(max(0, min(d.Milliseconds(), math.MaxUint16)))
	v.n++
}

// measure returns the mean deviation from the median in ms, and the share of irregular intervals.
func (v *intervals) measure() (jitter, irregular float32) {
	n := min(v.n, intervalWindow)
	if n < minIntervals {
		return 0, 0
	}
	sorted := v.ring
	slices.Sort(sorted[:n])
	median := int(sorted[n/2])
	v.median = median
	limit := max(median/3, minDeviationMS)
	sum, count := 0, 0
	for _, d := range sorted[:n] {
		deviation := max(int(d)-median, median-int(d))
		sum += deviation
		if deviation > limit {
			count++
		}
	}
	return float32(sum) / float32(n), float32(count) / float32(n)
}

// span returns the shortest and the longest of the intervals in ms.
func (v *intervals) span() (shortest, longest uint16) {
	r := v.ring[:min(v.n, intervalWindow)]
	return slices.Min(r), slices.Max(r)
}

// reordering counts the B-frames in a row: frames that are shown before one that was decoded earlier.
type reordering struct {
	highest time.Duration // PTS
	row     uint8
}

func (r *reordering) observe(f *media.Frame, s *Sample) {
	if f.PTS >= r.highest || f.RAP == media.Keyframe {
		r.row, r.highest = 0, f.PTS
	} else {
		increment(&r.row)
	}
	s.BFrames = max(s.BFrames, r.row)
	s.ReorderMS = max(s.ReorderMS, milliseconds(f.PTS-f.DTS))
}

// peakWindow is how many seconds of stream time the peaks of the bitrate are compared with.
const peakWindow = 60

// peaks are the bitrates of the last seconds of stream time, without keyframes: the network may deliver
// a steady stream in bursts, and a keyframe is always large.
type peaks struct {
	ring  [peakWindow]uint32 // kbit
	n     int
	start time.Duration // stream time of the current second
	bytes int
}

func (p *peaks) observe(dts time.Duration, size int) {
	if d := dts - p.start; d < 0 || d > 3*time.Second {
		p.start, p.bytes = dts, 0 // a gap: there is no rate
	}
	for dts-p.start >= time.Second {
		p.ring[p.n%peakWindow] = uint32(p.bytes / 125)
		p.n++
		p.start, p.bytes = p.start+time.Second, 0
	}
	p.bytes += size
}

const (
	minPeakSeconds = 20
	minPeakRate    = 500  // kbit/s: a stream that is smaller most of the time has hardly any motion
	minPeakRise    = 2000 // kbit/s above the usual
	peakFactor     = 2.5  // times the usual
)

// find returns the usual bitrate in kbit/s, the highest, and how many peaks there were. announced is
// the bitrate that the encoder announces, 0 if it does not.
func (p *peaks) find(announced float64) (usual, highest uint32, count int) {
	n := min(p.n, peakWindow)
	if n < minPeakSeconds {
		return 0, 0, 0
	}
	sorted := p.ring
	slices.Sort(sorted[:n])
	usual, highest = sorted[n/2], sorted[n-1]
	if usual < minPeakRate {
		return usual, highest, 0
	}
	limit := max(uint32(announced), usual)
	limit = max(uint32(peakFactor*float64(limit)), limit+minPeakRise)
	above := false
	for i := range n {
		rate := p.ring[(p.n-n+i)%peakWindow]
		if rate > limit && !above {
			count++
		}
		above = rate > limit
	}
	return usual, highest, count
}

// A lag measures how much later frames arrive than their timestamps say. The first frame that arrives
// in a second without delay counts, so that bursts of the network do not matter.
type lag struct {
	base    time.Duration // arrival less timestamp of the first frame
	start   time.Time     // of arrivals
	set     bool
	least   time.Duration // in the current second
	has     bool
	seconds int // with a value, since reset
}

func (l *lag) reset() { *l = lag{} }

func (l *lag) observe(arrived time.Time, clock time.Duration) {
	if !l.set {
		l.start, l.base, l.set = arrived, -clock, true
	}
	d := arrived.Sub(l.start) - clock - l.base
	if !l.has || d < l.least {
		l.least, l.has = d, true
	}
}

// finish returns the lag of the current second in ms; false if it had no frame.
func (l *lag) finish() (ms int32, ok bool) {
	ok, l.has = l.has, false
	if ok {
		l.seconds++
		ms = milliseconds(l.least)
	} else if l.set {
		l.seconds++
	}
	return ms, ok
}
