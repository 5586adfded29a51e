package redis

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"livego/internal/domain"
)

const (
	// pollInterval is how often the revocations of other servers are read: publishers must be
	// disconnected within a second.
	pollInterval = 250 * time.Millisecond
	// retryFirst and retryMax bound the pause between attempts while Redis is unavailable. retryMax
	// also bounds how late its return is noticed.
	retryFirst = 500 * time.Millisecond
	retryMax   = 4 * time.Second
)

// health tracks whether Redis is available. While it is not, no operation waits for it: ten
// encoders that connect at once would wait one after another.
type health struct {
	log *slog.Logger

	mu                    sync.Mutex
	err                   error     // why Redis is unavailable; nil when it is available
	contacted             bool      // at least one request was sent
	retryAt               time.Time // no request is sent before
	backoff               time.Duration
	refusalLoggedAt       time.Time // when a refusal was last logged
	revocationsUnreadable bool      // revocations cannot be read: no requests are sent, and no key is accepted
}

const (
	// refusalLogInterval is the least time between two logs of a refusal.
	refusalLogInterval = 10 * time.Second
	// maxLoggedRefusal is the number of bytes of a refusal that are logged: some errors quote the
	// request.
	maxLoggedRefusal = 100
)

// logRefusal logs the error of a Redis that is available but refuses a request: because it is a
// replica, or its memory is full.
func (h *health) logRefusal(err error) {
	now := time.Now()
	h.mu.Lock()
	say := now.Sub(h.refusalLoggedAt) >= refusalLogInterval
	if say {
		h.refusalLoggedAt = now
	}
	h.mu.Unlock()
	if text := err.Error(); say {
		h.log.Warn("key store refused a request", "reason", text[:min(len(text), maxLoggedRefusal)])
	}
}

// checkUsable returns why no request may be sent now; nil when one may.
func (h *health) checkUsable() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	switch {
	case h.revocationsUnreadable:
		return errRevocationsUnreadable
	case h.err == nil || time.Now().After(h.retryAt):
		return nil
	}
	return h.err
}

func (h *health) ready() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	switch {
	case h.revocationsUnreadable:
		return storeUnavailable(errRevocationsUnreadable)
	case h.err != nil:
		return storeUnavailable(h.err)
	case !h.contacted:
		return storeUnavailable(context.DeadlineExceeded)
	}
	return nil
}

func (h *health) markUp() {
	h.mu.Lock()
	was := h.err
	h.err, h.contacted, h.backoff = nil, true, 0
	h.mu.Unlock()
	if was != nil {
		h.log.Info("key store available again")
	}
}

// markDown records that Redis did not answer. The pause doubles with each attempt, and is random so
// that many servers do not reconnect at once.
func (h *health) markDown(err error) {
	now := time.Now()
	h.mu.Lock()
	first := h.err == nil
	if first || now.After(h.retryAt) {
		h.backoff = min(max(2*h.backoff, retryFirst), retryMax)
		h.retryAt = now.Add(h.backoff/2 + rand.N(h.backoff/2)) //nolint:forbidigo // jitter, no secret
	}
	h.err, h.contacted = err, true
	h.mu.Unlock()
	if first {
		h.log.Error("key store unavailable", "err", err)
	}
}

// nextPoll returns how long to wait before the next request of Run.
func (h *health) nextPoll() time.Duration {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.err == nil {
		return pollInterval
	}
	return max(time.Until(h.retryAt), 50*time.Millisecond)
}

// setRevocationsReadable records whether the revocations of other servers can be read, while Redis
// is available.
func (h *health) setRevocationsReadable(ok bool) {
	h.mu.Lock()
	was := h.revocationsUnreadable
	h.revocationsUnreadable = !ok
	h.mu.Unlock()
	if !was && !ok {
		h.log.Error("key store unavailable", "err", errRevocationsUnreadable)
	} else if was && ok {
		h.log.Info("key store available again")
	}
}

var errRevocationsUnreadable = errors.New("the list of revocations (" + revokedName +
	") is not livego's: remove it")

// Run implements domain.Store. It watches whether Redis is available, and what other servers revoke
// and delete. It calls revoke when a revocation is due.
func (s *Store) Run(ctx context.Context, revoke func(refs []domain.KeyRef, end bool), deleted func(app, room string)) {
	defer s.revocations.stop()
	for ctx.Err() == nil {
		err := s.runOp(ctx, func(ctx context.Context) error { return s.readRevocations(ctx, revoke, deleted) })
		s.health.setRevocationsReadable(err == nil || domain.KindOf(err) != domain.Internal)
		if err == nil {
			s.reapply(ctx)
		}
		select {
		case <-time.After(s.health.nextPoll()):
		case <-ctx.Done():
		}
	}
}
