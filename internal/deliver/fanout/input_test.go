//go:build linux

package fanout

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"testing"
	"time"
)

func TestRepliesAreSentBetweenNodes(t *testing.T) {
	overTransports(t, func(t *testing.T, newHarness func(*testing.T, Options) *harness) {
		r := newHarness(t, Options{PingInterval: 50 * time.Millisecond})
		r.frame("k", true)
		var got []byte
		pings := 0
		v := r.viewer(conn{
			onReceive: func(b []byte) ([]byte, error) {
				got = append(got, b...)
				if bytes.HasSuffix(got, []byte("bye")) {
					return nil, io.ErrClosedPipe
				}
				return record('R', b), nil
			},
			onPing: func() []byte { pings++; return record('P', nil) },
		})
		v.want("S 0s", "F k")
		io.WriteString(v.conn, "ask")
		for seen := map[byte]bool{}; !seen['R'] || !seen['P']; {
			s := v.read()
			if s[0] != 'R' && s[0] != 'P' {
				t.Fatalf("got %q", s)
			}
			seen[s[0]] = true
		}
		io.WriteString(v.conn, "bye")
		v.wantClosed(io.ErrClosedPipe)
	})
}

// TestFloodingViewerIsDisconnected has a viewer that sends requests and reads no replies: their
// memory is bounded, and it does not delay another viewer.
func TestFloodingViewerIsDisconnected(t *testing.T) {
	t.Parallel()
	overTransports(t, func(t *testing.T, newHarness func(*testing.T, Options) *harness) {
		r := newHarness(t, Options{WriteTimeout: time.Second})
		r.frame("k", true)
		other := r.viewer(conn{})
		other.want("S 0s", "F k")
		asked := 0
		v := r.viewer(conn{onReceive: func(b []byte) ([]byte, error) {
			asked += len(b)
			return bytes.Repeat(b, 5), nil
		}})
		v.want("S 0s", "F k")
		flood := make([]byte, 64<<10)
		go func() {
			for {
				if _, err := v.conn.Write(flood); err != nil {
					return
				}
			}
		}()
		r.frame("i", false)
		other.want("F i")
		v.wantClosed(os.ErrDeadlineExceeded)
		if asked > 8<<20 { // times five is far above what the kernel holds and maxReply
			t.Errorf("%d bytes were read of a viewer that does not read", asked)
		}
	})
}

// TestManyRequestsAreAnswered has a viewer that reads its replies: it may send any number of
// requests.
func TestManyRequestsAreAnswered(t *testing.T) {
	overTransports(t, func(t *testing.T, newHarness func(*testing.T, Options) *harness) {
		r := newHarness(t, Options{})
		r.frame("k", true)
		v := r.viewer(conn{onReceive: func(b []byte) ([]byte, error) { return b, nil }})
		v.want("S 0s", "F k")
		const n = 20000
		go func() {
			for i := range n {
				if _, err := v.conn.Write(record('Q', fmt.Append(nil, i))); err != nil {
					return
				}
			}
		}()
		for i := range n {
			v.want(fmt.Sprint("Q ", i))
		}
	})
}
