//go:build !linux

package fanout

import (
	"context"
	"net"
	"sync"
)

// An Engine has loops on Linux only. On other systems each viewer has a goroutine.
type Engine struct{ wg sync.WaitGroup }

// NewEngine returns an Engine without loops.
func NewEngine(int) (*Engine, error) { return new(Engine), nil }

// Close waits for the feeds.
func (e *Engine) Close(context.Context) { e.wg.Wait() }

func (e *Engine) size() int { return 0 }

func (e *Engine) wake(*feed) {}

func (e *Engine) add(*viewer, net.Conn) bool { return false }
