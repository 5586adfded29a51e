//go:build linux

package fanout

import (
	"io"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"livego/internal/stream"
)

// TestStatisticsBlockNoViewer reads the statistics of viewers, which include what their sockets hold,
// while they are sent frames: nothing waits for a lock that is held for statistics.
func TestStatisticsBlockNoViewer(t *testing.T) {
	r := newHarness(t, 2, Options{})
	r.frame("k", true)
	var reading sync.WaitGroup
	for range 100 {
		v := r.viewer(conn{})
		reading.Go(func() { _, _ = io.Copy(io.Discard, v.nc) }) // until the stream ends
	}
	defer reading.Wait()
	defer r.pub.End(stream.Clean)

	defer runtime.SetMutexProfileFraction(runtime.SetMutexProfileFraction(1))
	before := waitsFor(t, "stream.(*Hub).")
	done := make(chan struct{})
	var polling sync.WaitGroup
	var listed atomic.Int64
	polling.Go(func() {
		buf := make([]stream.ConnInfo, 200)
		for {
			select {
			case <-done:
				return
			default:
			}
			listed.Add(int64(r.hub.Viewers(movie, 0, buf)))
		}
	})
	payload := strings.Repeat("x", 10<<10)
	for i := 0; i < 200 || listed.Load() < 5_000; i++ {
		r.frame(payload, false)
	}
	close(done)
	polling.Wait()
	if n := waitsFor(t, "stream.(*Hub).") - before; n > 0 {
		t.Errorf("%d waits for a lock that was held for statistics", n)
	}
}

// waitsFor returns how often a goroutine has waited for a lock that a function held, or one that it
// called.
func waitsFor(t *testing.T, function string) (n int64) {
	t.Helper()
	records := make([]runtime.BlockProfileRecord, 10_000)
	count, ok := runtime.MutexProfile(records)
	if !ok {
		t.Fatalf("%d records", count)
	}
	for _, record := range records[:count] {
		frames := runtime.CallersFrames(record.Stack())
		for more := true; more; {
			var f runtime.Frame
			if f, more = frames.Next(); strings.Contains(f.Function, function) {
				n += record.Count
				break
			}
		}
	}
	return n
}
