package logging

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"sync"
)

// queueLines is the capacity of a Writer's queue in lines: some hundred kilobytes of log.
const queueLines = 1024

// A Writer passes lines to another writer in its own goroutine, so that a full pipe or disk never
// blocks the caller. Lines that do not fit into the queue are dropped; their number is written
// later.
type Writer struct {
	mu      sync.Mutex
	queue   chan []byte // closed by Close
	closed  bool
	dropped int // since the last line that reports it

	done chan struct{} // closed when all lines are written
}

// NewWriter returns a Writer that writes to w. The caller must close it.
func NewWriter(w io.Writer) *Writer {
	q := &Writer{queue: make(chan []byte, queueLines), done: make(chan struct{})}
	go func() {
		defer close(q.done)
		for line := range q.queue {
			if n := q.resetDropped(); n > 0 {
				_, _ = fmt.Fprintf(w, "log: %d lines dropped: the output is too slow\n", n)
			}
			_, _ = w.Write(line) // an error cannot be reported anywhere
		}
	}()
	return q
}

// Write queues a copy of p, which should be whole lines. It never blocks and never fails.
func (q *Writer) Write(p []byte) (int, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if !q.closed {
		select {
		case q.queue <- bytes.Clone(p):
			return len(p), nil
		default:
		}
	}
	q.dropped++
	return len(p), nil
}

func (q *Writer) resetDropped() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	n := q.dropped
	q.dropped = 0
	return n
}

// Close stops the Writer and waits until the queued lines are written, or ctx ends. Later writes
// are dropped.
func (q *Writer) Close(ctx context.Context) error {
	q.mu.Lock()
	if !q.closed {
		q.closed = true
		close(q.queue)
	}
	q.mu.Unlock()
	select {
	case <-q.done:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
