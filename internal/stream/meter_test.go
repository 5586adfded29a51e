package stream

import (
	"testing"
	"time"
)

// TestMeter adds bytes at a known rate: the rate is that of the last five to ten seconds.
func TestMeter(t *testing.T) {
	var m Meter
	if got := m.Kbps(time.Minute); got != 0 {
		t.Errorf("%v kbit/s before any byte", got)
	}
	at := 3 * time.Hour
	add := func(n int, d time.Duration) { // n bytes each 100 ms for d
		for end := at + d; at < end; at += 100 * time.Millisecond {
			m.Add(n, at)
		}
	}
	for _, tt := range []struct {
		bytes    int
		duration time.Duration
		kbps     float64
	}{
		{1000, 2 * time.Second, 80},
		{1000, time.Minute, 80},
		{5000, 11 * time.Second, 400},
		{10, time.Minute, 0.8},
	} {
		add(tt.bytes, tt.duration)
		if got := m.Kbps(at); got < tt.kbps*0.95 || got > tt.kbps*1.1 {
			t.Errorf("%d bytes for %v: %.1f kbit/s, want %v", tt.bytes, tt.duration, got, tt.kbps)
		}
	}
	if got := m.Kbps(at + time.Hour); got > 0.1 {
		t.Errorf("%.1f kbit/s an hour later", got)
	}
}
