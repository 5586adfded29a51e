package logging

import (
	"sync"
	"time"
)

// maxReasons limits the memory of a Limiter if reasons depend on input.
const maxReasons = 256

// A Limiter lets one event for each reason through in an interval, so that repeated events do not
// fill the log. The zero Limiter lets all through. It is safe for concurrent use.
type Limiter struct {
	Interval time.Duration

	mu   sync.Mutex
	seen map[string]*seen
}

type seen struct {
	last       time.Time
	suppressed int
}

// Allow reports whether to log an event with this reason now, and how many were suppressed since
// the last one.
func (l *Limiter) Allow(reason string) (suppressed int, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := l.seen[reason]
	if s == nil {
		if l.seen == nil || len(l.seen) >= maxReasons {
			l.seen = map[string]*seen{}
		}
		s = &seen{}
		l.seen[reason] = s
	}
	if !s.last.IsZero() && time.Since(s.last) < l.Interval {
		s.suppressed++
		return 0, false
	}
	suppressed, s.suppressed = s.suppressed, 0
	s.last = time.Now()
	return suppressed, true
}
