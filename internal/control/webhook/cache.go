package webhook

import (
	"container/list"
	"net"
	"sync"
	"time"
)

const (
	// maxCachedDecisions bounds the cached decisions: each takes some hundred bytes.
	maxCachedDecisions = 10_000
	// recentTTL is how long a decision about a player without Cache-Control is cached: see
	// Authorizer.recent.
	recentTTL = 5 * time.Second
)

// decisionCache caches decisions until they expire, so that many viewers behind one address cause
// one request. When it is full the oldest decision is removed. The zero value is empty.
type decisionCache struct {
	mu    sync.Mutex
	all   map[decisionRequest]*list.Element // elements of order
	order list.List                         // of cacheEntry, oldest first
}

type cacheEntry struct {
	request  decisionRequest
	decision decision
	expires  time.Time
}

// cacheKey returns q without the client's port.
func (q decisionRequest) cacheKey() decisionRequest {
	if host, _, err := net.SplitHostPort(q.Remote); err == nil {
		q.Remote = host
	}
	return q
}

func (c *decisionCache) get(q decisionRequest, now time.Time) (decision, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	e := c.all[q.cacheKey()]
	if e == nil {
		return decision{}, false
	}
	got := e.Value.(cacheEntry)
	return got.decision, now.Before(got.expires)
}

// put caches a decision for the time age.
func (c *decisionCache) put(q decisionRequest, a decision, now time.Time, age time.Duration) {
	q = q.cacheKey()
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.all == nil {
		c.all = map[decisionRequest]*list.Element{}
	}
	if e := c.all[q]; e != nil {
		c.order.Remove(e)
	} else if len(c.all) >= maxCachedDecisions {
		oldest := c.order.Remove(c.order.Front()).(cacheEntry)
		delete(c.all, oldest.request)
	}
	c.all[q] = c.order.PushBack(cacheEntry{q, a, now.Add(age)})
}
