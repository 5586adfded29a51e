package record

import (
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// A countingDisk has free space that writes use up. A write counts after a moment.
type countingDisk struct {
	*memDisk
	mu         sync.Mutex
	free_, min int64
}

func (d *countingDisk) free() (free, size int64, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.free_, 1 << 20, nil
}

func (d *countingDisk) use(n int64) {
	time.Sleep(10 * time.Millisecond)
	d.mu.Lock()
	defer d.mu.Unlock()
	d.free_ -= n
	d.min = min(d.min, d.free_)
}

// TestConcurrentWritesLeaveFloor writes from many goroutines until the disk is full: the floor is
// never used, and nearly everything above it is.
func TestConcurrentWritesLeaveFloor(t *testing.T) {
	for _, floor := range []Space{{Bytes: 100_000}, {Percent: 10}, {}} {
		synctest.Test(t, func(t *testing.T) {
			d := &countingDisk{free_: 1 << 20, min: 1 << 20}
			r := New(nil, Options{Limits: Limits{MinFree: floor}})
			r.disk = d
			var all sync.WaitGroup
			for i := range 20 {
				all.Go(func() {
					time.Sleep(time.Duration(i) * 700 * time.Microsecond)
					for {
						err := r.write(1000+i, func() error { d.use(int64(1000 + i)); return nil })
						if errors.Is(err, errDiskFull) {
							return
						}
						if err != nil {
							t.Error(err)
						}
					}
				})
			}
			all.Wait()
			if want := floor.of(1 << 20); d.min < want || d.min > want+25_000 {
				t.Errorf("floor %+v: %d bytes are free, want %d or little more", floor, d.min, want)
			}
		})
	}
}
