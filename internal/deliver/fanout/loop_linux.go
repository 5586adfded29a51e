package fanout

import (
	"context"
	"errors"
	"net"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// An Engine is the goroutines that read and write the sockets of all Broadcasters.
type Engine struct {
	loops []*loop
	next  atomic.Uint32
	wg    sync.WaitGroup
}

// NewEngine starts n loops.
func NewEngine(n int) (*Engine, error) {
	e := new(Engine)
	for range n {
		l, err := newLoop(len(e.loops))
		if err != nil {
			ctx, cancel := context.WithCancel(context.Background())
			cancel()
			e.Close(ctx)
			return nil, err
		}
		e.loops = append(e.loops, l)
		e.wg.Go(l.write)
		e.wg.Go(l.read)
	}
	return e, nil
}

func (e *Engine) size() int { return len(e.loops) }

// Close ends the loops when their viewers have left, or ctx is done.
func (e *Engine) Close(ctx context.Context) {
	var closing sync.WaitGroup
	for _, l := range e.loops {
		closing.Go(func() { l.close(ctx) })
	}
	closing.Wait()
	e.wg.Wait()
}

// wake notifies the loops that fd has a new node.
func (e *Engine) wake(fd *feed) {
	for i, l := range e.loops {
		if fd.viewers[i].Load() > 0 {
			l.mu.Lock()
			l.feeds = append(l.feeds, fd)
			l.mu.Unlock()
			l.wake()
		}
	}
}

// add passes v, on nc, to a loop. It reports false if no loop can serve nc, which is then unchanged.
func (e *Engine) add(v *viewer, nc net.Conn) bool {
	if len(e.loops) == 0 {
		return false
	}
	s, err := newSocket(v, nc)
	if err != nil {
		return false
	}
	s.loop = e.loops[e.next.Add(1)%uint32(len(e.loops))]
	s.loop.add(s)
	return true
}

// A loop serves some of the viewers: one goroutine writes, one reads.
type loop struct {
	index  int
	epfd   int
	epoll  *os.File      // epfd, registered with the runtime's poller
	wakeCh chan struct{} // wakes the writer
	done   chan struct{} // closed when the writer has ended

	// Of the writer.
	shards    map[*feed][]*socket
	count     int
	blocked   map[*socket]struct{} // viewers whose sockets were full
	sender    sender
	coalesced coalescedBatch

	mu       sync.Mutex
	bySock   map[int32]*socket
	added    []*socket
	feeds    []*feed   // with new nodes
	received []*socket // viewers for which the reader has something
	closing  bool      // end when the last viewer has left
	abort    bool      // end now
}

const (
	tickBusy = 10 * time.Millisecond  // how often writes to full sockets are retried
	tickIdle = 200 * time.Millisecond // how often housekeep runs
)

func newLoop(index int) (*loop, error) {
	epfd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, os.NewSyscallError("epoll_create1", err)
	}
	// os registers only non-blocking files with the runtime's poller.
	if err := unix.SetNonblock(epfd, true); err != nil {
		_ = unix.Close(epfd)
		return nil, os.NewSyscallError("fcntl", err)
	}
	return &loop{
		index: index, epfd: epfd, epoll: os.NewFile(uintptr(epfd), "epoll"),
		wakeCh: make(chan struct{}, 1), done: make(chan struct{}),
		shards: make(map[*feed][]*socket), blocked: make(map[*socket]struct{}), bySock: make(map[int32]*socket),
		sender: sender{batch: batch{most: maxBatch}},
	}, nil
}

// wake makes the writer process its events.
func (l *loop) wake() { notify(l.wakeCh) }

// close ends the loop when its last viewer has left, or ctx is done.
func (l *loop) close(ctx context.Context) {
	l.mu.Lock()
	l.closing = true
	l.mu.Unlock()
	l.wake()
	select {
	case <-l.done:
	case <-ctx.Done():
		l.mu.Lock()
		l.abort = true
		l.mu.Unlock()
		l.wake()
		<-l.done
	}
}

// add passes s to the loop.
func (l *loop) add(s *socket) {
	s.feed.viewers[l.index].Add(1)
	l.mu.Lock()
	l.added = append(l.added, s)
	l.mu.Unlock()
	l.wake()
}

// notify has the writer serve s.
func (l *loop) notify(s *socket) {
	l.mu.Lock()
	l.received = append(l.received, s)
	l.mu.Unlock()
	l.wake()
}

// read receives what viewers send, until the loop is closed.
func (l *loop) read() {
	raw, err := l.epoll.SyscallConn()
	if err != nil {
		return // already closed
	}
	events := make([]unix.EpollEvent, 128)
	buf, plain := make([]byte, 16<<10), make([]byte, 4<<10)
	unread := make(map[*socket]struct{}) // viewers that may have more: epoll reports an edge once
	for {
		err := raw.Read(func(fd uintptr) bool {
			n, _ := unix.EpollWait(int(fd), events, 0)
			l.mu.Lock()
			defer l.mu.Unlock()
			for _, ev := range events[:max(0, n)] {
				if s := l.bySock[ev.Fd]; s != nil {
					unread[s] = struct{}{}
				}
			}
			return len(unread) > 0
		})
		if err != nil {
			return
		}
		for s := range unread { // one read for each in turn, however much one viewer sends
			wake, more := s.read(buf, plain)
			if !more {
				delete(unread, s)
			}
			if wake {
				l.notify(s)
			}
		}
	}
}

// write sends to viewers until the loop is closed.
func (l *loop) write() {
	defer close(l.done)
	tick := time.NewTimer(tickIdle)
	defer tick.Stop()
	looked, tried := time.Now(), time.Now()
	for {
		pause := tickIdle
		if len(l.blocked) > 0 {
			pause = tickBusy
		}
		tick.Reset(pause)
		select {
		case <-l.wakeCh:
		case <-tick.C:
		}
		now := time.Now()
		if !l.processEvents(now) {
			return
		}
		switch {
		case now.Sub(looked) >= tickIdle:
			looked = now
			l.housekeep(now)
		case now.Sub(tried) >= tickBusy:
			tried = now
			for s := range l.blocked {
				l.serve(s, now)
			}
		}
	}
}

// processEvents serves viewers with new events. It returns false when the loop is to end.
func (l *loop) processEvents(now time.Time) bool {
	l.mu.Lock()
	added, feeds, received, closing, abort := l.added, l.feeds, l.received, l.closing, l.abort
	l.added, l.feeds, l.received = nil, nil, nil
	l.mu.Unlock()
	for _, s := range added {
		l.register(s)
		l.serve(s, now)
	}
	for _, s := range received {
		if !s.closed {
			l.serve(s, now)
		}
	}
	for _, fd := range feeds {
		shard := l.shards[fd]
		l.coalesce(shard)
		for _, s := range slices.Backward(shard) { // serve may remove s and move the last to its slot
			l.serve(s, now)
		}
		l.coalesced.from = nil
	}
	if !abort && (!closing || l.count > 0) {
		return true
	}
	for _, shard := range l.shards {
		for _, s := range slices.Backward(shard) {
			l.remove(s, context.Canceled)
		}
	}
	l.epoll.Close()
	return false
}

// coalesce makes the batch that most viewers of a feed are to be sent.
func (l *loop) coalesce(shard []*socket) {
	if len(shard) <= maxUncoalescedViewers {
		return
	}
	for _, s := range shard {
		if s.caughtUp && !s.blocked && s.current != nil {
			l.coalesced.build(s.current)
			return
		}
	}
}

// register makes s one of the loop's viewers.
func (l *loop) register(s *socket) {
	shard := l.shards[s.feed]
	s.slot = len(shard)
	l.shards[s.feed] = append(shard, s)
	l.count++
	l.mu.Lock()
	l.bySock[int32(s.fd)] = s
	l.mu.Unlock()
	l.armRead(s, unix.EPOLL_CTL_ADD)
}

// armRead makes epoll report what s sends or has sent. Epoll is edge-triggered: the reader reads
// until there is no more.
func (l *loop) armRead(s *socket, op int) {
	ev := unix.EpollEvent{Events: unix.EPOLLIN | unix.EPOLLRDHUP | 1<<31, Fd: int32(s.fd)}
	if err := unix.EpollCtl(l.epfd, op, s.fd, &ev); err != nil {
		s.abort(os.NewSyscallError("epoll_ctl", err))
	}
}

// remove closes the socket of s.
func (l *loop) remove(s *socket, err error) {
	shard := l.shards[s.feed]
	last := shard[len(shard)-1]
	shard[s.slot], last.slot = last, s.slot
	shard[len(shard)-1] = nil
	if shard = shard[:len(shard)-1]; len(shard) == 0 {
		delete(l.shards, s.feed)
	} else {
		l.shards[s.feed] = shard
	}
	l.count--
	delete(l.blocked, s)
	l.mu.Lock()
	delete(l.bySock, int32(s.fd))
	l.mu.Unlock()
	s.abort(err)
	s.close(errors.Is(err, os.ErrDeadlineExceeded))
	s.feed.viewers[l.index].Add(-1)
	s.feed.broadcaster.release(s.feed)
	s.Closed(err)
}

// housekeep runs the periodic checks of every viewer.
func (l *loop) housekeep(now time.Time) {
	l.coalesced.data = nil // release the memory of a burst
	for _, shard := range l.shards {
		for _, s := range slices.Backward(shard) {
			s.housekeep(now)
			l.serve(s, now)
		}
	}
}

// serve sends s what it has not received, as far as its socket accepts it.
func (l *loop) serve(s *socket, now time.Time) {
	err := s.whyGone()
	if err == nil {
		if err = s.send(&l.sender, &l.coalesced, now); err == nil {
			if s.blocked {
				l.blocked[s] = struct{}{}
			} else {
				delete(l.blocked, s)
			}
			return
		}
	}
	l.remove(s, s.endError(err))
}
