package stream

import (
	"testing"
	"time"
)

// TestDrain has a line take so many bytes a second, and is told the truth each time.
func TestDrain(t *testing.T) {
	const second = 1_000_000_000
	at := func(s float64) time.Time { return time.Unix(100, int64(s*second)) }
	var d Drain
	if n, changed := d.Bound(); d.Slow() || d.Takes(1000) != 0 || changed || d.Free(at(0)) {
		t.Errorf("of a viewer who is not slow: slow %v, %v for 1000 bytes, bound %d", d.Slow(), d.Takes(1000), n)
	}
	d.Full(at(0), 100_000, 60_000)
	if !d.Slow() || d.Takes(1000) != 0 || d.Piece() != leastQueue {
		t.Errorf("at first: slow %v, %v for 1000 bytes, %d at once", d.Slow(), d.Takes(1000), d.Piece())
	}
	d.Full(at(0.1), 160_000, 60_000) // a burst, too short to be believed
	if d.Takes(1000) != 0 {
		t.Errorf("after a tenth of a second: %v for 1000 bytes", d.Takes(1000))
	}
	d.Full(at(1), 140_000, 40_000)
	if got := d.Takes(90_000); got != 1500*time.Millisecond || d.Piece() != 15_000 {
		t.Errorf("at 60 kB/s: %v for 90 kB, %d at once", got, d.Piece())
	}
	if n, changed := d.Bound(); n != 15_000 || !changed {
		t.Errorf("bound %d, %v, want 15000", n, changed)
	}
	d.Full(at(2), 190_000, 40_000) // 50 kB/s: not worth another system call
	if n, changed := d.Bound(); changed || d.Takes(50_000) != time.Second {
		t.Errorf("bound %d again, %v for 50 kB", n, d.Takes(50_000))
	}
	d.Full(at(3), 190_000, 40_000) // nothing went: how fast he was is all that is known
	if d.Takes(50_000) != time.Second {
		t.Errorf("%v for 50 kB", d.Takes(50_000))
	}
	if d.Free(at(4.9)) || !d.Free(at(5)) || d.Slow() || d.Free(at(9)) {
		t.Error("he is slow for two seconds after he was waited for, and no longer")
	}
	d.Full(at(10), 10, 4000) // the kernel counts what we do not: headers
	if !d.Slow() {
		t.Error("not slow")
	}
}
