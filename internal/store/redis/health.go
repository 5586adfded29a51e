package redis

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"livego/internal/live"
)

const (
	// pollEvery is how often what others revoked is looked for: publishers must be gone within a second.
	pollEvery = 250 * time.Millisecond
	// retryFirst and retryMost are how long Redis is left alone when it is away. The most bounds how late its return is seen.
	retryFirst = 500 * time.Millisecond
	retryMost  = 4 * time.Second
)

// health knows whether Redis is there. While it is away nobody waits for it: ten encoders that come at once would wait one after
// another.
type health struct {
	log *slog.Logger

	mu    sync.Mutex
	err   error     // why it is away; nil when it is there
	known bool      // it was asked at all
	until time.Time // nobody asks before
	pause time.Duration
	said  time.Time // when a refusal was last logged
	deaf  bool      // what others revoke cannot be heard: nothing is asked, and nobody let in
}

const (
	// saidEvery is how often a refusal of a Redis that is there is logged.
	saidEvery = 10 * time.Second
	// maxSaid is how much of it: some errors quote what was sent.
	maxSaid = 100
)

// refused logs what a Redis says that is there and does not do what it was asked: that it is a replica, that its memory is full.
func (h *health) refused(err error) {
	now := time.Now()
	h.mu.Lock()
	say := now.Sub(h.said) >= saidEvery
	if say {
		h.said = now
	}
	h.mu.Unlock()
	if text := err.Error(); say {
		h.log.Warn("the key store refuses", "reason", text[:min(len(text), maxSaid)])
	}
}

// refuse returns why Redis is not to be asked now; nil when it is.
func (h *health) refuse() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	switch {
	case h.deaf:
		return errDeaf
	case h.err == nil || time.Now().After(h.until):
		return nil
	}
	return h.err
}

func (h *health) ready() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	switch {
	case h.deaf:
		return away(errDeaf)
	case h.err != nil:
		return away(h.err)
	case !h.known:
		return away(context.DeadlineExceeded)
	}
	return nil
}

func (h *health) up() {
	h.mu.Lock()
	was := h.err
	h.err, h.known, h.pause = nil, true, 0
	h.mu.Unlock()
	if was != nil {
		h.log.Info("the key store is back")
	}
}

// down notes that Redis did not answer. The pause doubles each time that passes; it is random, so that many servers do not come
// back at once.
func (h *health) down(err error) {
	now := time.Now()
	h.mu.Lock()
	first := h.err == nil
	if first || now.After(h.until) {
		h.pause = min(max(2*h.pause, retryFirst), retryMost)
		h.until = now.Add(h.pause/2 + rand.N(h.pause/2)) //nolint:forbidigo // jitter, no secret
	}
	h.err, h.known = err, true
	h.mu.Unlock()
	if first {
		h.log.Error("key store unavailable", "err", err)
	}
}

// wait returns how long to wait before Redis is asked again.
func (h *health) wait() time.Duration {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.err == nil {
		return pollEvery
	}
	return max(time.Until(h.until), 50*time.Millisecond)
}

// hears notes whether what others revoke can be heard, as far as Redis is there.
func (h *health) hears(ok bool) {
	h.mu.Lock()
	was := h.deaf
	h.deaf = !ok
	h.mu.Unlock()
	if !was && !ok {
		h.log.Error("key store unavailable", "err", errDeaf)
	} else if was && ok {
		h.log.Info("the key store is back")
	}
}

var errDeaf = errors.New("the list of what is revoked (" + revokedName + ") is not livego's: remove it")

// Run watches Redis until ctx ends: whether it is there, and what other servers revoke and delete, which it tells revoke as soon
// as it is due, and deleted.
func (s *Store) Run(ctx context.Context, revoke Revoker, deleted Deleter) {
	defer s.revoked.stop()
	for ctx.Err() == nil {
		err := s.try(ctx, func(ctx context.Context) error { return s.catchUp(ctx, revoke, deleted) })
		s.health.hears(err == nil || live.KindOf(err) != live.Internal)
		if err == nil {
			s.reapply(ctx)
		}
		select {
		case <-time.After(s.health.wait()):
		case <-ctx.Done():
		}
	}
}
