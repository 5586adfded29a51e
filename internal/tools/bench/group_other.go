//go:build !linux

package bench

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"sync"
	"time"
)

// A viewerGroup is a group of viewers. Without epoll each has a goroutine.
type viewerGroup struct {
	measurement *measurement
	stats       *viewerStats
	options     connOptions
	members     []groupViewer
}

type groupViewer struct {
	*viewer
	due time.Time
}

func (c *viewerGroup) add(v *viewer, _ int, at time.Time) {
	c.members = append(c.members, groupViewer{v, at})
}

func (c *viewerGroup) run(ctx context.Context) error {
	var all sync.WaitGroup
	defer all.Wait()
	for _, m := range c.members {
		all.Go(func() {
			if sleep(ctx, time.Until(m.due)) {
				m.run(ctx, c.options)
			}
		})
	}
	return nil
}

// run plays on a connection and in a goroutine of the viewer's own until ctx ends.
func (v *viewer) run(ctx context.Context, o connOptions) {
	v.stats.mu.Lock()
	v.start()
	v.stats.mu.Unlock()
	err := v.connectAndPlay(ctx, o)
	for errors.Is(err, errReconnect) {
		if err = v.pause(ctx); err == nil {
			err = v.connectAndPlay(ctx, o)
		}
	}
	v.stats.mu.Lock()
	defer v.stats.mu.Unlock()
	if ctx.Err() == nil {
		v.end(err)
	}
}

// pause waits until the viewer resumes.
func (v *viewer) pause(ctx context.Context) error {
	if v.resumeAt > 0 && !sleep(ctx, time.Duration(v.resumeAt-v.measurement.now())) {
		return ctx.Err()
	}
	v.resumeAt = 0
	return nil
}

func (v *viewer) connectAndPlay(ctx context.Context, o connOptions) error {
	dialCtx, cancel := context.WithTimeout(ctx, connectTimeout)
	nc, err := dial(dialCtx, v.target, o)
	cancel()
	if err != nil {
		return err
	}
	defer nc.Close()
	stop := context.AfterFunc(ctx, func() { nc.Close() })
	defer stop()
	if s, ok := nc.(*tls.Conn); ok {
		v.stats.mu.Lock()
		v.handshakeDone(s.ConnectionState().DidResume)
		v.stats.mu.Unlock()
	}
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
			return v.client.closed(err)
		}
		v.stats.mu.Lock()
		reply, err := v.receive(buf[:n])
		v.stats.mu.Unlock()
		if err != nil {
			return err
		}
		if v.resumeAt > 0 {
			if err := v.pause(ctx); err != nil {
				return err
			}
			reply = append(bytes.Clone(reply), v.client.resume()...)
		}
		if len(reply) > 0 {
			if _, err := nc.Write(reply); err != nil {
				return v.client.closed(err)
			}
		}
	}
}
