package stream

import (
	"testing"
	"time"
)

// TestSendRate simulates a connection that takes some bytes a second.
func TestSendRate(t *testing.T) {
	const second = 1_000_000_000
	at := func(s float64) time.Time { return time.Unix(100, int64(s*second)) }
	var d SendRate
	if n, changed := d.UnsentLimit(); d.Slow() || d.SendTime(1000) != 0 || changed || d.ObserveUnblocked(at(0)) {
		t.Errorf("a viewer that is not slow: slow %v, %v for 1000 bytes, limit %d", d.Slow(), d.SendTime(1000), n)
	}
	d.ObserveBlocked(at(0), 100_000, 60_000)
	if !d.Slow() || d.SendTime(1000) != 0 || d.WriteSize() != minQueue {
		t.Errorf("at first: slow %v, %v for 1000 bytes, %d at once", d.Slow(), d.SendTime(1000), d.WriteSize())
	}
	d.ObserveBlocked(at(0.1), 160_000, 60_000) // a burst, too short to measure
	if d.SendTime(1000) != 0 {
		t.Errorf("after a tenth of a second: %v for 1000 bytes", d.SendTime(1000))
	}
	d.ObserveBlocked(at(1), 140_000, 40_000)
	if got := d.SendTime(90_000); got != 1500*time.Millisecond || d.WriteSize() != 15_000 {
		t.Errorf("at 60 kB/s: %v for 90 kB, %d at once", got, d.WriteSize())
	}
	if n, changed := d.UnsentLimit(); n != 15_000 || !changed {
		t.Errorf("limit %d, %v, want 15000", n, changed)
	}
	d.ObserveBlocked(at(2), 190_000, 40_000) // 50 kB/s: too small a change for another system call
	if n, changed := d.UnsentLimit(); changed || d.SendTime(50_000) != time.Second {
		t.Errorf("limit %d again, %v for 50 kB", n, d.SendTime(50_000))
	}
	d.ObserveBlocked(at(3), 190_000, 40_000) // nothing was sent: the last rate stays
	if d.SendTime(50_000) != time.Second {
		t.Errorf("%v for 50 kB", d.SendTime(50_000))
	}
	if d.ObserveUnblocked(at(4.9)) || !d.ObserveUnblocked(at(5)) || d.Slow() || d.ObserveUnblocked(at(9)) {
		t.Error("want the viewer slow for two seconds after a blocked write")
	}
	d.ObserveBlocked(at(10), 10, 4000) // the kernel counts headers too
	if !d.Slow() {
		t.Error("not slow")
	}
}
