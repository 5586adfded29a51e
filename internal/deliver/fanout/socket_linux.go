package fanout

import (
	"cmp"
	"errors"
	"io"
	"net"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"livego/internal/ops/netx"
)

// A socket is the transport of a viewer that a loop serves. It belongs to the writing goroutine of
// the loop, except for what its mutexes guard.
type socket struct {
	*viewer
	loop *loop
	fd   int
	slot int // index in its shard

	tls    *netx.Memory // nil for plain TCP
	unsent []byte       // encrypted
	// unsentFrom is the last node that is not in unsent; nil if all was sent.
	unsentFrom *node
	lastQueued atomic.Int64 // the last result of queued

	acked          uint64    // bytes that its end had acknowledged at stallCheckedAt
	progressAt     time.Time // when acked last rose, or all was acknowledged
	stallCheckedAt time.Time
	closed         bool
	leaveLimiter   func()

	reading sync.Mutex // held during a read, so that fd is not closed
}

var errNotTCP = errors.New("fanout: not a TCP connection, or not one of a listener of netx")

// newSocket takes ownership of nc, which must be a TCP connection, possibly below TLS. If it fails,
// nc is unchanged.
func newSocket(v *viewer, nc net.Conn) (*socket, error) {
	tcp, plain := netx.PlainTCP(nc)
	if !plain {
		if tcp = netx.TCPUnderTLS(nc); tcp == nil {
			return nil, errNotTCP
		}
	}
	fd, err := netx.DetachFD(tcp)
	if err != nil {
		return nil, err
	}
	s := &socket{viewer: v, fd: fd, leaveLimiter: netx.Detach(nc), progressAt: v.joined, stallCheckedAt: v.joined}
	v.transport = s
	v.Stats.AttachSocket(func() int { return int(s.lastQueued.Load()) })
	if !plain {
		s.tls = netx.ToMemory(nc)
		s.open(nil, make([]byte, 1<<10)) // what was read with the request
	}
	return s, nil
}

// close closes the socket. dropUnsent has the kernel drop what is unsent, which it would keep for
// minutes.
func (s *socket) close(dropUnsent bool) {
	if dropUnsent {
		_ = unix.SetsockoptLinger(s.fd, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1})
	}
	s.reading.Lock() // the reader may be in a read
	_ = unix.Close(s.fd)
	s.closed = true
	s.reading.Unlock()
	s.leaveLimiter()
}

// read reads once from s into buf. plain is memory for decrypted bytes. wake reports that the writer
// has something to do, and more that there may be more to read.
func (s *socket) read(buf, plain []byte) (wake, more bool) {
	s.reading.Lock()
	defer s.reading.Unlock()
	if s.whyGone() != nil {
		return false, false
	}
	n, err := netx.ReadNow(s.fd, buf)
	switch {
	case errors.Is(err, unix.EAGAIN):
		return false, false
	case err != nil:
		s.abort(err)
		return true, false
	case n == 0:
		s.abort(errViewerLeft)
		return true, false
	}
	if s.tls == nil {
		return s.receive(buf[:n])
	}
	return s.open(buf[:n], plain)
}

// open decrypts received bytes into plain. The reader calls it, and newSocket before.
func (s *socket) open(received, plain []byte) (wake, more bool) {
	more = true
	err := s.tls.Open(received, plain, func(b []byte) {
		w, m := s.receive(b)
		wake, more = wake || w, more && m
	})
	output := s.tls.Output()
	switch {
	case err == nil && output <= maxReply:
		return wake || output > 0, more
	case err == nil:
		err = errRepliesUnread
	case errors.Is(err, io.EOF):
		err = errViewerLeft
	}
	s.abort(err)
	return true, false
}

// errRepliesUnread ends a viewer that requests new keys and reads no replies.
var errRepliesUnread = errors.New("the viewer does not read replies of TLS")

// resumeReading implements transport: epoll reports unread data as a new edge.
func (s *socket) resumeReading() { s.loop.armRead(s, unix.EPOLL_CTL_MOD) }

// queued implements transport. Only the writer may call it: at each stall check, and while s is
// blocked. Statistics use the last result, because a system call for each viewer takes as long as
// all else of them.
func (s *socket) queued() int {
	n, _ := netx.QueuedNow(s.fd) // 0 if that is not known
	n += len(s.unsent)
	s.lastQueued.Store(int64(n))
	return n
}

// setUnsentLimit implements transport. As in netx, errors are ignored.
func (s *socket) setUnsentLimit(n int) {
	_ = unix.SetsockoptInt(s.fd, unix.IPPROTO_TCP, unix.TCP_NOTSENT_LOWAT, n)
}

// housekeep checks whether s was kicked, is stalled or is due for a ping.
func (s *socket) housekeep(now time.Time) {
	o := s.feed.broadcaster.options()
	s.checkKicked()
	switch {
	case s.closeSent && s.closing.Expired(now, s.queued()):
		s.abort(s.closeReason)
	case now.Sub(s.stallCheckedAt) >= o.WriteTimeout/stallChecks && s.stalls(now) &&
		now.Sub(s.progressAt) >= o.WriteTimeout:
		s.abort(os.ErrDeadlineExceeded)
	default:
		s.ping(now)
	}
}

// stallChecks is how often stalls is called within WriteTimeout.
const stallChecks = 10

// stalls reports whether the viewer's end has acknowledged nothing since the last call of what the
// kernel holds for it: it does not read, or has lost power. Its socket need not be full for that,
// and a full one may empty so slowly that no write succeeds.
func (s *socket) stalls(now time.Time) bool {
	queued := s.queued()
	late := s.stallCheckedAt.Add(s.feed.broadcaster.options().WriteTimeout + time.Second)
	taken := s.written - uint64(queued)
	stalls := queued > 0 && taken == s.acked
	if !stalls || now.After(late) { // that late, the server itself was stopped
		s.progressAt = now
	}
	s.acked, s.stallCheckedAt = taken, now
	return stalls
}

// send sends what s has not received, as far as its socket accepts it. An error ends s.
func (s *socket) send(d *sender, w *coalescedBatch, now time.Time) error {
	s.blocked = false
	if s.tls != nil {
		if err := s.sendUnsent(d, now); err != nil || s.blocked {
			return err
		}
	}
	for {
		if d.batch.most = maxBatch; s.tls != nil {
			d.batch.most = maxRecords
			if s.sendRate.slow() {
				d.batch.most = min(maxRecords, s.sendRate.writeSize())
			}
		}
		if s.fill(&d.batch, w); d.batch.size == 0 {
			return s.finish(d, now)
		}
		err := s.sendBatch(d, now)
		if err != nil || s.blocked {
			return err
		}
		s.observeUnblocked(now)
	}
}

// sendBatch sends the batch of d.
func (s *socket) sendBatch(d *sender, now time.Time) error {
	if s.tls != nil {
		return s.sendRecords(d, now)
	}
	n, err := d.send(s.fd, d.batch.parts)
	if err != nil {
		return err
	}
	s.advance(n, now)
	if s.blocked = n < d.batch.size; s.blocked {
		s.observeBlocked(now, s.current)
	}
	return nil
}

// finish closes the sending side once the last bytes are sent.
func (s *socket) finish(d *sender, now time.Time) error {
	if !s.ending || s.closeSent {
		return nil
	}
	if s.tls != nil {
		_ = s.tls.CloseWrite() // writes to memory
		if err := s.sendUnsent(d, now); err != nil || s.blocked {
			return err
		}
	}
	s.startLinger(now)
	_ = unix.Shutdown(s.fd, unix.SHUT_WR)
	return nil
}

// maxRecords is the most bytes that are encrypted at once: four full records. What a socket does not
// accept of them is copied.
const maxRecords = 64 << 10

// sendRecords encrypts the batch of d, and sends that by one system call. Nothing is encrypted while
// encrypted bytes are unsent, and what is unsent counts as not sent.
func (s *socket) sendRecords(d *sender, now time.Time) error {
	b := d.batch.parts[0]
	if len(d.batch.parts) > 1 {
		d.plain = d.plain[:0]
		for _, p := range d.batch.parts {
			d.plain = append(d.plain, p...)
		}
		b = d.plain
	}
	records, err := s.tls.Seal(d.records, b)
	d.records = records[:0]
	if err != nil {
		return err
	}
	from := s.current
	s.advance(len(b), now)
	s.written += uint64(len(records) - len(b))
	n, err := d.sendOne(s.fd, records)
	if err != nil {
		return err
	}
	if n < len(records) {
		s.unsent, s.unsentFrom = slices.Clone(records[n:]), from
		s.block(now)
	}
	return nil
}

// sendUnsent sends encrypted bytes that have not been sent.
func (s *socket) sendUnsent(d *sender, now time.Time) error {
	for {
		if len(s.unsent) == 0 {
			s.unsent = s.tls.Take()
			s.written += uint64(len(s.unsent))
		}
		if len(s.unsent) == 0 {
			s.unsent, s.unsentFrom = nil, nil
			return nil
		}
		n, err := d.sendOne(s.fd, s.unsent)
		if err != nil {
			return err
		}
		if s.unsent = s.unsent[n:]; len(s.unsent) > 0 {
			s.block(now)
			return nil
		}
	}
}

// block records that unsent could not be sent.
func (s *socket) block(now time.Time) {
	s.blocked = true
	s.observeBlocked(now, cmp.Or(s.unsentFrom, s.current))
	if s.current == nil { // it keeps no nodes after a skip, however slowly unsent is read
		s.unsentFrom = nil
	}
}

// A sender sends batches by system calls, for one loop.
type sender struct {
	batch          batch
	plain, records []byte // for TLS
	iov            [maxParts]unix.Iovec
}

// sendOne is send for one part.
func (d *sender) sendOne(fd int, p []byte) (int, error) { return d.send(fd, [][]byte{p}) }

// send sends parts, as many bytes as the kernel accepts at once, and returns how many.
func (d *sender) send(fd int, parts [][]byte) (int, error) {
	n, err := netx.SendNow(fd, parts, d.iov[:])
	if errors.Is(err, unix.EAGAIN) {
		err = nil
	}
	return n, err
}
