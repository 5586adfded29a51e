//go:build !linux

package bench

import (
	"context"
	"sync"
	"time"
)

// A viewerGroup is a group of viewers of plain TCP. Without epoll each has a goroutine.
type viewerGroup struct {
	measurement *measurement
	stats       *viewerStats
	buffer      int
	members     []groupViewer
}

type groupViewer struct {
	*viewer
	due time.Time
}

func (c *viewerGroup) add(v *viewer, _ int, at time.Time) error {
	c.members = append(c.members, groupViewer{v, at})
	return nil
}

func (c *viewerGroup) run(ctx context.Context) error {
	var all sync.WaitGroup
	defer all.Wait()
	for _, m := range c.members {
		all.Go(func() {
			if sleep(ctx, time.Until(m.due)) {
				m.run(ctx, connOptions{buffer: c.buffer})
			}
		})
	}
	return nil
}
