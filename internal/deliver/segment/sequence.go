package segment

import (
	"context"
	"sync"
	"time"

	"livego/internal/domain"
)

const (
	// blockSize is how many numbers are reserved at a time. Half of it lasts more than an hour of
	// two-second segments, in which a store that is away may come back. Numbers stay below 2^31, which
	// is what some players read, for decades.
	blockSize = 4096

	reserveRetry = 5 * time.Second
)

// SequenceAllocator hands out epochs, each greater than every media sequence number that any stream
// of this store has ever used, over crashes and restarts too: a player that comes back after any of
// these finds numbers that go up, and a cache never finds an old name with new content. It reserves
// ahead of need, so that streams never wait for the store; only while that is away for longer than
// half a block lasts do they go on with numbers that a crash would forget.
type SequenceAllocator struct {
	counter domain.Counter
	low     chan struct{} // wakes Run

	reserving chan struct{} // holds a token while somebody asks the counter

	mu   sync.Mutex
	next uint64 // greater than all that is in use
	end  uint64 // what is below has been reserved
}

// NewSequenceAllocator returns Numbers that reserves from counter. Run keeps it ahead.
func NewSequenceAllocator(counter domain.Counter) *SequenceAllocator {
	return &SequenceAllocator{counter: counter, low: make(chan struct{}, 1), reserving: make(chan struct{}, 1)}
}

// Run reserves numbers ahead of need until ctx is done.
func (n *SequenceAllocator) Run(ctx context.Context) {
	for {
		select {
		case <-n.low:
		case <-ctx.Done():
			return
		}
		for n.remaining() < blockSize/2 && n.reserve(ctx) != nil {
			select {
			case <-time.After(reserveRetry):
			case <-ctx.Done():
				return
			}
		}
	}
}

// Epoch returns a number that no session has had. It waits for the store only when none is left;
// the error is the store's.
func (n *SequenceAllocator) Epoch(ctx context.Context) (uint64, error) {
	for {
		if e, ok := n.allocate(); ok {
			return e, nil
		}
		if err := n.reserve(ctx); err != nil {
			return 0, err
		}
	}
}

func (n *SequenceAllocator) allocate() (uint64, bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.next >= n.end {
		return 0, false
	}
	n.next++
	n.signalLow()
	return n.next - 1, true
}

// MarkUsed tells that a stream is about to use msn. It never waits.
func (n *SequenceAllocator) MarkUsed(msn uint64) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.next = max(n.next, msn+1)
	n.signalLow()
}

// signalLow has Run look when little is left. Caller holds n.mu.
func (n *SequenceAllocator) signalLow() {
	if n.next+blockSize/2 > n.end {
		select {
		case n.low <- struct{}{}:
		default:
		}
	}
}

// remaining returns how many reserved numbers there are.
func (n *SequenceAllocator) remaining() uint64 {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.end - min(n.next, n.end)
}

// reserve sees to it that numbers are left, by asking the counter for a block beyond all that is in use.
func (n *SequenceAllocator) reserve(ctx context.Context) error {
	select {
	case n.reserving <- struct{}{}:
		defer func() { <-n.reserving }()
	case <-ctx.Done():
		return ctx.Err()
	}
	n.mu.Lock()
	if n.next+blockSize/2 <= n.end { // another has just done so
		n.mu.Unlock()
		return nil
	}
	size := blockSize + n.next - min(n.next, n.end) // used without having been reserved, while the store was away
	n.mu.Unlock()

	first, err := n.counter.Reserve(ctx, size)
	if err != nil {
		return err
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if first != n.end { // another server's block lies between
		n.next = max(n.next, first)
	}
	n.end = first + size
	return nil
}
