package media

import (
	"testing"
	"time"
	"unsafe"
)

func TestFirstArrival(t *testing.T) {
	now := time.Now()
	for _, lag := range []time.Duration{0, 1, time.Millisecond - 1, 123456789 * time.Nanosecond, -5*time.Second - 3,
		40 * 24 * time.Hour} {
		var f Frame
		first := time.Unix(0, now.Add(-lag).UnixNano())
		f.SetArrival(first, now)
		if got := f.FirstArrival(); !got.Equal(first) {
			t.Errorf("lag %v: first arrival %v, want %v", lag, got, first)
		}
		if d := f.Arrived.Sub(now); (d < 0 || d >= time.Millisecond) && lag < maxReplicaLag {
			t.Errorf("lag %v: the arrival moved by %v", lag, d)
		}
	}
}

// TestFrameSize holds the memory of a frame, of which a stream has thousands, to one size class of the
// allocator.
func TestFrameSize(t *testing.T) {
	if n := unsafe.Sizeof(Frame{}); unsafe.Sizeof(uintptr(0)) == 8 && n > 128 {
		t.Errorf("a frame has %d bytes", n)
	}
}
