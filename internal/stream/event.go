package stream

import (
	"sync/atomic"
	"time"

	"livego/internal/domain"
)

// EventType is what happened to a stream.
type EventType uint8

// Events.
const (
	Started EventType = iota + 1 // a session started
	Held                         // the publisher was lost; viewers wait
	Resumed                      // a publisher continued a held stream, or took over
	Ended                        // the session ended
	Joined                       // a viewer joined
	Left                         // a viewer left
	Skipped                      // a viewer that had fallen behind skipped to a newer keyframe
)

func (t EventType) String() string {
	return [...]string{"", "started", "held", "resumed", "ended", "joined", "left", "skipped"}[t]
}

// An Event reports a change of a stream or its viewers.
type Event struct {
	Type   EventType
	Name   domain.Name
	Viewer uint64 // ID of the viewer, for Joined, Left and Skipped
	At     time.Time
}

// ofViewer reports whether e is about a viewer.
func (e Event) ofViewer() bool { return e.Type == Joined || e.Type == Left || e.Type == Skipped }

type observer struct {
	ch      chan Event
	viewers bool
	lost    atomic.Uint64
}

// Observe returns a channel that buffers up to size events; with viewers, it includes the events of
// viewers. An event that does not fit is dropped and counted in lost: an observer never blocks a
// stream. Events of viewers use at most half of the buffer, so they never displace an event of a
// stream. stop ends the observation and closes the channel.
func (h *Hub) Observe(size int, viewers bool) (events <-chan Event, lost func() uint64, stop func()) {
	o := &observer{ch: make(chan Event, size), viewers: viewers}
	h.mu.Lock()
	h.observers[o] = struct{}{}
	h.mu.Unlock()
	return o.ch, o.lost.Load, func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		if _, ok := h.observers[o]; ok {
			delete(h.observers, o)
			close(o.ch)
		}
	}
}

// emit sends e to the observers. The caller holds h.mu, which also keeps the channels open; the
// sends never block.
func (h *Hub) emit(e Event) {
	e.At = time.Now()
	for o := range h.observers {
		if e.ofViewer() {
			if !o.viewers {
				continue
			}
			if len(o.ch) >= cap(o.ch)/2 {
				o.lost.Add(1)
				continue
			}
		}
		select {
		case o.ch <- e:
		default:
			o.lost.Add(1)
		}
	}
}
