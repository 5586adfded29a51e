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

// TestSharesFitIntoLimit checks that the shares of all uses together fit into the limit of the
// process, with those that no Limiter counts: the recordings of all publishers, the store and other
// files.
func TestSharesFitIntoLimit(t *testing.T) {
	for _, n := range []int{256, 600, 1024, 4096, 65536, 1 << 20, 1<<31 - 1} {
		public, operator := divideDescriptors(n)
		recordings := public.Publishers // one file for each
		sum := public.Viewers + public.Undecided + public.Publishers + operator.Viewers + recordings
		if spare := n - sum; spare < 64 {
			t.Errorf("of %d descriptors %d are left for the store and other files, want 64", n, spare)
		}
		if public.Viewers < n/4 && n > 256 || public.Viewers < 16 || public.Publishers < 16 || public.Undecided < 16 ||
			operator.Viewers < 16 || operator.Viewers > 1024 {
			t.Errorf("of %d descriptors: %+v, operator %+v", n, public, operator)
		}
	}
}
