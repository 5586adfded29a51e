package fanout

import (
	"errors"
	"os"
	"runtime/debug"
	"slices"
	"sync"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"livego/internal/ops/netx"
	"livego/internal/stream"
)

// A viewer belongs to the writing goroutine of its loop, except for what mu guards.
type viewer struct {
	Conn
	feed *feed
	loop *loop
	sock int
	slot int // index in its shard

	// current is the last node whose bytes are in pending or were sent; nil while the viewer waits
	// for a start.
	current        *node
	next           *node         // where it starts, while current is nil
	pending        []byte        // to send before the next node,
	pendingParts   [][]byte      // and then these
	uncounted      *node         // node to count when pending is sent
	unreported     writeProgress // counted, but not in statistics yet
	started        bool          // has had its start
	gop            uint64        // of its start, or of where it continued after a skip
	resumeAfter    uint64        // node.total after which it waits for a start
	joined         time.Time
	written        uint64    // bytes given to the kernel
	acked          uint64    // of those, acknowledged by its end at stallCheckedAt
	progressAt     time.Time // when acked last rose, or all was acknowledged
	stallCheckedAt time.Time
	sendRate       stream.SendRate
	pingedAt       time.Time
	caughtUp       bool             // has reached the live edge
	blocked        bool             // the socket accepts no more
	closeReason    error            // why to disconnect the viewer
	ending         bool             // its close message is in pending or sent
	closeSent      bool             // the close message is sent,
	closing        netx.LingerTimer // and this is the time to read it
	closed         bool             // also under mu

	reading sync.Mutex // held during a read, so that sock is not closed

	mu         sync.Mutex // held briefly: the writer waits for it
	reply      []byte     // of OnReceive and Ping, to send between two nodes
	readPaused bool       // nothing is read until reply is sent
	gone       error      // it left
}

// startGrace is how long after joining a viewer that never reached the live edge may be late.
const startGrace = 10 * time.Second

// abort makes the writer remove v.
func (v *viewer) abort(err error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.gone == nil {
		v.gone = err
	}
}

// maxReply is how many bytes of replies may wait for a viewer before no more is read from it. A
// viewer that sends requests and reads no replies then ends as a stalled one.
const maxReply = 64 << 10

// receive reads once from v. notify reports that the writer has something to do, and more that
// there may be more to read.
func (v *viewer) receive(buf []byte) (notify, more bool) {
	v.reading.Lock()
	defer v.reading.Unlock()
	if v.isGone() {
		return false, false
	}
	n, err := netx.ReadNow(v.sock, buf)
	switch {
	case errors.Is(err, unix.EAGAIN):
		return false, false
	case err != nil:
		v.abort(err)
		return true, false
	case n == 0:
		v.abort(errViewerLeft)
		return true, false
	case v.OnReceive == nil:
		return false, true
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	reply, err := v.receiveSafely(buf[:n])
	v.reply = append(v.reply, reply...)
	v.readPaused = len(v.reply) > maxReply
	if v.gone == nil {
		v.gone = err
	}
	return len(v.reply) > 0 || v.gone != nil, v.gone == nil && !v.readPaused
}

// receiveSafely is OnReceive, but a panic ends only this viewer.
func (v *viewer) receiveSafely(b []byte) (reply []byte, err error) {
	defer func() {
		if r := recover(); r != nil {
			v.feed.broadcaster.opt.Log.Error("panic", "panic", r, "stream", v.feed.name.String(), "stack", string(debug.Stack()))
			err = errPanic
		}
	}()
	return v.OnReceive(b)
}

func (v *viewer) isGone() bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.gone != nil
}

// housekeep checks whether v was kicked, is stalled or is due for a ping.
func (v *viewer) housekeep(now time.Time) {
	o := &v.feed.broadcaster.opt
	select {
	case <-v.Viewer.Kicked():
		v.end(v.Viewer.Reason())
	default:
	}
	switch {
	case v.closeSent && v.closing.Expired(now, v.unacknowledged()):
		v.abort(v.closeReason)
	case now.Sub(v.stallCheckedAt) >= o.WriteTimeout/stallChecks && v.stalls(now) &&
		now.Sub(v.progressAt) >= o.WriteTimeout:
		v.abort(os.ErrDeadlineExceeded)
	case v.Ping != nil && now.Sub(v.pingedAt) >= o.PingInterval:
		v.pingedAt = now
		v.mu.Lock()
		v.reply = append(v.reply, v.Ping()...)
		v.mu.Unlock()
	}
}

// stallChecks is how often stalls is called within WriteTimeout.
const stallChecks = 10

// stalls reports whether the viewer's end has acknowledged nothing since the last call of what the
// kernel holds for it: it does not read, or has lost power. Its socket need not be full for that,
// and a full one may empty so slowly that no write succeeds.
func (v *viewer) stalls(now time.Time) bool {
	queued, err := netx.QueuedNow(v.sock)
	if err != nil {
		return false
	}
	late := v.stallCheckedAt.Add(v.feed.broadcaster.opt.WriteTimeout + time.Second)
	taken := v.written - uint64(queued)
	stalls := queued > 0 && taken == v.acked
	if !stalls || now.After(late) { // that late, the server itself was stopped
		v.progressAt = now
	}
	v.acked, v.stallCheckedAt = taken, now
	return stalls
}

// unacknowledged returns how many bytes the kernel holds for v. For the writer.
func (v *viewer) unacknowledged() int {
	n, _ := netx.QueuedNow(v.sock) // 0 if that is not known
	return n
}

// queuedNow returns how many bytes the kernel holds for v. Any goroutine may call it.
func (v *viewer) queuedNow() int {
	v.reading.Lock() // so that sock is not closed and reused
	defer v.reading.Unlock()
	if v.isGone() {
		return 0
	}
	n, _ := netx.QueuedNow(v.sock)
	return n
}

// end makes v end after its current node, with a close message.
func (v *viewer) end(err error) {
	if v.closeReason == nil {
		v.closeReason = err
	}
}

// send sends what v has not received. full reports that its socket accepts no more. An error ends
// v.
func (v *viewer) send(b *writeBatch, now time.Time) (full bool, err error) {
	for {
		b.reset()
		v.fillBatch(b)
		if b.size == 0 {
			v.caughtUp = v.caughtUp || v.current != nil
			return false, nil
		}
		n, err := b.send(v.sock)
		if err != nil {
			return false, err
		}
		v.written += uint64(n)
		v.advance(n, now)
		if n < b.size {
			v.handleBlocked(now)
			return true, nil
		}
		if v.sendRate.ObserveUnblocked(now) {
			v.setUnsentLimit(v.Viewer.UnsentLimit())
		}
		if v.ending {
			o := &v.feed.broadcaster.opt
			v.closeSent, v.closing = true, netx.NewLingerTimer(now, v.unacknowledged(), o.LingerTimeout, o.WriteTimeout)
			_ = unix.Shutdown(v.sock, unix.SHUT_WR)
			return false, nil
		}
	}
}

// fillBatch adds to b what v is to be sent next. Between two nodes that may be a reply or the close
// message.
func (v *viewer) fillBatch(b *writeBatch) {
	if v.closeSent {
		return
	}
	if len(v.pending) == 0 && len(v.pendingParts) == 0 {
		v.refill()
	}
	if !b.add(v.pending) || !b.addAll(v.pendingParts) || v.ending {
		return
	}
	if w := &v.loop.coalesced; b.size == 0 && v.current != nil && v.current == w.from {
		b.add(w.data)
		return
	}
	for nd := v.nextNode(); nd != nil && nd.end == nil && b.addAll(v.partsOf(nd)); {
		nd = nd.next.Load()
	}
}

// refill puts into pending, which is empty, what is to be sent between two nodes.
func (v *viewer) refill() {
	v.mu.Lock()
	v.pending, v.reply = v.reply, nil
	listen := v.readPaused
	v.readPaused = false
	v.mu.Unlock()
	if listen {
		v.loop.armRead(v, unix.EPOLL_CTL_MOD) // reports unread data as a new edge
	}
	v.findStart()
	if nd := v.nextNode(); nd != nil && nd.end != nil {
		v.end(nd.end)
	}
	if v.closeReason != nil && !v.ending {
		v.ending, v.current, v.next = true, nil, nil
		v.mu.Lock()
		v.pending = append(v.pending, v.CloseMessage(v.closeReason)...)
		v.mu.Unlock()
	}
}

// partsOf returns the parts of nd that v is sent.
func (v *viewer) partsOf(nd *node) [][]byte {
	if nd.leading && nd.gop == v.gop {
		return nil
	}
	return nd.parts
}

// nextNode returns the node after current, nil if there is none yet.
func (v *viewer) nextNode() *node {
	if v.current == nil {
		return v.next
	}
	return v.current.next.Load()
}

// findStart looks for the start of a viewer that waits for one.
func (v *viewer) findStart() {
	if v.current != nil || v.next != nil || v.closeReason != nil {
		return
	}
	last, newest := v.feed.newest()
	switch {
	case last.end != nil:
		v.next = last
	case !v.started:
		if v.next = v.feed.startNode(v.Waited); v.next != nil {
			v.started, v.gop = true, v.next.gop
			v.pending = append(v.pending[:len(v.pending):len(v.pending)], v.next.start...)
		}
	case newest != nil && newest.total > v.resumeAfter:
		v.next, v.gop = newest, newest.gop
		v.pending = append(v.pending[:len(v.pending):len(v.pending)], newest.resume...)
	}
}

// advance moves v forward by n bytes.
func (v *viewer) advance(n int, now time.Time) {
	defer v.reportProgress(now)
	for {
		k := min(n, len(v.pending))
		v.pending = v.pending[k:]
		n -= k
		if len(v.pending) > 0 {
			return
		}
		if v.pending = nil; len(v.pendingParts) > 0 {
			v.pending, v.pendingParts = v.pendingParts[0], v.pendingParts[1:]
			continue
		}
		v.countNode()
		if n == 0 {
			return
		}
		nd := v.nextNode()
		v.current, v.next, v.pendingParts, v.uncounted = nd, nil, v.partsOf(nd), nd
	}
}

// A writeProgress is what a viewer was sent: payload bytes, up to a DTS.
type writeProgress struct {
	video, audio int
	dts          time.Duration
}

// countNode counts the node that was sent.
func (v *viewer) countNode() {
	if nd := v.uncounted; nd != nil {
		v.unreported = writeProgress{v.unreported.video + nd.video, v.unreported.audio + nd.audio, nd.dts}
		v.uncounted = nil
	}
}

// reportProgress adds what was counted to the statistics.
func (v *viewer) reportProgress(now time.Time) {
	if c := v.unreported; c != (writeProgress{}) {
		v.Viewer.ObserveProgress(c.video, c.audio, c.dts, now)
		v.unreported = writeProgress{}
	}
}

// handleBlocked skips a viewer with a full socket if it is too late. After its current node it
// continues with the newest start; if it would keep too many nodes in memory, it waits for one. The
// viewer sees how late it is when the kernel has sent what it holds, so that time counts too.
func (v *viewer) handleBlocked(now time.Time) {
	if v.current == nil || v.closeReason != nil {
		return
	}
	o := &v.feed.broadcaster.opt
	last, newest := v.feed.newest()
	// an encoder that catches up sends seconds at once: that makes no viewer late
	behind := min(last.dts-v.current.dts, now.Sub(v.current.at))
	if queued, err := netx.QueuedNow(v.sock); err == nil {
		v.sendRate.ObserveBlocked(now, v.written, queued)
		behind += v.sendRate.SendTime(queued + len(v.pending))
	}
	if n, changed := v.sendRate.UnsentLimit(); changed {
		v.setUnsentLimit(n)
	}
	late := (v.caughtUp || now.Sub(v.joined) >= startGrace) && behind > o.MaxLatency
	if late && newest != nil && newest.total > v.current.total || v.feed.tooOld(v.current, last) {
		v.countNode()
		v.reportProgress(now)
		v.resumeAfter, v.current = v.current.total, nil
		v.Viewer.Skip()
	}
}

// setUnsentLimit limits the unsent bytes that the kernel holds. As in netx, errors are ignored.
func (v *viewer) setUnsentLimit(n int) {
	_ = unix.SetsockoptInt(v.sock, unix.IPPROTO_TCP, unix.TCP_NOTSENT_LOWAT, n)
}

// A coalescedBatch holds all bytes after one position of a stream in one piece. A system call
// accepts that faster than many parts, and it is made once for all viewers at that position, which
// are most.
type coalescedBatch struct {
	from *node // the position; nil if there is none
	data []byte
}

// maxUncoalescedViewers is the most viewers for which a copy costs more than it saves.
const maxUncoalescedViewers = 8

// build makes w the batch for viewers of a feed.
func (w *coalescedBatch) build(viewers []*viewer) {
	w.from, w.data = nil, w.data[:0]
	if len(viewers) <= maxUncoalescedViewers {
		return
	}
	i := slices.IndexFunc(viewers, func(v *viewer) bool { return v.caughtUp && !v.blocked && v.current != nil })
	if i < 0 {
		return
	}
	from := viewers[i].current
	for nd := from.next.Load(); nd != nil && nd.end == nil && len(w.data)+nd.size <= maxBatch; nd = nd.next.Load() {
		if nd.leading { // not for all viewers
			return
		}
		for _, p := range nd.parts {
			w.data = append(w.data, p...)
		}
	}
	if len(w.data) > 0 {
		w.from = from
	}
}

// A writeBatch is the data of one system call.
type writeBatch struct {
	iov  [maxParts]unix.Iovec
	n    int
	size int
}

const (
	maxParts = 256
	maxBatch = 512 << 10
)

// reset empties b and releases its data, which may be seconds of a stream after a viewer's start.
func (b *writeBatch) reset() {
	clear(b.iov[:b.n])
	b.n, b.size = 0, 0
}

// add adds p, and reports whether there is room for more.
func (b *writeBatch) add(p []byte) bool {
	if len(p) > 0 {
		b.iov[b.n].Base = unsafe.SliceData(p)
		b.iov[b.n].SetLen(len(p))
		b.n++
		b.size += len(p)
	}
	return b.n < maxParts && b.size < maxBatch
}

// addAll adds parts until there is no room for more, and reports whether there is.
func (b *writeBatch) addAll(parts [][]byte) bool {
	for _, p := range parts {
		if !b.add(p) {
			return false
		}
	}
	return true
}

// send sends b without blocking and returns how many bytes were sent. It uses raw system calls:
// they never block, and the scheduler hand-off around blocking ones would cost as much as the call.
func (b *writeBatch) send(sock int) (int, error) {
	const flags = unix.MSG_DONTWAIT | unix.MSG_NOSIGNAL
	for {
		var n uintptr
		var errno unix.Errno
		if b.n == 1 {
			n, _, errno = unix.RawSyscall6(unix.SYS_SENDTO, uintptr(sock), uintptr(unsafe.Pointer(b.iov[0].Base)),
				uintptr(b.size), flags, 0, 0)
		} else {
			msg := unix.Msghdr{Iov: &b.iov[0]}
			msg.SetIovlen(b.n)
			n, _, errno = unix.RawSyscall(unix.SYS_SENDMSG, uintptr(sock), uintptr(unsafe.Pointer(&msg)), flags)
		}
		switch errno {
		case 0:
			return int(n), nil
		case unix.EINTR:
		case unix.EAGAIN:
			return 0, nil
		default:
			return 0, os.NewSyscallError("send", errno)
		}
	}
}
