package netx

import (
	"net"
	"time"

	"golang.org/x/sys/unix"
)

// BoundSending bounds what the kernel holds unsent for a viewer's c to about n bytes, so that a slow viewer's delay shows in our
// cursors instead of hiding in a socket buffer of megabytes, and has it give c up when the peer, whose power may be cut, has
// acknowledged nothing for stall. It does nothing for what is not TCP, and it is a wish: a system that refuses it shows the delay and
// the loss later, and that is all.
func BoundSending(c net.Conn, n int, stall time.Duration) {
	control(c, func(fd int) {
		_ = unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NOTSENT_LOWAT, n)
		_ = unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(stall.Milliseconds()))
	})
}

// Queued returns how many bytes the kernel holds for c that the peer has not acknowledged; 0 where that is not known.
func Queued(c net.Conn) (n int) {
	control(c, func(fd int) { n, _ = unix.IoctlGetInt(fd, unix.SIOCOUTQ) })
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
