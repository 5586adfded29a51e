package netx

import (
	"context"
	"net/netip"
	"sync"
)

// Shares bounds how much each address may have under way at a time: look-ups of keys, questions to a program of the operator's.
// Others from that address wait, so that one address cannot fill what all addresses share. IPv6 addresses count by /64.
type Shares struct {
	most int // at a time and address

	mu  sync.Mutex
	use map[netip.Prefix]*share // of addresses with something under way or waiting: no more than there are connections
}

type share struct {
	slots chan struct{}
	users int // guarded by Shares.mu
}

// NewShares returns Shares of most for each address.
func NewShares(most int) *Shares { return &Shares{most: most, use: map[netip.Prefix]*share{}} }

// Acquire waits until remote, as ParseClient reads it, may have one more under way. The caller calls release when that is over. The error
// is that of ctx, which has ended; release is nil then. All that is no address shares one share.
func (s *Shares) Acquire(ctx context.Context, remote string) (release func(), err error) {
	from := origin(ParseClient(remote))
	sh := s.join(from)
	select {
	case sh.slots <- struct{}{}:
		return func() {
			<-sh.slots
			s.leave(from, sh)
		}, nil
	case <-ctx.Done():
		s.leave(from, sh)
		return nil, ctx.Err()
	}
}

func (s *Shares) join(from netip.Prefix) *share {
	s.mu.Lock()
	defer s.mu.Unlock()
	sh := s.use[from]
	if sh == nil {
		sh = &share{slots: make(chan struct{}, s.most)}
		s.use[from] = sh
	}
	sh.users++
	return sh
}

func (s *Shares) leave(from netip.Prefix, sh *share) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if sh.users--; sh.users == 0 {
		delete(s.use, from)
	}
}
