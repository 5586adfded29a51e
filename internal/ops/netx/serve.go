package netx

import (
	"context"
	"errors"
	"net"
	"sync"
	"time"
)

// Serve accepts connections of ln, runs handle for each in a goroutine, and closes the connection
// after it, unless handle has detached it. When ctx ends, Serve closes ln, waits up to drain() for the
// handlers, closes the remaining connections, and returns nil when all handlers have returned. It
// waits out temporary errors of Accept, such as a full descriptor table. On any other error it
// closes all connections and returns the error.
func Serve(ctx context.Context, ln net.Listener, drain func() time.Duration,
	handle func(context.Context, net.Conn)) error {
	var (
		wg    sync.WaitGroup
		mu    sync.Mutex
		conns = make(map[net.Conn]struct{})
	)
	stop := context.AfterFunc(ctx, func() { ln.Close() })
	defer stop()
	err := Accept(ctx, ln, func(c net.Conn) {
		mu.Lock()
		conns[c] = struct{}{}
		mu.Unlock()
		wg.Go(func() {
			defer func() {
				closeUndetached(c)
				mu.Lock()
				delete(conns, c)
				mu.Unlock()
			}()
			handle(ctx, c)
		})
	})
	limit := time.Duration(0)
	if err == nil {
		limit = drain()
	}
	force := time.AfterFunc(limit, func() {
		mu.Lock()
		defer mu.Unlock()
		for c := range conns {
			closeUndetached(c)
		}
	})
	defer force.Stop()
	wg.Wait()
	return err
}

// Accept calls handle for every connection until ln fails, or is closed when ctx ends, in which case
// it returns nil. It waits out temporary errors.
func Accept(ctx context.Context, ln net.Listener, handle func(net.Conn)) error {
	const first, longest = 5 * time.Millisecond, time.Second
	pause := first
	for {
		c, err := ln.Accept()
		switch {
		case err == nil:
			pause = first
			handle(c)
		case ctx.Err() != nil:
			return nil
		case !isTemporary(err):
			return err
		default:
			select {
			case <-time.After(pause):
			case <-ctx.Done():
				return nil
			}
			pause = min(2*pause, longest)
		}
	}
}

// isTemporary reports whether an error of Accept is temporary.
func isTemporary(err error) bool {
	var ne net.Error
	// EMFILE, ENFILE and ECONNABORTED have only Temporary in common on every system.
	return errors.As(err, &ne) && ne.Temporary() //nolint:staticcheck // deprecated, see above
}
