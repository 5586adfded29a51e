//go:build !linux

package netx

import (
	"io"
	"net"
)

// SetUnsentLimit limits the bytes that the kernel holds unsent for c to about n, by the size of its
// send buffer. It ignores errors. 0 does nothing.
func SetUnsentLimit(c net.Conn, n int) {
	if tcp := tcpConn(c); tcp != nil && n > 0 {
		_ = tcp.SetWriteBuffer(n)
	}
}

// Queued returns 0: the number is unknown on this system.
func Queued(net.Conn) int { return 0 }

// Reader returns the cheapest reader for c, which is c on this system.
func Reader(c net.Conn) io.Reader { return c }
