//go:build linux

package fanout

import (
	"bytes"
	"fmt"
	"testing"
	"time"

	"livego/internal/stream"
)

// TestViewersAtSamePositionShareOneBatch has viewers that get the same coalesced batch, some of
// them in the middle of a node: all get the same frames. Those that do not read for a while fill
// their sockets in the middle of a batch.
func TestViewersAtSamePositionShareOneBatch(t *testing.T) {
	overTransports(t, func(t *testing.T, newHarness func(*testing.T, Options) *harness) {
		r := newHarness(t, Options{})
		r.frame("k1", true)
		var viewers []*client
		for range 10 * maxUncoalescedViewers { // so that each loop has more than the limit
			v := r.viewer(conn{})
			v.want("S 0s", "F k1")
			viewers = append(viewers, v)
		}
		body := bytes.Repeat([]byte("x"), 64<<10)
		for i := range 40 { // 2.5 MiB: more than most sockets hold
			copy(body, fmt.Sprintf("%039d|", i))
			r.frame(string(body), i%10 == 0)
			for _, v := range viewers[:len(viewers)/2] {
				v.want(fmt.Sprintf("F %039d|", i))
			}
		}
		for _, v := range viewers[len(viewers)/2:] {
			for i := range 40 {
				v.want(fmt.Sprintf("F %039d|", i))
			}
		}
		r.pub.End(stream.Clean)
		for _, v := range viewers {
			v.want("E EOF", "EOF")
		}
	})
}

// TestBatchWindowCountsViewers has viewers of two formats join and leave: the batching window
// depends on all viewers of the stream by the protocol.
func TestBatchWindowCountsViewers(t *testing.T) {
	counts := make(chan int, 100)
	r := newHarness(t, 1, Options{BatchWindow: func(viewers int) (_, _ time.Duration) {
		counts <- viewers
		return 0, 0
	}})
	await := func(want int) {
		t.Helper()
		for {
			select {
			case n := <-counts:
				if n == want {
					return
				}
			case <-time.After(10 * time.Second):
				t.Fatalf("no window for %d viewers", want)
			}
		}
	}
	r.frame("k", true)
	first := r.viewer(conn{})
	first.want("S 0s", "F k")
	await(1)
	second := r.viewer(conn{all: true})
	second.want("S 0s", "F k")
	r.frame("i", false)
	await(2)
	first.want("F i")
	second.want("F i")
	second.nc.Close()
	<-second.closed
	r.frame("i", false)
	first.want("F i")
	await(1)
}
