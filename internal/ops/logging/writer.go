package logging

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"sync"
)

// queueLines bounds what waits for a sink that does not take it: some hundred kilobytes of log.
const queueLines = 1024

// A Writer passes lines on to another writer from a goroutine of its own, so that a full pipe or
// disk never holds up who logs. Lines that do not fit its queue are dropped; how many is written as
// a line of its own when there is room again.
type Writer struct {
	mu      sync.Mutex
	queue   chan []byte // closed by Close
	closed  bool
	dropped int // since the last line that says so
	total   int

	done chan struct{} // closed when all is written
}

// NewWriter returns a Writer to w, which must be closed.
func NewWriter(w io.Writer) *Writer {
	q := &Writer{queue: make(chan []byte, queueLines), done: make(chan struct{})}
	go func() {
		defer close(q.done)
		for line := range q.queue {
			if n := q.resetDropped(); n > 0 {
				_, _ = fmt.Fprintf(w, "log: %d lines dropped, the sink was too slow\n", n)
			}
			_, _ = w.Write(line) // there is nobody to tell
		}
	}()
	return q
}

// Write takes a copy of p, which should be whole lines. It never blocks and never fails.
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
	q.total++
	return len(p), nil
}

func (q *Writer) resetDropped() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	n := q.dropped
	q.dropped = 0
	return n
}

// Dropped returns how many writes were dropped since the start.
func (q *Writer) Dropped() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.total
}

// Close ends the Writer and waits until what is queued has been written, or ctx ends. What is written later is dropped.
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
