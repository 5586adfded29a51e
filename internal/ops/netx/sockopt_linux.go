package netx

import (
	"net"

	"golang.org/x/sys/unix"
)

// SetUnsentLimit bounds what the kernel holds unsent for c to about n bytes, so that a slow
// viewer's delay shows in our cursors instead of hiding in a socket buffer of megabytes. It does
// nothing for what is not TCP, and it is a wish: a system that refuses it shows the delay later,
// and that is all. 0 leaves it to the system again.
func SetUnsentLimit(c net.Conn, n int) {
	control(c, func(fd int) { _ = unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NOTSENT_LOWAT, n) })
}

// Queued returns how many bytes the kernel holds for c that the peer has not acknowledged; 0 where that is not known.
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
		_ = raw.Control(func(fd uintptr) { f(int(fd)) }) // fails when c is closed
	}
}
