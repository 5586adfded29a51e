package stream

import "time"

const (
	// what the kernel may hold for a slow viewer before it takes more, and what he is given at once
	queueTime = 250 * time.Millisecond
	minQueue  = 8 << 10

	rateInterval = 500 * time.Millisecond // in which bursts even out, and who was stopped for a moment shows what he takes
	rateExpiry   = 2 * time.Second        // without having been waited for
)

// A SendRate measures how fast a viewer takes what he is sent, when that is slower than he is sent
// it. The zero SendRate is that of a viewer who is not slow. It is for one goroutine.
type SendRate struct {
	since time.Time // the last look; zero while he is not slow
	acked uint64    // what his end had acknowledged then
	rate  float64   // bytes a second in the last look; 0 before
	limit int       // of the kernel's queue; 0 as for everybody
}

// ObserveBlocked tells d that his connection has not taken all at once: of the given bytes since he
// came, the kernel holds queued.
func (d *SendRate) ObserveBlocked(now time.Time, given uint64, queued int) {
	taken := given - min(given, uint64(queued))
	elapsed := now.Sub(d.since)
	if d.Slow() && elapsed < rateInterval {
		return
	}
	if d.Slow() && taken > d.acked {
		d.rate = float64(taken-d.acked) / elapsed.Seconds()
	}
	d.since, d.acked = now, taken
}

// ObserveUnblocked tells d that his connection has taken all at once. It reports whether he is no
// longer slow, from now on: the kernel may hold for him what it holds for everybody.
func (d *SendRate) ObserveUnblocked(now time.Time) bool {
	if !d.Slow() || now.Sub(d.since) < rateExpiry {
		return false
	}
	*d = SendRate{}
	return true
}

// Slow reports whether he has had to be waited for of late.
func (d *SendRate) Slow() bool { return !d.since.IsZero() }

// SendTime returns how long n bytes take to go; 0 while that is not known.
func (d *SendRate) SendTime(n int) time.Duration {
	if d.rate == 0 {
		return 0
	}
	return time.Duration(float64(n) / d.rate * float64(time.Second))
}

// WriteSize returns how many bytes he is to be given at once, when he is slow.
func (d *SendRate) WriteSize() int { return max(minQueue, int(d.rate*queueTime.Seconds())) }

// UnsentLimit returns how many unsent bytes the kernel is to hold for him, where that is other than before.
func (d *SendRate) UnsentLimit() (n int, changed bool) {
	if n = d.WriteSize(); d.rate == 0 || d.limit != 0 && n >= d.limit/2 {
		return 0, false
	}
	d.limit = n
	return n, true
}
