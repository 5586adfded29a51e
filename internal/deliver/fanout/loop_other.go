//go:build !linux

package fanout

import (
	"context"
	"net"
	"sync"

	"livego/internal/domain"
)

// An Engine is available on Linux only.
type Engine struct{ wg sync.WaitGroup }

// NewEngine returns nil: on other systems the edges serve each viewer with a goroutine.
func NewEngine(int) (*Engine, error) { return nil, nil }

// Close does nothing.
func (e *Engine) Close(context.Context) {}

func (e *Engine) size() int { return 0 }

func (e *Engine) wake(*feed) {}

// CanServe returns false.
func (f *Broadcaster) CanServe(net.Conn) bool { return false }

// Add fails.
func (f *Broadcaster) Add(domain.Name, net.Conn, Conn) error { return errNoStream }
