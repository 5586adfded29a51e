package rig

import (
	"fmt"
	"os"
	"strings"
	"time"
)

// A Watch measures how long something takes, beside the time in which the machine had more to do than it has processors. A limit that
// holds on a machine that does nothing else holds on a busy one too, by a Watch.
type Watch struct {
	start   time.Time
	pressed time.Duration
}

// StartWatch starts a Watch.
func StartWatch() Watch { return Watch{time.Now(), pressure()} }

// Took returns how long it took so far: all of the time, and that without the time in which somebody waited for a processor.
func (w Watch) Took() (all, ours time.Duration) {
	all = time.Since(w.start)
	return all, max(0, all-(pressure()-w.pressed))
}

// mostBusy is by how many times a limit is extended at most, on a machine that is always busy.
const mostBusy = 5

// Over reports whether a limit is over.
func (w Watch) Over(limit time.Duration) bool {
	all, ours := w.Took()
	return ours >= limit || all >= (1+mostBusy)*limit
}

// pressure returns for how long, since the machine was started, somebody waited for a processor: 0 where the system does not say (see
// Linux's Documentation/accounting/psi.rst).
func pressure() time.Duration {
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

// Within waits until done is closed, and reports whether it was within the limit.
func Within(limit time.Duration, done <-chan struct{}) bool {
	return waitUntil(limit, func() (bool, <-chan struct{}) { return false, done }, done)
}

// waitUntil waits until look reports true or done is closed, and reports whether that was within the limit. It looks again when what look
// returns is closed.
func waitUntil(limit time.Duration, look func() (ok bool, changed <-chan struct{}), done <-chan struct{}) bool {
	watch, timer := StartWatch(), time.NewTimer(limit)
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
			if watch.Over(limit) {
				return false
			}
			timer.Reset(limit / 10)
		}
	}
}
