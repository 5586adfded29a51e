package harness

import (
	"fmt"
	"os"
	"strings"
	"time"
)

// A Stopwatch measures how long something takes, beside the time in which the machine had more to
// do than it has processors. A limit that holds on a machine that does nothing else holds on a busy
// one too, by a Stopwatch.
type Stopwatch struct {
	start         time.Time
	startPressure time.Duration
}

// StartStopwatch starts a Watch.
func StartStopwatch() Stopwatch { return Stopwatch{time.Now(), cpuPressure()} }

// Elapsed returns how long it took so far: all of the time, and that without the time in which
// somebody waited for a processor.
func (w Stopwatch) Elapsed() (all, ours time.Duration) {
	all = time.Since(w.start)
	return all, max(0, all-(cpuPressure()-w.startPressure))
}

// maxExtension is by how many times a limit is extended at most, on a machine that is always busy.
const maxExtension = 5

// Exceeded reports whether a limit is over.
func (w Stopwatch) Exceeded(limit time.Duration) bool {
	all, ours := w.Elapsed()
	return ours >= limit || all >= (1+maxExtension)*limit
}

// cpuPressure returns for how long, since the machine was started, somebody waited for a processor:
// 0 where the system does not say (see Linux's Documentation/accounting/psi.rst).
func cpuPressure() time.Duration {
	b, err := os.ReadFile("/proc/pressure/cpu")
	if err != nil {
		return 0
	}
	var us int64
	_, total, _ := strings.Cut(string(b), "total=") // of the first line, "some"
	if _, err := fmt.Sscan(total, &us); err != nil {
		return 0
	}
	return time.Duration(us) * time.Microsecond
}

// WaitClosed waits until done is closed, and reports whether it was within the limit.
func WaitClosed(limit time.Duration, done <-chan struct{}) bool {
	return waitUntil(limit, func() (bool, <-chan struct{}) { return false, done }, done)
}

// waitUntil waits until look reports true or done is closed, and reports whether that was within
// the limit. It looks again when what look returns is closed.
func waitUntil(limit time.Duration, look func() (ok bool, changed <-chan struct{}), done <-chan struct{}) bool {
	watch, timer := StartStopwatch(), time.NewTimer(limit)
	defer timer.Stop()
	for {
		ok, changed := look()
		if ok {
			return true
		}
		select {
		case <-done:
			return true
		case <-changed:
		case <-timer.C:
			if watch.Exceeded(limit) {
				return false
			}
			timer.Reset(limit / 10)
		}
	}
}
