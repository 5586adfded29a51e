package webhook

import (
	"container/list"
	"net"
	"sync"
	"time"
)

const (
	// maxCachedDecisions is how many answers are kept: each has some hundred bytes.
	maxCachedDecisions = 10_000
	// recentTTL is how long an answer to a player is kept that does not say how long it holds: see Gate.recent.
	recentTTL = 5 * time.Second
)

// decisionCache keeps what was answered, for as long as it holds: a crowd that comes from one
// address asks once. Where there is no room the oldest answer goes. The zero value has none.
type decisionCache struct {
	mu    sync.Mutex
	all   map[decisionRequest]*list.Element // of order
	order list.List                         // of kept, the oldest first
}

type cacheEntry struct {
	request  decisionRequest
	decision decision
	expires  time.Time
}

// cacheKey returns q as it is known by: whatever port its sender has.
func (q decisionRequest) cacheKey() decisionRequest {
	if host, _, err := net.SplitHostPort(q.Remote); err == nil {
		q.Remote = host
	}
	return q
}

func (k *decisionCache) get(q decisionRequest, now time.Time) (decision, bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	e := k.all[q.cacheKey()]
	if e == nil {
		return decision{}, false
	}
	got := e.Value.(cacheEntry)
	return got.decision, now.Before(got.expires)
}

// put keeps an answer for the time given.
func (k *decisionCache) put(q decisionRequest, a decision, now time.Time, age time.Duration) {
	q = q.cacheKey()
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.all == nil {
		k.all = map[decisionRequest]*list.Element{}
	}
	if e := k.all[q]; e != nil {
		k.order.Remove(e)
	} else if len(k.all) >= maxCachedDecisions {
		oldest := k.order.Remove(k.order.Front()).(cacheEntry)
		delete(k.all, oldest.request)
	}
	k.all[q] = k.order.PushBack(cacheEntry{q, a, now.Add(age)})
}
