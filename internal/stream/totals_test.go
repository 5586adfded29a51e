package stream

import (
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"livego/internal/domain"
)

// TestTotalsOutliveStreams checks that the counts of a stream and its viewers stay when they are gone,
// and that a viewer of an ended stream counts until it leaves.
func TestTotalsOutliveStreams(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := NewHub(Options{Hold: time.Minute})
		defer h.Close()
		p := mustPublish(t, h, owned(1, domain.Primary))
		gop(t, p, 0, 1)
		join := func(proto string) *Viewer {
			v, err := h.Join(movie, ViewerOptions{Proto: proto, Internal: proto == "record"})
			if err != nil {
				t.Fatal(err)
			}
			return v
		}
		join("record").ObserveProgress(100, 10, 0, time.Now())
		gone, stays := join("flv"), join("flv")
		time.Sleep(30 * ms)
		newest := time.Duration(p.s.newestDTS.Load())
		gone.ObserveProgress(100, 10, newest, time.Now())
		gone.ObserveProgress(0, 10, newest-3*time.Second, time.Now())
		gone.Skip()
		gone.Leave()
		check := func(when string, live, held, viewers int, bytes uint64) {
			t.Helper()
			got := h.Totals()
			v := got.Viewers["flv"]
			if got.Live != live || got.Held != held || got.Publishers["test"] != live || got.Received["test"] != 2750 {
				t.Errorf("%s: %+v", when, got)
			}
			if len(got.Viewers) != 1 || v.Viewers != viewers || v.Joins != 2 || v.Bytes != bytes || v.Skips != 1 {
				t.Errorf("%s: %+v", when, v)
			}
			if v.Delay.Counts[0] != 1 || v.Delay.Counts[7] != 1 || v.Delay.Count() != 2 || v.Delay.Sum != 3*time.Second {
				t.Errorf("%s: delays %+v", when, v.Delay)
			}
			if f := v.FirstFrame; f.Counts[3] != f.Count() || f.Count() != 1+(bytes-120)/5 {
				t.Errorf("%s: first frames %+v", when, f)
			}
		}
		check("live", 1, 0, 1, 120)
		p.End(Lost)
		check("held", 0, 1, 1, 120)
		p = mustPublish(t, h, owned(1, domain.Primary))
		p.End(Clean)
		check("ended", 0, 0, 1, 120)
		stays.ObserveBytes(0, 5)
		check("a viewer gets the rest", 0, 0, 1, 125)
		stays.Leave()
		check("without viewers", 0, 0, 0, 125)
		if n := len(h.ended.draining); n != 0 {
			t.Errorf("%d ended streams are kept", n)
		}
		if got := h.Totals(); got.Starts != 1 || got.Holds != 1 || got.Resumes != 1 || got.Ends != 1 || got.Takeovers != 0 {
			t.Errorf("%+v", got)
		}
	})
}

// TestTotalsCountReplacedPublishers counts a takeover, and switches between primary and backup.
func TestTotalsCountReplacedPublishers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := NewHub(Options{})
		defer h.Close()
		first := mustPublish(t, h, owned(1, domain.Primary))
		gop(t, first, 0, 1)
		backup := mustPublish(t, h, owned(1, domain.Backup))
		gop(t, backup, 0, 1)
		again := owned(1, domain.Primary)
		again.Takeover = domain.TakeoverAlways
		second := mustPublish(t, h, again) // the backup takes the place of the first meanwhile
		if _, err := h.Publish(t.Context(), movie, owned(1, domain.Primary)); domain.KindOf(err) != domain.Conflict {
			t.Errorf("a second encoder: %v", err)
		}
		if got := h.Totals(); got.Takeovers != 1 || got.Conflicts != 1 || got.Switches != 1 || got.Publishers["test"] != 2 ||
			got.Received["test"] != 2*2750 {
			t.Errorf("%+v", got)
		}
		backup.End(Lost)
		if got := h.Totals(); got.Takeovers != 1 || got.Switches != 2 || got.Publishers["test"] != 1 {
			t.Errorf("%+v", got)
		}
		second.End(Clean)
	})
}

// TestTotalsNeverFall reads totals while streams and viewers come and go.
func TestTotalsNeverFall(t *testing.T) {
	h := NewHub(Options{})
	defer h.Close()
	done := make(chan struct{})
	var reader sync.WaitGroup
	reader.Go(func() {
		var last uint64
		for {
			now := h.Totals().Viewers["flv"].Bytes
			if now < last {
				t.Errorf("%d bytes after %d", now, last)
				return
			}
			last = now
			select {
			case <-done:
				return
			default:
			}
		}
	})
	for range 200 {
		p := mustPublish(t, h, owned(1, domain.Primary))
		gop(t, p, 0, 1)
		v, err := h.Join(movie, ViewerOptions{Proto: "flv"})
		if err != nil {
			t.Fatal(err)
		}
		v.ObserveBytes(10, 0)
		p.End(Clean)
		v.ObserveBytes(10, 0)
		v.Leave()
	}
	close(done)
	reader.Wait()
	if n := h.Totals().Viewers["flv"].Bytes; n != 4000 {
		t.Errorf("%d bytes, want 4000", n)
	}
}

// TestViewerStatisticsTakeNoMemory counts what is sent to a viewer.
func TestViewerStatisticsTakeNoMemory(t *testing.T) {
	h := NewHub(Options{})
	defer h.Close()
	p := mustPublish(t, h, owned(1, domain.Primary))
	gop(t, p, 0, 1)
	v, err := h.Join(movie, ViewerOptions{Proto: "flv"})
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	if n := testing.AllocsPerRun(100, func() { v.ObserveProgress(100, 10, time.Second, now) }); n != 0 {
		t.Errorf("%v allocations, want none", n)
	}
}
