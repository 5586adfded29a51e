package hook

import (
	"container/list"
	"net"
	"sync"
	"time"
)

const (
	// maxKnown is how many answers are kept: each has some hundred bytes.
	maxKnown = 10_000
	// keepRecent is how long an answer to a player is kept that does not say how long it holds: see Gate.recent.
	keepRecent = 5 * time.Second
)

// answers keeps what was answered, for as long as it holds: a crowd that comes from one address asks once. Where there is no
// room the oldest answer goes. The zero value has none.
type answers struct {
	mu    sync.Mutex
	all   map[question]*list.Element // of order
	order list.List                  // of kept, the oldest first
}

type kept struct {
	question question
	answer   answer
	until    time.Time
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
	e := k.all[q.same()]
	if e == nil {
		return answer{}, false
	}
	got := e.Value.(kept)
	return got.answer, now.Before(got.until)
}

// put keeps an answer for the time given.
func (k *answers) put(q question, a answer, now time.Time, age time.Duration) {
	q = q.same()
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.all == nil {
		k.all = map[question]*list.Element{}
	}
	if e := k.all[q]; e != nil {
		k.order.Remove(e)
	} else if len(k.all) >= maxKnown {
		oldest := k.order.Remove(k.order.Front()).(kept)
		delete(k.all, oldest.question)
	}
	k.all[q] = k.order.PushBack(kept{q, a, now.Add(age)})
}
