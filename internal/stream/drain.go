package stream

import "time"

const (
	queueLasts = 250 * time.Millisecond // what the kernel may hold for a slow viewer before it takes more, and what he is given at once
	leastQueue = 8 << 10

	drainLook   = 500 * time.Millisecond // in which bursts even out, and who was stopped for a moment shows what he takes
	drainForget = 2 * time.Second        // without having been waited for
)

// A Drain measures how fast a viewer takes what he is sent, when that is slower than he is sent it. The zero Drain is that of a viewer who
// is not slow. It is for one goroutine.
type Drain struct {
	since time.Time // the last look; zero while he is not slow
	taken uint64    // what his end had acknowledged then
	rate  float64   // bytes a second in the last look; 0 before
	bound int       // of the kernel's queue; 0 as for everybody
}

// Full tells d that his connection has not taken all at once: of the given bytes since he came, the kernel holds queued.
func (d *Drain) Full(now time.Time, given uint64, queued int) {
	taken := given - min(given, uint64(queued))
	elapsed := now.Sub(d.since)
	if d.Slow() && elapsed < drainLook {
		return
	}
	if d.Slow() && taken > d.taken {
		d.rate = float64(taken-d.taken) / elapsed.Seconds()
	}
	d.since, d.taken = now, taken
}

// Free tells d that his connection has taken all at once. It reports whether he is no longer slow, from now on: the kernel may hold for
// him what it holds for everybody.
func (d *Drain) Free(now time.Time) bool {
	if !d.Slow() || now.Sub(d.since) < drainForget {
		return false
	}
	*d = Drain{}
	return true
}

// Slow reports whether he has had to be waited for of late.
func (d *Drain) Slow() bool { return !d.since.IsZero() }

// Takes returns how long n bytes take to go; 0 while that is not known.
func (d *Drain) Takes(n int) time.Duration {
	if d.rate == 0 {
		return 0
	}
	return time.Duration(float64(n) / d.rate * float64(time.Second))
}

// Piece returns how many bytes he is to be given at once, when he is slow.
func (d *Drain) Piece() int { return max(leastQueue, int(d.rate*queueLasts.Seconds())) }

// Bound returns how many unsent bytes the kernel is to hold for him, where that is other than before.
func (d *Drain) Bound() (n int, changed bool) {
	if n = d.Piece(); d.rate == 0 || d.bound != 0 && n >= d.bound/2 {
		return 0, false
	}
	d.bound = n
	return n, true
}
