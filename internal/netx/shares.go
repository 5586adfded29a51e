package netx

import (
	"container/list"
	"context"
	"net/netip"
	"sync"
)

// Shares bounds how much each address may have under way at a time: look-ups of keys, questions to a program of the operator's.
// Others from that address wait, so that one address cannot fill what all addresses share. IPv6 addresses count by /64.
type Shares struct {
	total int // at a time, of all addresses; 0: any number
	most  int // at a time and address, where total is 0

	mu      sync.Mutex
	under   int                     // under way
	use     map[netip.Prefix]*share // of addresses with something under way or waiting: no more than there are connections
	waiting list.List               // of *share, those in which something waits; the next to be served first
}

// A share is what one address has under way and waiting.
type share struct {
	from    netip.Prefix
	under   int           // under way
	waiters list.List     // of chan struct{}, closed when it is the turn of the waiter; the oldest first
	listed  *list.Element // in Shares.waiting; nil while nothing waits
}

// NewShares returns Shares of most for each address, and any number for all addresses together.
func NewShares(most int) *Shares { return &Shares{most: most, use: map[netip.Prefix]*share{}} }

// NewSharesOf returns Shares of total for all addresses together. An address may have no more than is free: one alone half of total, two
// a third each. So something is left for an address that comes later, however slowly each turn ends.
func NewSharesOf(total int) *Shares {
	return &Shares{total: total, use: map[netip.Prefix]*share{}}
}

// Acquire waits until remote, as ParseClient reads it, may have one more under way. The caller calls release when that is over. The error
// is that of ctx, which has ended; release is nil then. All that is no address shares one share.
func (s *Shares) Acquire(ctx context.Context, remote string) (release func(), err error) {
	from := origin(ParseClient(remote))
	sh, turn, at := s.enter(from)
	select {
	case <-turn:
		return func() { s.leave(sh) }, nil
	default:
	}
	select {
	case <-turn:
		return func() { s.leave(sh) }, nil
	case <-ctx.Done():
		s.giveUp(sh, turn, at)
		return nil, ctx.Err()
	}
}

// enter returns the share of an address, a channel that is closed when it is the caller's turn, and that channel's place in the share's
// waiters.
func (s *Shares) enter(from netip.Prefix) (*share, chan struct{}, *list.Element) {
	s.mu.Lock()
	defer s.mu.Unlock()
	sh := s.use[from]
	if sh == nil {
		sh = &share{from: from}
		s.use[from] = sh
	}
	turn := make(chan struct{})
	at := sh.waiters.PushBack(turn)
	if sh.listed == nil {
		sh.listed = s.waiting.PushBack(sh)
	}
	s.serve(sh)
	return sh, turn, at
}

// leave ends what sh has had under way.
func (s *Shares) leave(sh *share) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.end(sh)
}

func (s *Shares) end(sh *share) {
	s.under--
	sh.under--
	s.serve(sh)
	s.drop(sh)
}

// giveUp ends a wait, or what it has just led to.
func (s *Shares) giveUp(sh *share, turn chan struct{}, at *list.Element) {
	s.mu.Lock()
	defer s.mu.Unlock()
	select {
	case <-turn:
		s.end(sh)
	default:
		sh.waiters.Remove(at)
		s.drop(sh)
	}
}

// drop forgets of sh what is empty. Caller holds s.mu.
func (s *Shares) drop(sh *share) {
	if sh.waiters.Len() > 0 {
		return
	}
	if sh.listed != nil {
		s.waiting.Remove(sh.listed)
		sh.listed = nil
	}
	if sh.under == 0 {
		delete(s.use, sh.from)
	}
}

// serve gives turns to those who may have one, an address after the other. of is the share that has changed. Caller holds s.mu.
func (s *Shares) serve(of *share) {
	for sh := s.next(of); sh != nil; sh = s.next(of) {
		close(sh.waiters.Remove(sh.waiters.Front()).(chan struct{}))
		s.under++
		sh.under++
		s.waiting.MoveToBack(sh.listed)
		s.drop(sh)
	}
}

// next returns the share that is to have the next turn, nil when there is none. It looks past no more than total shares: those that may
// have no turn have something under way. Caller holds s.mu.
func (s *Shares) next(of *share) *share {
	if s.total == 0 { // no other share depends on this one
		if of.waiters.Len() > 0 && of.under < s.most {
			return of
		}
		return nil
	}
	free := s.total - s.under
	for e := s.waiting.Front(); e != nil && free > 0; e = e.Next() {
		if sh := e.Value.(*share); sh.under < free {
			return sh
		}
	}
	return nil
}
