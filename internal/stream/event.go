package stream

import (
	"sync/atomic"
	"time"

	"livego/internal/domain"
)

// EventType tells what happened to a stream.
type EventType uint8

// Events.
const (
	Started EventType = iota + 1 // a session began
	Held                         // the publisher was lost, viewers wait
	Resumed                      // a publisher took a held stream up, or took over
	Ended                        // the session is over
	Joined                       // a viewer came
	Left                         // a viewer went
	Skipped                      // a viewer who had fallen behind was moved to a newer keyframe
)

func (t EventType) String() string {
	return [...]string{"", "started", "held", "resumed", "ended", "joined", "left", "skipped"}[t]
}

// An Event is news of a stream.
type Event struct {
	Type   EventType
	Name   domain.Name
	Viewer uint64 // ID of the viewer, for Joined, Left and Skipped
	At     time.Time
}

// ofViewer reports whether e is about a viewer of a stream, not about the stream.
func (e Event) ofViewer() bool { return e.Type == Joined || e.Type == Left || e.Type == Skipped }

type observer struct {
	ch      chan Event
	viewers bool
	lost    atomic.Uint64
}

// Observe returns a channel of events, of which up to size wait; with viewers, those of viewers
// too. What does not fit is lost and counted: an observer never blocks a stream. Events of viewers
// take half of the channel at most: however many viewers come and go, they push out no event of a
// stream. stop ends it and closes the channel.
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

// emit tells the observers. Caller holds h.mu, which also keeps the channels open; the sends never block.
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
