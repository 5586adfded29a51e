package netx

import (
	"io"
	"net"
	"testing"
	"testing/synctest"
	"time"
)

// TestLinger: Linger waits for the peer while the kernel holds data for it and makes progress.
func TestLinger(t *testing.T) {
	const quiet, stall = time.Second, 10 * time.Second
	for name, c := range map[string]struct {
		queued      func(since time.Duration) int
		least, most time.Duration
	}{
		"nothing is queued":      {func(time.Duration) int { return 0 }, quiet, quiet},
		"the peer reads nothing": {func(time.Duration) int { return 1000 }, stall, stall + quiet},
		"the peer reads for 5 s": {func(d time.Duration) int { return max(0, 5-int(d.Seconds())) },
			5*time.Second + quiet, 6*time.Second + quiet},
		"the peer stops reading": {func(d time.Duration) int { return 1000 - min(5, int(d.Seconds())) },
			5*time.Second + stall, 7*time.Second + stall},
		"the peer reads a byte a second": {func(d time.Duration) int { return 1000 - int(d.Seconds()) }, maxLinger,
			maxLinger + quiet},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				a, b := net.Pipe()
				defer a.Close()
				defer b.Close()
				start := time.Now()
				linger(a, quiet, stall, func() int { return c.queued(time.Since(start)) })
				if d := time.Since(start); d < c.least || d > c.most {
					t.Errorf("it took %v, want %v to %v", d, c.least, c.most)
				}
			})
		})
	}
}

// TestLingerEnds: Linger returns when the peer closes, whatever it sends before.
func TestLingerEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := net.Pipe()
		defer a.Close()
		go func() {
			io.WriteString(b, "an acknowledgement")
			time.Sleep(300 * time.Millisecond)
			b.Close()
		}()
		start := time.Now()
		linger(a, time.Second, time.Second, func() int { return 0 })
		if d := time.Since(start); d != 300*time.Millisecond {
			t.Errorf("it took %v", d)
		}
	})
}
