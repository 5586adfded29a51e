package stream

import (
	"sync/atomic"
	"time"

	"livego/internal/domain"
	"livego/internal/media"
)

// ErrAbandoned is the end of a replicated session whose owner was lost: frames of it are missing here.
var ErrAbandoned = domain.Errorf(domain.Unavailable, "the server that publishes the stream was lost")

// ReplicaOptions describe a replicated session.
type ReplicaOptions struct {
	Epoch uint64
	Since time.Time // when the session started at its owner
	From  uint64    // Seq of the first frame
	// ReadyAt is the Seq of a frame before which viewers do not start: the next one of the owner when
	// it sent the first.
	ReadyAt uint64
}

// A Replica writes the session of a stream that another server owns, as the owner sends it: its frames
// have stream time, a Program and a Seq, and nothing about them is decided here. There are no
// publishers, no takeover and no hold. Only one goroutine may call its methods.
type Replica struct {
	s       *stream
	readyAt uint64
	restart chan error // has room for one
	// restarting means that the owner's state is on its way.
	restarting atomic.Bool
}

// Replicate starts a replicated session of name. It fails with Conflict if there is a session, and
// with Unavailable if the hub is closed. Consumers handle it if Consumer.Replicas is set.
func (h *Hub) Replicate(name domain.Name, o ReplicaOptions) (*Replica, error) {
	h.mu.Lock()
	defer h.unlock()
	if h.closed {
		return nil, domain.Errorf(domain.Unavailable, "the server is stopping")
	}
	s := h.streams[name]
	switch {
	case s == nil:
		s = newStream(h, name)
		h.streams[name] = s
	case s.session:
		return nil, domain.Errorf(domain.Conflict, "%s has a session on this server", name)
	}
	r := &Replica{s: s, readyAt: o.ReadyAt, restart: make(chan error, 1)}
	s.mu.Lock()
	s.session, s.started, s.epoch, s.replica = true, o.Since, o.Epoch, r
	s.ring.reset(o.From)
	r.checkReady()
	s.mu.Unlock()
	for _, v := range h.supervisors {
		v.start(s)
	}
	return r, nil
}

// Next returns the Seq of the next frame of the session; 0 before the first.
func (r *Replica) Next() uint64 {
	r.s.mu.RLock()
	defer r.s.mu.RUnlock()
	return r.s.ring.head
}

// Write adds f, and takes ownership of it. f replaces a frame with its Seq, which has other tracks if it
// came over another connection. If frames before f are missing, those that the session has
// are dropped: no reader meets the gap without noticing it. It fails if the session has ended.
func (r *Replica) Write(f *media.Frame) error {
	s := r.s
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.ended != nil:
		return domain.Errorf(domain.Conflict, "the replica of %s has ended", s.name)
	case f.Seq < s.ring.head:
		s.ring.replace(f)
		return nil
	case f.Seq > s.ring.head:
		s.ring.reset(f.Seq)
	}
	s.timeline.end = max(s.timeline.end, f.DTS)
	s.store(f)
	r.checkReady()
	return nil
}

// checkReady lets viewers start when the frames up to ReplicaOptions.ReadyAt have come. The caller holds
// s.mu.
func (r *Replica) checkReady() {
	if s := r.s; !s.ready && s.ring.head >= r.readyAt {
		s.ready = true
		close(s.readyCh)
	}
}

// StartRestart adds a Restarting mark, before frames of another connection, from the Seq from on, may
// replace those that the session has. There is no RestartRequest until Restart.
func (r *Replica) StartRestart(from uint64) {
	r.restarting.Store(true)
	_ = r.RestartRequest() // the state that it requests is on its way
	r.s.mu.Lock()
	defer r.s.mu.Unlock()
	if from > r.s.ring.head { // marks may come before the next frame
		r.s.ring.reset(from)
	}
	r.s.restart(Restarting, nil)
}

// Restart adds a Restarted mark.
func (r *Replica) Restart(value any) {
	r.restarting.Store(false)
	r.s.mu.Lock()
	defer r.s.mu.Unlock()
	r.s.restart(Restarted, value)
}

// Mark adds a mark of another kind before the next frame.
func (r *Replica) Mark(k MarkKind, value any) {
	r.s.mu.Lock()
	defer r.s.mu.Unlock()
	r.s.addMark(k, value)
}

// RestartRequest returns, once, why a consumer of the session needs the state of the owner again; nil if
// none does.
func (r *Replica) RestartRequest() (reason error) {
	select {
	case reason = <-r.restart:
	default:
	}
	return reason
}

func (r *Replica) requestRestart(reason error) {
	if r.restarting.Load() {
		return
	}
	select {
	case r.restart <- reason:
	default:
	}
}

// Done is closed when the session has ended.
func (r *Replica) Done() <-chan struct{} { return r.s.done }

// End ends the session where its owner has ended it: all of its frames have come.
func (r *Replica) End() { r.finish(errEnded) }

// Abandon ends the session although its owner may go on with it: subscribers get ErrAbandoned.
func (r *Replica) Abandon() { r.finish(ErrAbandoned) }

func (r *Replica) finish(reason error) {
	h := r.s.hub
	h.mu.Lock()
	defer h.unlock()
	h.finish(r.s, reason, "")
}
