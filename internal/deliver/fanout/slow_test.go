//go:build linux

package fanout

import (
	"bytes"
	"crypto/tls"
	"fmt"
	"io"
	"os"
	"runtime"
	"testing"
	"time"
	"weak"

	"livego/internal/stream"
)

// TestSlowViewerGetsEveryByte has a viewer whose socket accepts little at a time.
func TestSlowViewerGetsEveryByte(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name       string
		maxLatency time.Duration
		frames     int           // of 256 KiB: more than the kernel holds
		gop        int           // a keyframe each so many
		pause      time.Duration // of the encoder before each frame, which it then sends at once
		late       time.Duration // before it reads
	}{
		{"without a limit", 0, 80, 1 << 10, 0, 0},
		{"burst of 12 min after a pause", 10 * time.Minute, 80, 10, 9 * time.Second, 0},
		{"late within a GOP, which is never split", 100 * time.Millisecond, 40, 1 << 10, 0, 500 * time.Millisecond},
	} {
		t.Run(tt.name, func(t *testing.T) {
			overTransports(t, func(t *testing.T, newHarness func(*testing.T, Options) *harness) {
				r, v := newHarness(t, Options{MaxLatency: tt.maxLatency}).watch()
				big := bytes.Repeat([]byte("x"), 256<<10)
				for i := range tt.frames {
					copy(big, fmt.Sprintf("%039d|", i))
					r.frame(string(big), i%tt.gop == tt.gop-1)
					r.at += tt.pause
				}
				<-time.After(tt.late)
				for i := range tt.frames {
					v.want(fmt.Sprintf("F %039d|", i))
				}
			})
		})
	}
}

func TestSlowViewerSkipsToKeyframe(t *testing.T) {
	t.Parallel()
	overTransports(t, func(t *testing.T, newHarness func(*testing.T, Options) *harness) {
		r, v := newHarness(t, Options{MaxLatency: time.Second}).watch()
		r.waitSent(v, 1) // it has reached the live edge, so that it can fall behind
		events, _, stop := r.hub.Observe(1000, true)
		defer stop()
		big := bytes.Repeat([]byte("x"), 200<<10)
		// 10 s in which it reads nothing: less than the hub's ring holds, and more than the kernel.
		for i := range 250 {
			copy(big, fmt.Sprintf("%039d|", i))
			r.frame(string(big), i%12 == 0)
		}
		r.frame("last", true)
		if len(r.broadcaster.engine.loops) == 0 {
			<-time.After(2 * time.Second) // its goroutine is in a write, and will notice
		} else {
			for (<-events).Type != stream.Skipped {
			}
		}
		last, again := -1, 0
		for {
			got := v.read()
			if got == "F last" {
				break
			}
			if got[0] == 'A' {
				again++
				continue
			}
			var i int
			if n, _ := fmt.Sscanf(got, "F %d|", &i); n != 1 || i <= last {
				t.Fatalf("%q after %d", got, last)
			}
			if i != last+1 && i%12 != 0 {
				t.Errorf("continues with %d after %d: not a keyframe", i, last)
			}
			last = i
		}
		var viewers [1]stream.ConnInfo
		if r.hub.Viewers(movie, 0, viewers[:]); again == 0 || viewers[0].Skips == 0 {
			t.Errorf("skipped %d times, counted %d", again, viewers[0].Skips)
		}
	})
}

// TestSkippingViewerKeepsNoNodes has a viewer that reads nothing skip: it keeps none of the stream
// that comes after, however long it takes to read what was sent.
func TestSkippingViewerKeepsNoNodes(t *testing.T) {
	t.Parallel()
	for name, config := range map[string]*tls.Config{"plain": nil, "TLS": testTLS(t)} {
		t.Run(name, func(t *testing.T) {
			r := newHarnessTLS(t, 1, config, Options{MaxLatency: time.Second, WriteTimeout: time.Hour})
			r.frame("k", true)
			v := r.viewer(conn{})
			v.want("S 0s", "F k")
			r.waitSent(v, 1) // it has reached the live edge, so that it can fall behind
			events, _, stop := r.hub.Observe(1000, true)
			defer stop()
			payload := string(make([]byte, 200<<10))
			skipped := false
			for i := 0; i < 1000 && !skipped; i++ {
				r.frame(payload, i%12 == 0)
				select {
				case e := <-events:
					skipped = e.Type == stream.Skipped
				case <-time.After(5 * time.Millisecond):
				}
			}
			if !skipped {
				t.Fatal("the viewer has not skipped")
			}
			other := r.viewer(conn{})
			other.readRecords(2)
			kept := r.newestNode()
			for i := 0; kept.Value() != nil; i++ {
				if i == 100 {
					t.Fatal("the node is still kept")
				}
				r.frame(payload, true)
				other.readRecords(1)
				runtime.GC()
			}
		})
	}
}

// readRecords reads n records.
func (f *client) readRecords(n int) {
	f.t.Helper()
	for range n {
		if got := f.read(); got == "" || got[0] != 'S' && got[0] != 'F' {
			f.t.Fatalf("%q", got)
		}
	}
}

// newestNode returns the newest node of the feed, and does not keep it.
func (r *harness) newestNode() weak.Pointer[node] {
	r.broadcaster.mu.Lock()
	defer r.broadcaster.mu.Unlock()
	last, _ := r.broadcaster.feeds[feedKey{movie, recordFormat{}}].newest()
	return weak.Make(last)
}

func TestStalledViewerIsDisconnected(t *testing.T) {
	t.Parallel()
	overTransports(t, func(t *testing.T, newHarness func(*testing.T, Options) *harness) {
		r, v := newHarness(t, Options{WriteTimeout: 100 * time.Millisecond}).watch()
		if err := v.nc.SetReadBuffer(4 << 10); err != nil {
			t.Fatal(err)
		}
		r.frame(string(make([]byte, 8<<20)), false) // more than the server's end holds, and it reads nothing
		v.wantClosed(os.ErrDeadlineExceeded)
	})
}

// TestSlowViewerGetsStreamEnd has a viewer that reads slowly, and sends something in between: it
// gets the end of the stream that the kernel still holds, however short LingerTimeout is.
func TestSlowViewerGetsStreamEnd(t *testing.T) {
	t.Parallel()
	overTransports(t, func(t *testing.T, newHarness func(*testing.T, Options) *harness) {
		r := newHarness(t, Options{LingerTimeout: time.Millisecond})
		r.frame("k", true)
		told := make(chan struct{})
		v := r.viewer(conn{onClose: func(error) []byte {
			close(told)
			return record('E', nil)
		}})
		v.want("S 0s", "F k")
		if err := v.nc.SetReadBuffer(4 << 10); err != nil {
			t.Fatal(err)
		}
		big := bytes.Repeat([]byte("x"), 160<<10) // more than the viewer's end holds
		r.frame(string(big), false)
		r.pub.End(stream.Clean)
		<-told
		select {
		case err := <-v.closed:
			t.Fatalf("the connection was closed: %v", err)
		case <-time.After(4 * tickIdle): // housekeep has run
		}
		if _, err := v.conn.Write([]byte("received")); err != nil {
			t.Fatal(err)
		}
		v.want("F "+string(big[:40]), "E ", "EOF")
		v.nc.Close()
		v.wantClosed(io.EOF)
	})
}
