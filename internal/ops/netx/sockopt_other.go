//go:build !linux

package netx

import (
	"io"
	"net"
)

// SetUnsentLimit bounds what the kernel holds unsent for c to about n bytes, by the size of its
// send buffer. It is a wish. 0 leaves it as it is.
func SetUnsentLimit(c net.Conn, n int) {
	if tcp := tcpConn(c); tcp != nil && n > 0 {
		_ = tcp.SetWriteBuffer(n)
	}
}

// Queued is not known here.
func Queued(net.Conn) int { return 0 }

// Reader returns what reads from c at the least cost: here c.
func Reader(c net.Conn) io.Reader { return c }
