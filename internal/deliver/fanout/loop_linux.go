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

	"livego/internal/domain"
	"livego/internal/ops/netx"
)

var errNotTCP = errors.New("fanout: not a plain TCP connection")

// An Engine is the goroutines that read and write the sockets of all Broadcasters.
type Engine struct {
	loops []*loop
	next  atomic.Uint32
	wg    sync.WaitGroup
}

// NewEngine starts n loops.
func NewEngine(n int) (*Engine, error) {
	e := new(Engine)
	for i := range n {
		l, err := newLoop(i)
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

// CanServe reports whether f can serve a viewer on nc, which must be a plain TCP socket.
func (f *Broadcaster) CanServe(nc net.Conn) bool {
	_, ok := netx.PlainTCP(nc)
	return f != nil && ok
}

// Add takes ownership of nc, for which CanServe is true, and serves a viewer of name on it. If it
// fails, nc is unchanged.
func (f *Broadcaster) Add(name domain.Name, nc net.Conn, c Conn) error {
	fd, err := f.acquire(name, c.Waited)
	if err != nil {
		return err
	}
	tcp, ok := netx.PlainTCP(nc)
	if !ok {
		f.release(fd)
		return errNotTCP
	}
	sock, err := detach(tcp)
	if err != nil {
		f.release(fd)
		return err
	}
	left, leave := c.OnClose, netx.Detach(nc)
	c.OnClose = func(err error) {
		leave()
		left(err)
	}
	now := time.Now()
	l := f.engine.loops[f.engine.next.Add(1)%uint32(len(f.engine.loops))]
	v := &viewer{Conn: c, feed: fd, loop: l, sock: sock, pending: c.Prefix, joined: now, progressAt: now,
		stallCheckedAt: now, pingedAt: now}
	v.Prefix = nil // now in pending
	c.Viewer.AttachSocket(v.queuedNow, nil)
	l.add(v)
	return nil
}

// detach returns a descriptor of tcp's socket that the runtime's poller does not know, and closes
// tcp.
func detach(tcp *net.TCPConn) (int, error) {
	raw, err := tcp.SyscallConn()
	if err != nil {
		return -1, err
	}
	sock := -1
	var derr error
	if err := raw.Control(func(fd uintptr) { sock, derr = unix.FcntlInt(fd, unix.F_DUPFD_CLOEXEC, 0) }); err != nil {
		return -1, err
	}
	if derr != nil {
		return -1, derr
	}
	_ = tcp.Close() // the socket stays open
	return sock, nil
}

// A loop serves some of the viewers: one goroutine writes, one reads.
type loop struct {
	index  int
	epfd   int
	epoll  *os.File      // epfd, registered with the runtime's poller
	wakeCh chan struct{} // wakes the writer
	done   chan struct{} // closed when the writer has ended

	// Of the writer.
	shards    map[*feed][]*viewer
	count     int
	blocked   map[*viewer]struct{} // viewers whose sockets were full
	batch     writeBatch
	coalesced coalescedBatch

	mu       sync.Mutex
	bySock   map[int32]*viewer
	added    []*viewer
	feeds    []*feed   // with new nodes
	received []*viewer // viewers for which the reader has something
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
		shards: make(map[*feed][]*viewer), blocked: make(map[*viewer]struct{}), bySock: make(map[int32]*viewer),
	}, nil
}

// wake makes the writer process its events.
func (l *loop) wake() {
	select {
	case l.wakeCh <- struct{}{}:
	default:
	}
}

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

// add passes v to the loop.
func (l *loop) add(v *viewer) {
	v.feed.viewers[l.index].Add(1)
	l.mu.Lock()
	l.added = append(l.added, v)
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
	buf := make([]byte, 16<<10)
	unread := make(map[*viewer]struct{}) // viewers that may have more: epoll reports an edge once
	for {
		err := raw.Read(func(fd uintptr) bool {
			n, _ := unix.EpollWait(int(fd), events, 0)
			l.mu.Lock()
			defer l.mu.Unlock()
			for _, ev := range events[:max(0, n)] {
				if v := l.bySock[ev.Fd]; v != nil {
					unread[v] = struct{}{}
				}
			}
			return len(unread) > 0
		})
		if err != nil {
			return
		}
		for v := range unread { // one read for each in turn, however much one viewer sends
			notify, more := v.receive(buf)
			if !more {
				delete(unread, v)
			}
			if notify {
				l.mu.Lock()
				l.received = append(l.received, v)
				l.mu.Unlock()
				l.wake()
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
			for v := range l.blocked {
				l.serve(v, now)
			}
		}
	}
}

// processEvents serves viewers with new events. It returns false when the loop is to end.
func (l *loop) processEvents(now time.Time) bool {
	l.mu.Lock()
	added, feeds, heard, closing, cut := l.added, l.feeds, l.received, l.closing, l.abort
	l.added, l.feeds, l.received = nil, nil, nil
	l.mu.Unlock()
	for _, v := range added {
		l.register(v)
		l.serve(v, now)
	}
	for _, v := range heard {
		if !v.closed {
			l.serve(v, now)
		}
	}
	for _, fd := range feeds {
		shard := l.shards[fd]
		l.coalesced.build(shard)
		for _, v := range slices.Backward(shard) { // serve may remove v and move the last to its slot
			l.serve(v, now)
		}
		l.coalesced.from = nil
	}
	if !cut && (!closing || l.count > 0) {
		return true
	}
	for _, shard := range l.shards {
		for _, v := range slices.Backward(shard) {
			l.remove(v, context.Canceled)
		}
	}
	l.epoll.Close()
	return false
}

// register makes v one of the loop's viewers.
func (l *loop) register(v *viewer) {
	shard := l.shards[v.feed]
	v.slot = len(shard)
	l.shards[v.feed] = append(shard, v)
	l.count++
	l.mu.Lock()
	l.bySock[int32(v.sock)] = v
	l.mu.Unlock()
	l.armRead(v, unix.EPOLL_CTL_ADD)
}

// armRead makes epoll report what v sends or has sent. Epoll is edge-triggered: the reader reads
// until there is no more.
func (l *loop) armRead(v *viewer, op int) {
	ev := unix.EpollEvent{Events: unix.EPOLLIN | unix.EPOLLRDHUP | 1<<31, Fd: int32(v.sock)}
	if err := unix.EpollCtl(l.epfd, op, v.sock, &ev); err != nil {
		v.abort(os.NewSyscallError("epoll_ctl", err))
	}
}

// remove closes v's socket.
func (l *loop) remove(v *viewer, err error) {
	shard := l.shards[v.feed]
	last := shard[len(shard)-1]
	shard[v.slot], last.slot = last, v.slot
	shard[len(shard)-1] = nil
	if shard = shard[:len(shard)-1]; len(shard) == 0 {
		delete(l.shards, v.feed)
	} else {
		l.shards[v.feed] = shard
	}
	l.count--
	delete(l.blocked, v)
	l.mu.Lock()
	delete(l.bySock, int32(v.sock))
	l.mu.Unlock()
	if errors.Is(err, os.ErrDeadlineExceeded) { // drop unsent data: the kernel keeps it for minutes
		_ = unix.SetsockoptLinger(v.sock, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1})
	}
	v.abort(err)
	v.reading.Lock() // the reader may be in a read
	_ = unix.Close(v.sock)
	v.reading.Unlock()
	v.closed = true
	v.feed.viewers[l.index].Add(-1)
	v.feed.broadcaster.release(v.feed)
	v.OnClose(err)
}

// housekeep runs the periodic checks of every viewer.
func (l *loop) housekeep(now time.Time) {
	l.coalesced.data = nil // release the memory of a burst
	for _, shard := range l.shards {
		for _, v := range slices.Backward(shard) {
			v.housekeep(now)
			l.serve(v, now)
		}
	}
}

// serve sends v what it has not received, as far as its socket accepts it.
func (l *loop) serve(v *viewer, now time.Time) {
	v.mu.Lock()
	gone := v.gone
	v.mu.Unlock()
	if gone == nil {
		var full bool
		if full, gone = v.send(&l.batch, now); gone == nil {
			if full {
				l.blocked[v] = struct{}{}
			} else if v.blocked {
				delete(l.blocked, v)
			}
			v.blocked = full
			return
		}
	}
	if v.ending {
		gone = v.closeReason // it disconnected because the server did
	}
	l.remove(v, gone)
}

var errViewerLeft = errors.New("the viewer left")
