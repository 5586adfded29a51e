package segment

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// fakeCounter is a domain.Counter that outlives its SequenceAllocators.
type fakeCounter struct {
	mu    sync.Mutex
	next  uint64
	calls int
	down  error
}

func (c *fakeCounter) Reserve(_ context.Context, n uint64) (uint64, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.calls++
	if c.down != nil {
		return 0, c.down
	}
	c.next += n
	return c.next - n, nil
}

func (c *fakeCounter) fail(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.down = err
}

// sleep waits for d on the clock of the synctest bubble.
func sleep(d time.Duration) { <-time.After(d) }

// TestEpochsOnlyIncrease stops allocators at random times: no epoch may be one that streams have
// used, or lower.
func TestEpochsOnlyIncrease(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rnd := rand.New(rand.NewPCG(1, 2))
		c := new(fakeCounter)
		used := -1
		for range 50 {
			ctx, kill := context.WithCancel(t.Context())
			n := NewSequenceAllocator(c)
			go n.Run(ctx)
			var sessions []int // newest media sequence number of each
			for range rnd.IntN(20_000) {
				if len(sessions) == 0 || rnd.IntN(100) == 0 {
					e, err := n.Epoch(ctx)
					if err != nil {
						t.Fatal(err)
					}
					if int(e) <= used {
						t.Fatalf("epoch %d, but number %d is in use", e, used)
					}
					sessions = append(sessions, int(e)-1)
				}
				i := rnd.IntN(len(sessions))
				sessions[i]++
				n.MarkUsed(uint64(sessions[i]))
				used = max(used, sessions[i])
				if rnd.IntN(500) == 0 {
					synctest.Wait() // let Run catch up
				}
			}
			kill()
			synctest.Wait()
		}
		if waste := int(c.next) - used; waste > 50*2*blockSize {
			t.Errorf("reserved %d numbers, used %d", c.next, used)
		}
	})
}

func TestEpochsAreUniqueAcrossGoroutines(t *testing.T) {
	c := new(fakeCounter)
	n := NewSequenceAllocator(c)
	var mu sync.Mutex
	seen := map[uint64]bool{}
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 2000 {
				e, err := n.Epoch(t.Context())
				if err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				if seen[e] {
					t.Errorf("epoch %d was allocated twice", e)
				}
				seen[e] = true
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	if c.calls > 16000/blockSize+1 {
		t.Errorf("%d calls of the store", c.calls)
	}
}

func TestSequenceAllocatorSurvivesStoreOutage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := new(fakeCounter)
		n := NewSequenceAllocator(c)
		ctx, stop := context.WithCancel(t.Context())
		defer stop()
		away := errors.New("away")
		c.fail(away)
		if _, err := n.Epoch(ctx); !errors.Is(err, away) {
			t.Errorf("Epoch without a store: %v", err)
		}
		c.fail(nil)
		go n.Run(ctx)
		first, err := n.Epoch(ctx)
		if err != nil {
			t.Fatal(err)
		}
		c.fail(away)
		last := first + 3*blockSize
		for msn := first; msn <= last; msn++ {
			n.MarkUsed(msn) // continues without the store
		}
		synctest.Wait()
		c.fail(nil)
		sleep(2 * reserveRetry) // Run tries again
		synctest.Wait()
		if c.next <= last {
			t.Errorf("reserved up to %d, used up to %d", c.next, last)
		}
		if e, err := n.Epoch(ctx); err != nil || e <= last {
			t.Errorf("Epoch = %d, %v, want more than %d", e, err, last)
		}
		c.mu.Lock()
		calls := c.calls
		c.mu.Unlock()
		c.fail(away)
		if _, err := n.Epoch(ctx); err != nil || c.calls != calls {
			t.Errorf("Epoch called the store though reserved numbers are left: %v", err)
		}
	})
}

// TestEpochsAreUniqueAcrossServers has two servers share a store.
func TestEpochsAreUniqueAcrossServers(t *testing.T) {
	c := new(fakeCounter)
	a, b := NewSequenceAllocator(c), NewSequenceAllocator(c)
	seen := map[uint64]bool{}
	for range 3 * blockSize {
		for _, n := range []*SequenceAllocator{a, b} {
			e, err := n.Epoch(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if seen[e] {
				t.Fatalf("epoch %d was allocated twice", e)
			}
			seen[e] = true
		}
	}
}
