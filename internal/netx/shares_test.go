package netx

import (
	"context"
	"testing"
	"testing/synctest"
)

// TestShares holds the share of one address at its bound, lets another through, and leaves nothing behind.
func TestShares(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := NewShares(2)
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
			t.Error("a third look-up of one address did not wait")
		default:
		}
		cancel()
		if err := <-gone; err == nil {
			t.Error("a look-up that was given up is let through")
		}
		first()
		third := <-got
		second()
		third()
		if len(s.use) != 0 {
			t.Errorf("%d addresses are kept", len(s.use))
		}
	})
}
