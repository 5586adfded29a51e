package accessunit

import (
	"sync"
	"time"

	"livego/internal/media"
)

// A Writer joins the frames of a live publisher and hands them on in order: as Write gets them, and
// what is held back after Due by itself.
type Writer struct {
	write     func(*media.Frame) error
	receiving func() bool

	mu       sync.Mutex // held while frames are handed on, so that they stay in order
	join     Joiner
	due      time.Time // when what is held back goes on; zero: nothing is
	timer    *time.Timer
	err      error // of write
	panicked any   // what write panicked with in the timer's goroutine
	closed   bool

	firing sync.WaitGroup // calls of fire that are to come or in progress
}

// NewWriter returns a Writer to write, which it does not call more than once at a time. receiving
// reports whether a message has come in part, or is about to be given to Write: on a slow network a
// slice of a large picture takes longer than Due. It is called by any goroutine.
func NewWriter(write func(*media.Frame) error, receiving func() bool) *Writer {
	return &Writer{write: write, receiving: receiving}
}

// Write takes the frames of one message, which may be none. The error is that of write, then or before.
func (w *Writer) Write(frames []*media.Frame) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.rethrow()
	for _, f := range w.join.Add(frames) {
		w.writeFrame(f)
	}
	w.arm(w.join.MaxWait())
	return w.err
}

// Close hands on what is held back. No call of write is in progress when it returns.
func (w *Writer) Close() error {
	defer w.firing.Wait()
	w.mu.Lock()
	defer w.mu.Unlock()
	w.closed = true
	w.arm(0)
	w.rethrow()
	w.writeFrame(w.join.Flush())
	return w.err
}

// rethrow goes on with a panic of the timer's goroutine in that of the caller, who is prepared for
// it. The caller holds mu.
func (w *Writer) rethrow() {
	if v := w.panicked; v != nil {
		w.panicked = nil
		panic(v)
	}
}

// writeFrame writes f, which may be nil. The caller holds mu.
func (w *Writer) writeFrame(f *media.Frame) {
	if f != nil && w.err == nil {
		w.err = w.write(f)
	}
}

// arm has fire called after d, and not at all for 0. The caller holds mu.
func (w *Writer) arm(d time.Duration) {
	switch {
	case d == 0 && w.due.IsZero():
		return
	case d == 0:
		w.due = time.Time{}
		if w.timer.Stop() {
			w.firing.Done()
		}
		return
	}
	w.due = time.Now().Add(d)
	if w.timer == nil {
		w.firing.Add(1)
		w.timer = time.AfterFunc(d, w.fire)
	} else if !w.timer.Reset(d) {
		w.firing.Add(1)
	}
}

func (w *Writer) fire() {
	defer w.firing.Done()
	w.mu.Lock()
	defer w.mu.Unlock()
	now := time.Now()
	if w.closed || w.due.IsZero() || now.Before(w.due) {
		return
	}
	d := w.join.MaxWait()
	stopped := now.Sub(w.due) > d/4 // the process was: what came meanwhile has not been read yet
	if stopped || w.receiving() {
		w.arm(d)
		return
	}
	w.due = time.Time{}
	defer func() { w.panicked = recover() }()
	w.writeFrame(w.join.Flush())
}
