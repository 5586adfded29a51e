package mediacompare

import (
	"errors"
	"fmt"
	"slices"
	"time"
)

// A Match describes the part of the source that was received.
type Match struct {
	Video, Audio Range
	Offset       time.Duration // received minus source timestamp, the middle of the range
	Spread       time.Duration // largest minus smallest difference: at most twice the rounding of both sides
}

// A Range is the units from First up to First+Len, out of Total units of one kind in the source.
type Range struct{ First, Len, Total int }

// Missing returns how many units are missing at the end.
func (r Range) Missing() int { return r.Total - r.First - r.Len }

// Tolerances of timestamps, for Compare.
const (
	Millisecond = time.Millisecond
	TSTick      = time.Millisecond + time.Second/90000 // MPEG-TS has a clock of 90 kHz
)

// Compare checks that got is src from a keyframe on, byte for byte, with no unit missing, repeated
// or out of order. Each timestamp, of video and audio alike, must differ from that in the source by
// one offset, within the tolerance.
func Compare(src, got Stream, tolerance time.Duration) (Match, error) {
	var m Match
	video, err := align(src.Of(Video), got.Of(Video))
	if err != nil {
		return m, err
	}
	audio, err := align(src.Of(Audio), got.Of(Audio))
	if err != nil {
		return m, err
	}
	if len(got) == 0 {
		return m, errors.New("nothing was received")
	}
	// Frames of silence are alike, so that the bytes may match in several places. Timestamps
	// decide.
	best := time.Duration(-1)
	for _, v := range video {
		for _, a := range audio {
			low, high := timestampDifferences(src, got, v, a)
			if best < 0 || high-low < best {
				best = high - low
				m = Match{Video: v, Audio: a, Offset: (low + high) / 2, Spread: best}
			}
		}
	}
	if best > 2*tolerance {
		return m, fmt.Errorf("timestamps differ from the source's by %v ± %v, want one offset ± %v: %s",
			m.Offset, m.Spread/2, tolerance, worstTimestamp(src, got, m))
	}
	if v := m.Video; v.Len > 0 && !src.Of(Video)[v.First].Key {
		return m, fmt.Errorf("video starts at picture %d, which is not a keyframe", v.First)
	}
	return m, nil
}

// align returns the ranges of src that have the same bytes as got.
func align(src, got Stream) ([]Range, error) {
	switch {
	case len(src) == 0 && len(got) == 0:
		return []Range{{}}, nil
	case len(src) == 0:
		return nil, fmt.Errorf("%s was received, but the source has none", got[0].Kind)
	case len(got) == 0:
		return nil, fmt.Errorf("no %s was received", src[0].Kind)
	}
	same := func(a, b Unit) bool { return a.Sum == b.Sum }
	var runs []Range
	for first := 0; first+len(got) <= len(src); first++ {
		if slices.EqualFunc(src[first:first+len(got)], got, same) {
			runs = append(runs, Range{first, len(got), len(src)})
		}
	}
	if len(runs) == 0 {
		return nil, describeMismatch(src, got)
	}
	return runs, nil
}

// describeMismatch returns an error that says where got differs from src.
func describeMismatch(src, got Stream) error {
	at := func(u Unit, from int) int {
		i := slices.IndexFunc(src[from:], func(s Unit) bool { return s.Sum == u.Sum })
		if i < 0 {
			return i
		}
		return from + i
	}
	first := at(got[0], 0)
	if first < 0 {
		return fmt.Errorf("the first unit received is not in the source: %v", got[0])
	}
	for i, u := range got {
		want := first + i
		if want < len(src) && src[want].Sum == u.Sum {
			continue
		}
		switch next := at(u, min(want, len(src))); {
		case next > want:
			return fmt.Errorf("%d units are missing before received unit %d (%v), the first is unit %d of the source: %v",
				next-want, i, u, want, src[want])
		case at(u, 0) >= 0:
			return fmt.Errorf("received unit %d was received before, as unit %d of the source: %v", i, at(u, 0), u)
		default:
			return fmt.Errorf("received unit %d is not in the source: %v", i, u)
		}
	}
	return errors.New("the received units do not match the source")
}

// timestampDifferences returns the smallest and the largest difference between the timestamps of
// got and those of src, if got is at these ranges of src.
func timestampDifferences(src, got Stream, video, audio Range) (low, high time.Duration) {
	first := true
	forEachPair(src, got, video, audio, func(s, g Unit) {
		for _, d := range []time.Duration{g.DTS - s.DTS, g.PTS - s.PTS} {
			if first || d < low {
				low = d
			}
			if first || d > high {
				high = d
			}
			first = false
		}
	})
	return low, high
}

// worstTimestamp describes the unit whose timestamp differs the most from the offset.
func worstTimestamp(src, got Stream, m Match) string {
	var text string
	var most time.Duration
	forEachPair(src, got, m.Video, m.Audio, func(s, g Unit) {
		for _, d := range []time.Duration{g.DTS - s.DTS, g.PTS - s.PTS} {
			if off := (d - m.Offset).Abs(); off > most {
				most, text = off, fmt.Sprintf("sent %v, received %v", s, g)
			}
		}
	})
	return text
}

func forEachPair(src, got Stream, video, audio Range, f func(s, g Unit)) {
	for _, k := range []struct {
		kind Kind
		run  Range
	}{{Video, video}, {Audio, audio}} {
		s, g := src.Of(k.kind), got.Of(k.kind)
		for i := range g {
			f(s[k.run.First+i], g[i])
		}
	}
}
