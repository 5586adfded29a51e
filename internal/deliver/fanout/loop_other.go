//go:build !linux

package fanout

import (
	"context"
	"net"
	"sync"

	"livego/internal/domain"
)

// An Engine is only to be had on Linux.
type Engine struct{ wg sync.WaitGroup }

// NewEngine returns nil: elsewhere the edges serve each viewer by a goroutine of his own.
func NewEngine(int) (*Engine, error) { return nil, nil }

// Close does nothing.
func (e *Engine) Close(context.Context) {}

func (e *Engine) size() int { return 0 }

func (e *Engine) wake(*feed) {}

// CanServe reports that f serves nobody.
func (f *Broadcaster) CanServe(net.Conn) bool { return false }

// Add fails.
func (f *Broadcaster) Add(domain.Name, net.Conn, Conn) error { return errNoStream }
