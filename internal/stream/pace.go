package stream

import (
	"sync/atomic"
	"time"

	"livego/internal/media"
)

// A pace wakes those who read a stream by one protocol: for each frame, or when a gather window closes. Its fields are under
// stream.mu, but for what says otherwise.
type pace struct {
	proto   string
	viewers int           // for whom frames are gathered
	window  time.Duration // in force
	wake    chan struct{} // closed and replaced to wake
	waited  atomic.Bool   // somebody waits on wake
	timer   *time.Timer
	closes  time.Time // when the window does that is open; zero if none is
}

// pace returns the pace of proto. Caller holds s.mu.
func (s *stream) pace(proto string) *pace {
	for _, p := range s.paces {
		if p.proto == proto {
			return p
		}
	}
	p := &pace{proto: proto, wake: make(chan struct{})}
	if s.ended != nil {
		close(p.wake)
	}
	s.paces = append(s.paces, p)
	return p
}

// A beat is the time between pictures.
type beat struct {
	last  time.Duration // DTS of the newest
	every time.Duration
}

// picture notes f. More than one track may have a picture of one time.
func (b *beat) picture(f *media.Frame) {
	if f.DTS != b.last {
		b.last, b.every = f.DTS, f.DTS-b.last
	}
}

// notify wakes who waits for f, now or when the window of his protocol closes: with the last picture that comes before that, since
// to wait on would gather no more. Caller holds s.mu.
func (s *stream) notify(f *media.Frame) {
	picture := f.Track.Kind == media.Video
	if picture {
		s.beat.picture(f)
	}
	for _, p := range s.paces {
		if !p.waited.Load() {
			continue
		}
		var sound time.Duration
		if g := s.hub.opt.Gather; g != nil {
			p.window, sound = g(p.proto, p.viewers)
		}
		window, next := p.window, time.Duration(0)
		switch {
		case picture:
			next = s.beat.every
		case f.Track.Kind == media.Audio && s.kinds[media.Video]:
			window = max(window, sound)
		}
		p.gather(window, next, s)
	}
}

// gather has p's window close in d, if it does not before; now, if it would before next has passed.
func (p *pace) gather(d, next time.Duration, s *stream) {
	now := time.Now()
	open := !p.closes.IsZero()
	if open {
		d = min(d, p.closes.Sub(now))
	}
	switch {
	case d <= 0 || d < next:
		if open {
			p.timer.Stop()
		}
		p.wakeAll()
		return
	case open && now.Add(d).Equal(p.closes):
		return
	case p.timer == nil:
		p.timer = time.AfterFunc(d, func() { s.closeWindow(p) })
	default:
		p.timer.Reset(d)
	}
	p.closes = now.Add(d)
}

func (s *stream) closeWindow(p *pace) {
	s.mu.Lock()
	defer s.mu.Unlock()
	open := !p.closes.IsZero() && !time.Now().Before(p.closes) // or another than the timer was set for, or none
	if open && s.ended == nil {
		p.wakeAll()
	}
}

func (p *pace) wakeAll() {
	p.closes = time.Time{}
	p.waited.Store(false)
	close(p.wake)
	p.wake = make(chan struct{})
}

// end wakes everybody for good: nothing comes any more.
func (p *pace) end() {
	if p.timer != nil {
		p.timer.Stop()
	}
	close(p.wake)
}
