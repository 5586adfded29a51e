// Package netx holds what every listener needs of the network: limits on who connects, accept loops that survive a full
// descriptor table, and batched writes that end a viewer who makes no progress. It knows no protocol.
package netx

import (
	"context"
	"errors"
	"net"
	"os"
	"sync"
	"time"
)

// MaxUnsent is how much the kernel is to hold unsent for a viewer's HTTP connection, for
// SetUnsentLimit. Without a bound it holds as much as tcp_wmem allows, 4 MiB by default, for each
// client that takes its answers slowly. A client on a fast line does not notice: what is sent and
// not acknowledged is not bounded by it.
const MaxUnsent = 128 << 10

// DropUnsent has the kernel let go of what the peer has not taken when c is closed, which it would hold on for minutes.
func DropUnsent(c net.Conn) {
	if tcp := tcpConn(c); tcp != nil {
		_ = tcp.SetLinger(0) // fails when c is closed
	}
}

// WriteBuffers writes bufs in as few system calls as the connection allows: one writev on a plain
// TCP connection, full records over TLS. The write ends with os.ErrDeadlineExceeded when not a byte
// leaves for stall, to the kernel or to the peer; as long as bytes leave, it takes as long as it
// takes. It returns the number of bytes written. bufs is consumed as net.Buffers.WriteTo does: keep
// the array elsewhere. The connection's write deadline is cleared before return.
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

// A progressTimer keeps the write deadline of a connection ahead while the peer acknowledges what
// the kernel holds for him. That is as much as a quarter of a second of a stream, and a slow viewer
// may need longer than stall for the part of it that has to go before there is room.
type progressTimer struct {
	c     net.Conn
	stall time.Duration

	mu       sync.Mutex
	deadline time.Time
	queued   int         // by the kernel, at the last look; -1 before
	timer    *time.Timer // nil when it has ended
}

// checksPerStall is how many times it is looked, in the time in which something must leave.
const checksPerStall = 4

func newProgressTimer(c net.Conn, stall time.Duration, queued func() int) *progressTimer {
	w := &progressTimer{c: c, stall: stall, queued: -1}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.timer = time.AfterFunc(stall/checksPerStall, func() { w.check(queued()) })
	return w
}

// check is told how much the kernel holds.
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

// extend gives what is written next its time.
func (w *progressTimer) extend() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.extendLocked()
}

func (w *progressTimer) extendLocked() {
	w.deadline = time.Now().Add(w.stall)
	w.c.SetWriteDeadline(w.deadline)
}

// processStalled reports whether the deadline is noticed so late that the process was stopped
// meanwhile: it tells nothing of the peer.
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

// writeRecords is WriteBuffers for TLS, which makes a record of each write and cannot go on after
// one that timed out: so the parts are put together to full records.
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

// WithConn returns ctx for the requests that come by c.
func WithConn(ctx context.Context, c net.Conn) context.Context {
	return context.WithValue(ctx, connKey{}, c)
}

// ConnOf returns the connection by which a request with ctx came; nil when that is not known.
func ConnOf(ctx context.Context) net.Conn {
	c, _ := ctx.Value(connKey{}).(net.Conn)
	return c
}

// tcpConn returns the TCP connection under c, which may be TLS; nil when there is none.
func tcpConn(c net.Conn) *net.TCPConn {
	if t, ok := c.(interface{ NetConn() net.Conn }); ok {
		c = t.NetConn()
	}
	if a, ok := c.(interface{ Admitted() *Conn }); ok {
		return a.Admitted().TCPConn
	}
	tcp, _ := c.(*net.TCPConn)
	return tcp
}
