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
	// pollInterval is how often what others revoked is looked for: publishers must be gone within a second.
	pollInterval = 250 * time.Millisecond
	// retryFirst and retryMax are how long Redis is left alone when it is away. The most bounds how
	// late its return is seen.
	retryFirst = 500 * time.Millisecond
	retryMax   = 4 * time.Second
)

// health knows whether Redis is there. While it is away nobody waits for it: ten encoders that come
// at once would wait one after another.
type health struct {
	log *slog.Logger

	mu                    sync.Mutex
	err                   error     // why it is away; nil when it is there
	contacted             bool      // it was asked at all
	retryAt               time.Time // nobody asks before
	backoff               time.Duration
	refusalLoggedAt       time.Time // when a refusal was last logged
	revocationsUnreadable bool      // what others revoke cannot be heard: nothing is asked, and nobody let in
}

const (
	// refusalLogInterval is how often a refusal of a Redis that is there is logged.
	refusalLogInterval = 10 * time.Second
	// maxLoggedRefusal is how much of it: some errors quote what was sent.
	maxLoggedRefusal = 100
)

// logRefusal logs what a Redis says that is there and does not do what it was asked: that it is a
// replica, that its memory is full.
func (h *health) logRefusal(err error) {
	now := time.Now()
	h.mu.Lock()
	say := now.Sub(h.refusalLoggedAt) >= refusalLogInterval
	if say {
		h.refusalLoggedAt = now
	}
	h.mu.Unlock()
	if text := err.Error(); say {
		h.log.Warn("the key store refuses", "reason", text[:min(len(text), maxLoggedRefusal)])
	}
}

// checkUsable returns why Redis is not to be asked now; nil when it is.
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
		h.log.Info("the key store is back")
	}
}

// markDown notes that Redis did not answer. The pause doubles each time that passes; it is random,
// so that many servers do not come back at once.
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

// nextPoll returns how long to nextPoll before Redis is asked again.
func (h *health) nextPoll() time.Duration {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.err == nil {
		return pollInterval
	}
	return max(time.Until(h.retryAt), 50*time.Millisecond)
}

// setRevocationsReadable notes whether what others revoke can be heard, as far as Redis is there.
func (h *health) setRevocationsReadable(ok bool) {
	h.mu.Lock()
	was := h.revocationsUnreadable
	h.revocationsUnreadable = !ok
	h.mu.Unlock()
	if !was && !ok {
		h.log.Error("key store unavailable", "err", errRevocationsUnreadable)
	} else if was && ok {
		h.log.Info("the key store is back")
	}
}

var errRevocationsUnreadable = errors.New("the list of what is revoked (" + revokedName +
	") is not livego's: remove it")

// Run watches Redis until ctx ends: whether it is there, and what other servers revoke and delete,
// which it tells revoke as soon as it is due, and deleted.
func (s *Store) Run(ctx context.Context, revoke RevokeFunc, deleted RoomDeletedFunc) {
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
