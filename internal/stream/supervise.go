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

// A Consumer is a part of the server that handles every session of a hub.
type Consumer struct {
	Name string // in logs and in Info.Off
	// Run handles one session, and returns nil when the session or ctx has ended. ctx is that of
	// Supervise, so that Run can still read the end of the session, which a Subscriber reports by
	// io.EOF. If Run returns an error or panics, it is restarted, up to three times in a row.
	Run func(ctx context.Context, s *Session) error
	// Failed, if set, is called when Run has failed and is not restarted for this session.
	Failed func(s *Session)
	Log    *slog.Logger
}

// A Session is one session of a stream, as its consumers see it. It keeps the session's frames in
// memory.
type Session struct {
	s        *stream
	failures int // of the consumer, in a row
}

// Supervise runs c for each session: for those of now and for each later one, in a goroutine. The
// sessions of one name follow each other: the next is handled when Run has returned for the one
// before, and one that starts and ends in the meantime is left out. Supervise returns when ctx is
// done and all goroutines have ended.
func (h *Hub) Supervise(ctx context.Context, c Consumer) {
	var running sync.WaitGroup
	v := &supervisor{hub: h, Consumer: c, names: make(map[domain.Name]bool)}
	v.start = func(s *stream) {
		if !v.names[s.name] {
			v.names[s.name] = true
			running.Go(func() { v.follow(ctx, s) })
		}
	}
	h.mu.Lock()
	h.supervisors = append(h.supervisors, v)
	for _, s := range h.streams {
		if s.session {
			v.start(s)
		}
	}
	h.mu.Unlock()
	<-ctx.Done()
	h.mu.Lock()
	h.supervisors = slices.DeleteFunc(h.supervisors, func(o *supervisor) bool { return o == v })
	h.mu.Unlock()
	running.Wait()
}

// A supervisor runs one consumer.
type supervisor struct {
	hub *Hub
	Consumer

	// Under hub.mu.
	start func(*stream)        // starts the goroutine of the stream's name, if there is none
	names map[domain.Name]bool // names that have a goroutine
}

// follow handles s and the sessions of the same name that have started when the one before is done.
func (v *supervisor) follow(ctx context.Context, s *stream) {
	for s != nil {
		v.handle(ctx, &Session{s: s})
		s = v.next(ctx, s)
	}
}

// next returns the session that follows s. If there is none, the goroutine ends.
func (v *supervisor) next(ctx context.Context, s *stream) *stream {
	v.hub.mu.Lock()
	defer v.hub.mu.Unlock()
	next := v.hub.streams[s.name]
	if next == nil || next == s || !next.session || ctx.Err() != nil {
		delete(v.names, s.name)
		return nil
	}
	return next
}

// handle runs the consumer for one session, again after a failure.
func (v *supervisor) handle(ctx context.Context, s *Session) {
	log := v.Log.With("consumer", v.Name, "stream", s.Name().String())
	for pause := v.hub.opt.RestartPause; ; pause *= 2 {
		start := time.Now()
		stack, err := v.run(ctx, s)
		if err == nil {
			return
		}
		if time.Since(start) >= stableRun {
			s.failures, pause = 0, v.hub.opt.RestartPause
		}
		if s.failures++; s.failures == 1 {
			log.Error("stream consumer failed", "err", err, "stack", string(stack))
		}
		if s.failures > maxRestarts {
			log.Error("stream consumer is off", "err", err)
			s.setOff(v.Name)
			break
		}
		if !s.Sleep(ctx, pause) {
			break
		}
	}
	if v.Failed != nil {
		v.Failed(s)
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

// Session returns the session of name, nil if there is none.
func (h *Hub) Session(name domain.Name) *Session {
	if s := h.session(name); s != nil {
		return &Session{s: s}
	}
	return nil
}

// Name returns the name of the stream.
func (s *Session) Name() domain.Name { return s.s.name }

// Restarted reports whether the consumer has failed before in this session. It should then start at
// the live edge, not where it may fail again.
func (s *Session) Restarted() bool { return s.failures > 0 }

// Done is closed when the session has ended.
func (s *Session) Done() <-chan struct{} { return s.s.done }

// Sleep waits for d. It returns false if the session or ctx ends first.
func (s *Session) Sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-s.s.done:
	case <-ctx.Done():
	}
	return false
}

// Published reports whether the session has a publisher; otherwise it is held, or has ended.
func (s *Session) Published() bool {
	s.s.mu.RLock()
	defer s.s.mu.RUnlock()
	return s.s.published()
}

// Subscribe joins the session, when its tracks are known. It fails with NotFound if the session has
// ended.
func (s *Session) Subscribe(ctx context.Context, o SubscribeOptions) (*Subscriber, error) {
	if err := s.s.awaitReady(ctx, nil); err != nil {
		return nil, err
	}
	h := s.s.hub
	live := h.session(s.s.name)
	if live != s.s {
		live = nil // it has ended
	}
	v, err := h.join(live, s.s.name, o.Viewer)
	if err != nil {
		return nil, err
	}
	return newSubscriber(v, o), nil
}

// Off reports whether the consumer is off for the rest of the session.
func (s *Session) Off(consumer string) bool {
	s.s.mu.RLock()
	defer s.s.mu.RUnlock()
	return slices.Contains(s.s.off, consumer)
}

// setOff marks the consumer as off for the rest of the session.
func (s *Session) setOff(consumer string) {
	s.s.mu.Lock()
	defer s.s.mu.Unlock()
	s.s.off = append(s.s.off, consumer)
}
