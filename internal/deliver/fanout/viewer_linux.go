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

// A viewer belongs to the writing goroutine of his loop, but for what mu guards.
type viewer struct {
	Conn
	feed *feed
	loop *loop
	sock int
	slot int // in his shard

	current        *node         // the last node whose bytes are in rest or sent; nil while he waits for a place to start
	next           *node         // where he starts, while at is nil
	pending        []byte        // to be sent before the next node,
	pendingParts   [][]byte      // and then these
	uncounted      *node         // the node that is counted when rest is sent
	unreported     writeProgress // what is to be told of nodes that were
	started        bool          // has been given his start
	gop            uint64        // of his start, or of where he went on after a skip
	resumeAfter    uint64        // at which place he waits for a start: node.total
	joined         time.Time
	written        uint64    // bytes written to the kernel
	acked          uint64    // of those, how many his end had acknowledged when that was last looked at
	progressAt     time.Time // when it was more than before, or all
	stallCheckedAt time.Time
	sendRate       stream.SendRate
	pingedAt       time.Time
	caughtUp       bool             // has been at the live edge
	blocked        bool             // the socket accepts no more
	closeReason    error            // the reason to disconnect the viewer
	ending         bool             // and has been told
	closeSent      bool             // the last words are out,
	closing        netx.LingerTimer // and this is the time to read them
	closed         bool             // also under mu

	reading sync.Mutex // held while sock is read, so that it is not closed meanwhile

	mu         sync.Mutex // held for short: the writer waits for it
	reply      []byte     // of Received, to be sent between two nodes
	readPaused bool       // no more is read of him until reply has been sent
	gone       error      // he left
}

// startGrace is how long after joining a viewer who has never caught up is left alone.
const startGrace = 10 * time.Second

// abort makes the writer remove v.
func (v *viewer) abort(err error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.gone == nil {
		v.gone = err
	}
}

// maxReply is how many bytes of replies may wait for a viewer before no more is read of him: who
// asks and does not read the answers is not listened to, and ends as one who takes nothing.
const maxReply = 64 << 10

// receive reads once what v has sent. It reports whether the writer has something to do about it,
// and whether there may be more to read.
func (v *viewer) receive(buf []byte) (news, more bool) {
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

// receiveSafely is Received, but for panics: they end this viewer, and no other.
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

// housekeep does what time and the operator ask for.
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

// stallChecks is how many times it is looked whether a viewer takes something, in the time in which he must.
const stallChecks = 10

// stalls reports whether the viewer's end has acknowledged nothing since the last look of what the
// kernel holds for him: he does not read, or his power is cut. His socket need not be full for
// that, and where it is, he may take it so slowly that we cannot add.
func (v *viewer) stalls(now time.Time) bool {
	queued, err := netx.QueuedNow(v.sock)
	if err != nil {
		return false
	}
	late := v.stallCheckedAt.Add(v.feed.broadcaster.opt.WriteTimeout + time.Second)
	taken := v.written - uint64(queued)
	stalls := queued > 0 && taken == v.acked
	if !stalls || now.After(late) { // that late, it is we who were stopped
		v.progressAt = now
	}
	v.acked, v.stallCheckedAt = taken, now
	return stalls
}

// unacknowledged returns how many bytes the kernel holds for v. For the writer.
func (v *viewer) unacknowledged() int {
	n, _ := netx.QueuedNow(v.sock) // 0 where that is not known
	return n
}

// queuedNow returns how many bytes the kernel holds for v. Anybody may ask.
func (v *viewer) queuedNow() int {
	v.reading.Lock() // so that sock is not closed meanwhile, and another's
	defer v.reading.Unlock()
	if v.isGone() {
		return 0
	}
	n, _ := netx.QueuedNow(v.sock)
	return n
}

// end begins the end of v: what he is in the middle of, and the last words.
func (v *viewer) end(err error) {
	if v.closeReason == nil {
		v.closeReason = err
	}
}

// send sends what v has not got. full tells that its socket accepts no more. An error ends it.
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

// fillBatch puts into b what is to be sent next. Between two nodes that may be a reply, or the last words.
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

// refill fills rest, which is empty, with what goes refill two nodes.
func (v *viewer) refill() {
	v.mu.Lock()
	v.pending, v.reply = v.reply, nil
	listen := v.readPaused
	v.readPaused = false
	v.mu.Unlock()
	if listen {
		v.loop.armRead(v, unix.EPOLL_CTL_MOD) // which shows an edge anew
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

// partsOf returns what v is sent of nd.
func (v *viewer) partsOf(nd *node) [][]byte {
	if nd.leading && nd.gop == v.gop {
		return nil
	}
	return nd.parts
}

// nextNode returns the node after at, nil when there is none yet.
func (v *viewer) nextNode() *node {
	if v.current == nil {
		return v.next
	}
	return v.current.next.Load()
}

// findStart finds a waiting viewer a place to start.
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

// advance moves v on by n bytes.
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

// A writeProgress is what a viewer has been sent: payload bytes, up to a DTS.
type writeProgress struct {
	video, audio int
	dts          time.Duration
}

// countNode counts the node that has been sent.
func (v *viewer) countNode() {
	if nd := v.uncounted; nd != nil {
		v.unreported = writeProgress{v.unreported.video + nd.video, v.unreported.audio + nd.audio, nd.dts}
		v.uncounted = nil
	}
}

// reportProgress tells the statistics what was counted.
func (v *viewer) reportProgress(now time.Time) {
	if c := v.unreported; c != (writeProgress{}) {
		v.Viewer.ObserveProgress(c.video, c.audio, c.dts, now)
		v.unreported = writeProgress{}
	}
}

// handleBlocked sees to a viewer whose socket is full. One who is too far behind goes on, after the
// node that he is in the middle of, with the newest start there is then; who would make us hold too
// much waits for one. How far he is behind he sees himself when what the kernel holds for him has
// gone: that is counted.
func (v *viewer) handleBlocked(now time.Time) {
	if v.current == nil || v.closeReason != nil {
		return
	}
	o := &v.feed.broadcaster.opt
	last, newest := v.feed.newest()
	// an encoder that catches up sends seconds at once: he is not late for that
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

// setUnsentLimit has the kernel hold no more than n bytes unsent. It is a wish, as in netx.
func (v *viewer) setUnsentLimit(n int) {
	_ = unix.SetsockoptInt(v.sock, unix.IPPROTO_TCP, unix.TCP_NOTSENT_LOWAT, n)
}

// A coalescedBatch is what comes after one place of a stream, copied in one piece: a system call
// takes that sooner than many parts, and it is made once for all viewers who stand there, who are
// most.
type coalescedBatch struct {
	from *node // the place; nil where there is none
	data []byte
}

// maxUncoalescedViewers is for how many of them a copy costs more than it saves.
const maxUncoalescedViewers = 8

// build makes w what viewers of a feed are to be sent.
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
		if nd.leading { // not for everybody
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

// writeBatch is what one system call takes.
type writeBatch struct {
	iov  [maxParts]unix.Iovec
	n    int
	size int
}

const (
	maxParts = 256
	maxBatch = 512 << 10
)

// reset empties b, and lets go of what was in it: seconds of a stream, after a viewer who has just begun.
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

// send tries to send b without blocking, and returns how many bytes went. The system calls are raw:
// they never block, and the scheduler's hand-off around those that may would cost as much as they
// do.
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
