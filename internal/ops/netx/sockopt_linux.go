package netx

import (
	"net"

	"golang.org/x/sys/unix"
)

// SetUnsentLimit limits the bytes that the kernel holds unsent for c to about n
// (TCP_NOTSENT_LOWAT), so that the delay of a slow viewer shows in its cursor and not in a socket
// buffer of megabytes. It does nothing for connections other than TCP, and ignores errors: without
// the limit, the delay shows later. 0 restores the default of the system.
func SetUnsentLimit(c net.Conn, n int) {
	control(c, func(fd int) { _ = unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NOTSENT_LOWAT, n) })
}

// Queued returns how many bytes the kernel holds for c that the peer has not acknowledged; 0 if
// unknown.
func Queued(c net.Conn) (n int) {
	control(c, func(fd int) { n, _ = QueuedNow(fd) })
	return n
}

func control(c net.Conn, f func(fd int)) {
	tcp := tcpConn(c)
	if tcp == nil {
		return
	}
	if raw, err := tcp.SyscallConn(); err == nil {
		_ = raw.Control(func(fd uintptr) { f(int(fd)) }) // fails if c is closed
	}
}
