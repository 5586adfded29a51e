package fanout

import (
	"cmp"
	"log/slog"
	"sync"
	"time"

	"livego/internal/ops/netx"
)

// A viewer is the state of a viewer, whatever moves its bytes. It belongs to the goroutine that
// sends to the viewer, except for what mu guards.
type viewer struct {
	Viewer
	feed      *feed
	transport transport

	position
	// current is the last node whose bytes are in pending or were sent; nil while the viewer waits
	// for a start.
	current      *node
	searched     *node         // the last node that was checked for a start; nil once the viewer has started
	next         *node         // where it starts, while current is nil
	pending      []byte        // to send before the next node,
	pendingParts [][]byte      // and then these
	uncounted    *node         // node to count when pending is sent
	withoutVideo bool          // of uncounted
	unreported   writeProgress // counted, but not in statistics yet
	resumeAfter  uint64        // node.total after which it waits for a start
	joined       time.Time
	written      uint64 // bytes given to the transport
	sendRate     sendRate
	pingedAt     time.Time
	caughtUp     bool             // has reached the live edge
	blocked      bool             // the transport accepts no more
	closeReason  error            // why to disconnect the viewer
	ending       bool             // its last bytes are in pending or sent
	closeSent    bool             // the last bytes are sent,
	closing      netx.LingerTimer // and this is the time to read them

	mu           sync.Mutex // held briefly: the sender waits for it
	reply        []byte     // of Receive and Ping, to send between two nodes
	readPaused   bool       // nothing is read until reply is sent
	ignoresInput bool       // what is received is discarded
	leave        error      // why to disconnect it once reply is sent
	gone         error      // it left
}

// A transport moves the bytes of a viewer.
type transport interface {
	// queued returns how many of the bytes given to the transport the viewer's end has not
	// acknowledged; 0 if that is unknown. The sender calls it.
	queued() int
	// setUnsentLimit limits the bytes that the kernel holds unsent.
	setUnsentLimit(n int)
	// resumeReading continues to read after a pause.
	resumeReading()
}

func newViewer(fd *feed, c Viewer) *viewer {
	now := time.Now()
	v := &viewer{Viewer: c, feed: fd, pending: c.Prefix, joined: now, pingedAt: now}
	v.searched, _ = fd.newest()
	v.Prefix = nil // now in pending
	return v
}

// startGrace is how long after joining a viewer that never reached the live edge may be late.
const startGrace = 10 * time.Second

// abort has the sender remove v.
func (v *viewer) abort(err error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.gone = cmp.Or(v.gone, err)
}

// whyGone returns why v has left; nil if it has not.
func (v *viewer) whyGone() error {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.gone
}

// maxReply is how many bytes of replies may wait for a viewer before no more is read from it. A
// viewer that sends requests and reads no replies then ends as a stalled one.
const maxReply = 64 << 10

// receive handles what v has sent. notify reports that the sender has something to do, and more that
// more may be read.
func (v *viewer) receive(b []byte) (notify, more bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.ignoresInput || v.gone != nil {
		return false, v.gone == nil
	}
	reply, err := v.feed.broadcaster.receive(v.Protocol, b)
	v.reply = append(v.reply, reply...)
	v.readPaused = len(v.reply) > maxReply
	switch {
	case err == nil:
	case len(reply) == 0:
		v.gone, v.ignoresInput = err, true
	default:
		v.leave, v.ignoresInput = err, true
	}
	return len(v.reply) > 0 || v.ignoresInput, v.gone == nil && !v.readPaused
}

// ping sends a ping if one is due. A viewer whose connection is blocked gets none: its connection
// ends if there is no progress.
func (v *viewer) ping(now time.Time) {
	late := now.Sub(v.pingedAt) - v.feed.broadcaster.options().PingInterval
	if v.blocked || v.ending || late < 0 {
		return
	}
	v.pingedAt = now
	v.mu.Lock()
	defer v.mu.Unlock()
	ping, err := v.Ping(late > maxPingDelay)
	v.reply = append(v.reply, ping...)
	v.gone = cmp.Or(v.gone, err)
}

// checkKicked has v end if it was kicked.
func (v *viewer) checkKicked() {
	select {
	case <-v.Stats.Kicked():
		v.end(v.Stats.Reason())
	default:
	}
}

// end makes v end after its current node, with a close message.
func (v *viewer) end(err error) { v.closeReason = cmp.Or(v.closeReason, err) }

// endError returns why v has ended, if its connection fails with err.
func (v *viewer) endError(err error) error {
	if v.ending {
		return v.closeReason // it disconnected because the server did
	}
	return err
}

// fill adds to b what v is to be sent next. Between two nodes that may be a reply or the close
// message. w may have a copy of the next nodes.
func (v *viewer) fill(b *batch, w *coalescedBatch) {
	b.reset()
	if v.closeSent {
		return
	}
	if len(v.pending) == 0 && len(v.pendingParts) == 0 {
		v.refill()
	}
	if !b.add(v.pending) || !b.addAll(v.pendingParts) || v.ending {
		return
	}
	if b.size == 0 && v.current != nil && v.current == w.from && !v.audioOnly && len(w.data) <= b.most {
		b.add(w.data)
		return
	}
	at := v.position
	for nd := v.nextNode(); nd != nil && nd.end == nil; nd = nd.next.Load() {
		header, parts := at.parts(nd)
		if !b.add(header) || !b.addAll(parts) {
			return
		}
	}
}

// refill puts into pending, which is empty, what is to be sent between two nodes.
func (v *viewer) refill() {
	v.mu.Lock()
	v.pending, v.reply = v.reply, nil
	paused, leave := v.readPaused, v.leave
	v.readPaused = false
	v.mu.Unlock()
	if paused {
		v.transport.resumeReading()
	}
	if v.ending {
		return
	}
	if leave != nil { // the reply is its last message
		v.closeReason, v.ending, v.current, v.next = leave, true, nil, nil
		return
	}
	v.findStart()
	if nd := v.nextNode(); nd != nil && nd.end != nil {
		v.end(nd.end)
	}
	if v.closeReason != nil {
		v.ending, v.current, v.next = true, nil, nil
		v.mu.Lock()
		v.pending = append(v.pending, v.closeMessage()...)
		v.mu.Unlock()
	}
}

// closeMessage is Protocol.Close, but a panic ends only this viewer, without a message. The caller
// holds mu.
func (v *viewer) closeMessage() []byte {
	var panicked error
	defer v.feed.broadcaster.recoverTo(&panicked, slog.String("stream", v.Name.String()))
	return v.Close(v.closeReason)
}

// A position is where a viewer is among the gops of its feed.
type position struct {
	gop       uint64 // of its start, or of where it continued after a skip
	config    uint64 // of its start
	audioOnly bool   // it gets no video before the next start
}

// parts returns what a viewer at p is sent of nd, and moves p there.
func (p *position) parts(nd *node) (header []byte, parts [][]byte) {
	if p.audioOnly {
		if nd.gop == p.gop {
			return nil, nd.audioParts
		}
		p.gop, p.audioOnly = nd.gop, false
		if nd.config != p.config {
			header = nd.resume
		}
	}
	if p.gop > nd.forGOPs {
		return header, nil
	}
	return header, nd.parts
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
	case v.searched != nil && v.findFirst():
	case last.end != nil:
		v.next = last
	case v.searched == nil && newest != nil && newest.total > v.resumeAfter:
		v.startAt(newest, newest.resume, false)
	}
}

// findFirst finds where v starts, if it can start yet.
func (v *viewer) findFirst() bool {
	if nd := v.feed.startNode(v.Waited); nd != nil {
		v.startAt(nd, nd.start, false)
		return true
	}
	for nd := v.searched.next.Load(); nd != nil && nd.end == nil; nd = nd.next.Load() {
		switch v.searched = nd; {
		case nd.start != nil:
			v.startAt(nd, nd.start, false)
			return true
		case nd.audioStart != nil:
			v.startAt(nd, nd.audioStart, true)
			return true
		}
	}
	return false
}

// startAt makes v start at nd, after header.
func (v *viewer) startAt(nd *node, header []byte, audioOnly bool) {
	if v.searched != nil {
		v.transport.setUnsentLimit(v.feed.unsentLimit())
	}
	v.searched, v.next, v.position = nil, nd, position{nd.gop, nd.config, audioOnly}
	v.pending = append(v.pending[:len(v.pending):len(v.pending)], header...)
}

// advance moves v forward by n bytes.
func (v *viewer) advance(n int, now time.Time) {
	v.written += uint64(n)
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
			v.caughtUp = v.caughtUp || v.current != nil && v.nextNode() == nil
			return
		}
		nd := v.nextNode()
		v.current, v.next, v.uncounted = nd, nil, nd
		v.pending, v.pendingParts = v.position.parts(nd)
		v.withoutVideo = v.audioOnly
	}
}

// A writeProgress is what a viewer was sent: payload bytes, up to a DTS.
type writeProgress struct {
	video, audio int
	dts          time.Duration
}

// countNode counts the node that was sent.
func (v *viewer) countNode() {
	nd := v.uncounted
	if nd == nil {
		return
	}
	v.unreported.audio += nd.audio
	if !v.withoutVideo {
		v.unreported.video += nd.video
	}
	v.unreported.dts, v.uncounted = nd.dts, nil
}

// reportProgress adds what was counted to the statistics.
func (v *viewer) reportProgress(now time.Time) {
	if c := v.unreported; c != (writeProgress{}) {
		v.Stats.ObserveProgress(c.video, c.audio, c.dts, now)
		v.unreported = writeProgress{}
	}
}

// observeBlocked skips a viewer whose connection did not accept all at once, if it is too late.
// After its current node it continues with the newest start; if it would keep too many nodes in
// memory, it waits for one. oldest is the node up to which everything was given to the kernel. The
// viewer sees how late it is when its connection has taken what was sent, so that time counts too.
func (v *viewer) observeBlocked(now time.Time, oldest *node) {
	queued := v.transport.queued()
	v.sendRate.observeBlocked(now, v.written, queued)
	if n, changed := v.sendRate.unsentLimit(); changed {
		v.transport.setUnsentLimit(n)
	}
	if v.current == nil || v.closeReason != nil {
		return
	}
	o := v.feed.broadcaster.options()
	last, newest := v.feed.newest()
	// an encoder that catches up sends seconds at once: that makes no viewer late
	behind := min(last.dts-oldest.dts, now.Sub(oldest.at)) + v.sendRate.sendTime(queued+len(v.pending))
	late := (v.caughtUp || now.Sub(v.joined) >= startGrace) && behind > o.MaxLatency
	if late && newest != nil && newest.total > v.current.total || v.feed.tooOld(oldest, last) {
		v.countNode()
		v.reportProgress(now)
		v.resumeAfter, v.current = v.current.total, nil
		v.Stats.Skip()
	}
}

// observeUnblocked records that the connection accepted all at once.
func (v *viewer) observeUnblocked(now time.Time) {
	if v.sendRate.observeUnblocked(now) {
		v.transport.setUnsentLimit(v.feed.unsentLimit())
	}
}

// startLinger records that the last bytes are sent.
func (v *viewer) startLinger(now time.Time) {
	o := v.feed.broadcaster.options()
	v.closeSent, v.closing = true, netx.NewLingerTimer(now, v.transport.queued(), o.LingerTimeout, o.WriteTimeout)
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

// build makes w the batch of what follows from.
func (w *coalescedBatch) build(from *node) {
	w.from, w.data = nil, w.data[:0]
	for nd := from.next.Load(); nd != nil && nd.end == nil && len(w.data)+nd.size <= maxBatch; nd = nd.next.Load() {
		if nd.forGOPs != anyGOP { // not for all viewers
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

// A batch is the data of one write.
type batch struct {
	parts [][]byte
	size  int
	most  int // bytes
}

const (
	maxParts = 256
	maxBatch = 512 << 10
)

// reset empties b and releases its data, which may be seconds of a stream after a viewer's start.
func (b *batch) reset() {
	clear(b.parts)
	b.parts, b.size = b.parts[:0], 0
}

// add adds p, and reports whether there is room for more.
func (b *batch) add(p []byte) bool {
	p = p[:min(len(p), b.most-b.size)]
	if len(p) > 0 {
		b.parts = append(b.parts, p)
		b.size += len(p)
	}
	return len(b.parts) < maxParts && b.size < b.most
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
