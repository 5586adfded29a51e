package stream

import (
	"context"
	"fmt"
	"log/slog"
	"runtime/debug"
	"slices"
	"sync"
	"time"

	"livego/internal/domain"
)

const (
	// maxRestarts is how often a consumer that fails is restarted for one session.
	maxRestarts = 3
	// stableRun is how long a consumer must run for its earlier failures to be forgotten: a session
	// may last for months.
	stableRun = 10 * time.Minute
)

// A Consumer is a part of the server that handles every session of a hub that this server owns.
type Consumer struct {
	Name string // in logs and in Info.Off
	// Run handles one session, and returns nil when the session or ctx has ended. ctx is that of
	// Supervise, so that Run can still read the end of the session, which a Subscriber reports by
	// io.EOF. If Run returns an error or panics, it is restarted, up to three times in a row.
	Run func(ctx context.Context, s *Session) error
	// Ended, if set, is called after the last run for a session, also if that failed.
	Ended func(s *Session)
	// Replicas makes it handle the sessions that other servers own too.
	Replicas bool
	Log      *slog.Logger
}

// A supervisor runs one consumer.
type supervisor struct {
	Consumer

	// Under Hub.mu.
	start func(*stream)        // starts the goroutine of the stream's name, if there is none
	names map[domain.Name]bool // names that have a goroutine
}

// Supervise runs c for each session: for those of now and for each later one, in a goroutine. The
// sessions of one name follow each other: the next is handled when Run has returned for the one
// before, and one that starts and ends in the meantime is left out. The caller must call wait, which
// returns when ctx is done and all goroutines have ended.
func (h *Hub) Supervise(ctx context.Context, c Consumer) (wait func()) {
	var running sync.WaitGroup
	v := &supervisor{Consumer: c, names: make(map[domain.Name]bool)}
	v.start = func(s *stream) {
		if v.names[s.name] || !v.handles(s) {
			return
		}
		v.names[s.name] = true
		running.Go(func() {
			for ; s != nil; s = h.nextSession(ctx, v, s) {
				v.handle(ctx, &Session{s: s})
			}
		})
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.supervisors = append(h.supervisors, v)
	for _, s := range h.streams {
		if s.session {
			v.start(s)
		}
	}
	return func() {
		<-ctx.Done()
		h.mu.Lock()
		h.supervisors = slices.DeleteFunc(h.supervisors, func(o *supervisor) bool { return o == v })
		h.mu.Unlock()
		running.Wait()
	}
}

// handles reports whether v handles the session s.
func (v *supervisor) handles(s *stream) bool { return v.Replicas || s.replica == nil }

// nextSession returns the session that v handles after s. If there is none, v's goroutine ends.
func (h *Hub) nextSession(ctx context.Context, v *supervisor, s *stream) *stream {
	h.mu.Lock()
	defer h.mu.Unlock()
	next := h.streams[s.name]
	if next == nil || next == s || !next.session || !v.handles(next) || ctx.Err() != nil {
		delete(v.names, s.name)
		return nil
	}
	return next
}

// handle runs the consumer for one session, again after a failure.
func (v *supervisor) handle(ctx context.Context, s *Session) {
	if v.Ended != nil {
		defer v.Ended(s)
	}
	log := v.Log.With("consumer", v.Name, "stream", s.Name().String())
	for first := s.s.hub.options().RestartPause; ; {
		start := time.Now()
		stack, err := v.run(ctx, s)
		if err == nil {
			return
		}
		if time.Since(start) >= stableRun {
			s.failures = 0
		}
		if s.failures++; s.failures == 1 {
			log.Error("stream consumer failed", "err", err, "stack", string(stack))
		}
		if s.failures > maxRestarts {
			log.Error("stream consumer is off", "err", err)
			s.s.mu.Lock()
			s.s.off = append(s.s.off, v.Name)
			s.s.mu.Unlock()
			return
		}
		if !s.Sleep(ctx, first<<(s.failures-1)) {
			return
		}
	}
}

// run calls Run. A panic, which media of a peer may cause, becomes an error with its stack.
func (v *supervisor) run(ctx context.Context, s *Session) (stack []byte, err error) {
	defer func() {
		if r := recover(); r != nil {
			stack, err = debug.Stack(), fmt.Errorf("panic: %v", r)
		}
	}()
	return nil, v.Run(ctx, s)
}

// A Session is one session of a stream, for one consumer. It keeps the session's frames in memory.
type Session struct {
	s        *stream
	failures int // of the consumer, in a row
}

// Name returns the name of the stream.
func (s *Session) Name() domain.Name { return s.s.name }

// Replicated reports whether another server owns the session.
func (s *Session) Replicated() bool { return s.s.replica != nil }

// RequestRestart asks the writer of a replicated session for the state of its owner, because of reason:
// a Restarted mark brings it.
func (s *Session) RequestRestart(reason error) { s.s.replica.requestRestart(reason) }

// Restarted reports whether the consumer has failed before in this session. It should then start at
// the live edge, not where it may fail again.
func (s *Session) Restarted() bool { return s.failures > 0 }

// Sleep waits for d. It returns false if the session or ctx ends first.
func (s *Session) Sleep(ctx context.Context, d time.Duration) bool {
	select {
	case <-time.After(d):
		return true
	case <-s.s.done:
	case <-ctx.Done():
	}
	return false
}

// Subscribe joins the session when viewers may start; o.Wait has no meaning. It fails with NotFound if
// the session has ended, also if another of the same name has started.
func (s *Session) Subscribe(ctx context.Context, o SubscribeOptions) (*Subscriber, error) {
	o.Wait = 0
	sub, err := s.s.hub.Subscribe(ctx, s.s.name, o)
	if err == nil && sub.s != s.s {
		sub.Leave()
		err = domain.Errorf(domain.NotFound, "the session of %s has ended", s.s.name)
	}
	return sub, err
}
