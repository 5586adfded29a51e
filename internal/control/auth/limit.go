package auth

import (
	"context"
	"math/rand/v2"
	"net/netip"
	"sync"
	"time"

	"livego/internal/ops/netx"
)

const (
	// maxTracked bounds the table of addresses with failures: about 1 MiB, however many addresses
	// an attacker has.
	maxTracked = 8192
	// maxDelay is the longest delay of an address over its limit. The delay is random, so that it
	// carries no information.
	maxDelay      = 4 * time.Second
	failureWindow = time.Minute
)

// failures counts authentication failures by address, and delays requests from addresses with too
// many within a minute. The delay comes before the check: a guesser does not learn sooner that a
// guess was right.
type failures struct {
	limit    int // per minute; 0: no limit
	loopback bool
	*failureCounts
}

// failureCounts are the failures of all addresses.
type failureCounts struct {
	mu     sync.Mutex
	counts map[netip.Addr]*failureCount
}

// newFailures returns failures with other limits and the counts of before; nil for new counts.
func newFailures(limit int, loopback bool, before *failureCounts) failures {
	if before == nil {
		before = &failureCounts{}
	}
	return failures{limit, loopback, before}
}

type failureCount struct {
	since time.Time
	n     int
}

// wait delays a request from an address that is over its limit. It returns early when ctx ends.
func (f *failures) wait(ctx context.Context, addr netip.Addr) {
	if !f.over(addr) {
		return
	}
	select {
	case <-time.After(rand.N(maxDelay)): //nolint:forbidigo // a delay, no secret
	case <-ctx.Done():
	}
}

func (f *failures) over(addr netip.Addr) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	t := f.counts[addr]
	return t != nil && f.limit > 0 && t.n >= f.limit && time.Since(t.since) < failureWindow
}

// add counts a failure of addr.
func (f *failures) add(addr netip.Addr) {
	if f.limit <= 0 || addr.IsLoopback() && !f.loopback {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	t := f.counts[addr]
	if t == nil {
		f.evict()
		t = &failureCount{}
		f.counts[addr] = t
	}
	if time.Since(t.since) >= failureWindow {
		*t = failureCount{since: time.Now()}
	}
	t.n++
}

// evict keeps the table within maxTracked: it removes expired entries first, then any.
func (f *failures) evict() {
	if f.counts == nil {
		f.counts = map[netip.Addr]*failureCount{}
	}
	if len(f.counts) < maxTracked {
		return
	}
	for addr, t := range f.counts {
		if time.Since(t.since) >= failureWindow {
			delete(f.counts, addr)
		}
	}
	for addr := range f.counts {
		if len(f.counts) < maxTracked {
			return
		}
		delete(f.counts, addr)
	}
}

// rateLimitAddr returns the address under which a host:port is limited: the /64 for IPv6, since one
// customer has at least that. Everything that is not an address is limited together, as the zero
// Addr.
func rateLimitAddr(remote string) netip.Addr {
	return netx.AddressPrefix(netx.ParseClient(remote)).Addr()
}
