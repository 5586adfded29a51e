// Package netx holds what every listener needs of the network: limits on who connects, accept loops that survive a full
// descriptor table, and batched writes that end a viewer who makes no progress. It knows no protocol.
package netx

import (
	"errors"
	"net"
	"os"
	"time"
)

// WriteBuffers writes bufs in as few system calls as the connection allows: one writev on a plain TCP connection. The write
// ends with os.ErrDeadlineExceeded when not a byte leaves for stall; as long as bytes leave, it takes as long as it takes.
// It returns the number of bytes written. bufs is consumed as net.Buffers.WriteTo does: keep the array elsewhere.
// The connection's write deadline is cleared before return.
func WriteBuffers(c net.Conn, bufs *net.Buffers, stall time.Duration) (int64, error) {
	defer c.SetWriteDeadline(time.Time{})
	var total int64
	for {
		c.SetWriteDeadline(time.Now().Add(stall))
		n, err := bufs.WriteTo(c)
		total += n
		if err != nil && n > 0 && errors.Is(err, os.ErrDeadlineExceeded) {
			continue
		}
		return total, err
	}
}

// tcpConn returns the TCP connection under c, which may be TLS; nil when there is none.
func tcpConn(c net.Conn) *net.TCPConn {
	if t, ok := c.(interface{ NetConn() net.Conn }); ok {
		c = t.NetConn()
	}
	tcp, _ := c.(*net.TCPConn)
	return tcp
}
