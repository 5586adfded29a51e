package harness

import (
	"fmt"
	"os"
	"strings"
	"time"
)

// A Stopwatch measures how long something takes, and how much of that time the machine had more
// work than processors. A limit that holds on an idle machine holds on a busy one too if a
// Stopwatch checks it.
type Stopwatch struct {
	start         time.Time
	startPressure time.Duration
}

// StartStopwatch starts a Stopwatch.
func StartStopwatch() Stopwatch { return Stopwatch{time.Now(), cpuPressure()} }

// Elapsed returns the time since the start: all of it, and without the time in which a task waited
// for a processor.
func (w Stopwatch) Elapsed() (all, ours time.Duration) {
	all = time.Since(w.start)
	return all, max(0, all-(cpuPressure()-w.startPressure))
}

// maxExtension is how many times its own length a limit is extended at most, on a machine that is
// always busy.
const maxExtension = 5

// Exceeded reports whether the limit is exceeded.
func (w Stopwatch) Exceeded(limit time.Duration) bool {
	all, ours := w.Elapsed()
	return ours >= limit || all >= (1+maxExtension)*limit
}

// cpuPressure returns for how long, since the machine booted, a task waited for a processor: 0 if
// the system does not report it (Linux: Documentation/accounting/psi.rst).
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

// WaitClosed waits until done is closed, and reports whether that was within the limit.
func WaitClosed(limit time.Duration, done <-chan struct{}) bool {
	return waitUntil(limit, func() (bool, <-chan struct{}) { return false, done }, done)
}

// waitUntil waits until check returns true or done is closed, and reports whether that was within
// the limit. It calls check again when the channel that check returned is closed.
func waitUntil(limit time.Duration, check func() (ok bool, changed <-chan struct{}), done <-chan struct{}) bool {
	watch, timer := StartStopwatch(), time.NewTimer(limit)
	defer timer.Stop()
	for {
		ok, changed := check()
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
