package stream

import (
	"time"

	"livego/internal/domain"
	"livego/internal/media"
)

// maxWarm is the largest age of a backup's newest random access point at which the stream switches
// to it. If it is older, the stream waits for the next one.
const maxWarm = 3 * time.Second

// activate makes p the publisher whose frames go into the ring. A warm backup continues at its
// newest random access point if that is younger than maxWarm, otherwise at its next one. The caller
// holds s.mu.
func (s *stream) activate(p *Publisher) {
	s.active.Store(p)
	s.timeline.reconnect()
	p.before = (s.program.Kinds() | s.program.Awaited) &^ media.KindsOf(media.Data)
	warm := p.warm
	p.dropWarm()
	p.pending = false
	if len(warm) == 0 {
		p.pending = p.hasVideo() && s.program.Has(media.Video) // a new backup starts at its first frame
		return
	}
	if time.Since(warm[0].Arrived) > maxWarm {
		p.pending = true
		return
	}
	for _, f := range warm {
		s.put(f)
	}
}

// choose decides, on a frame of p that is not in the ring, whether p becomes active. The caller
// holds s.mu.
func (s *stream) choose(p *Publisher, now time.Time) {
	opt, active := s.hub.options(), s.active.Load()
	switch {
	case active == p: // pending
		if len(p.warm) > 0 {
			s.activate(p)
		}
	case p.opt.Role == domain.Backup:
		if active == nil || active.idle(now) >= opt.Idle {
			s.switchTo(p)
		}
	default: // the primary after a pause: it is healthy again, or the backup is idle too
		if p.atRAP() && (now.Sub(p.healthySince) >= opt.FailbackDelay || active == nil || active.idle(now) >= opt.Idle) {
			s.switchTo(p)
		}
	}
}

// switchTo activates p in the place of the other encoder of s. The caller holds s.mu.
func (s *stream) switchTo(p *Publisher) {
	s.hub.switches.Add(1)
	s.activate(p)
}

// atRAP reports whether the stream can switch to p without a gap: its newest frame is a random
// access point, or p has no video.
func (p *Publisher) atRAP() bool {
	n := len(p.warm)
	return n == 1 || n > 1 && !p.hasVideo()
}

// keepWarm keeps f, of a publisher that is not active, from its newest random access point on. The
// caller holds s.mu.
func (p *Publisher) keepWarm(f *media.Frame) {
	opt := p.s.hub.options()
	start := isStartPoint(f)
	if start || p.warmed > opt.RingBytes || len(p.warm) > 0 && f.Arrived.Sub(p.warm[0].Arrived) > opt.RingTime {
		p.dropWarm()
	}
	if p.hasVideo() && len(p.warm) == 0 && !start {
		return // in mid-GOP: its start was too large to keep
	}
	if !p.hasVideo() && len(p.warm) > 0 {
		p.dropWarm() // audio only: a viewer may start at any frame
	}
	p.warm = append(p.warm, f)
	p.warmed += len(f.Payload) + frameOverhead
}

func (p *Publisher) dropWarm() { p.warm, p.warmed = nil, 0 }
