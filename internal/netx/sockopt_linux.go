package netx

import (
	"net"
	"time"

	"golang.org/x/sys/unix"
)

// BoundUnsent bounds what the kernel holds unsent for c to about n bytes, so that a slow viewer's delay shows in our cursors
// instead of hiding in a socket buffer of megabytes. It does nothing for what is not TCP, and it is a wish: a system that refuses it
// shows the delay later, and that is all.
func BoundUnsent(c net.Conn, n int) {
	control(c, func(fd int) { _ = unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NOTSENT_LOWAT, n) })
}

// powerCut is for how much longer than a viewer may make no progress the kernel waits for a peer that does not answer at all: he
// who reads slowly closes his window for seconds, and opens it again.
const powerCut = 5 * time.Second

// BoundSending is BoundUnsent for a new viewer, whose power may be cut: it also has the kernel give c up when the peer has
// acknowledged nothing for stall and a little.
func BoundSending(c net.Conn, n int, stall time.Duration) {
	BoundUnsent(c, n)
	control(c, func(fd int) {
		_ = unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int((stall + powerCut).Milliseconds()))
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
