// Package stream is the core: a Hub of live streams, each with one Publisher that writes frames and
// any number of Subscribers that read them at their own pace from one shared ring. It knows no
// protocol, no file, no store and no HTTP: encoders, relays and files publish; players, HLS,
// recorders and relays subscribe.
//
// Lock order: Hub.mu before stream.mu. Neither is held over I/O, a callback or a channel send.
// Publisher.Write takes stream.mu only, for the time of a slice store; subscribers share it for the
// time of copying pointers.
package stream

import (
	"cmp"
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"livego/internal/domain"
)

// Takeover says what happens to a publisher when another comes with the same key and role.
type Takeover uint8

// Takeover policies.
const (
	TakeoverIdle   Takeover = iota // the newcomer wins when the first has been idle for Options.Idle
	TakeoverAlways                 // the newcomer wins
	TakeoverNever                  // the first stays
)

// Options of a Hub. The zero value of a duration or size means what its comment says, or nothing where it says nothing.
type Options struct {
	Hold      time.Duration // how long a stream outlives a lost publisher; 0 not at all
	HoldClean time.Duration // how long it outlives one that said goodbye; 0 not at all
	Takeover  Takeover
	// without a frame for so long a publisher may be taken over, and a backup steps in; default 2 s
	Idle          time.Duration
	FailbackDelay time.Duration // how long a primary must be healthy before it takes over from the backup; default 10 s

	GOPs       int           // how many of the newest GOPs are held for those who join; at least 1 is held
	MaxLatency time.Duration // how far behind a viewer may fall before he is moved to a newer keyframe; default 4 s
	RingTime   time.Duration // the ring's bound in stream time; default 30 s
	RingBytes  int           // the ring's bound in bytes: payload, and a fixed sum for each frame; default 64 MiB
	TrackWait  time.Duration // how long a start waits for announced tracks; default 2 s
	// how long to look for a random access point before the encoder's key flag is believed; default 10
	// s
	RAPWait time.Duration

	// BatchWindow tells how long frames are gathered before those are woken who read a stream by one
	// protocol, for a number of viewers by it, and for how long sound waits for the next picture, if
	// there are any; nil: not at all.
	BatchWindow func(proto string, viewers int) (window, sound time.Duration)
	// Epoch numbers a new session of a stream, higher than any before; nil: 0. It may block.
	Epoch func(context.Context) (uint64, error)
}

func (o *Options) defaults() {
	o.Idle = cmp.Or(o.Idle, 2*time.Second)
	o.FailbackDelay = cmp.Or(o.FailbackDelay, 10*time.Second)
	o.MaxLatency = cmp.Or(o.MaxLatency, 4*time.Second)
	o.RingTime = cmp.Or(o.RingTime, 30*time.Second)
	o.RingBytes = cmp.Or(o.RingBytes, 64<<20)
	o.TrackWait = cmp.Or(o.TrackWait, 2*time.Second)
	o.RAPWait = cmp.Or(o.RAPWait, 10*time.Second)
}

// A Hub holds the live streams of one server.
type Hub struct {
	// Admit, when set, claims name for this server before a session of it begins; release gives it up
	// when the session ends.
	Admit func(ctx context.Context, name domain.Name) (release func(), err error)
	// Miss, when set, is called when somebody asks for a stream that is not here. It may make it come, or not.
	Miss func(ctx context.Context, name domain.Name) error

	opt Options
	ids atomic.Uint64

	mu        sync.Mutex
	streams   map[domain.Name]*stream
	revoked   map[domain.KeyRef]time.Time
	observers map[*observer]struct{}
	closed    bool

	viewerLimits viewerLimits
}

// NewHub returns an empty hub.
func NewHub(o Options) *Hub {
	o.defaults()
	return &Hub{
		opt:          o,
		streams:      make(map[domain.Name]*stream),
		revoked:      make(map[domain.KeyRef]time.Time),
		observers:    make(map[*observer]struct{}),
		viewerLimits: viewerLimits{used: make(map[domain.ViewerLimit]int)},
	}
}

// revokedFor is how long a revoked key is remembered here: longer than any request that resolved it
// before can take to publish.
const revokedFor = 10 * time.Minute

// Revoke disconnects whoever publishes with one of refs, now or in a moment with a grant from
// before. With end the streams end at once; else they are held, so that a new key goes on with
// them.
func (h *Hub) Revoke(refs []domain.KeyRef, end bool) {
	now := time.Now()
	reason := domain.Errorf(domain.Denied, "the push key was revoked")
	h.mu.Lock()
	defer h.mu.Unlock()
	for ref, at := range h.revoked {
		if now.Sub(at) > revokedFor {
			delete(h.revoked, ref)
		}
	}
	for _, ref := range refs {
		h.revoked[ref] = now
	}
	for _, s := range h.streams {
		detached := false
		held := !s.published() && s.lastKey != (domain.KeyRef{}) && slices.Contains(refs, s.lastKey)
		for _, p := range s.pubs {
			if p != nil && slices.Contains(refs, p.opt.Grant.Key) {
				h.detach(p, reason)
				detached = true
			}
		}
		switch {
		case s.published():
		case end && (detached || held):
			h.end(s, errEnded)
		case detached:
			h.hold(s, h.opt.Hold)
		}
	}
}

// EndKeyless ends the streams of room, in app or for "" in every one, that somebody publishes or
// has published without a key, who can be disconnected by none. It reports whether there was one.
func (h *Hub) EndKeyless(app, room string) bool {
	reason := domain.Errorf(domain.Denied, "the room was deleted")
	h.mu.Lock()
	defer h.mu.Unlock()
	found := false
	for name, s := range h.streams {
		if name.Room != room || app != "" && name.App != app {
			continue
		}
		ended := !s.published() && s.session && s.lastKey == (domain.KeyRef{})
		for _, p := range s.pubs {
			if p != nil && p.opt.Grant.Key == (domain.KeyRef{}) {
				h.detach(p, reason)
				ended = true
			}
		}
		if ended && !s.published() {
			h.end(s, errEnded)
		}
		found = found || ended
	}
	return found
}

// Kick disconnects the publisher or viewer of that ID with a reason. A stream that loses its publisher so is held.
func (h *Hub) Kick(id uint64, reason error) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, s := range h.streams {
		for _, p := range s.pubs {
			if p != nil && p.id == id {
				h.detach(p, reason)
				if !s.published() {
					h.hold(s, h.opt.Hold)
				}
				return nil
			}
		}
		if v := s.viewer(id); v != nil {
			v.kick(reason)
			return nil
		}
	}
	return domain.Errorf(domain.NotFound, "no publisher or viewer has the id %d", id)
}

// EndViewers disconnects those who watch a room, or wait to, in app or for "" in every one, with a
// reason, and returns how many they were. The streams go on.
func (h *Hub) EndViewers(app, room string, reason error) (n int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for name, s := range h.streams {
		if name.Room != room || app != "" && name.App != app {
			continue
		}
		if r := s.waiters; r != nil {
			s.waiters = nil
			r.reason = reason
			close(r.done)
			n += r.n
		}
		s.mu.RLock()
		s.viewers.after(0, func(v *Viewer) bool {
			if !v.opt.Internal {
				v.kick(reason)
				n++
			}
			return true
		})
		s.mu.RUnlock()
	}
	return n
}

// Close ends every stream, as a goodbye of its publisher would, and refuses what comes after.
func (h *Hub) Close() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.closed = true
	reason := domain.Errorf(domain.Unavailable, "the server is stopping")
	for _, s := range h.streams {
		for _, p := range s.pubs {
			if p != nil {
				h.detach(p, reason)
			}
		}
		h.end(s, errEnded)
	}
}

// hold lets s, which has no publisher, live on for d. Caller holds h.mu.
func (h *Hub) hold(s *stream, d time.Duration) {
	if d <= 0 || !s.hasFrames() || h.closed {
		h.end(s, errEnded)
		return
	}
	s.holds++
	n := s.holds
	s.holdTimer = time.AfterFunc(d, func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		if s.holds == n && !s.published() && h.streams[s.name] == s {
			h.end(s, errEnded)
		}
	})
	h.emit(Event{Type: Held, Name: s.name})
}

// end ends the session of s, which has no publisher any more. Caller holds h.mu.
func (h *Hub) end(s *stream, reason error) {
	if h.streams[s.name] != s {
		return
	}
	delete(h.streams, s.name)
	if s.holdTimer != nil {
		s.holdTimer.Stop()
	}
	s.finish(reason)
	if s.session {
		h.emit(Event{Type: Ended, Name: s.name})
	}
	if s.release != nil {
		go s.release() // the cluster's answer is not waited for under the lock; it owns nothing of the stream
	}
}
