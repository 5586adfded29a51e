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

// notify wakes who waits for f, now or when the window of his protocol closes. Caller holds s.mu.
func (s *stream) notify(f *media.Frame) {
	for _, p := range s.paces {
		if !p.waited.Load() {
			continue
		}
		var sound time.Duration
		if g := s.hub.opt.Gather; g != nil {
			p.window, sound = g(p.proto, p.viewers)
		}
		window := p.window
		if f.Track.Kind == media.Audio && s.kinds[media.Video] {
			window = max(window, sound)
		}
		p.gather(window, s)
	}
}

// gather has p's window close in d, if it does not before.
func (p *pace) gather(d time.Duration, s *stream) {
	now := time.Now()
	switch open := !p.closes.IsZero(); {
	case d <= 0:
		if open {
			p.timer.Stop()
		}
		p.wakeAll()
		return
	case open && !now.Add(d).Before(p.closes):
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
