package stream

import (
	"sync/atomic"
	"time"

	"livego/internal/media"
)

// A wakeBatcher wakes those who read a stream by one protocol: for each frame, or when a gather
// window closes. Its fields are under stream.mu, but for what says otherwise.
type wakeBatcher struct {
	proto      string
	viewers    int           // for whom frames are gathered
	window     time.Duration // in force
	wake       chan struct{} // closed and replaced to wake
	hasWaiters atomic.Bool   // somebody waits on wake
	timer      *time.Timer
	closesAt   time.Time // when the window does that is open; zero if none is
}

// batcher returns the batcher of proto. Caller holds s.mu.
func (s *stream) batcher(proto string) *wakeBatcher {
	for _, p := range s.batchers {
		if p.proto == proto {
			return p
		}
	}
	p := &wakeBatcher{proto: proto, wake: make(chan struct{})}
	if s.ended != nil {
		close(p.wake)
	}
	s.batchers = append(s.batchers, p)
	return p
}

// A frameInterval is the time between pictures.
type frameInterval struct {
	last     time.Duration // DTS of the newest
	interval time.Duration
}

// observe notes f. More than one track may have a observe of one time.
func (b *frameInterval) observe(f *media.Frame) {
	if f.DTS != b.last {
		b.last, b.interval = f.DTS, f.DTS-b.last
	}
}

// wakeReaders wakes who waits for f, now or when the window of his protocol closes: with the last
// picture that comes before that, since to wait on would gather no more. Caller holds s.mu.
func (s *stream) wakeReaders(f *media.Frame) {
	picture := f.Track.Kind == media.Video
	if picture {
		s.pictureInterval.observe(f)
	}
	for _, p := range s.batchers {
		if !p.hasWaiters.Load() {
			continue
		}
		var sound time.Duration
		if g := s.hub.opt.BatchWindow; g != nil {
			p.window, sound = g(p.proto, p.viewers)
		}
		window, next := p.window, time.Duration(0)
		switch {
		case picture:
			next = s.pictureInterval.interval
		case f.Track.Kind == media.Audio && s.kinds[media.Video]:
			window = max(window, sound)
		}
		p.schedule(window, next, s)
	}
}

// schedule has p's window close in d, if it does not before; now, if it would before next has passed.
func (p *wakeBatcher) schedule(d, next time.Duration, s *stream) {
	now := time.Now()
	open := !p.closesAt.IsZero()
	if open {
		d = min(d, p.closesAt.Sub(now))
	}
	switch {
	case d <= 0 || d < next:
		if open {
			p.timer.Stop()
		}
		p.wakeAll()
		return
	case open && now.Add(d).Equal(p.closesAt):
		return
	case p.timer == nil:
		p.timer = time.AfterFunc(d, func() { s.closeWindow(p) })
	default:
		p.timer.Reset(d)
	}
	p.closesAt = now.Add(d)
}

func (s *stream) closeWindow(p *wakeBatcher) {
	s.mu.Lock()
	defer s.mu.Unlock()
	open := !p.closesAt.IsZero() && !time.Now().Before(p.closesAt) // or another than the timer was set for, or none
	if open && s.ended == nil {
		p.wakeAll()
	}
}

func (p *wakeBatcher) wakeAll() {
	p.closesAt = time.Time{}
	p.hasWaiters.Store(false)
	close(p.wake)
	p.wake = make(chan struct{})
}

// stop wakes everybody for good: nothing comes any more.
func (p *wakeBatcher) stop() {
	if p.timer != nil {
		p.timer.Stop()
	}
	close(p.wake)
}
