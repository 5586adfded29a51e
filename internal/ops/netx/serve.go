package netx

import (
	"context"
	"errors"
	"net"
	"sync"
	"time"
)

// Serve accepts connections of ln and runs handle for each in a goroutine, closing the connection
// after. When ctx ends it closes ln, gives the handlers drain to finish, closes what is left, and
// returns nil when all have returned. Errors of accept that pass, such as a full descriptor table,
// are waited out; any other ends all at once and is returned.
func Serve(ctx context.Context, ln net.Listener, drain time.Duration, handle func(context.Context, net.Conn)) error {
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
				c.Close()
				mu.Lock()
				delete(conns, c)
				mu.Unlock()
			}()
			handle(ctx, c)
		})
	})
	if err != nil {
		drain = 0
	}
	force := time.AfterFunc(drain, func() {
		mu.Lock()
		defer mu.Unlock()
		for c := range conns {
			c.Close()
		}
	})
	defer force.Stop()
	wg.Wait()
	return err
}

// Accept calls each for every connection until ln is closed by ctx's end (nil) or fails. Errors
// that pass are waited out.
func Accept(ctx context.Context, ln net.Listener, each func(net.Conn)) error {
	const first, longest = 5 * time.Millisecond, time.Second
	pause := first
	for {
		c, err := ln.Accept()
		switch {
		case err == nil:
			pause = first
			each(c)
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

// isTemporary reports whether an error of accept goes away by itself.
func isTemporary(err error) bool {
	var ne net.Error
	return errors.As(err, &ne) && ne.Temporary() //nolint:staticcheck // what EMFILE, ENFILE and ECONNABORTED have in common on every system
}
