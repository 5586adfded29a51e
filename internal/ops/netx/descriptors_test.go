package netx

import "testing"

// TestDivideDescriptors divides the usual limits. All shares, recordings and other files fit in the
// limit unless it is very low.
func TestDivideDescriptors(t *testing.T) {
	for _, c := range []struct {
		n        int
		public   Descriptors
		operator int
	}{
		{0, Descriptors{}, 0},
		{64, Descriptors{Viewers: 16, Undecided: 16, Publishers: 16}, 16},
		{256, Descriptors{Viewers: 96, Undecided: 16, Publishers: 32}, 16},
		{1024, Descriptors{Viewers: 576, Undecided: 64, Publishers: 128}, 64},
		{1 << 20, Descriptors{Viewers: 719808, Undecided: 65536, Publishers: 131072}, 1024},
	} {
		public, operator := divideDescriptors(c.n)
		if public != c.public || operator != (Descriptors{Viewers: c.operator}) {
			t.Errorf("%d: %+v and %+v", c.n, public, operator)
		}
	}
}
