package bench

import (
	"context"
	"errors"
	"io"
	"os"
	"syscall"
	"time"
)

// connectTimeout is how long a viewer may take to connect, and then to receive a keyframe, before
// the window opens without it.
const connectTimeout = 10 * time.Second

// run plays on a connection and in a goroutine of the viewer's own until ctx ends. It is for all
// viewers but those of plain TCP on Linux.
func (v *viewer) run(ctx context.Context, o connOptions) {
	v.stats.mu.Lock()
	v.start()
	v.stats.mu.Unlock()
	err := v.connectAndPlay(ctx, o)
	for errors.Is(err, errReconnect) {
		err = v.connectAndPlay(ctx, o)
	}
	v.stats.mu.Lock()
	defer v.stats.mu.Unlock()
	if ctx.Err() == nil {
		v.end(err)
	}
}

// connOptions are how viewers connect.
type connOptions struct {
	buffer   int // receive buffer in bytes, 0: the system's default
	insecure bool
}

func (v *viewer) connectAndPlay(ctx context.Context, o connOptions) error {
	dialCtx, cancel := context.WithTimeout(ctx, connectTimeout)
	nc, err := dial(dialCtx, v.target, o.insecure)
	cancel()
	if err != nil {
		return err
	}
	defer nc.Close()
	stop := context.AfterFunc(ctx, func() { nc.Close() })
	defer stop()
	if b, ok := nc.(interface{ SetReadBuffer(int) error }); ok && o.buffer > 0 {
		if err := b.SetReadBuffer(o.buffer); err != nil {
			return err
		}
	}
	if _, err := nc.Write(v.client.open()); err != nil {
		return err
	}
	buf := make([]byte, 16<<10)
	for {
		n, err := nc.Read(buf)
		if err != nil {
			return err
		}
		v.stats.mu.Lock()
		reply, err := v.receive(buf[:n])
		v.stats.mu.Unlock()
		if err != nil {
			return err
		}
		if len(reply) > 0 {
			if _, err := nc.Write(reply); err != nil {
				return err
			}
		}
	}
}

// reason describes the end of a viewer in words that are the same for all errors of a kind: no
// ports, no addresses.
func reason(err error) string {
	var errno syscall.Errno
	switch {
	case errors.Is(err, errClosed), errors.Is(err, io.EOF):
		return errClosed.Error()
	case errors.Is(err, os.ErrDeadlineExceeded), errors.Is(err, context.DeadlineExceeded):
		return "timed out"
	case errors.As(err, &errno):
		return errno.Error()
	}
	return err.Error()
}
