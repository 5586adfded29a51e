package auth

import (
	"context"
	"net/netip"
	"sync"

	"livego/internal/live"
)

// shares bounds how many look-ups each address has under way at a time. Others from that address wait, so that one address
// cannot fill what all addresses share: the connections of a key store, and the queue before them.
type shares struct {
	most int // at a time and address

	mu  sync.Mutex
	use map[netip.Addr]*share // of addresses with look-ups under way or waiting: no more than there are connections
}

type share struct {
	slots chan struct{}
	users int // guarded by shares.mu
}

// acquire waits until addr may look up one more key. The caller calls release when it is done; release is nil with an error,
// which says that ctx ended.
func (s *shares) acquire(ctx context.Context, addr netip.Addr) (release func(), err error) {
	sh := s.join(addr)
	select {
	case sh.slots <- struct{}{}:
		return func() {
			<-sh.slots
			s.leave(addr, sh)
		}, nil
	case <-ctx.Done():
		s.leave(addr, sh)
		return nil, live.Errorf(live.Unavailable, "%w", ctx.Err())
	}
}

func (s *shares) join(addr netip.Addr) *share {
	s.mu.Lock()
	defer s.mu.Unlock()
	sh := s.use[addr]
	if sh == nil {
		sh = &share{slots: make(chan struct{}, s.most)}
		if s.use == nil {
			s.use = map[netip.Addr]*share{}
		}
		s.use[addr] = sh
	}
	sh.users++
	return sh
}

func (s *shares) leave(addr netip.Addr, sh *share) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if sh.users--; sh.users == 0 {
		delete(s.use, addr)
	}
}
