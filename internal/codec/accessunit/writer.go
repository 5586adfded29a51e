package accessunit

import (
	"sync"
	"time"

	"livego/internal/media"
)

// A Writer joins the frames of a live publisher and passes them on in order: when Write gets them,
// and a held picture after maxWait.
type Writer struct {
	write     func(*media.Frame) error
	receiving func() bool

	mu       sync.Mutex // held while frames are passed on, so that they stay in order
	join     Joiner
	due      time.Time // when the held picture is passed on; zero: none is held
	timer    *time.Timer
	err      error // of write
	panicked any   // value of a panic of write in the timer's goroutine
	closed   bool

	firing sync.WaitGroup // calls of fire that are scheduled or in progress
}

// NewWriter returns a Writer that passes frames to write, in one call at a time. receiving reports
// whether part of a message has come, or a message is about to be passed to Write: on a slow
// network, a slice of a large picture takes longer than maxWait. Any goroutine may call receiving.
func NewWriter(write func(*media.Frame) error, receiving func() bool) *Writer {
	return &Writer{write: write, receiving: receiving}
}

// Write joins the frames of one message, if there are any. It returns the error of write, from now
// or before.
func (w *Writer) Write(frames []*media.Frame) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.rethrow()
	for _, f := range w.join.Add(frames) {
		w.writeFrame(f)
	}
	w.arm(w.join.maxWait())
	return w.err
}

// Close passes on the held picture. No call of write is in progress when it returns.
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

// rethrow repeats a panic of the timer's goroutine in the caller, which can recover from it. The
// caller holds mu.
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

// arm schedules fire after d; 0 cancels it. The caller holds mu.
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
	d := w.join.maxWait()
	stopped := now.Sub(w.due) > d/4 // the process was stopped: received data has not been read yet
	if stopped || w.receiving() {
		w.arm(d)
		return
	}
	w.due = time.Time{}
	defer func() { w.panicked = recover() }()
	w.writeFrame(w.join.Flush())
}
