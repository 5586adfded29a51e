package redis

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"livego/e2e/harness"
	"livego/internal/domain"
)

// TestWrongKeysOverSlowLink resolves thousands of wrong keys over a link with a delay of 40 ms.
// Valid keys resolve meanwhile, the store stays ready, and no error says that Redis is unavailable.
func TestWrongKeysOverSlowLink(t *testing.T) {
	const wrong, askers, rooms = 10_000, 2000, 20
	r := startRedis(t)
	n := startNode(t, harness.StartDelayProxy(t, r.addr, 40*time.Millisecond))
	n.awaitReady(t, 5*time.Second)
	near := open(t, r.addr)
	var right []domain.Key
	for i := range rooms {
		right = append(right, mustGet(t, near, fmt.Sprint("room", i)))
	}

	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	start := time.Now()
	var flood sync.WaitGroup
	var denied, other atomic.Int64
	var sample atomic.Value
	for range askers {
		flood.Go(func() {
			for range wrong / askers {
				_, err := n.Resolve(ctx, "live", domain.NewSecret())
				if domain.KindOf(err) == domain.Denied {
					denied.Add(1)
				} else if ctx.Err() == nil {
					other.Add(1)
					sample.Store(fmt.Sprint(domain.KindOf(err), ": ", err))
				}
			}
		})
	}
	var longest time.Duration
	for range 5 {
		for _, k := range right {
			start := time.Now()
			got, err := n.Resolve(t.Context(), "live", k.Secret)
			longest = max(longest, time.Since(start))
			if err != nil || got.Ref() != k.Ref() {
				t.Fatalf("valid key during the flood: %v, %v", got.Ref(), err)
			}
			if err := n.Ready(); err != nil {
				t.Fatalf("not ready during the flood: %v", err)
			}
		}
	}
	flood.Wait()
	t.Logf("%d wrong keys denied, %.0f a second, a valid key took %v at most", denied.Load(),
		float64(denied.Load())/time.Since(start).Seconds(), longest)
	if denied.Load() != wrong || other.Load() != 0 {
		t.Errorf("%d of %d wrong keys were denied, %d got another result, such as %v", denied.Load(), wrong, other.Load(),
			sample.Load())
	}
}

// TestOperationsOverSlowLink starts many more changes at once than there are connections: their
// wait must not mark Redis as unavailable.
func TestOperationsOverSlowLink(t *testing.T) {
	r := startRedis(t)
	n := startNode(t, harness.StartDelayProxy(t, r.addr, 40*time.Millisecond))
	n.awaitReady(t, 5*time.Second)
	var all sync.WaitGroup
	var busy, done atomic.Int64
	for i := range 1500 {
		all.Go(func() {
			switch _, err := n.Get(t.Context(), "", fmt.Sprint("room", i)); {
			case err == nil:
				done.Add(1)
			case errors.Is(err, errBusy) && domain.KindOf(err) == domain.Limit:
				busy.Add(1)
			default:
				t.Errorf("%v: %v", domain.KindOf(err), err)
			}
			if err := n.Ready(); err != nil {
				t.Errorf("not ready: %v, %v", err, errors.Unwrap(errors.Unwrap(err)))
			}
		})
	}
	all.Wait()
	t.Logf("%d done, %d busy", done.Load(), busy.Load())
	if done.Load() == 0 {
		t.Error("nothing was done")
	}
}

// TestNewKeyResolvesAtOnce resolves absent keys on two servers, again and again, while a third
// server stores them: from then on they resolve on both at once.
func TestNewKeyResolvesAtOnce(t *testing.T) {
	r := startRedis(t)
	slow := harness.StartDelayProxy(t, r.addr, 10*time.Millisecond)
	a, b, maker := startNode(t, slow), startNode(t, slow), open(t, r.addr)
	a.awaitReady(t, 5*time.Second)
	b.awaitReady(t, 5*time.Second)
	for i := range 20 {
		k := domain.Key{Room: fmt.Sprint("room", i), Secret: domain.NewSecret()}
		ctx, cancel := context.WithCancel(t.Context())
		var asking sync.WaitGroup
		asked := make(chan struct{}, 1)
		for _, n := range []*node{a, b} {
			for range 8 {
				asking.Go(func() {
					for ctx.Err() == nil {
						_, _ = n.Resolve(ctx, "live", k.Secret)
						select {
						case asked <- struct{}{}:
						default:
						}
					}
				})
			}
		}
		<-asked
		made := maker
		if i%2 == 1 { // by one of the servers that resolve it
			made = a.keyStore
		}
		if _, err := made.Add(t.Context(), k); err != nil {
			t.Fatal(err)
		}
		for _, n := range []*node{a, b} {
			if got, err := n.Resolve(t.Context(), "live", k.Secret); err != nil || got.Room != k.Room {
				t.Errorf("new key: %v, %v", got.Room, err)
			}
		}
		cancel()
		asking.Wait()
	}
}

// TestReadsAreBatched has thousands of callers resolve a few keys at once over a slow link: all get
// a result, and a foreign value does not fail the other reads of its batch.
func TestReadsAreBatched(t *testing.T) {
	r := startRedis(t)
	n := startNode(t, harness.StartDelayProxy(t, r.addr, 40*time.Millisecond))
	n.awaitReady(t, 5*time.Second)
	good := mustGet(t, n.keyStore, "movie")
	bad := domain.NewSecret()
	foreign := domain.NewSecret()
	d := domain.Digest(foreign)
	r.do("RPUSH", keyName+hex.EncodeToString(d[:]), "x")
	var all sync.WaitGroup
	for range 3000 {
		for _, secret := range []string{good.Secret, bad, foreign} {
			all.Go(func() {
				_, err := n.Resolve(t.Context(), "live", secret)
				if secret == good.Secret && err != nil || secret != good.Secret && domain.KindOf(err) != domain.Denied {
					t.Errorf("%v: %v", domain.KindOf(err), err)
				}
			})
		}
	}
	all.Wait()
	if len(n.reads.waiting) != 0 || len(n.reads.byName) != 0 {
		t.Errorf("%d reads are left over", len(n.reads.waiting))
	}
}

// TestReadsAreBounded starts more reads than may wait, and then all callers leave.
func TestReadsAreBounded(t *testing.T) {
	s := Store{reads: newReadBatcher()}
	for i := range maxWaitingReads {
		if s.reads.join(fmt.Sprint(i), 1) == nil {
			t.Fatal("refused below the bound")
		}
	}
	if _, err := s.readValue(t.Context(), "more", 1); domain.KindOf(err) != domain.Limit {
		t.Errorf("above the bound: %v", err)
	}
	for _, r := range s.reads.waiting {
		s.reads.leave(r)
	}
	if batch := s.reads.batch(); len(batch) != 0 || len(s.reads.waiting) != 0 || len(s.reads.byName) != 0 {
		t.Errorf("%d abandoned reads are sent, %d wait", len(batch), len(s.reads.waiting))
	}
}
