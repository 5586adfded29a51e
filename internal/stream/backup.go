package stream

import (
	"time"

	"livego/internal/domain"
	"livego/internal/media"
)

// maxWarm is how old the newest random access point of a backup may be to be switched to; an older one is waited past.
const maxWarm = 3 * time.Second

// activate makes p the one whose frames go into the ring. From a warm backup they go on at its
// newest random access point if that is fresh, else at its next. Caller holds s.mu.
func (s *stream) activate(p *Publisher) {
	s.active = p
	s.timeline.reconnect()
	hadVideo := s.kinds[media.Video]
	s.kinds = [media.Data + 1]bool{}
	clear(s.tracks)
	warm := p.warm
	p.dropWarm()
	p.pending = false
	if len(warm) == 0 {
		p.pending = p.started && hadVideo // a backup in mid-GOP; one that is new starts with what it sends
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

// choose decides, on a frame of p that is not in the ring, whether p is to be active. Caller holds s.mu.
func (s *stream) choose(p *Publisher, now time.Time) {
	opt := &s.hub.opt
	switch {
	case s.active == p: // pending
		if len(p.warm) > 0 {
			s.activate(p)
		}
	case p.opt.Grant.Role == domain.Backup:
		if s.active == nil || s.active.idle(now) >= opt.Idle {
			s.activate(p)
		}
	default: // the primary, back from a pause: for good, or in need since the backup has fallen silent too
		if p.atRAP() && (now.Sub(p.healthySince) >= opt.FailbackDelay || s.active == nil || s.active.idle(now) >= opt.Idle) {
			s.activate(p)
		}
	}
}

// atRAP reports whether p may be switched to without a break: its last frame is a random access
// point, or it has no video.
func (p *Publisher) atRAP() bool {
	n := len(p.warm)
	return n == 1 || n > 1 && !p.started
}

// keepWarm keeps f, of a publisher that is not active, from the newest random access point on. Caller holds s.mu.
func (p *Publisher) keepWarm(f *media.Frame) {
	opt := &p.s.hub.opt
	start := isStartPoint(f)
	if start || p.warmed > opt.RingBytes || len(p.warm) > 0 && f.Arrived.Sub(p.warm[0].Arrived) > opt.RingTime {
		p.dropWarm()
	}
	if p.started && len(p.warm) == 0 && !start {
		return // in mid-GOP, whose beginning was too large to keep
	}
	if !p.started && len(p.warm) > 0 {
		p.dropWarm() // audio alone: every frame is a place to start
	}
	p.warm = append(p.warm, f)
	p.warmed += len(f.Payload) + frameOverhead
}

func (p *Publisher) dropWarm() { p.warm, p.warmed = nil, 0 }
