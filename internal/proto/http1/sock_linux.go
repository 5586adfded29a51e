package http1

import (
	"errors"
	"io"
	"os"
	"sync"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"livego/internal/ops/netx"
)

// maxSend is how much one system call is given: a raw one holds its processor until it is done.
const maxSend = 256 << 10

// A socket reads and writes a TCP connection by system calls that never block; while there is
// nothing to do it waits in the runtime's poller. A buffer to read into it has only from the first
// byte of a request on.
type socket struct {
	srv *Server
	tcp *netx.Conn
	raw syscall.RawConn

	buf *[headSize]byte // nil when nothing has been read
	n   int             // bytes in it
	err error           // of the last call

	out         [2][]byte // what is to be sent
	sent        int
	iov         [2]unix.Iovec
	msg         unix.Msghdr
	lastSent    int       // of sent, when it was waited last
	queued      int       // what the kernel held then
	deadlineSet bool      // a deadline is set
	deadline    time.Time // when the answer must have gone; zero: never
	readFunc    func(fd uintptr) bool
	writeFunc   func(fd uintptr) bool
}

func (s *socket) open(srv *Server, tcp *netx.Conn) (err error) {
	s.srv, s.tcp, s.readFunc, s.writeFunc = srv, tcp, s.tryRead, s.trySend
	s.raw, err = tcp.SyscallConn()
	return err
}

// read waits for bytes, of which there is room for one or more, and reads them.
func (s *socket) read() error {
	s.err = nil
	if err := s.raw.Read(s.readFunc); err != nil {
		return err
	}
	return s.err
}

func (s *socket) tryRead(fd uintptr) (done bool) {
	if s.buf == nil {
		s.buf, _ = s.srv.bufs.Get().(*[headSize]byte)
		s.n = 0
	}
	n, err := netx.ReadNow(int(fd), s.buf[s.n:])
	switch {
	case errors.Is(err, unix.EAGAIN):
		if s.n == 0 {
			s.release() // most of the time of most connections is spent here
		}
		return false
	case err == nil && n == 0:
		err = io.EOF
	}
	s.n += n
	s.err = err
	return true
}

// send sends head and body, waiting as long as there is progress, and returns how many bytes of both went.
func (s *socket) send(head, body []byte) (int, error) {
	s.out, s.err, s.sent, s.lastSent = [2][]byte{head, body}, nil, 0, -1
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
		err = s.err
	}
	return s.sent, err
}

func (s *socket) trySend(fd uintptr) (done bool) {
	for len(s.out[0])+len(s.out[1]) > 0 {
		n, errno := s.sendOnce(fd)
		switch errno {
		case 0:
			s.advance(n)
		case unix.EINTR:
		case unix.EAGAIN:
			if s.sent > s.lastSent { // and not woken for nothing
				s.lastSent, s.deadlineSet = s.sent, true
				s.queued = netx.Queued(s.tcp)
				s.extendDeadline()
			}
			return false
		default:
			s.err = os.NewSyscallError("send", errno)
			return true
		}
	}
	return true
}

// extendDeadline gives the client time to take something, no longer than until.
func (s *socket) extendDeadline() {
	deadline := time.Now().Add(s.srv.opt.StallTimeout)
	if !s.deadline.IsZero() && s.deadline.Before(deadline) {
		deadline = s.deadline
	}
	_ = s.tcp.SetWriteDeadline(deadline)
}

// progressed reports whether the client's end has taken something since it was asked last. The
// kernel says that there is room when a third of what it holds has gone, which on a narrow line
// takes longer than a client may take nothing.
func (s *socket) progressed() bool {
	now := netx.Queued(s.tcp)
	less := now < s.queued
	s.queued = now
	return less
}

// sendOnce makes one system call.
func (s *socket) sendOnce(fd uintptr) (int, unix.Errno) {
	const flags = unix.MSG_DONTWAIT | unix.MSG_NOSIGNAL
	head, body := s.out[0], s.out[1][:min(len(s.out[1]), maxSend)]
	var n uintptr
	var errno unix.Errno
	if len(head) == 0 {
		n, _, errno = unix.RawSyscall6(unix.SYS_SENDTO, fd, uintptr(unsafe.Pointer(unsafe.SliceData(body))),
			uintptr(len(body)), flags, 0, 0)
	} else {
		s.iov[0].Base, s.iov[1].Base = unsafe.SliceData(head), unsafe.SliceData(body)
		s.iov[0].SetLen(len(head))
		s.iov[1].SetLen(len(body))
		s.msg.Iov = &s.iov[0]
		s.msg.SetIovlen(len(s.iov))
		n, _, errno = unix.RawSyscall(unix.SYS_SENDMSG, fd, uintptr(unsafe.Pointer(&s.msg)), flags)
		s.iov = [2]unix.Iovec{}
	}
	return int(n), errno
}

// advance notes that n more bytes went.
func (s *socket) advance(n int) {
	s.sent += n
	for i, b := range s.out {
		k := min(n, len(b))
		s.out[i] = b[k:]
		n -= k
	}
}

// disconnectNotifier notices clients who close while they are being answered: one epoll descriptor
// for all, which each connection is put into once. A reader beside each handler, as net/http has
// it, would be woken with each request.
type disconnectNotifier struct {
	epoll *os.File
	wg    sync.WaitGroup

	mu    sync.Mutex
	last  int64
	conns map[int64]*conn // descriptors come again, numbers don't
}

func newDisconnectNotifier() (*disconnectNotifier, error) {
	fd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, os.NewSyscallError("epoll_create1", err)
	}
	if err := unix.SetNonblock(fd, true); err != nil { // so that os takes it to the runtime's poller
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

// add has c's context end when its client has no more to send, and returns the number under which to forget it.
func (h *disconnectNotifier) add(c *conn) int64 {
	h.mu.Lock()
	h.last++
	id := h.last
	h.conns[id] = c
	h.mu.Unlock()
	_ = c.sock.raw.Control(func(fd uintptr) { // fails where c is closed, which is noticed
		ev := unix.EpollEvent{Events: unix.EPOLLRDHUP | 1<<31, Fd: int32(id), Pad: int32(id >> 32)}
		_ = h.control(int(fd), &ev)
	})
	return id
}

func (h *disconnectNotifier) control(fd int, ev *unix.EpollEvent) (err error) {
	raw, err := h.epoll.SyscallConn()
	if err != nil {
		return err
	}
	cerr := raw.Control(func(epfd uintptr) { err = unix.EpollCtl(int(epfd), unix.EPOLL_CTL_ADD, fd, ev) })
	if err == nil {
		err = cerr
	}
	return err
}

// remove forgets the connection of that number; the kernel does when it is closed.
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
