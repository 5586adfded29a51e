// Package stream is the core: a Hub of live streams. Each has one Publisher that writes frames and
// a few Subscribers that read them from one shared ring, each at its own speed. The package knows no
// protocol, file, store or HTTP, and no latency of a viewer: encoders, relays and files publish;
// feeds of viewers, HLS, recordings and relays subscribe.
//
// Lock order: Hub.mu before stream.mu. Neither is held over I/O, a callback or a channel send.
// Publisher.Write takes stream.mu only, for the time of a slice store. Subscribers share it while
// they copy pointers. What is counted of a viewer takes no lock, and a list of viewers has one of
// its own: reading statistics delays no frame.
package stream

import (
	"cmp"
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"livego/internal/domain"
)

// Options of a Hub. A zero duration or size has the meaning that its comment gives.
type Options struct {
	Hold      time.Duration // how long a stream outlives a lost publisher; 0: not at all
	HoldClean time.Duration // how long it outlives one that ended it; 0: not at all
	// Idle is the time without a frame after which a publisher may be replaced, and a backup
	// becomes active. Default 2 s.
	Idle time.Duration
	// FailbackDelay is how long a primary must be healthy before it replaces the backup. Default
	// 10 s.
	FailbackDelay time.Duration

	GOPs int // newest GOPs kept for viewers that join; at least 1 is kept
	// KeepTime is how much of the stream the ring keeps for slow readers, within its limits, whether
	// or not viewers may start there. Default 5 s.
	KeepTime time.Duration
	RingTime time.Duration // the ring's limit in stream time; default 30 s
	// RingBytes is the ring's limit in bytes: payload, and a fixed overhead for each frame. Default
	// 64 MiB.
	RingBytes int
	TrackWait time.Duration // how long viewers wait for announced tracks; default 2 s
	// RAPWait is how long to wait for a random access point before the encoder's keyframe flag is
	// trusted. Default 10 s.
	RAPWait time.Duration

	// RestartPause is the pause before a consumer that failed is restarted; it doubles with each
	// failure in a row. Default 1 s.
	RestartPause time.Duration
	// Epoch returns the number of a new session, higher than that of any session before. nil: 0. It
	// may block.
	Epoch func(context.Context) (uint64, error)
	// Search, if set, is called when a viewer waits for a stream that has no session here: another
	// server may have it. It returns nil if none can, and does not block.
	Search func(domain.Name) Search
}

// A Search looks for a stream on other servers while a viewer waits for it. A stream that is found gets
// a session.
type Search interface {
	// Failed is closed when no other server has the stream now.
	Failed() <-chan struct{}
	// Err returns why, after Failed.
	Err() error
	// End is called when the viewer waits no longer.
	End()
}

func (o *Options) defaults() {
	o.Idle = cmp.Or(o.Idle, 2*time.Second)
	o.FailbackDelay = cmp.Or(o.FailbackDelay, 10*time.Second)
	o.KeepTime = cmp.Or(o.KeepTime, 5*time.Second)
	o.RingTime = cmp.Or(o.RingTime, 30*time.Second)
	o.RingBytes = cmp.Or(o.RingBytes, 64<<20)
	o.TrackWait = cmp.Or(o.TrackWait, 2*time.Second)
	o.RAPWait = cmp.Or(o.RAPWait, 10*time.Second)
	o.RestartPause = cmp.Or(o.RestartPause, time.Second)
}

// A Hub holds the live streams of one server.
type Hub struct {
	opt atomic.Pointer[Options]
	ids atomic.Uint64

	mu          sync.Mutex
	streams     map[domain.Name]*stream
	lastEnding  *ending
	supervisors []*supervisor
	closed      bool
	events      []Event // not sent yet
	ended       endedTotals

	switches atomic.Uint64 // see Totals

	sending   sync.Mutex // held to send events, so that they stay in order
	observers observers
}

// NewHub returns an empty hub.
func NewHub(o Options) *Hub {
	h := &Hub{streams: make(map[domain.Name]*stream), lastEnding: new(ending)}
	h.SetOptions(o)
	return h
}

// SetOptions replaces the options, for the streams that are live too: what has started, such as the
// hold of a stream, keeps its time. A ring that exceeds new limits becomes smaller with its next
// frame.
func (h *Hub) SetOptions(o Options) {
	o.defaults()
	h.opt.Store(&o)
}

func (h *Hub) options() *Options { return h.opt.Load() }

// EndOwners disconnects the publishers of owners for reason, and refuses the PublishRequests of now
// that will turn out to be theirs. If end is true, their streams end at once, held ones too;
// otherwise they are held, so that a publisher with another owner continues them. It returns how
// many streams lost a publisher or ended.
func (h *Hub) EndOwners(owners []any, end bool, reason error) (streams int) {
	ended := make(map[any]bool, len(owners))
	for _, owner := range owners {
		ended[owner] = true
	}
	h.mu.Lock()
	defer h.unlock()
	h.lastEnding.next = &ending{owners: ended, reason: reason}
	h.lastEnding = h.lastEnding.next
	for _, s := range h.streams {
		detached := false
		held := s.replica == nil && !s.published() && ended[s.owner]
		for _, p := range s.pubs {
			if p != nil && ended[p.opt.Owner] {
				h.detach(p, reason)
				detached = true
			}
		}
		switch {
		case !detached && !(held && end):
			continue
		case s.published():
		case end:
			h.end(s, domain.Reason(reason))
		default:
			h.hold(s, h.options().Hold, domain.Reason(reason))
		}
		streams++
	}
	return streams
}

// Kick disconnects the publisher or viewer with that ID, for reason. A stream that loses its
// publisher in this way is held.
func (h *Hub) Kick(id uint64, reason error) error {
	for _, s := range h.sessions() {
		if v := s.viewers.find(id); v != nil {
			if !v.hasSession() {
				break
			}
			v.kick(reason)
			return nil
		}
		if p := s.publisher(id); p != nil {
			p.leave(reason, h.options().Hold, domain.Reason(reason))
			return nil
		}
	}
	return domain.Errorf(domain.NotFound, "no publisher or viewer has the id %d", id)
}

// EndStream disconnects the publishers of name, for reason. With hold, the stream is held as if they
// were lost, otherwise it ends. It reports whether there was a stream of this server.
func (h *Hub) EndStream(name domain.Name, hold bool, reason error) bool {
	h.mu.Lock()
	defer h.unlock()
	s := h.streams[name]
	if s == nil || !s.session || s.replica != nil {
		return false
	}
	held := !s.published()
	for _, p := range s.pubs {
		if p != nil {
			h.detach(p, reason)
		}
	}
	switch {
	case !hold:
		h.end(s, domain.Reason(reason))
	case !held: // otherwise it is held already
		h.hold(s, h.options().Hold, domain.Reason(reason))
	}
	return true
}

// EndViewers disconnects the viewers of a room, and those that wait for it, for reason, in app or
// in every app for "". It returns how many these were. The streams continue.
func (h *Hub) EndViewers(app, room string, reason error) (n int) {
	h.mu.Lock()
	var streams []*stream
	for name, s := range h.streams {
		if name.Room != room || app != "" && name.App != app {
			continue
		}
		streams = append(streams, s)
		if r := s.waiters; r != nil {
			s.waiters = nil
			r.reason = reason
			close(r.done)
			n += r.n
		}
	}
	h.mu.Unlock()
	for _, s := range streams {
		for v := range s.viewers.from(0) {
			if !v.opt.Internal {
				v.kick(reason)
				n++
			}
		}
	}
	return n
}

// Close ends every stream as if its publisher had ended it. Later publishers and viewers are
// refused.
func (h *Hub) Close() {
	h.mu.Lock()
	defer h.unlock()
	h.closed = true
	reason := domain.Errorf(domain.Unavailable, "the server is stopping")
	for _, s := range h.streams {
		for _, p := range s.pubs {
			if p != nil {
				h.detach(p, reason)
			}
		}
		h.end(s, domain.Reason(reason))
	}
}

// hold keeps s, which has no publisher, for d. why is the reason of the event. The caller holds h.mu.
func (h *Hub) hold(s *stream, d time.Duration, why string) {
	if d <= 0 || !s.hasFrames() || h.closed {
		h.end(s, why)
		return
	}
	s.holds++
	n := s.holds
	s.holdTimer = time.AfterFunc(d, func() {
		h.mu.Lock()
		defer h.unlock()
		if s.holds == n && !s.published() && h.streams[s.name] == s {
			h.end(s, fmt.Sprintf("no publisher came back within %v", d))
		}
	})
	h.record(Held, s, s.former, why)
}

// end ends the session of s, which has no publisher. why is the reason of the event. The caller holds
// h.mu.
func (h *Hub) end(s *stream, why string) {
	reason := errEnded
	if s.replica != nil { // only its owner ends it
		reason = ErrAbandoned
	}
	h.finish(s, reason, why)
}

// finish is end with the reason for its readers. The caller holds h.mu.
func (h *Hub) finish(s *stream, reason error, why string) {
	if h.streams[s.name] != s {
		return
	}
	delete(h.streams, s.name)
	if s.holdTimer != nil {
		s.holdTimer.Stop()
	}
	s.finish(reason)
	if s.session {
		h.ended.addViewers(s.counters)
	}
	if s.session && s.replica == nil { // its owner reports a replicated one
		h.record(Ended, s, s.former, why)
	}
}
