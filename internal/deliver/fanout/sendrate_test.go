package fanout

import (
	"testing"
	"time"
)

// TestSendRate simulates a connection that takes some bytes a second.
func TestSendRate(t *testing.T) {
	const second = 1_000_000_000
	at := func(s float64) time.Time { return time.Unix(100, int64(s*second)) }
	var d sendRate
	if n, changed := d.unsentLimit(); d.slow() || d.sendTime(1000) != 0 || changed || d.observeUnblocked(at(0)) {
		t.Errorf("a viewer that is not slow: slow %v, %v for 1000 bytes, limit %d", d.slow(), d.sendTime(1000), n)
	}
	d.observeBlocked(at(0), 100_000, 60_000)
	if !d.slow() || d.sendTime(1000) != 0 || d.writeSize() != minQueue {
		t.Errorf("at first: slow %v, %v for 1000 bytes, %d at once", d.slow(), d.sendTime(1000), d.writeSize())
	}
	d.observeBlocked(at(0.1), 160_000, 60_000) // a burst, too short to measure
	if d.sendTime(1000) != 0 {
		t.Errorf("after a tenth of a second: %v for 1000 bytes", d.sendTime(1000))
	}
	d.observeBlocked(at(1), 140_000, 40_000)
	if got := d.sendTime(90_000); got != 1500*time.Millisecond || d.writeSize() != 15_000 {
		t.Errorf("at 60 kB/s: %v for 90 kB, %d at once", got, d.writeSize())
	}
	if n, changed := d.unsentLimit(); n != 15_000 || !changed {
		t.Errorf("limit %d, %v, want 15000", n, changed)
	}
	d.observeBlocked(at(2), 190_000, 40_000) // 50 kB/s: too small a change for another system call
	if n, changed := d.unsentLimit(); changed || d.sendTime(50_000) != time.Second {
		t.Errorf("limit %d again, %v for 50 kB", n, d.sendTime(50_000))
	}
	d.observeBlocked(at(3), 190_000, 40_000) // nothing was sent: the last rate stays
	if d.sendTime(50_000) != time.Second {
		t.Errorf("%v for 50 kB", d.sendTime(50_000))
	}
	if d.observeUnblocked(at(4.9)) || !d.observeUnblocked(at(5)) || d.slow() || d.observeUnblocked(at(9)) {
		t.Error("want the viewer slow for two seconds after a blocked write")
	}
	d.observeBlocked(at(10), 10, 4000) // the kernel counts headers too
	if !d.slow() {
		t.Error("not slow")
	}
}
