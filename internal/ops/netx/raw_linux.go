package netx

import (
	"io"
	"net"
	"os"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Go announces each blocking system call to the scheduler, which may have to wait for a thread, and
// which wakes its monitor: for milliseconds after a call, that polls every 20 us. For a call that
// never blocks and takes a microsecond, this is most of the cost. The calls below are raw, and
// avoid it.

// ReadNow reads available bytes from a non-blocking descriptor. The error is unix.EAGAIN if there
// are none. At the end of the stream n is 0.
func ReadNow(fd int, p []byte) (int, error) {
	for {
		n, _, errno := unix.RawSyscall(unix.SYS_READ, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(p))),
			uintptr(len(p)))
		switch errno {
		case 0:
			return int(n), nil
		case unix.EINTR:
		case unix.EAGAIN:
			return 0, errno
		default:
			return 0, os.NewSyscallError("read", errno)
		}
	}
}

// SendNow sends parts, as many bytes as the kernel accepts at once, and returns how many. The error is
// unix.EAGAIN if it accepts none. iov is memory for the call, with room for each of the parts.
func SendNow(fd int, parts [][]byte, iov []unix.Iovec) (int, error) {
	const flags = unix.MSG_DONTWAIT | unix.MSG_NOSIGNAL
	iov = iov[:len(parts)]
	for i, p := range parts {
		iov[i].Base = unsafe.SliceData(p)
		iov[i].SetLen(len(p))
	}
	n, errno := uintptr(0), unix.EINTR
	for errno == unix.EINTR {
		if len(parts) == 1 {
			n, _, errno = unix.RawSyscall6(unix.SYS_SENDTO, uintptr(fd), uintptr(unsafe.Pointer(iov[0].Base)),
				uintptr(len(parts[0])), flags, 0, 0)
		} else {
			msg := unix.Msghdr{Iov: unsafe.SliceData(iov)}
			msg.SetIovlen(len(iov))
			n, _, errno = unix.RawSyscall(unix.SYS_SENDMSG, uintptr(fd), uintptr(unsafe.Pointer(&msg)), flags)
		}
	}
	clear(iov)
	switch errno {
	case 0:
		return int(n), nil
	case unix.EAGAIN:
		return 0, errno
	}
	return 0, os.NewSyscallError("send", errno)
}

// QueuedNow returns how many bytes the kernel holds for a TCP descriptor that the peer has not
// acknowledged.
func QueuedNow(fd int) (int, error) {
	var n int32
	if _, _, errno := unix.RawSyscall(unix.SYS_IOCTL, uintptr(fd), unix.SIOCOUTQ,
		uintptr(unsafe.Pointer(&n))); errno != 0 {
		return 0, os.NewSyscallError("ioctl", errno)
	}
	return int(n), nil
}

// DetachFD returns a descriptor of tcp's socket that the runtime's poller does not know, and closes
// tcp.
func DetachFD(tcp *net.TCPConn) (int, error) {
	raw, err := tcp.SyscallConn()
	if err != nil {
		return -1, err
	}
	fd := -1
	var dupErr error
	if err := raw.Control(func(old uintptr) {
		fd, dupErr = unix.FcntlInt(old, unix.F_DUPFD_CLOEXEC, 0)
	}); err != nil {
		return -1, err
	}
	if dupErr != nil {
		return -1, dupErr
	}
	_ = tcp.Close() // the socket stays open
	return fd, nil
}

// Reader returns the cheapest reader for c: for plain TCP one that uses ReadNow and waits in the
// runtime's poller, otherwise c. Deadlines of c apply. It is not safe for concurrent use.
func Reader(c net.Conn) io.Reader {
	tcp, ok := PlainTCP(c)
	if !ok {
		return c
	}
	raw, err := tcp.SyscallConn()
	if err != nil {
		return c
	}
	r := &reader{raw: raw}
	r.try = r.tryRead
	return r
}

type reader struct {
	raw syscall.RawConn
	try func(fd uintptr) (done bool) // tryRead as a value, to allocate it once

	p   []byte
	n   int
	err error
}

func (r *reader) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	r.p, r.n, r.err = p, 0, nil
	err := r.raw.Read(r.try)
	r.p = nil
	switch {
	case err != nil:
		return 0, err
	case r.err == nil && r.n == 0:
		return 0, io.EOF
	}
	return r.n, r.err
}

func (r *reader) tryRead(fd uintptr) (done bool) {
	r.n, r.err = ReadNow(int(fd), r.p)
	return r.err != unix.EAGAIN
}
