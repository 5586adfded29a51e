//go:build linux

package fanout

import (
	"context"
	"testing"
	"time"

	"livego/internal/domain"
)

func TestKickedViewer(t *testing.T) {
	t.Parallel()
	overTransports(t, func(t *testing.T, newHarness func(*testing.T, Options) *harness) {
		r, v := newHarness(t, Options{}).watch()
		why := domain.Errorf(domain.Denied, "enough")
		if err := r.hub.Kick(v.v.ID(), why); err != nil {
			t.Fatal(err)
		}
		v.want("E enough", "EOF")
		v.wantClosed(why) // even if it does not disconnect
	})
}

func TestViewerLeaves(t *testing.T) {
	overTransports(t, func(t *testing.T, newHarness func(*testing.T, Options) *harness) {
		r := newHarness(t, Options{})
		r.frame("k", true)
		for _, end := range []func(*client){
			func(v *client) { v.nc.Close() },
			func(v *client) { v.nc.SetLinger(0); v.nc.Close() },
			func(v *client) { v.nc.CloseWrite() },
		} {
			v := r.viewer(conn{})
			v.want("S 0s", "F k")
			end(v)
			select {
			case <-v.closed:
			case <-time.After(10 * time.Second):
				t.Fatal("the viewer is not closed")
			}
		}
		if r.broadcaster.mu.Lock(); len(r.broadcaster.feeds) != 0 {
			t.Errorf("%d feeds without viewers", len(r.broadcaster.feeds))
		}
		r.broadcaster.mu.Unlock()
		r.viewer(conn{}).want("S 0s", "F k") // a new feed
	})
}

func TestUnsupportedChangeDisconnectsViewers(t *testing.T) {
	overTransports(t, func(t *testing.T, newHarness func(*testing.T, Options) *harness) {
		r, v := newHarness(t, Options{}).watch()
		r.frame("break", false)
		v.want("E "+errBreak.Error(), "EOF")
		v.nc.Close()
		v.wantClosed(errBreak)
	})
}

func TestPanicEndsOneFeed(t *testing.T) {
	overTransports(t, func(t *testing.T, newHarness func(*testing.T, Options) *harness) {
		r, v := newHarness(t, Options{}).watch()
		r.frame("panic", false)
		v.want("E "+errPanic.Error(), "EOF")
		v.nc.Close()
		v.wantClosed(errPanic)
		r.frame("k2", true)
		r.viewer(conn{}).want("S 80ms", "F k2")
	})
}

func TestEngineCloseDisconnectsViewers(t *testing.T) {
	engine, err := NewEngine(1)
	if err != nil {
		t.Fatal(err)
	}
	r := newHarness(t, 1, Options{})
	r.broadcaster.engine = engine
	r.frame("k", true)
	v := r.viewer(conn{})
	v.want("S 0s", "F k")
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	engine.Close(ctx)
	v.wantClosed(context.Canceled)
}
