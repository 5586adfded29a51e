package netx

import (
	"container/list"
	"context"
	"net/netip"
	"sync"
)

// An AddressSemaphore limits how many operations run at a time for each client address, such as key
// lookups and webhook calls. More operations of that address wait, so that one address cannot use
// up what all share. IPv6 addresses count by /64.
type AddressSemaphore struct {
	total      int // operations of all addresses; 0: no limit
	perAddress int // operations of an address, if total is 0

	mu     sync.Mutex
	active int // running operations
	// addrs has addresses with running or waiting operations: at most one for each connection.
	addrs   map[netip.Prefix]*addressQueue
	waiting list.List // of *addressQueue with waiting operations, the next to be served first
}

// An addressQueue is the running and waiting operations of one address.
type addressQueue struct {
	prefix  netip.Prefix
	active  int           // running operations
	waiters list.List     // of chan struct{}, closed when the waiter may run; the oldest first
	listed  *list.Element // in AddressSemaphore.waiting; nil if no operation waits
}

// NewAddressSemaphore returns a semaphore that allows most operations of each address, and any
// number of all addresses together.
func NewAddressSemaphore(most int) *AddressSemaphore {
	return &AddressSemaphore{perAddress: most, addrs: map[netip.Prefix]*addressQueue{}}
}

// NewFairAddressSemaphore returns a semaphore that allows total operations of all addresses
// together. An address may run no more than are free: one address half of total, two addresses a
// third each. So an address that comes later always has room, however slow the operations are.
func NewFairAddressSemaphore(total int) *AddressSemaphore {
	return &AddressSemaphore{total: total, addrs: map[netip.Prefix]*addressQueue{}}
}

// Acquire waits until an operation of remote, which ParseClient parses, may run. The caller calls
// release when it has ended. If ctx ends first, Acquire returns its error and a nil release. All
// invalid addresses count as one.
func (s *AddressSemaphore) Acquire(ctx context.Context, remote string) (release func(), err error) {
	prefix := AddressPrefix(ParseClient(remote))
	q, ready, elem := s.enqueue(prefix)
	select {
	case <-ready:
		return func() { s.release(q) }, nil
	default:
	}
	select {
	case <-ready:
		return func() { s.release(q) }, nil
	case <-ctx.Done():
		s.cancel(q, ready, elem)
		return nil, ctx.Err()
	}
}

// enqueue returns the queue of an address, a channel that is closed when the caller may run, and
// the element of that channel in the queue.
func (s *AddressSemaphore) enqueue(prefix netip.Prefix) (*addressQueue, chan struct{}, *list.Element) {
	s.mu.Lock()
	defer s.mu.Unlock()
	q := s.addrs[prefix]
	if q == nil {
		q = &addressQueue{prefix: prefix}
		s.addrs[prefix] = q
	}
	ready := make(chan struct{})
	elem := q.waiters.PushBack(ready)
	if q.listed == nil {
		q.listed = s.waiting.PushBack(q)
	}
	s.grant(q)
	return q, ready, elem
}

// release ends an operation of q.
func (s *AddressSemaphore) release(q *addressQueue) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.releaseLocked(q)
}

func (s *AddressSemaphore) releaseLocked(q *addressQueue) {
	s.active--
	q.active--
	s.grant(q)
	s.removeIfIdle(q)
}

// cancel ends a wait, or the operation that was granted meanwhile.
func (s *AddressSemaphore) cancel(q *addressQueue, ready chan struct{}, elem *list.Element) {
	s.mu.Lock()
	defer s.mu.Unlock()
	select {
	case <-ready:
		s.releaseLocked(q)
	default:
		q.waiters.Remove(elem)
		s.removeIfIdle(q)
	}
}

// removeIfIdle removes q from the lists that it is no longer needed in. The caller holds s.mu.
func (s *AddressSemaphore) removeIfIdle(q *addressQueue) {
	if q.waiters.Len() > 0 {
		return
	}
	if q.listed != nil {
		s.waiting.Remove(q.listed)
		q.listed = nil
	}
	if q.active == 0 {
		delete(s.addrs, q.prefix)
	}
}

// grant lets waiting operations run, one address after another. changed is the queue that has
// changed. The caller holds s.mu.
func (s *AddressSemaphore) grant(changed *addressQueue) {
	for q := s.next(changed); q != nil; q = s.next(changed) {
		close(q.waiters.Remove(q.waiters.Front()).(chan struct{}))
		s.active++
		q.active++
		s.waiting.MoveToBack(q.listed)
		s.removeIfIdle(q)
	}
}

// next returns the queue whose operation may run next; nil if there is none. It skips at most total
// queues, since each queue that may not run another has running operations. The caller holds s.mu.
func (s *AddressSemaphore) next(changed *addressQueue) *addressQueue {
	if s.total == 0 { // queues are independent of each other
		if changed.waiters.Len() > 0 && changed.active < s.perAddress {
			return changed
		}
		return nil
	}
	free := s.total - s.active
	for e := s.waiting.Front(); e != nil && free > 0; e = e.Next() {
		if q := e.Value.(*addressQueue); q.active < free {
			return q
		}
	}
	return nil
}
