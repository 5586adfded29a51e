package stream

import (
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// manyViewers joins n viewers of the movie.
func manyViewers(t *testing.T, h *Hub, n int) []*Viewer {
	t.Helper()
	viewers := make([]*Viewer, n)
	for i := range viewers {
		var err error
		if viewers[i], err = h.Join(movie, ViewerOptions{Proto: "test"}); err != nil {
			t.Fatal(err)
		}
	}
	return viewers
}

// TestViewerAllocatesNothing does what fan-out does for a viewer, over several windows of its rates:
// it takes no memory.
func TestViewerAllocatesNothing(t *testing.T) {
	h := NewHub(Options{})
	defer h.Close()
	_, _, stop := h.Observe(16, true)
	defer stop()
	p := mustPublish(t, h, PublishOptions{})
	gop(t, p, 0, 1)
	v := manyViewers(t, h, 1)[0]
	now := time.Now()
	got := testing.AllocsPerRun(200, func() {
		now = now.Add(time.Second)
		v.ObserveProgress(1000, 100, time.Second, now)
		v.Skip()
	})
	if got > 0 {
		t.Errorf("%v allocations", got)
	}
}

// TestStatisticsBlockNoFrame reads all statistics of 10,000 viewers while frames are written and
// sent: neither waits for a lock that the other holds, nor do two viewers for each other.
func TestStatisticsBlockNoFrame(t *testing.T) {
	h := NewHub(Options{})
	defer h.Close()
	_, _, stop := h.Observe(16, true)
	defer stop()
	p := mustPublish(t, h, PublishOptions{})
	gop(t, p, 0, 1)
	viewers := manyViewers(t, h, 10_000)

	defer runtime.SetMutexProfileFraction(runtime.SetMutexProfileFraction(1))
	before := lockWaits(t)
	done := make(chan struct{})
	var sending, polling sync.WaitGroup
	for i := range 2 {
		sending.Go(func() {
			for round := range 20 {
				now := time.Now()
				for _, v := range viewers[i*len(viewers)/2:][:len(viewers)/2] {
					v.ObserveProgress(1000, 100, time.Duration(round)*time.Second, now)
					v.Skip()
				}
			}
		})
	}
	sending.Go(func() { gop(t, p, time.Second, 100) })
	polling.Go(func() {
		buf := make([]ConnInfo, 256)
		for {
			select {
			case <-done:
				return
			default:
			}
			h.Snapshot()
			h.Names()
			h.Has(movie)
			h.Ready(movie)
			after := uint64(0)
			for n := len(buf); n == len(buf); after = buf[n-1].ID {
				n = h.Viewers(movie, after, buf)
			}
		}
	})
	sending.Wait()
	close(done)
	polling.Wait()
	// A frame may wait for those who read the stream itself, for a time that no viewer adds to.
	short := []string{"stream).info", "Hub).Ready", "Publisher).Write"}
	for holder, n := range lockWaits(t) {
		isShort := slices.ContainsFunc(short, func(s string) bool { return strings.HasPrefix(holder, s) })
		if n -= before[holder]; n > 0 && !isShort {
			t.Errorf("%d waits for a lock that was held by %s", n, holder)
		}
	}
}

// lockWaits returns how often a goroutine has waited for a lock of this package, by the method that
// held it.
func lockWaits(t *testing.T) map[string]int64 {
	t.Helper()
	records := make([]runtime.BlockProfileRecord, 10_000)
	n, ok := runtime.MutexProfile(records)
	if !ok {
		t.Fatalf("%d records", n)
	}
	waits := make(map[string]int64)
	for _, r := range records[:n] {
		frames := runtime.CallersFrames(r.Stack())
		for {
			f, more := frames.Next()
			if _, method, ok := strings.Cut(f.Function, "internal/stream.(*"); ok {
				waits[method] += r.Count
				break
			}
			if !more {
				break
			}
		}
	}
	return waits
}
