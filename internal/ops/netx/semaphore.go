package netx

import (
	"container/list"
	"context"
	"net/netip"
	"sync"
)

// AddressSemaphore bounds how much each address may have under way at a time: look-ups of keys,
// questions to a program of the operator's. Others from that address wait, so that one address
// cannot fill what all addresses share. IPv6 addresses count by /64.
type AddressSemaphore struct {
	total      int // at a time, of all addresses; 0: any number
	perAddress int // at a time and address, where total is 0

	mu     sync.Mutex
	active int // active way
	// of addresses with something under way or waiting: no more than there are connections
	addrs   map[netip.Prefix]*addressQueue
	waiting list.List // of *share, those in which something waits; the next to be served first
}

// A addressQueue is what one address has under way and waiting.
type addressQueue struct {
	prefix  netip.Prefix
	active  int           // active way
	waiters list.List     // of chan struct{}, closed when it is the turn of the waiter; the oldest first
	listed  *list.Element // in Shares.waiting; nil while nothing waits
}

// NewAddressSemaphore returns Shares of most for each address, and any number for all addresses together.
func NewAddressSemaphore(most int) *AddressSemaphore {
	return &AddressSemaphore{perAddress: most, addrs: map[netip.Prefix]*addressQueue{}}
}

// NewFairAddressSemaphore returns Shares of total for all addresses together. An address may have
// no more than is free: one alone half of total, two a third each. So something is left for an
// address that comes later, however slowly each turn ends.
func NewFairAddressSemaphore(total int) *AddressSemaphore {
	return &AddressSemaphore{total: total, addrs: map[netip.Prefix]*addressQueue{}}
}

// Acquire waits until remote, as ParseClient reads it, may have one more under way. The caller
// calls release when that is over. The error is that of ctx, which has ended; release is nil then.
// All that is no address shares one share.
func (s *AddressSemaphore) Acquire(ctx context.Context, remote string) (release func(), err error) {
	from := addressPrefix(ParseClient(remote))
	sh, turn, at := s.enqueue(from)
	select {
	case <-turn:
		return func() { s.release(sh) }, nil
	default:
	}
	select {
	case <-turn:
		return func() { s.release(sh) }, nil
	case <-ctx.Done():
		s.cancel(sh, turn, at)
		return nil, ctx.Err()
	}
}

// enqueue returns the share of an address, a channel that is closed when it is the caller's turn,
// and that channel's place in the share's waiters.
func (s *AddressSemaphore) enqueue(from netip.Prefix) (*addressQueue, chan struct{}, *list.Element) {
	s.mu.Lock()
	defer s.mu.Unlock()
	sh := s.addrs[from]
	if sh == nil {
		sh = &addressQueue{prefix: from}
		s.addrs[from] = sh
	}
	turn := make(chan struct{})
	at := sh.waiters.PushBack(turn)
	if sh.listed == nil {
		sh.listed = s.waiting.PushBack(sh)
	}
	s.grant(sh)
	return sh, turn, at
}

// release ends what sh has had under way.
func (s *AddressSemaphore) release(sh *addressQueue) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.releaseLocked(sh)
}

func (s *AddressSemaphore) releaseLocked(sh *addressQueue) {
	s.active--
	sh.active--
	s.grant(sh)
	s.removeIfIdle(sh)
}

// cancel ends a wait, or what it has just led to.
func (s *AddressSemaphore) cancel(sh *addressQueue, turn chan struct{}, at *list.Element) {
	s.mu.Lock()
	defer s.mu.Unlock()
	select {
	case <-turn:
		s.releaseLocked(sh)
	default:
		sh.waiters.Remove(at)
		s.removeIfIdle(sh)
	}
}

// removeIfIdle forgets of sh what is empty. Caller holds s.mu.
func (s *AddressSemaphore) removeIfIdle(sh *addressQueue) {
	if sh.waiters.Len() > 0 {
		return
	}
	if sh.listed != nil {
		s.waiting.Remove(sh.listed)
		sh.listed = nil
	}
	if sh.active == 0 {
		delete(s.addrs, sh.prefix)
	}
}

// grant gives turns to those who may have one, an address after the other. of is the share that has
// changed. Caller holds s.mu.
func (s *AddressSemaphore) grant(of *addressQueue) {
	for sh := s.next(of); sh != nil; sh = s.next(of) {
		close(sh.waiters.Remove(sh.waiters.Front()).(chan struct{}))
		s.active++
		sh.active++
		s.waiting.MoveToBack(sh.listed)
		s.removeIfIdle(sh)
	}
}

// next returns the share that is to have the next turn, nil when there is none. It looks past no
// more than total shares: those that may have no turn have something under way. Caller holds s.mu.
func (s *AddressSemaphore) next(of *addressQueue) *addressQueue {
	if s.total == 0 { // no other share depends on this one
		if of.waiters.Len() > 0 && of.active < s.perAddress {
			return of
		}
		return nil
	}
	free := s.total - s.active
	for e := s.waiting.Front(); e != nil && free > 0; e = e.Next() {
		if sh := e.Value.(*addressQueue); sh.active < free {
			return sh
		}
	}
	return nil
}
