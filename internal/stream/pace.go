package stream

import (
	"sync/atomic"
	"time"
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
	closing bool // a window is open
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

// notify wakes who waits for a frame, now or when the window of his protocol closes. Caller holds s.mu.
func (s *stream) notify() {
	for _, p := range s.paces {
		if p.closing || !p.waited.Load() {
			continue
		}
		p.window = 0
		if g := s.hub.opt.Gather; g != nil {
			p.window = g(p.proto, p.viewers)
		}
		if p.window <= 0 {
			p.wakeAll()
			continue
		}
		p.closing = true
		if p.timer == nil {
			p.timer = time.AfterFunc(p.window, func() { s.closeWindow(p) })
		} else {
			p.timer.Reset(p.window)
		}
	}
}

func (s *stream) closeWindow(p *pace) {
	s.mu.Lock()
	defer s.mu.Unlock()
	p.closing = false
	if s.ended == nil {
		p.wakeAll()
	}
}

func (p *pace) wakeAll() {
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
