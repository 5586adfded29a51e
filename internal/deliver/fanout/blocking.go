package fanout

import (
	"context"
	"errors"
	"io"
	"net"
	"time"

	"livego/internal/ops/netx"
)

// A blockingConn is the transport of a viewer that has a goroutine: its writes block.
type blockingConn struct {
	*viewer
	nc     net.Conn // nil if it is unknown
	shared bool     // nc has other uses
	write  func(net.Buffers) error
	wakeUp chan struct{} // the reader has something for the sender
	resume chan struct{} // the reader may continue
}

func newBlockingConn(v *viewer, nc net.Conn) *blockingConn {
	b := &blockingConn{viewer: v, nc: nc, wakeUp: make(chan struct{}, 1), resume: make(chan struct{}, 1)}
	b.write = func(bufs net.Buffers) error {
		_, err := netx.WriteBuffers(nc, &bufs, v.feed.broadcaster.options().WriteTimeout)
		return err
	}
	v.transport = b
	v.Stats.AttachSocket(b.queued)
	return b
}

func (b *blockingConn) queued() int {
	if b.nc == nil {
		return 0
	}
	return netx.Queued(b.nc)
}

func (b *blockingConn) setUnsentLimit(n int) {
	if b.nc != nil {
		netx.SetUnsentLimit(b.nc, n)
	}
}

func (b *blockingConn) resumeReading() { notify(b.resume) }

// notify sends to c, which has room for one, unless it is full.
func notify(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// serve serves the viewer until it ends.
func (b *blockingConn) serve() {
	_ = b.nc.SetDeadline(time.Time{}) // if nc is closed, so does the next read
	done := make(chan struct{})
	stop := make(chan struct{})
	go func() {
		defer close(done)
		b.read(stop)
	}()
	err := b.run(context.Background())
	b.nc.Close()
	close(stop)
	<-done
	b.release(err)
}

// release releases the viewer, which has ended with err.
func (b *blockingConn) release(err error) {
	b.feed.broadcaster.release(b.feed)
	b.Closed(b.endError(err))
}

// read receives what the viewer sends until the connection is closed.
func (b *blockingConn) read(stop <-chan struct{}) {
	var buf [1 << 10]byte
	for {
		n, err := b.nc.Read(buf[:])
		if n > 0 {
			wake, more := b.receive(buf[:n])
			if wake {
				notify(b.wakeUp)
			}
			if !more {
				select {
				case <-b.resume:
				case <-stop:
				}
			}
		}
		if err != nil {
			if errors.Is(err, io.EOF) {
				err = errViewerLeft
			}
			b.abort(err)
			notify(b.wakeUp)
			return
		}
	}
}

// slowWrite is how long a connection may take for one write without being slow.
const slowWrite = 100 * time.Millisecond

// run sends until the viewer ends, and returns why.
func (b *blockingConn) run(ctx context.Context) error {
	var next batch
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		changed := b.feed.watch()
		b.checkKicked()
		b.ping(time.Now())
		if err := b.whyGone(); err != nil {
			return err
		}
		if next.most = maxBatch; b.sendRate.slow() {
			next.most = b.sendRate.writeSize()
		}
		if b.fill(&next, &coalescedBatch{}); next.size > 0 {
			if err := b.send(&next); err != nil {
				return err
			}
			continue
		}
		if b.ending {
			return b.linger()
		}
		kicked := b.Stats.Kicked()
		timer.Reset(time.Until(b.pingedAt.Add(b.feed.broadcaster.options().PingInterval)))
		select {
		case <-changed:
		case <-kicked:
		case <-b.wakeUp:
		case <-timer.C:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// send writes next, and skips if that took too long.
func (b *blockingConn) send(next *batch) error {
	start, size := time.Now(), next.size
	if err := b.write(append(net.Buffers(nil), next.parts...)); err != nil {
		return err
	}
	now := time.Now()
	b.advance(size, now)
	if now.Sub(start) < slowWrite {
		b.observeUnblocked(now)
	} else {
		b.observeBlocked(now, b.current)
	}
	return nil
}

// linger waits until the viewer has read the last bytes, or makes no progress.
func (b *blockingConn) linger() error {
	if b.shared {
		return b.closeReason
	}
	netx.CloseWrite(b.nc)
	b.startLinger(time.Now())
	tick := time.NewTicker(b.feed.broadcaster.options().LingerTimeout / 4)
	defer tick.Stop()
	for b.whyGone() == nil && !b.closing.Expired(time.Now(), b.queued()) {
		select {
		case <-b.wakeUp:
		case <-tick.C:
		}
	}
	return b.closeReason
}
