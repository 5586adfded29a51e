package stream

import (
	"sync/atomic"
	"time"

	"livego/internal/media"
)

// A wakeBatcher wakes the readers of a stream by one protocol, at each frame or when a batching
// window closes. stream.mu guards its fields, except as noted.
type wakeBatcher struct {
	proto      string
	viewers    int           // what the window depends on
	window     time.Duration // in use
	wake       chan struct{} // closed and replaced to wake readers
	hasWaiters atomic.Bool   // a reader waits on wake; set under a read lock
	timer      *time.Timer
	closesAt   time.Time // when the open window closes; zero if none is open
}

// batcher returns the wakeBatcher of proto. The caller holds s.mu.
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

// A frameInterval measures the time between pictures.
type frameInterval struct {
	last     time.Duration // DTS of the newest picture
	interval time.Duration
}

// observe records f. Pictures of several tracks may have the same time.
func (b *frameInterval) observe(f *media.Frame) {
	if f.DTS != b.last {
		b.last, b.interval = f.DTS, f.DTS-b.last
	}
}

// wakeReaders wakes the readers that wait for f, now or when the window of their protocol closes. A
// window closes with the last picture that comes before its end, because a longer wait would
// collect nothing more. The caller holds s.mu.
func (s *stream) wakeReaders(f *media.Frame) {
	picture := f.Track.Kind == media.Video
	if picture {
		s.pictureInterval.observe(f)
	}
	for _, p := range s.batchers {
		if !p.hasWaiters.Load() {
			continue
		}
		var audio time.Duration
		if g := s.hub.opt.BatchWindow; g != nil {
			p.window, audio = g(p.proto, p.viewers)
		}
		window, next := p.window, time.Duration(0)
		switch {
		case picture:
			next = s.pictureInterval.interval
		case f.Track.Kind == media.Audio && s.program.Has(media.Video):
			window = max(window, audio)
		}
		p.schedule(window, next, s)
	}
}

// schedule closes the window after d unless it closes earlier. It closes the window now if that
// would be before next has passed.
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
	// Otherwise the timer was for another window.
	due := !p.closesAt.IsZero() && !time.Now().Before(p.closesAt)
	if due && s.ended == nil {
		p.wakeAll()
	}
}

func (p *wakeBatcher) wakeAll() {
	p.closesAt = time.Time{}
	p.hasWaiters.Store(false)
	close(p.wake)
	p.wake = make(chan struct{})
}

// stop wakes all readers of an ended stream.
func (p *wakeBatcher) stop() {
	if p.timer != nil {
		p.timer.Stop()
	}
	close(p.wake)
}
