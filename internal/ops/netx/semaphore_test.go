package netx

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
)

// TestAddressSemaphore: one address waits at its limit, another does not, and no state is left.
func TestAddressSemaphore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := NewAddressSemaphore(2)
		const a, b = "192.0.2.1:1", "192.0.2.2:1"
		acquire := func(addr string) func() {
			release, err := s.Acquire(t.Context(), addr)
			if err != nil {
				t.Fatal(err)
			}
			return release
		}
		first, second := acquire(a), acquire(a)
		acquire(b)()
		got := make(chan func())
		go func() { got <- acquire(a) }()
		ctx, cancel := context.WithCancel(t.Context())
		gone := make(chan error)
		go func() {
			_, err := s.Acquire(ctx, "192.0.2.1:2")
			gone <- err
		}()
		synctest.Wait()
		select {
		case <-got:
			t.Error("a third operation of one address did not wait")
		default:
		}
		cancel()
		if err := <-gone; err == nil {
			t.Error("Acquire succeeded after its context ended")
		}
		first()
		third := <-got
		second()
		third()
		if len(s.addrs) != 0 {
			t.Errorf("%d addresses are kept", len(s.addrs))
		}
	})
}

// TestFairAddressSemaphore: several addresses run all that they can. Each has no more than are
// free, a late address runs at once, and waiting addresses are served in turn.
func TestFairAddressSemaphore(t *testing.T) {
	const total = 64
	for crowd, want := range map[int]int{1: 32, 2: 21, 3: 16, 7: 8, 63: 1} {
		synctest.Test(t, func(t *testing.T) {
			s := NewFairAddressSemaphore(total)
			ctx, cancel := context.WithCancel(t.Context())
			turns := make(chan func(), crowd*total)
			ended := make(chan struct{})
			for range total {
				for from := range crowd {
					go func() {
						if release, err := s.Acquire(ctx, fmt.Sprintf("192.0.2.%d:1", from+1)); err == nil {
							turns <- release
						}
						ended <- struct{}{}
					}()
				}
				synctest.Wait()
			}
			for from, sh := range s.addrs {
				if sh.active > want+1 || sh.active < want {
					t.Errorf("of %d addresses %v runs %d operations, want about %d", crowd, from, sh.active, want)
				}
			}
			late := make(chan func())
			go func() {
				release, err := s.Acquire(t.Context(), "198.51.100.1:1")
				if err != nil {
					t.Error(err)
				}
				late <- release
			}()
			synctest.Wait()
			select {
			case release := <-late:
				release()
			default:
				t.Errorf("with %d addresses waiting, another one has to wait", crowd)
				(<-late)()
			}
			cancel()
			go func() {
				for release := range turns {
					release()
				}
			}()
			for range crowd * total {
				<-ended
			}
			close(turns)
			synctest.Wait()
			if len(s.addrs) != 0 || s.waiting.Len() != 0 || s.active != 0 {
				t.Errorf("%d addresses are kept, %d wait, %d operations run", len(s.addrs), s.waiting.Len(), s.active)
			}
		})
	}
}

// TestFairAddressSemaphoreOrder: waiting operations are served one address after another, not in
// order of arrival.
func TestFairAddressSemaphoreOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := NewFairAddressSemaphore(2)
		var held []func()
		for _, from := range []string{"192.0.2.8:1", "192.0.2.9:1"} {
			release, err := s.Acquire(t.Context(), from)
			if err != nil {
				t.Fatal(err)
			}
			held = append(held, release)
		}
		served := make(chan string)
		wait := func(from string) {
			go func() {
				release, err := s.Acquire(t.Context(), from+":1")
				if err != nil {
					t.Error(err)
				}
				served <- from
				release()
			}()
			synctest.Wait()
		}
		for _, from := range []string{"192.0.2.1", "192.0.2.1", "192.0.2.1", "192.0.2.2", "192.0.2.3"} {
			wait(from)
		}
		held[0]()
		var order []string
		for range 5 {
			order = append(order, <-served)
			synctest.Wait()
		}
		held[1]()
		if got, want := fmt.Sprint(order), "[192.0.2.1 192.0.2.2 192.0.2.3 192.0.2.1 192.0.2.1]"; got != want {
			t.Errorf("served %s, want %s", got, want)
		}
	})
}
