package hook

import (
	"maps"
	"net"
	"sync"
	"time"
)

// maxKnown is how many answers are kept: each has some hundred bytes.
const maxKnown = 10_000

// answers keeps what was answered, for as long as who answered has said: a crowd that comes from one address asks once. The zero value
// has none.
type answers struct {
	mu  sync.Mutex
	all map[question]kept
}

type kept struct {
	answer answer
	until  time.Time
}

// same returns q as it is known by: whatever port its sender has.
func (q question) same() question {
	if host, _, err := net.SplitHostPort(q.Remote); err == nil {
		q.Remote = host
	}
	return q
}

func (k *answers) get(q question, now time.Time) (answer, bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	got, ok := k.all[q.same()]
	return got.answer, ok && now.Before(got.until)
}

// put keeps an answer. Where there is no room those that are over go, and else the new one.
func (k *answers) put(q question, a answer, now time.Time, age time.Duration) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if len(k.all) >= maxKnown {
		maps.DeleteFunc(k.all, func(_ question, old kept) bool { return !now.Before(old.until) })
	}
	if k.all == nil {
		k.all = map[question]kept{}
	}
	if len(k.all) < maxKnown {
		k.all[q.same()] = kept{a, now.Add(age)}
	}
}
