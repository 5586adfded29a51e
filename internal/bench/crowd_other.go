//go:build !linux

package bench

import (
	"context"
	"sync"
	"time"
)

// A crowd is viewers of plain TCP. Without epoll each has a goroutine.
type crowd struct {
	scene   *scene
	tally   *tally
	buffer  int
	members []member
}

type member struct {
	*viewer
	due time.Time
}

func (c *crowd) add(v *viewer, _ int, at time.Time) error {
	c.members = append(c.members, member{v, at})
	return nil
}

func (c *crowd) run(ctx context.Context) error {
	var all sync.WaitGroup
	defer all.Wait()
	for _, m := range c.members {
		all.Go(func() {
			if wait(ctx, time.Until(m.due)) {
				m.watch(ctx, connOptions{buffer: c.buffer})
			}
		})
	}
	return nil
}
