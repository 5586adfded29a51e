package auth

import (
	"maps"
	"strings"
	"sync"

	"livego/internal/domain"
)

// actionManage is the action of requests to the operator's HTTP.
const actionManage = "manage"

// A RefusalReason is what was refused, and why. Both are words of this program: there are not many.
type RefusalReason struct {
	Action string // "publish", "play" or actionManage
	Reason string // a domain.Code or, without one, a domain.Kind with underscores
}

// refusalCounts counts refusals. The zero refusalCounts is empty. Its lock is the last one.
type refusalCounts struct {
	mu     sync.Mutex
	counts map[RefusalReason]uint64
}

// count counts that a request was refused for err.
func (c *refusalCounts) count(action string, err error) {
	reason := string(domain.CodeOf(err))
	if reason == "" {
		reason = strings.ReplaceAll(domain.KindOf(err).String(), " ", "_")
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.counts == nil {
		c.counts = make(map[RefusalReason]uint64)
	}
	c.counts[RefusalReason{action, reason}]++
}

// Refusals returns how many requests were refused so far.
func (c *refusalCounts) Refusals() map[RefusalReason]uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return maps.Clone(c.counts)
}
