package segment

import (
	"context"
	"sync"
	"time"

	"livego/internal/domain"
)

const (
	// blockSize is the number of sequence numbers that are reserved at a time. Half a block lasts
	// more than an hour of two-second segments, in which an unavailable store may return. The
	// numbers stay below 2^31, which is all that some players can read, for decades.
	blockSize = 4096

	reserveRetry = 5 * time.Second
)

// A SequenceAllocator allocates epochs. Each is greater than every media sequence number that any
// stream of this store has used, also before a crash or restart: a player that returns after it
// finds increasing numbers, and a cache never finds an old name with new content.
//
// It reserves numbers in advance, so streams never wait for the store. Only when the store is
// unavailable for longer than half a block lasts do streams continue with numbers that a crash
// would lose.
type SequenceAllocator struct {
	counter domain.Counter
	low     chan struct{} // wakes Run

	reserving chan struct{} // holds a token while a goroutine calls counter

	mu   sync.Mutex
	next uint64 // greater than every number in use
	end  uint64 // all numbers below are reserved
}

// NewSequenceAllocator returns a SequenceAllocator that reserves numbers from counter. Run reserves
// them in advance.
func NewSequenceAllocator(counter domain.Counter) *SequenceAllocator {
	return &SequenceAllocator{counter: counter, low: make(chan struct{}, 1), reserving: make(chan struct{}, 1)}
}

// Run reserves numbers in advance until ctx is done.
func (a *SequenceAllocator) Run(ctx context.Context) {
	for {
		select {
		case <-a.low:
		case <-ctx.Done():
			return
		}
		for a.remaining() < blockSize/2 && a.reserve(ctx) != nil {
			select {
			case <-time.After(reserveRetry):
			case <-ctx.Done():
				return
			}
		}
	}
}

// Epoch returns a number that no stream session has had. It waits for the store only when no
// reserved number is left, and returns the store's error.
func (a *SequenceAllocator) Epoch(ctx context.Context) (uint64, error) {
	for {
		if e, ok := a.allocate(); ok {
			return e, nil
		}
		if err := a.reserve(ctx); err != nil {
			return 0, err
		}
	}
}

func (a *SequenceAllocator) allocate() (uint64, bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.next >= a.end {
		return 0, false
	}
	a.next++
	a.signalLow()
	return a.next - 1, true
}

// MarkUsed records that a stream is about to use msn. It never waits.
func (a *SequenceAllocator) MarkUsed(msn uint64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.next = max(a.next, msn+1)
	a.signalLow()
}

// signalLow wakes Run when few reserved numbers are left. Caller holds a.mu.
func (a *SequenceAllocator) signalLow() {
	if a.next+blockSize/2 > a.end {
		select {
		case a.low <- struct{}{}:
		default:
		}
	}
}

// remaining returns how many reserved numbers are left.
func (a *SequenceAllocator) remaining() uint64 {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.end - min(a.next, a.end)
}

// reserve reserves a block of numbers beyond all that are in use, unless enough are left.
func (a *SequenceAllocator) reserve(ctx context.Context) error {
	select {
	case a.reserving <- struct{}{}:
		defer func() { <-a.reserving }()
	case <-ctx.Done():
		return ctx.Err()
	}
	a.mu.Lock()
	if a.next+blockSize/2 <= a.end { // another goroutine has just reserved
		a.mu.Unlock()
		return nil
	}
	// A block, plus the numbers used without a reservation while the store was unavailable.
	size := blockSize + a.next - min(a.next, a.end)
	a.mu.Unlock()

	first, err := a.counter.Reserve(ctx, size)
	if err != nil {
		return err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if first != a.end { // another server reserved a block in between
		a.next = max(a.next, first)
	}
	a.end = first + size
	return nil
}
