// Package netx has helpers for TCP listeners and connections: limits on connections, accept loops
// that survive a full descriptor table, and batched writes that time out without progress. It knows
// no protocol above TCP but the PROXY protocol and the address headers of HTTP.
package netx

import (
	"context"
	"errors"
	"net"
	"os"
	"sync"
	"time"
)

// MaxUnsent is the unsent limit (SetUnsentLimit) for a viewer's HTTP connection. Without a limit,
// the kernel holds as much as tcp_wmem allows, 4 MiB by default, for each slow client. Clients on
// fast lines are not affected: bytes that are sent and not acknowledged do not count.
const MaxUnsent = 128 << 10

// DropUnsent has the kernel discard the unsent bytes of c when c is closed. It would hold them for
// minutes otherwise.
func DropUnsent(c net.Conn) {
	if tcp := tcpConn(c); tcp != nil {
		_ = tcp.SetLinger(0) // fails if c is closed
	}
}

// WriteBuffers writes bufs in as few system calls as possible: one writev on a plain TCP
// connection, full records over TLS. It fails with os.ErrDeadlineExceeded if for stall no byte
// leaves, to the kernel or to the peer; with progress, it has no time limit. It returns the number
// of bytes written. It consumes bufs as net.Buffers.WriteTo does, so keep the array elsewhere. It
// clears the write deadline of c.
func WriteBuffers(c net.Conn, bufs *net.Buffers, stall time.Duration) (int64, error) {
	return writeBuffers(c, bufs, stall, func() int { return Queued(c) })
}

func writeBuffers(c net.Conn, bufs *net.Buffers, stall time.Duration, queued func() int) (total int64, err error) {
	w := newProgressTimer(c, stall, queued)
	defer w.stop()
	defer func() {
		if errors.Is(err, os.ErrDeadlineExceeded) {
			DropUnsent(c)
		}
	}()
	if _, isTLS := c.(interface{ NetConn() net.Conn }); isTLS {
		return writeRecords(c, bufs, w)
	}
	for {
		w.extend()
		n, err := bufs.WriteTo(c)
		total += n
		if errors.Is(err, os.ErrDeadlineExceeded) && (n > 0 || w.processStalled()) {
			continue
		}
		return total, err
	}
}

// A progressTimer extends the write deadline of a connection while the peer acknowledges bytes that
// the kernel holds. The kernel holds up to a quarter of a second of a stream, and a slow viewer may
// need longer than stall for the part that must leave before there is room.
type progressTimer struct {
	c     net.Conn
	stall time.Duration

	mu       sync.Mutex
	deadline time.Time
	queued   int         // bytes that the kernel held at the last check; -1 before
	timer    *time.Timer // nil after stop
}

// checksPerStall is how many times progress is checked within the stall time.
const checksPerStall = 4

func newProgressTimer(c net.Conn, stall time.Duration, queued func() int) *progressTimer {
	w := &progressTimer{c: c, stall: stall, queued: -1}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.timer = time.AfterFunc(stall/checksPerStall, func() { w.check(queued()) })
	return w
}

// check extends the deadline if held, the bytes that the kernel holds, has changed.
func (w *progressTimer) check(held int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.timer == nil {
		return
	}
	if w.queued >= 0 && held != w.queued {
		w.extendLocked()
	}
	w.queued = held
	w.timer.Reset(w.stall / checksPerStall)
}

// extend restarts the deadline for the next write.
func (w *progressTimer) extend() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.extendLocked()
}

func (w *progressTimer) extendLocked() {
	w.deadline = time.Now().Add(w.stall)
	w.c.SetWriteDeadline(w.deadline)
}

// processStalled reports whether the deadline was noticed so late that the process must have been
// stopped: then it says nothing about the peer.
func (w *progressTimer) processStalled() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return time.Since(w.deadline) > time.Second
}

func (w *progressTimer) stop() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.timer.Stop()
	w.timer = nil
	w.c.SetWriteDeadline(time.Time{})
}

// maxRecord is the payload of the largest TLS record (RFC 8446 section 5.1).
const maxRecord = 16 << 10

// writeRecords is WriteBuffers for TLS, which creates a record for each write and cannot continue
// after a timeout. It joins the parts to full records.
func writeRecords(c net.Conn, bufs *net.Buffers, w *progressTimer) (int64, error) {
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
		w.extend()
		n, err := c.Write(record)
		total += int64(n)
		if err != nil {
			return total, err
		}
	}
	return total, nil
}

type connKey struct{}

// WithConn returns ctx for the requests of c.
func WithConn(ctx context.Context, c net.Conn) context.Context {
	return context.WithValue(ctx, connKey{}, c)
}

// ConnOf returns the connection of a request with ctx; nil if it is unknown.
func ConnOf(ctx context.Context) net.Conn {
	c, _ := ctx.Value(connKey{}).(net.Conn)
	return c
}

// tcpConn returns the TCP connection under c, which may be TLS; nil if there is none.
func tcpConn(c net.Conn) *net.TCPConn {
	if a := Admitted(c); a != nil {
		return a.TCPConn
	}
	if t, ok := c.(interface{ NetConn() net.Conn }); ok {
		c = t.NetConn()
	}
	tcp, _ := c.(*net.TCPConn)
	return tcp
}
