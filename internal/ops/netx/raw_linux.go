package netx

import (
	"io"
	"net"
	"os"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// A system call of Go's is announced to the scheduler, which may have to do without a thread for
// long, and wakes its monitor: for milliseconds after each that looks around every 20 us. Beside a
// call that never blocks and is over in a microsecond that is most of the price. Those below are
// raw.

// ReadNow reads what has come for a descriptor that does not block; the error is unix.EAGAIN where
// that is nothing. At the end of the stream n is 0.
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

// QueuedNow returns how many bytes the kernel holds for a TCP descriptor that the peer has not acknowledged.
func QueuedNow(fd int) (int, error) {
	var n int32
	if _, _, errno := unix.RawSyscall(unix.SYS_IOCTL, uintptr(fd), unix.SIOCOUTQ,
		uintptr(unsafe.Pointer(&n))); errno != 0 {
		return 0, os.NewSyscallError("ioctl", errno)
	}
	return int(n), nil
}

// Reader returns what reads from c at the least cost: for plain TCP by ReadNow, while the runtime's
// poller waits for there to be something; else c. Deadlines of c hold. One goroutine at a time uses
// it.
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
	try func(fd uintptr) (done bool) // tryRead, made once

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
