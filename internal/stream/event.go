package stream

import (
	"slices"
	"sync"
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
	// Publisher is the ID of the publisher that started or resumed the stream, or of the last that it
	// had; 0 for events of viewers.
	Publisher     uint64
	Proto, Remote string // of the publisher or viewer
	Reason        string // for the client; "" if there is none to know
	At            time.Time
}

// ofViewer reports whether e is about a viewer.
func (e Event) ofViewer() bool { return e.Type == Joined || e.Type == Left || e.Type == Skipped }

type observer struct {
	ch      chan Event
	viewers atomic.Bool
	lost    atomic.Uint64
}

// observers sends events to observers. Sending takes no lock, because viewers skip on the media
// path.
type observers struct {
	mu   sync.Mutex // held to replace list
	list atomic.Pointer[[]*observer]
}

// replace makes change of the current list the new one.
func (os *observers) replace(change func([]*observer) []*observer) {
	os.mu.Lock()
	defer os.mu.Unlock()
	list := change(slices.Clone(os.current()))
	os.list.Store(&list)
}

func (os *observers) current() []*observer {
	if list := os.list.Load(); list != nil {
		return *list
	}
	return nil
}

// send sends e to the observers. It never blocks.
func (os *observers) send(e Event) {
	for _, o := range os.current() {
		if e.ofViewer() && !o.viewers.Load() {
			continue
		}
		if e.At.IsZero() {
			e.At = time.Now()
		}
		if e.ofViewer() && len(o.ch) >= cap(o.ch)/2 {
			o.lost.Add(1)
			continue
		}
		select {
		case o.ch <- e:
		default:
			o.lost.Add(1)
		}
	}
}

// Observe returns a channel that buffers up to size events; with viewers, it includes the events of
// viewers. An event that does not fit is dropped and counted in lost: an observer never blocks a
// stream. Events of viewers use at most half of the buffer, so they never displace an event of a
// stream. The events of a stream are in the order in which they happened. stop ends the
// observation; the channel stays open.
func (h *Hub) Observe(size int, viewers bool) (events <-chan Event, lost func() uint64, stop func()) {
	o := &observer{ch: make(chan Event, size)}
	o.viewers.Store(viewers)
	h.observers.replace(func(list []*observer) []*observer { return append(list, o) })
	return o.ch, o.lost.Load, func() {
		h.observers.replace(func(list []*observer) []*observer {
			return slices.DeleteFunc(list, func(other *observer) bool { return other == o })
		})
	}
}

// IncludeViewers changes whether the observation with the channel events includes the events of viewers.
func (h *Hub) IncludeViewers(events <-chan Event, viewers bool) {
	for _, o := range h.observers.current() {
		if o.ch == events {
			o.viewers.Store(viewers)
		}
	}
}

// record adds an event of a stream, which unlock sends. The caller holds h.mu.
func (h *Hub) record(t EventType, s *stream, p *Publisher, why string) {
	h.events = append(h.events, Event{Type: t, Name: s.name, Publisher: p.id, Proto: p.opt.Proto, Remote: p.opt.Remote,
		Reason: why, At: time.Now()})
	h.ended.events[t]++
}

// unlock releases h.mu, and sends the events that were recorded under it in their order.
func (h *Hub) unlock() {
	recorded := len(h.events) > 0
	h.mu.Unlock()
	if !recorded {
		return
	}
	h.sending.Lock()
	defer h.sending.Unlock()
	h.mu.Lock()
	events := h.events // all that were recorded until now, perhaps none any more
	h.events = nil
	h.mu.Unlock()
	for _, e := range events {
		h.observers.send(e)
	}
}
