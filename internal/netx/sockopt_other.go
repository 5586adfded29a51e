//go:build !linux

package netx

import "net"

// LimitUnsent bounds what the kernel holds unsent for c to about n bytes, by the size of its send buffer.
func LimitUnsent(c net.Conn, n int) error {
	if tcp := tcpConn(c); tcp != nil {
		return tcp.SetWriteBuffer(n)
	}
	return nil
}
