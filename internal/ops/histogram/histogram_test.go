package histogram

import (
	"slices"
	"sync"
	"testing"
	"time"
)

func TestObserve(t *testing.T) {
	h := New([]time.Duration{10 * time.Millisecond, time.Second})
	for _, d := range []time.Duration{
		-time.Second, 0, 10 * time.Millisecond, 10*time.Millisecond + 1, time.Second, time.Hour,
	} {
		h.Observe(d)
	}
	s := h.Snapshot()
	if want := []uint64{3, 2, 1}; !slices.Equal(s.Counts, want) {
		t.Errorf("counts %v, want %v", s.Counts, want)
	}
	if want := 20*time.Millisecond + 1 + time.Second + time.Hour; s.Sum != want || s.Count() != 6 {
		t.Errorf("sum %v of %d, want %v of 6", s.Sum, s.Count(), want)
	}
}

func TestAdd(t *testing.T) {
	a, b := New([]time.Duration{time.Second}), New([]time.Duration{time.Second})
	a.Observe(time.Millisecond)
	b.Observe(time.Millisecond)
	b.Observe(time.Minute)
	a.Add(b)
	if s := a.Snapshot(); !slices.Equal(s.Counts, []uint64{2, 1}) || s.Sum != time.Minute+2*time.Millisecond {
		t.Errorf("%+v", s)
	}
}

func TestConcurrentObserve(t *testing.T) {
	h := New([]time.Duration{time.Second})
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			for range 1000 {
				h.Observe(time.Millisecond)
			}
		})
	}
	all.Wait()
	if s := h.Snapshot(); s.Count() != 8000 || s.Sum != 8*time.Second {
		t.Errorf("%+v", s)
	}
}

func TestObserveTakesNoMemory(t *testing.T) {
	h := New([]time.Duration{time.Millisecond, time.Second})
	if n := testing.AllocsPerRun(100, func() { h.Observe(time.Minute) }); n != 0 {
		t.Errorf("%v allocations, want none", n)
	}
}

func BenchmarkObserve(b *testing.B) {
	h := New([]time.Duration{10, 20, 50, 100, 200, 500, 1000, 2000, 5000})
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			h.Observe(150)
		}
	})
}
