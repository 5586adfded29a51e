package netx

import (
	"net"

	"golang.org/x/sys/unix"
)

// LimitUnsent bounds what the kernel holds unsent for c to about n bytes, so that a slow viewer's delay shows in our cursors
// instead of hiding in a socket buffer of megabytes. It does nothing for what is not TCP.
func LimitUnsent(c net.Conn, n int) error {
	tcp := tcpConn(c)
	if tcp == nil {
		return nil
	}
	raw, err := tcp.SyscallConn()
	if err != nil {
		return err
	}
	var serr error
	if err := raw.Control(func(fd uintptr) {
		serr = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_NOTSENT_LOWAT, n)
	}); err != nil {
		return err
	}
	return serr
}
