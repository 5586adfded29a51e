//go:build !linux

package bench

import (
	"context"
	"net"
	"syscall"
	"time"
)

// Without epoll, each viewer has a goroutine that reads.

type groupReader struct{}

func (groupReader) open() error { return nil }
func (groupReader) close()      {}

// A groupConn is the connection of a viewer.
type groupConn struct{ net.Conn }

func (c *viewerGroup) control(_, _ string, _ syscall.RawConn) error { return nil }

// attach makes nc the connection of m, and sends the first bytes.
func (c *viewerGroup) attach(ctx context.Context, m *groupViewer, nc net.Conn) error {
	m.connected, m.conn = true, groupConn{nc}
	if b, ok := nc.(interface{ SetReadBuffer(int) error }); ok && c.options.buffer > 0 {
		if err := b.SetReadBuffer(c.options.buffer); err != nil {
			return err
		}
	}
	if err := m.send(m.client.open()); err != nil {
		return err
	}
	c.work.Go(func() { c.read(ctx, m, nc) })
	return nil
}

// read reads nc until it is not the connection of m any more.
func (c *viewerGroup) read(ctx context.Context, m *groupViewer, nc net.Conn) {
	buf := make([]byte, 16<<10)
	for {
		n, err := nc.Read(buf)
		c.stats.mu.Lock()
		if current := m.connected && m.conn.Conn == nc; current && err == nil {
			err = c.process(m, buf[:n])
			c.handleError(ctx, m, err)
		} else if current {
			c.handleError(ctx, m, m.client.closed(err))
		}
		c.stats.mu.Unlock()
		if err != nil {
			return
		}
	}
}

// handleInput waits: the members read their own connections.
func (c *viewerGroup) handleInput(ctx context.Context, wait time.Duration) error {
	sleep(ctx, wait)
	return nil
}

func (m *groupViewer) send(p []byte) error {
	_, err := m.conn.Write(p)
	return err
}

func (m *groupViewer) close() {
	if m.connected {
		m.conn.Close()
		m.connected, m.conn = false, groupConn{}
	}
}
