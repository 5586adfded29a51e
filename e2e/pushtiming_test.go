package e2e

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"testing"
	"time"

	"livego/e2e/harness"
	"livego/e2e/mediacompare"
	"livego/e2e/sample"
)

// TestPushSendsOnTime pushes 8 Mbit/s for half a minute, or for ten minutes, and measures when
// frames are sent, when they arrive, and the processor time.
func TestPushSendsOnTime(t *testing.T) {
	harness.Need(t, "ffmpeg")
	t.Parallel()
	times := 4
	if harness.Long() {
		times = 120
	}
	dense := sample.HighBitrateMedia().File(t)
	s := harness.Start(t, harness.Options{NoRace: true})
	began := time.Now()
	p := push(t, s, fmt.Sprintf("--times=%d", times), dense, "movie")
	s.AwaitLive("movie")
	viewer := async(func() (arrivals, error) { return watchArrivals(t.Context(), s.FLV("movie")) })
	stalls := measureOversleep(p.Done())
	p.WaitOK(patience + time.Duration(times)*5*time.Second)
	took, cpu, stalled := time.Since(began), p.CPUTime(), <-stalls
	m := regexp.MustCompile(`at most (\d+) ms late and (\d+) ms early`).FindStringSubmatch(p.Stderr())
	if m == nil {
		t.Fatalf("push printed no statistics:\n%s", p.Stderr())
	}
	got, err := viewer()
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%s; %v of CPU in %v, %.2f %%; arrived %v late and %v early; the scheduling delay was %v",
		m[0], cpu, took, 100*cpu.Seconds()/took.Seconds(), got.late, got.early, stalled)
	// 3 % of a core, and the cost of the start.
	if limit := took*3/100 + 250*time.Millisecond; cpu > limit {
		t.Errorf("push used %v of CPU in %v, want at most %v", cpu, took, limit)
	}
	const mostEarly, mostLate = 50 * time.Millisecond, 100 * time.Millisecond
	if early, _ := strconv.Atoi(m[2]); time.Duration(early)*time.Millisecond > mostEarly {
		t.Errorf("%s ms early", m[2])
	}
	// Push reads a frame in one goroutine and sends it in another, so that the scheduling delay of
	// this machine counts twice. A longer delay is the fault of push.
	if late, _ := strconv.Atoi(m[1]); time.Duration(late)*time.Millisecond > mostLate+2*stalled {
		t.Errorf("%s ms late", m[1])
	}
	// The server has a batching window, and its clock is not that of push.
	const window = 50 * time.Millisecond
	if got.n < times*5*30 || got.early > mostEarly+window || got.late > mostLate+window+2*stalled {
		t.Errorf("%d frames arrived, %v early and %v late at most", got.n, got.early, got.late)
	}
}

// arrivals describes when frames arrived at a viewer: how many there were, and by how much the
// earliest and the latest differ from the median.
type arrivals struct {
	n           int
	early, late time.Duration
}

func watchArrivals(ctx context.Context, url string) (a arrivals, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return a, err
	}
	resp, err := harness.Client().Do(req)
	if err != nil {
		return a, err
	}
	defer resp.Body.Close()
	flv, err := mediacompare.NewFLVReader(resp.Body)
	if err != nil {
		return a, err
	}
	began := time.Now()
	var off []time.Duration
	for {
		tag, err := flv.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return a, err
		}
		// The start-up cache arrives at once.
		if at := time.Since(began); at > time.Second && tag.Type != mediacompare.TagScript && !tag.IsHeader() {
			off = append(off, at-time.Duration(tag.Time)*time.Millisecond)
		}
	}
	if a.n = len(off); a.n > 0 {
		slices.Sort(off)
		middle := off[a.n/2]
		a.early, a.late = middle-off[0], off[a.n-1]-middle
	}
	return a, nil
}

// measureOversleep measures by how much a sleep of 5 ms is too long at most, with one thread for
// each core, until done is closed.
func measureOversleep(done <-chan struct{}) <-chan time.Duration {
	most, threads := make(chan time.Duration, 1), runtime.NumCPU()
	each := make(chan time.Duration, threads)
	for range threads {
		go func() {
			runtime.LockOSThread()
			const nap = 5 * time.Millisecond
			worst, last := time.Duration(0), time.Now()
			tick := time.NewTimer(0)
			for {
				tick.Reset(nap)
				select {
				case <-tick.C:
					worst = max(worst, time.Since(last)-nap)
					last = time.Now()
				case <-done:
					each <- worst
					return
				}
			}
		}()
	}
	go func() {
		worst := time.Duration(0)
		for range threads {
			worst = max(worst, <-each)
		}
		most <- worst
	}()
	return most
}
