package fanout

import "time"

const (
	// queueTime is how much of a slow viewer's stream one write has, and how much the kernel may
	// hold unsent before it accepts more.
	queueTime = 250 * time.Millisecond
	minQueue  = 8 << 10

	rateInterval = 500 * time.Millisecond // long enough to average over bursts and short pauses
	rateExpiry   = 2 * time.Second        // without a blocked write
)

// A sendRate estimates how fast a slow viewer's connection takes data. The zero sendRate belongs to
// a viewer that is not slow. It is for one goroutine.
type sendRate struct {
	since time.Time // start of the measurement; zero if the viewer is not slow
	acked uint64    // bytes that the viewer's end had acknowledged then
	rate  float64   // bytes per second in the last interval; 0: not measured yet
	limit int       // unsent limit of the socket; 0: the default
}

// observeBlocked records that the connection did not accept all data at once: of the written bytes
// since the viewer joined, the kernel still holds queued.
func (d *sendRate) observeBlocked(now time.Time, given uint64, queued int) {
	taken := given - min(given, uint64(queued))
	elapsed := now.Sub(d.since)
	if d.slow() && elapsed < rateInterval {
		return
	}
	if d.slow() && taken > d.acked {
		d.rate = float64(taken-d.acked) / elapsed.Seconds()
	}
	d.since, d.acked = now, taken
}

// observeUnblocked records that the connection accepted all data at once. It reports whether the
// viewer stops being slow with that, so that its socket may get the default unsent limit again.
func (d *sendRate) observeUnblocked(now time.Time) bool {
	if !d.slow() || now.Sub(d.since) < rateExpiry {
		return false
	}
	*d = sendRate{}
	return true
}

// slow reports whether the viewer's connection has blocked recently.
func (d *sendRate) slow() bool { return !d.since.IsZero() }

// sendTime returns how long the connection takes for n bytes; 0 if that is not known yet.
func (d *sendRate) sendTime(n int) time.Duration {
	if d.rate == 0 {
		return 0
	}
	return time.Duration(float64(n) / d.rate * float64(time.Second))
}

// writeSize returns how many bytes to write to a slow viewer at once.
func (d *sendRate) writeSize() int { return max(minQueue, int(d.rate*queueTime.Seconds())) }

// unsentLimit returns how many unsent bytes the kernel should hold for the viewer, and whether that
// has changed enough to set it on the socket.
func (d *sendRate) unsentLimit() (n int, changed bool) {
	if n = d.writeSize(); d.rate == 0 || d.limit != 0 && n >= d.limit/2 {
		return 0, false
	}
	d.limit = n
	return n, true
}
