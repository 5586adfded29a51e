package resilience

import (
	"fmt"
	"testing"

	"livego/e2e/mediacompare"
)

// TestCheckSwitches tests checkSwitches with recordings of two encoders that send the same clip of
// 9 frames, every third a keyframe.
func TestCheckSwitches(t *testing.T) {
	frame := func(n int) mediacompare.Unit {
		return mediacompare.Unit{Kind: mediacompare.Video, Key: n%3 == 0, Sum: fmt.Sprint(n)}
	}
	primary, backup := new(encoder), new(encoder)
	sc := &scenario{}
	for _, e := range []*encoder{primary, backup} {
		for n := range 9 {
			sc.log = append(sc.log, sentFrame{item: item{unit: frame(n), decoded: frame(n)}, by: e})
		}
	}
	for _, test := range []struct {
		name     string
		frames   []int
		switches int
		ok       bool
	}{
		{"one encoder", []int{0, 1, 2, 3}, 0, true},
		{"one switch", []int{0, 1, 2, 3, 0, 1, 2}, 1, true},
		{"two switches", []int{0, 1, 6, 7, 8, 3, 4}, 2, true},
		{"a switch between equal frames", []int{3, 4, 5, 3, 4, 5, 6, 7, 8}, 1, true},
		{"more switches than wanted", []int{0, 1, 6, 7, 8, 3, 4}, 1, false},
		{"fewer switches than wanted", []int{0, 1, 2, 4, 5}, 1, false},
		{"a frame is missing", []int{0, 1, 2, 4}, 1, false},
		{"starts without a keyframe", []int{1, 2}, 0, false},
		{"a switch without a keyframe", []int{0, 1, 2, 7, 8}, 1, false},
		{"a frame that was not sent", []int{0, 1, 9}, 0, false},
	} {
		var got mediacompare.Stream
		for _, n := range test.frames {
			got = append(got, frame(n))
		}
		sc.switches = test.switches
		if err := sc.checkSwitches(nil, mediacompare.Video, got); (err == nil) != test.ok {
			t.Errorf("%s: %v", test.name, err)
		}
	}
}
