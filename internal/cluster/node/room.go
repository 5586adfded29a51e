package node

import (
	"context"
	"net"
	"sync"
	"time"

	"livego/internal/cluster/replica"
	"livego/internal/domain"
	"livego/internal/stream"
)

// The back-off between attempts to replicate a stream. It doubles.
const (
	minBackoff = 100 * time.Millisecond
	maxBackoff = 2 * time.Second
)

// maxRooms limits the streams that are searched for on other nodes: a client may request any name.
const maxRooms = 1 << 16

// sweepInterval is how often streams without viewers are searched for.
const sweepInterval = time.Second

// A room is a stream of another node that has viewers here, or had one just now. All of its viewers share
// one connection, and the result of each attempt to open it. Its fields are guarded by Node.mu.
type room struct {
	name    domain.Name
	waiting int       // viewers that wait for the session
	cancel  func()    // ends the replica; nil if there is none
	watched time.Time // when it had a viewer

	attempt *attempt // the next
	failed  *attempt // the last, if it failed
	backoff time.Duration
	retryAt time.Time // of the next
}

// An attempt is one to replicate a stream.
type attempt struct {
	failed chan struct{} // closed if it has failed
	err    error         // read after failed
}

func newAttempt() *attempt { return &attempt{failed: make(chan struct{})} }

// A search is a viewer that waits for a room.
type search struct {
	node    *Node
	room    *room
	attempt *attempt
	end     sync.Once
}

// Failed implements stream.Search.
func (s *search) Failed() <-chan struct{} { return s.attempt.failed }

// Err implements stream.Search.
func (s *search) Err() error { return s.attempt.err }

// End implements stream.Search.
func (s *search) End() {
	s.end.Do(func() {
		n, r := s.node, s.room
		live := n.opt.Hub.Has(r.name)
		n.mu.Lock()
		defer n.mu.Unlock()
		r.watched = time.Now()
		if r.waiting--; r.waiting == 0 && !live && r.cancel != nil {
			r.cancel()
		}
	})
}

// Search replicates name while viewers wait for it or watch it; nil if this node owns it. It is for
// stream.Options.Search.
func (n *Node) Search(name domain.Name) stream.Search {
	if _, ok := n.opt.Owner(name); !ok {
		return nil
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	r := n.rooms[name]
	switch {
	case n.closed, r == nil && len(n.rooms) >= maxRooms:
		return nil
	case r == nil:
		r = &room{name: name, attempt: newAttempt()}
		n.rooms[name] = r
	}
	s := &search{node: n, room: r, attempt: r.attempt}
	if time.Now().Before(r.retryAt) { // it has failed just now
		s.attempt = r.failed
	}
	r.watched = time.Now()
	r.waiting++
	if r.cancel == nil {
		ctx := n.startContext(r)
		n.work.Go(func() { n.replicate(ctx, r) })
	}
	return s
}

// startContext returns the context of a replica of r. The caller holds n.mu.
func (n *Node) startContext(r *room) context.Context {
	var ctx context.Context
	ctx, r.cancel = context.WithCancel(context.Background())
	return ctx
}

// replicate replicates r as long as it is wanted.
func (n *Node) replicate(ctx context.Context, r *room) {
	for ctx != nil {
		err := replica.Follow(ctx, n.opt.Hub, r.name, replica.FollowOptions{
			Node: n.opt.Identity.Node, Hold: n.set.Load().Hold, MinBackoff: minBackoff, MaxBackoff: maxBackoff, Log: n.opt.Log,
			Dial: func(ctx context.Context, after uint64) (net.Conn, error) { return n.open(ctx, r, after) },
		})
		if err != nil && ctx.Err() == nil {
			n.record(r, err)
		}
		n.opt.Log.Debug("replica ended", "stream", r.name.String(), "reason", err)
		ctx = n.next(ctx, r)
	}
}

// next returns the context for the next replica of r; nil if no viewer waits for one.
func (n *Node) next(ctx context.Context, r *room) context.Context {
	n.mu.Lock()
	defer n.mu.Unlock()
	switch {
	case n.closed, r.waiting == 0:
		r.cancel()
		r.cancel = nil
		return nil
	case ctx.Err() != nil: // a viewer has come since
		return n.startContext(r)
	}
	return ctx
}

// open connects to the owner of r, not before the back-off after the last failure.
func (n *Node) open(ctx context.Context, r *room, after uint64) (net.Conn, error) {
	n.mu.Lock()
	pause := time.Until(r.retryAt)
	n.mu.Unlock()
	if pause > 0 {
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	nc, err := n.connect(ctx, r.name, after)
	if ctx.Err() == nil {
		n.record(r, err)
	}
	return nc, err
}

// record records the result of an attempt for all that wait for it.
func (n *Node) record(r *room, err error) {
	if err != nil && domain.KindOf(err) != domain.NotFound {
		err = n.unreachable(r.name, err)
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if err == nil {
		r.backoff, r.retryAt, r.failed = 0, time.Time{}, nil
		return
	}
	r.backoff = min(max(2*r.backoff, minBackoff), maxBackoff)
	r.retryAt = time.Now().Add(r.backoff)
	r.failed, r.attempt = r.attempt, newAttempt()
	r.failed.err = err
	close(r.failed.failed)
}

// Run closes replicas that have no viewers, until ctx ends. Then it closes all.
func (n *Node) Run(ctx context.Context) {
	ticker := time.NewTicker(sweepInterval)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
			n.sweep()
		case <-ctx.Done():
			n.close()
			return
		}
	}
}

// targetsPerNode is how many target durations a stream is replicated without viewers for each node of the
// cluster: a player whose requests go to all nodes in turn comes back within that time.
const targetsPerNode = 3

// idle returns how long name is replicated without viewers.
func (n *Node) idle(name domain.Name) time.Duration {
	return max(n.set.Load().Idle, time.Duration(targetsPerNode*n.opt.Nodes)*n.opt.Target(name))
}

func (n *Node) sweep() {
	n.mu.Lock()
	rooms := make([]*room, 0, len(n.rooms))
	for _, r := range n.rooms {
		rooms = append(rooms, r)
	}
	n.mu.Unlock()
	for _, r := range rooms {
		watched, idle := n.opt.Watched(r.name), n.idle(r.name)
		now := time.Now()
		n.mu.Lock()
		switch {
		case r.waiting > 0 || watched:
			r.watched = now
		case r.cancel == nil && now.Sub(r.retryAt) > maxBackoff:
			delete(n.rooms, r.name)
		case r.cancel != nil && now.Sub(r.watched) >= idle:
			r.cancel()
		}
		n.mu.Unlock()
	}
}

func (n *Node) close() {
	n.mu.Lock()
	n.closed = true
	for _, r := range n.rooms {
		if r.cancel != nil {
			r.cancel()
		}
	}
	n.mu.Unlock()
	n.work.Wait()
	n.client.CloseIdleConnections()
	n.fetcher.CloseIdleConnections()
}
