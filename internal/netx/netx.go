// Package netx holds what every listener needs of the network: limits on who connects, accept loops that survive a full
// descriptor table, and batched writes that end a viewer who makes no progress. It knows no protocol.
package netx

import (
	"errors"
	"net"
	"os"
	"time"
)

// WriteBuffers writes bufs in as few system calls as the connection allows: one writev on a plain TCP connection, full records
// over TLS. The write ends with os.ErrDeadlineExceeded when not a byte leaves for stall; as long as bytes leave, it takes as long as
// it takes. It returns the number of bytes written. bufs is consumed as net.Buffers.WriteTo does: keep the array elsewhere.
// The connection's write deadline is cleared before return.
func WriteBuffers(c net.Conn, bufs *net.Buffers, stall time.Duration) (int64, error) {
	defer c.SetWriteDeadline(time.Time{})
	if _, isTLS := c.(interface{ NetConn() net.Conn }); isTLS {
		return writeRecords(c, bufs, stall)
	}
	var total int64
	for {
		deadline := time.Now().Add(stall)
		c.SetWriteDeadline(deadline)
		n, err := bufs.WriteTo(c)
		total += n
		if errors.Is(err, os.ErrDeadlineExceeded) && (n > 0 || overslept(deadline)) {
			continue
		}
		return total, err
	}
}

// overslept reports whether a deadline is noticed so late that the process was stopped meanwhile: it tells nothing of the peer.
func overslept(deadline time.Time) bool { return time.Since(deadline) > time.Second }

// maxRecord is the payload of the largest TLS record (RFC 8446 section 5.1).
const maxRecord = 16 << 10

// writeRecords is WriteBuffers for TLS, which makes a record of each write and cannot go on after one that timed out: so the
// parts are put together to full records, and progress is judged by them.
func writeRecords(c net.Conn, bufs *net.Buffers, stall time.Duration) (int64, error) {
	var total int64
	size := 0
	for _, p := range *bufs {
		size += len(p)
	}
	record := make([]byte, 0, min(size, maxRecord))
	for len(*bufs) > 0 {
		record = record[:0]
		for len(*bufs) > 0 && len(record) < maxRecord {
			p := (*bufs)[0]
			n := min(len(p), maxRecord-len(record))
			record = append(record, p[:n]...)
			if (*bufs)[0] = p[n:]; n == len(p) {
				(*bufs)[0] = nil
				*bufs = (*bufs)[1:]
			}
		}
		c.SetWriteDeadline(time.Now().Add(stall))
		n, err := c.Write(record)
		total += int64(n)
		if err != nil {
			return total, err
		}
	}
	return total, nil
}

// tcpConn returns the TCP connection under c, which may be TLS; nil when there is none.
func tcpConn(c net.Conn) *net.TCPConn {
	if t, ok := c.(interface{ NetConn() net.Conn }); ok {
		c = t.NetConn()
	}
	tcp, _ := c.(*net.TCPConn)
	return tcp
}
