package quality

import (
	"slices"
	"time"

	"livego/internal/domain"
	"livego/internal/proto/cmcd"
)

// A Result says what became of a report.
type Result int

// Results.
const (
	Used    Result = iota
	Early          // the player has reported a moment ago
	Refused        // no viewer has this session, it is not in the sample, or reports are off
	resultCount
)

// String returns the result as metrics name it.
func (r Result) String() string { return [...]string{"used", "early", "refused"}[r] }

// Report records a report of a player, which names its session in d. It does not allocate for a session that has
// reported before.
func (c *Collector) Report(d *cmcd.Data) Result {
	if c == nil {
		return Refused
	}
	now := time.Now()
	id := c.ID(d.Session)
	c.mu.Lock()
	defer c.mu.Unlock()
	result := c.report(id, d, now)
	c.reports[result]++
	return result
}

func (c *Collector) report(id ID, d *cmcd.Data, now time.Time) Result {
	s := c.sessions[id]
	switch {
	case s == nil:
		return Refused
	case !c.on.Load() || !s.sampled():
		s.refused = true
		return Refused
	case s.reports && now.Sub(s.reported) < minInterval:
		return Early
	}
	s.reports = true
	c.observe(s, d, now)
	return Used
}

// ObserveRequest records what the player of v says with a request for media, once a second. If d names a session, it
// must be one of the same stream.
func (c *Collector) ObserveRequest(v *Viewer, name domain.Name, d *cmcd.Data) {
	if c == nil || !c.on.Load() {
		return
	}
	now := time.Now()
	id := c.ID(d.Session)
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.sessions[id]
	if id == 0 && v != nil {
		s = v.session
	}
	if s == nil || s.of.name != name || s.reports || !s.sampled() {
		return
	}
	s.starved = s.starved || d.Starved
	if now.Sub(s.reported) < minInterval { // what a player may count does not grow with the number of its requests
		return
	}
	first := s.reported.IsZero()
	stalls := max(s.last.Stalls, 0)
	if s.starved && !first {
		stalls++
	}
	s.starved = false
	request := *d
	request.Stalls = max(d.Stalls, stalls)
	if first { // the player may have played from another server, or from this one before its restart
		request.Before = &cmcd.Counts{Stalls: request.Stalls, StallTime: d.StallTime, Dropped: d.Dropped, Frames: d.Frames,
			Switches: d.Switches}
	}
	c.observe(s, &request, now)
}

const (
	// The limits of what a player may report for each second since the last report.
	maxStallRate = 1
	maxFrameRate = 300
	// maxDuration is the longest delay and start time that is counted.
	maxDuration = 10 * time.Minute
)

// observe records d for s. Totals grow by no more than is possible in the time since the report before. In the first
// report, what the player had counted before it connected does not count. Caller holds c.mu.
func (c *Collector) observe(s *session, d *cmcd.Data, now time.Time) {
	before := s.reported
	if before.IsZero() {
		before = s.since.Add(-activeFor) // it may have tried other protocols before
	}
	elapsed := now.Sub(before)
	seconds := int(elapsed/time.Second) + 1
	t := c.totals[s.proto]
	if t == nil {
		t = newTotals()
		c.totals[s.proto] = t
	}
	if s.reported.IsZero() {
		t.Players++
		if b := d.Before; b != nil {
			s.last.Stalls, s.last.StallTime, s.last.Dropped = b.Stalls, b.StallTime, b.Dropped
			s.last.Frames, s.last.Switches, s.last.StartDelay = b.Frames, b.Switches, d.StartDelay
		}
	} else {
		s.interval = elapsed
		t.Played += min(elapsed, activeFor)
	}
	if n := increase(&s.last.Stalls, d.Stalls, seconds*maxStallRate); n > 0 {
		s.stalled = now
		t.Stalls += uint64(n)
	}
	s.stallTime = time.Duration(increase(&s.last.StallTime, d.StallTime, seconds*1000)) * time.Millisecond
	t.StallTime += s.stallTime
	if d.Frames >= 0 {
		s.frames = increase(&s.last.Frames, d.Frames, seconds*maxFrameRate)
		s.dropped = min(increase(&s.last.Dropped, d.Dropped, seconds*maxFrameRate), s.frames)
		t.Frames += uint64(s.frames)
		t.Dropped += uint64(s.dropped)
	}
	if n := increase(&s.last.Switches, d.Switches, seconds); n > 0 {
		s.switched = now
		t.Switches += uint64(n)
	}
	if n := len(d.Errors); n > 0 {
		s.failed, s.failure = now, errorCode(d.Errors[n-1])
		for _, code := range d.Errors {
			t.Errors[errorCode(code)]++
		}
	}
	if ms, ok := inTime(d.StartDelay); ok && s.last.StartDelay < 0 {
		s.last.StartDelay = d.StartDelay
		t.Start.Observe(ms)
	}
	if ms, ok := inTime(d.Latency); ok {
		s.last.Latency = d.Latency
		t.Latency.Observe(ms)
	}
	if d.Throughput >= 0 {
		s.last.Throughput = d.Throughput
	}
	if d.Bitrate >= 0 {
		s.last.Bitrate = d.Bitrate
	}
	s.reported = now
}

// increase sets a total to its new value, if it is known, and returns by how much it has grown, at most.
func increase(total *int, to, most int) int {
	if to < 0 {
		return 0
	}
	by := to - max(*total, 0)
	*total = to
	return max(0, min(by, most))
}

func inTime(ms int) (time.Duration, bool) {
	d := time.Duration(ms) * time.Millisecond
	return d, ms >= 0 && d <= maxDuration
}

// ErrorCodes are the codes of errors: those of livego's player, and other for all others.
func ErrorCodes() []string { return []string{"network", "unplayable", "other"} }

func errorCode(code string) string {
	if slices.Contains(ErrorCodes(), code) {
		return code
	}
	return "other"
}
