package http1

import (
	"bytes"
	"crypto/tls"
	"errors"
	"io"
	"os"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"livego/internal/ops/netx"
)

// maxSend is the most bytes in one system call: a raw one blocks its processor until it returns.
const maxSend = 256 << 10

// A socket reads and writes a connection by raw non-blocking system calls, and waits in the
// runtime's poller. It has a read buffer only while a request is being read. With TLS, it reads and
// writes the records. One goroutine may read while another writes.
type socket struct {
	readBuffer
	srv *Server
	tcp *netx.Conn
	tls *tls.Conn // over tcp; nil without TLS
	raw syscall.RawConn

	fd      int   // of tryRead, for the records
	readErr error // of tryRead

	recordMu sync.Mutex
	records  []byte // encrypted and unsent

	// Of the goroutine that sends, which holds sendMu:
	sendMu      sync.Mutex
	sendErr     error     // of trySend
	out         [2][]byte // head and body that are unsent
	sent        int
	lastSent    int       // value of sent at the last wait
	queued      int       // bytes that the kernel held then
	deadlineSet bool      // a write deadline is set
	deadline    time.Time // for the whole response; zero: none
	readFunc    func(fd uintptr) bool
	writeFunc   func(fd uintptr) bool
}

func (s *socket) open(c *conn) (err error) {
	s.srv, s.tcp, s.tls, s.readFunc, s.writeFunc = c.srv, c.tcp, c.tls, s.tryRead, s.trySend
	s.pool = &c.srv.bufs
	s.raw, err = s.tcp.SyscallConn()
	return err
}

// redirect makes the TLS connection read and write its records by s.
func (s *socket) redirect() error { return netx.Redirect(s.tls, recordLayer{s}) }

// restore makes the TLS connection use its socket again.
func (s *socket) restore() error {
	if s.tls == nil {
		return nil
	}
	if err := s.flush(); err != nil {
		return err
	}
	return netx.Redirect(s.tls, nil)
}

// close closes the connection, with a close_notify if the kernel takes it at once.
func (s *socket) close() {
	if s.tls != nil && s.tls.CloseWrite() == nil && len(s.records) > 0 {
		s.out = [2][]byte{nil, s.records}
		_ = s.raw.Write(func(fd uintptr) bool { // a client that has gone needs none
			_, _ = s.sendOnce(fd)
			return true
		})
	}
	_ = s.tcp.Close()
}

// flushSize is how many bytes are encrypted before the records are sent by one system call. A client
// that does not read holds so much memory.
const flushSize = 64 << 10

// A recordLayer is what a TLS connection reads its records from and writes them to.
type recordLayer struct{ *socket }

// Read reads records in tryRead.
func (r recordLayer) Read(p []byte) (int, error) {
	n, err := netx.ReadNow(r.fd, p)
	switch {
	case errors.Is(err, unix.EAGAIN):
		return 0, netx.ErrNoInput
	case err == nil && n == 0:
		return 0, io.EOF
	}
	return n, err
}

// Write keeps a record, of a response or of a reply to the client, such as to a KeyUpdate.
func (r recordLayer) Write(p []byte) (int, error) {
	r.recordMu.Lock()
	defer r.recordMu.Unlock()
	r.records = append(r.records, p...)
	return len(p), nil
}

// unsentRecords reports whether there are records to send.
func (s *socket) unsentRecords() bool {
	s.recordMu.Lock()
	defer s.recordMu.Unlock()
	return len(s.records) > 0
}

// flush sends the records.
func (s *socket) flush() error {
	s.sendMu.Lock()
	defer s.sendMu.Unlock()
	return s.flushLocked()
}

// flushLocked is flush for the goroutine that holds sendMu. Meanwhile a read may add records.
func (s *socket) flushLocked() error {
	s.recordMu.Lock()
	b := s.records
	s.records = nil
	s.recordMu.Unlock()
	if len(b) == 0 {
		return nil
	}
	_, err := s.sendRaw(nil, b)
	s.recordMu.Lock()
	defer s.recordMu.Unlock()
	s.records = append(b[:0], s.records...)
	return err
}

// sendEncrypted is send for TLS.
func (s *socket) sendEncrypted(head, body []byte) (sent int, err error) {
	buf, _ := s.srv.records.Get().(*[]byte)
	s.recordMu.Lock()
	s.records = append((*buf)[:0], s.records...)
	s.recordMu.Unlock()
	for _, b := range [...][]byte{head, body} {
		for len(b) > 0 && err == nil {
			n := min(len(b), flushSize)
			if _, err = s.tls.Write(b[:n]); err != nil {
				break
			}
			sent += n
			if b = b[n:]; len(b) > 0 {
				err = s.flushLocked()
			}
		}
	}
	if err == nil {
		err = s.flushLocked()
	}
	s.recordMu.Lock()
	*buf = s.records[:0]
	if s.records = bytes.Clone(s.records); len(s.records) == 0 {
		s.records = nil
	}
	s.recordMu.Unlock()
	s.srv.records.Put(buf)
	return sent, err
}

// read waits for bytes and reads them. The buffer must have room for one byte at least.
func (s *socket) read() error {
	s.readErr = nil
	if err := s.raw.Read(s.readFunc); err != nil {
		return err
	}
	if s.readErr == nil && s.tls != nil && s.unsentRecords() {
		return s.flush()
	}
	return s.readErr
}

func (s *socket) tryRead(fd uintptr) (done bool) {
	var n int
	var err error
	if s.tls == nil {
		n, err = netx.ReadNow(int(fd), s.room())
	} else {
		s.fd = int(fd)
		n, err = s.tls.Read(s.room())
	}
	switch {
	case errors.Is(err, unix.EAGAIN), errors.Is(err, netx.ErrNoInput):
		if s.n == 0 {
			s.release() // most connections spend most of their time here
		}
		return false
	case err == nil && n == 0:
		err = io.EOF
	}
	s.n += n
	s.readErr = err
	return true
}

// send writes head and body, as long as there is progress, and returns how many bytes of both were
// written.
func (s *socket) send(head, body []byte) (n int, err error) {
	s.sendMu.Lock()
	if s.tls != nil {
		n, err = s.sendEncrypted(head, body)
	} else {
		n, err = s.sendRaw(head, body)
	}
	s.sendMu.Unlock()
	return n, err
}

// sendBy is send with a deadline for b. It is for HTTP/2, which is over TLS.
func (s *socket) sendBy(b []byte, deadline time.Time) (int, error) {
	s.sendMu.Lock()
	defer s.sendMu.Unlock()
	s.deadline = deadline
	defer func() { s.deadline = time.Time{} }()
	return s.sendEncrypted(nil, b)
}

func (s *socket) sendRaw(head, body []byte) (int, error) {
	s.out, s.sendErr, s.sent, s.lastSent = [2][]byte{head, body}, nil, 0, -1
	err := s.raw.Write(s.writeFunc)
	for errors.Is(err, os.ErrDeadlineExceeded) && s.progressed() &&
		(s.deadline.IsZero() || time.Now().Before(s.deadline)) {
		s.extendDeadline()
		err = s.raw.Write(s.writeFunc)
	}
	if errors.Is(err, os.ErrDeadlineExceeded) {
		netx.DropUnsent(s.tcp)
	}
	s.out = [2][]byte{}
	if s.deadlineSet {
		s.deadlineSet = false
		_ = s.tcp.SetWriteDeadline(time.Time{})
	}
	if err == nil {
		err = s.sendErr
	}
	return s.sent, err
}

func (s *socket) trySend(fd uintptr) (done bool) {
	for len(s.out[0])+len(s.out[1]) > 0 {
		n, err := s.sendOnce(fd)
		switch {
		case err == nil:
			s.advance(n)
		case errors.Is(err, unix.EAGAIN):
			if s.sent > s.lastSent { // otherwise the wake-up was spurious
				s.lastSent, s.deadlineSet = s.sent, true
				s.queued = netx.Queued(s.tcp)
				s.extendDeadline()
			}
			return false
		default:
			s.sendErr = err
			return true
		}
	}
	return true
}

// extendDeadline gives the client another StallTimeout, up to the deadline.
func (s *socket) extendDeadline() {
	deadline := time.Now().Add(s.srv.opt.StallTimeout)
	if !s.deadline.IsZero() && s.deadline.Before(deadline) {
		deadline = s.deadline
	}
	_ = s.tcp.SetWriteDeadline(deadline)
}

// progressed reports whether the peer has acknowledged bytes since the last call. The kernel
// reports room when a third of its buffer is free, which may take longer than StallTimeout on a
// slow line.
func (s *socket) progressed() bool {
	now := netx.Queued(s.tcp)
	less := now < s.queued
	s.queued = now
	return less
}

// sendOnce sends by one system call.
func (s *socket) sendOnce(fd uintptr) (int, error) {
	var iov [len(s.out)]unix.Iovec
	parts := s.out[:]
	if len(parts[0]) == 0 {
		parts = parts[1:]
	}
	body := s.out[1]
	s.out[1] = body[:min(len(body), maxSend)]
	n, err := netx.SendNow(int(fd), parts, iov[:])
	s.out[1] = body
	return n, err
}

// advance records that n more bytes were written.
func (s *socket) advance(n int) {
	s.sent += n
	for i, b := range s.out {
		k := min(n, len(b))
		s.out[i] = b[k:]
		n -= k
	}
}

// disconnectNotifier detects clients that disconnect while their requests are served, by one epoll
// descriptor for all connections. A reading goroutine beside each handler, as in net/http, would be
// woken with each request.
type disconnectNotifier struct {
	epoll *os.File
	wg    sync.WaitGroup

	mu    sync.Mutex
	last  int64
	conns map[int64]*conn // by ID: file descriptors are reused, IDs are not
}

func newDisconnectNotifier() (*disconnectNotifier, error) {
	fd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, os.NewSyscallError("epoll_create1", err)
	}
	if err := unix.SetNonblock(fd, true); err != nil { // required for the runtime's poller
		_ = unix.Close(fd)
		return nil, os.NewSyscallError("fcntl", err)
	}
	h := &disconnectNotifier{epoll: os.NewFile(uintptr(fd), "epoll"), conns: make(map[int64]*conn)}
	h.wg.Go(h.run)
	return h, nil
}

func (h *disconnectNotifier) close() {
	h.epoll.Close()
	h.wg.Wait()
}

// add registers c, whose context ends when its client closes the sending side. It returns an ID for
// remove.
func (h *disconnectNotifier) add(c *conn) int64 {
	h.mu.Lock()
	h.last++
	id := h.last
	h.conns[id] = c
	h.mu.Unlock()
	// If Control fails, c is closed, which the next read reports.
	_ = c.sock.raw.Control(func(fd uintptr) {
		ev := unix.EpollEvent{Events: unix.EPOLLRDHUP | 1<<31, Fd: int32(id), Pad: int32(id >> 32)}
		_ = h.control(unix.EPOLL_CTL_ADD, int(fd), &ev)
	})
	return id
}

func (h *disconnectNotifier) control(op, fd int, ev *unix.EpollEvent) (err error) {
	raw, err := h.epoll.SyscallConn()
	if err != nil {
		return err
	}
	cerr := raw.Control(func(epfd uintptr) { err = unix.EpollCtl(int(epfd), op, fd, ev) })
	if err == nil {
		err = cerr
	}
	return err
}

// unwatch ends the registration of c, whose descriptor gets another owner.
func (h *disconnectNotifier) unwatch(c *conn) {
	_ = c.sock.raw.Control(func(fd uintptr) { _ = h.control(unix.EPOLL_CTL_DEL, int(fd), nil) })
}

// remove removes the connection of id. The kernel removes its descriptor when it is closed.
func (h *disconnectNotifier) remove(id int64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.conns, id)
}

func (h *disconnectNotifier) run() {
	raw, err := h.epoll.SyscallConn()
	if err != nil {
		return
	}
	events := make([]unix.EpollEvent, 128)
	for {
		n := 0
		err := raw.Read(func(fd uintptr) bool {
			n, _ = unix.EpollWait(int(fd), events, 0)
			return n > 0
		})
		if err != nil {
			return
		}
		h.mu.Lock()
		for _, ev := range events[:n] {
			if c := h.conns[int64(ev.Pad)<<32|int64(uint32(ev.Fd))]; c != nil {
				c.cancel()
			}
		}
		h.mu.Unlock()
	}
}
