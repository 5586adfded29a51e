package fan

import (
	"errors"
	"os"
	"runtime/debug"
	"slices"
	"sync"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"livego/internal/netx"
	"livego/internal/stream"
)

// A viewer belongs to the writing goroutine of his loop, but for what mu guards.
type viewer struct {
	Conn
	feed *feed
	loop *loop
	sock int
	slot int // in his shard

	at       *node    // the last node whose bytes are in rest or sent; nil while he waits for a place to start
	next     *node    // where he starts, while at is nil
	rest     []byte   // to be sent before the next node,
	more     [][]byte // and then these
	paid     *node    // the node that is counted when rest is sent
	counted  progress // what is to be told of nodes that were
	started  bool     // has been given his start
	gop      uint64   // of his start, or of where he went on after a skip
	after    uint64   // at which place he waits for a start: node.total
	joined   time.Time
	given    uint64    // bytes given to the kernel
	taken    uint64    // of those, how many his end had acknowledged when that was last looked at
	progress time.Time // when it was more than before, or all
	looked   time.Time
	drain    stream.Drain
	pinged   time.Time
	caught   bool         // has been at the live edge
	full     bool         // the socket accepts no more
	err      error        // the reason to disconnect the viewer
	farewell bool         // and has been told
	bye      bool         // the last words are out,
	closing  netx.Closing // and this is the time to read them
	closed   bool         // also under mu

	reading sync.Mutex // held while sock is read, so that it is not closed meanwhile

	mu      sync.Mutex // held for short: the writer waits for it
	reply   []byte     // of Received, to be sent between two nodes
	unheard bool       // no more is read of him until reply has been sent
	gone    error      // he left
}

// startGrace is how long after joining a viewer who has never caught up is left alone.
const startGrace = 10 * time.Second

// hangUp makes the writer remove v.
func (v *viewer) hangUp(err error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.gone == nil {
		v.gone = err
	}
}

// maxReply is how many bytes of replies may wait for a viewer before no more is read of him: who asks and does not read the answers
// is not listened to, and ends as one who takes nothing.
const maxReply = 64 << 10

// receive reads once what v has sent. It reports whether the writer has something to do about it, and whether there may be more
// to read.
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
		v.hangUp(err)
		return true, false
	case n == 0:
		v.hangUp(errLeft)
		return true, false
	case v.Received == nil:
		return false, true
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	reply, err := v.hear(buf[:n])
	v.reply = append(v.reply, reply...)
	v.unheard = len(v.reply) > maxReply
	if v.gone == nil {
		v.gone = err
	}
	return len(v.reply) > 0 || v.gone != nil, v.gone == nil && !v.unheard
}

// hear is Received, but for panics: they end this viewer, and no other.
func (v *viewer) hear(b []byte) (reply []byte, err error) {
	defer func() {
		if r := recover(); r != nil {
			v.feed.fan.opt.Log.Error("panic", "panic", r, "stream", v.feed.name.String(), "stack", string(debug.Stack()))
			err = errPanic
		}
	}()
	return v.Received(b)
}

func (v *viewer) isGone() bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.gone != nil
}

// tend does what time and the operator ask for.
func (v *viewer) tend(now time.Time) {
	o := &v.feed.fan.opt
	select {
	case <-v.Viewer.Kicked():
		v.end(v.Viewer.Reason())
	default:
	}
	switch {
	case v.bye && v.closing.Over(now, v.unacknowledged()):
		v.hangUp(v.err)
	case now.Sub(v.looked) >= o.Stall/stallLooks && v.stalls(now) && now.Sub(v.progress) >= o.Stall:
		v.hangUp(os.ErrDeadlineExceeded)
	case v.Ping != nil && now.Sub(v.pinged) >= o.Ping:
		v.pinged = now
		v.mu.Lock()
		v.reply = append(v.reply, v.Ping()...)
		v.mu.Unlock()
	}
}

// stallLooks is how many times it is looked whether a viewer takes something, in the time in which he must.
const stallLooks = 10

// stalls reports whether the viewer's end has acknowledged nothing since the last look of what the kernel holds for him: he does
// not read, or his power is cut. His socket need not be full for that, and where it is, he may take it so slowly that we cannot add.
func (v *viewer) stalls(now time.Time) bool {
	queued, err := netx.QueuedNow(v.sock)
	if err != nil {
		return false
	}
	late := v.looked.Add(v.feed.fan.opt.Stall + time.Second)
	taken := v.given - uint64(queued)
	stalls := queued > 0 && taken == v.taken
	if !stalls || now.After(late) { // that late, it is we who were stopped
		v.progress = now
	}
	v.taken, v.looked = taken, now
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
	if v.err == nil {
		v.err = err
	}
}

// send sends what v has not got. full tells that its socket accepts no more. An error ends it.
func (v *viewer) send(b *batch, now time.Time) (full bool, err error) {
	for {
		b.reset()
		v.gather(b)
		if b.size == 0 {
			v.caught = v.caught || v.at != nil
			return false, nil
		}
		n, err := b.send(v.sock)
		if err != nil {
			return false, err
		}
		v.given += uint64(n)
		v.sent(n, now)
		if n < b.size {
			v.fallBehind(now)
			return true, nil
		}
		if v.drain.Free(now) {
			v.boundUnsent(v.Viewer.Backlog())
		}
		if v.farewell {
			o := &v.feed.fan.opt
			v.bye, v.closing = true, netx.NewClosing(now, v.unacknowledged(), o.Linger, o.Stall)
			_ = unix.Shutdown(v.sock, unix.SHUT_WR)
			return false, nil
		}
	}
}

// gather puts into b what is to be sent next. Between two nodes that may be a reply, or the last words.
func (v *viewer) gather(b *batch) {
	if v.bye {
		return
	}
	if len(v.rest) == 0 && len(v.more) == 0 {
		v.between()
	}
	if !b.add(v.rest) || !b.addAll(v.more) || v.farewell {
		return
	}
	if w := &v.loop.whole; b.size == 0 && v.at != nil && v.at == w.from {
		b.add(w.data)
		return
	}
	for nd := v.following(); nd != nil && nd.end == nil && b.addAll(v.partsOf(nd)); {
		nd = nd.next.Load()
	}
}

// between fills rest, which is empty, with what goes between two nodes.
func (v *viewer) between() {
	v.mu.Lock()
	v.rest, v.reply = v.reply, nil
	listen := v.unheard
	v.unheard = false
	v.mu.Unlock()
	if listen {
		v.loop.listen(v, unix.EPOLL_CTL_MOD) // which shows an edge anew
	}
	v.begin()
	if nd := v.following(); nd != nil && nd.end != nil {
		v.end(nd.end)
	}
	if v.err != nil && !v.farewell {
		v.farewell, v.at, v.next = true, nil, nil
		v.mu.Lock()
		v.rest = append(v.rest, v.Farewell(v.err)...)
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

// following returns the node after at, nil when there is none yet.
func (v *viewer) following() *node {
	if v.at == nil {
		return v.next
	}
	return v.at.next.Load()
}

// begin finds a waiting viewer a place to start.
func (v *viewer) begin() {
	if v.at != nil || v.next != nil || v.err != nil {
		return
	}
	last, newest := v.feed.newest()
	switch {
	case last.end != nil:
		v.next = last
	case !v.started:
		if v.next = v.feed.first(v.Waited); v.next != nil {
			v.started, v.gop = true, v.next.gop
			v.rest = append(v.rest[:len(v.rest):len(v.rest)], v.next.start...)
		}
	case newest != nil && newest.total > v.after:
		v.next, v.gop = newest, newest.gop
		v.rest = append(v.rest[:len(v.rest):len(v.rest)], newest.again...)
	}
}

// sent moves v on by n bytes.
func (v *viewer) sent(n int, now time.Time) {
	defer v.tell(now)
	for {
		k := min(n, len(v.rest))
		v.rest = v.rest[k:]
		n -= k
		if len(v.rest) > 0 {
			return
		}
		if v.rest = nil; len(v.more) > 0 {
			v.rest, v.more = v.more[0], v.more[1:]
			continue
		}
		v.count()
		if n == 0 {
			return
		}
		nd := v.following()
		v.at, v.next, v.more, v.paid = nd, nil, v.partsOf(nd), nd
	}
}

// A progress is what a viewer has been sent: payload bytes, up to a DTS.
type progress struct {
	video, audio int
	dts          time.Duration
}

// count counts the node that has been sent.
func (v *viewer) count() {
	if nd := v.paid; nd != nil {
		v.counted = progress{v.counted.video + nd.video, v.counted.audio + nd.audio, nd.dts}
		v.paid = nil
	}
}

// tell tells the statistics what was counted.
func (v *viewer) tell(now time.Time) {
	if c := v.counted; c != (progress{}) {
		v.Viewer.Progress(c.video, c.audio, c.dts, now)
		v.counted = progress{}
	}
}

// fallBehind sees to a viewer whose socket is full. One who is too far behind goes on, after the node that he is in the middle of,
// with the newest start there is then; who would make us hold too much waits for one. How far he is behind he sees himself when what
// the kernel holds for him has gone: that is counted.
func (v *viewer) fallBehind(now time.Time) {
	if v.at == nil || v.err != nil {
		return
	}
	o := &v.feed.fan.opt
	last, newest := v.feed.newest()
	behind := min(last.dts-v.at.dts, now.Sub(v.at.at)) // an encoder that catches up sends seconds at once: he is not late for that
	if queued, err := netx.QueuedNow(v.sock); err == nil {
		v.drain.Full(now, v.given, queued)
		behind += v.drain.Takes(queued + len(v.rest))
	}
	if n, changed := v.drain.Bound(); changed {
		v.boundUnsent(n)
	}
	late := (v.caught || now.Sub(v.joined) >= startGrace) && behind > o.MaxLatency
	if late && newest != nil && newest.total > v.at.total || v.feed.tooOld(v.at, last) {
		v.count()
		v.tell(now)
		v.after, v.at = v.at.total, nil
		v.Viewer.Skip()
	}
}

// boundUnsent has the kernel hold no more than n bytes unsent. It is a wish, as in netx.
func (v *viewer) boundUnsent(n int) {
	_ = unix.SetsockoptInt(v.sock, unix.IPPROTO_TCP, unix.TCP_NOTSENT_LOWAT, n)
}

// A whole is what comes after one place of a stream, copied in one piece: a system call takes that sooner than many parts, and it is
// made once for all viewers who stand there, who are most.
type whole struct {
	from *node // the place; nil where there is none
	data []byte
}

// fewViewers is for how many of them a copy costs more than it saves.
const fewViewers = 8

// lay makes w what viewers of a feed are to be sent.
func (w *whole) lay(viewers []*viewer) {
	w.from, w.data = nil, w.data[:0]
	if len(viewers) <= fewViewers {
		return
	}
	i := slices.IndexFunc(viewers, func(v *viewer) bool { return v.caught && !v.full && v.at != nil })
	if i < 0 {
		return
	}
	from := viewers[i].at
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

// batch is what one system call takes.
type batch struct {
	iov  [maxParts]unix.Iovec
	n    int
	size int
}

const (
	maxParts = 256
	maxBatch = 512 << 10
)

// reset empties b, and lets go of what was in it: seconds of a stream, after a viewer who has just begun.
func (b *batch) reset() {
	clear(b.iov[:b.n])
	b.n, b.size = 0, 0
}

// add adds p, and reports whether there is room for more.
func (b *batch) add(p []byte) bool {
	if len(p) > 0 {
		b.iov[b.n].Base = unsafe.SliceData(p)
		b.iov[b.n].SetLen(len(p))
		b.n++
		b.size += len(p)
	}
	return b.n < maxParts && b.size < maxBatch
}

// addAll adds parts until there is no room for more, and reports whether there is.
func (b *batch) addAll(parts [][]byte) bool {
	for _, p := range parts {
		if !b.add(p) {
			return false
		}
	}
	return true
}

// send tries to send b without blocking, and returns how many bytes went. The system calls are raw: they never block, and the
// scheduler's hand-off around those that may would cost as much as they do.
func (b *batch) send(sock int) (int, error) {
	const flags = unix.MSG_DONTWAIT | unix.MSG_NOSIGNAL
	for {
		var n uintptr
		var errno unix.Errno
		if b.n == 1 {
			n, _, errno = unix.RawSyscall6(unix.SYS_SENDTO, uintptr(sock), uintptr(unsafe.Pointer(b.iov[0].Base)), uintptr(b.size), flags, 0, 0)
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
