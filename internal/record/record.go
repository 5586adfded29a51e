// Package record writes live streams to FLV files. Each stream has a goroutine that reads it as a
// viewer does, so that a disk that is full or stands still harms nobody: what waits for it is in
// the stream's ring, which is there for viewers anyway, and what the ring lets go of is a gap in
// the file. It knows no HTTP and no configuration.
package record

import (
	"cmp"
	"context"
	"io/fs"
	"log/slog"
	"runtime/debug"
	"slices"
	"sync"
	"time"

	"livego/internal/domain"
	"livego/internal/stream"
)

// Options of a Recorder.
type Options struct {
	Dir      string                 // where the files are, in a directory for each app; made when absent
	Mode     fs.FileMode            // of new files; 0: DefaultMode
	Finished func(domain.Recording) // told of each file that is closed; it must not block. nil: nobody
	Log      *slog.Logger
}

// DefaultMode is the mode of new files: what a private stream showed is not for every user of the machine.
const DefaultMode fs.FileMode = 0o640

const (
	// writeInterval is how much of a stream is written at once, and maxWriteSize how many bytes: a crash loses no more.
	writeInterval = 500 * time.Millisecond
	maxWriteSize  = 1 << 20
	// syncInterval is how often a file is forced onto the disk, with a front that knows of what is in
	// it: a power cut loses no more.
	syncInterval = 5 * time.Second
	// A recording is not begun with less than minFreeToStart of the disk free, and, where it was ended
	// or not begun, not before there is minFreeToResume.
	minFreeToStart  = 0.02
	minFreeToResume = 0.05
	// retryInterval is how often a disk that failed is tried.
	retryInterval = 5 * time.Second
	// maxDiskOps is how many are at the disk at a time: a thread waits with each, of which the Go
	// runtime has 10,000 and then ends the process. No disk is faster by more.
	maxDiskOps = 64
	// stalledAfter is how long the disk may take before it is said to stall.
	stalledAfter = 2 * time.Second
	// maxFinished is how many files that are closed are remembered.
	maxFinished = 100
	// closeTimeout is how long a server that stops waits for a disk that does not answer.
	closeTimeout = time.Second
	drainPoll    = 20 * time.Millisecond
)

// A Recorder records every stream of a hub.
type Recorder struct {
	hub     *stream.Hub
	opt     Options
	disk    disk
	diskOps chan struct{} // has one for each who is

	mu   sync.Mutex
	list []*entry // the oldest first
}

// An entry is a Recording in the list.
type entry struct {
	domain.Recording
	busySince time.Time // since when the disk has been at work for it; zero: it is not
}

// New returns a Recorder of the streams of hub. Nothing is recorded until Run.
func New(hub *stream.Hub, o Options) *Recorder {
	return &Recorder{hub: hub, opt: o, disk: directory{o.Dir, cmp.Or(o.Mode, DefaultMode)},
		diskOps: make(chan struct{}, maxDiskOps)}
}

// Run records until ctx is done, after it has brought to an end what a crash left. It waits for its
// files to be closed, but not for a disk that does not answer.
func (r *Recorder) Run(ctx context.Context) {
	events, lost, stop := r.hub.Observe(1024, false)
	defer stop()
	var work sync.WaitGroup
	defer r.waitForClose(&work)
	work.Go(func() { r.repairFiles(ctx) })

	active := map[domain.Name]bool{}
	ended := make(chan domain.Name)
	start := func(name domain.Name) {
		if active[name] {
			return // by who looks for the next session before he goes
		}
		active[name] = true
		work.Go(func() {
			r.recordStream(ctx, name)
			select {
			case ended <- name:
			case <-ctx.Done():
			}
		})
	}
	startAll := func() {
		for _, in := range r.hub.Snapshot() {
			start(in.Name)
		}
	}
	startAll()
	missed := uint64(0)
	for {
		select {
		case e := <-events:
			if e.Type == stream.Started {
				start(e.Name)
			}
			if n := lost(); n != missed {
				missed = n
				startAll()
			}
		case name := <-ended:
			delete(active, name)
			if r.hub.Has(name) {
				start(name)
			}
		case <-ctx.Done():
			return
		}
	}
}

func (r *Recorder) waitForClose(work *sync.WaitGroup) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		work.Wait()
	}()
	select {
	case <-done:
	case <-time.After(closeTimeout):
		r.opt.Log.Error("the disk does not answer: recordings are not closed")
	}
}

// Drain waits until the recordings of all streams that have ended are closed, or ctx is done.
func (r *Recorder) Drain(ctx context.Context) {
	again := time.NewTicker(drainPoll)
	defer again.Stop()
	open := func(i domain.Recording) bool {
		return i.State == domain.RecordingActive || i.State == domain.RecordingStalled
	}
	for slices.ContainsFunc(r.Recordings(), open) {
		select {
		case <-again.C:
		case <-ctx.Done():
			return
		}
	}
}

// Recordings returns what is recorded, and the last files that were finished; the newest first.
func (r *Recorder) Recordings() []domain.Recording {
	now := time.Now()
	r.mu.Lock()
	defer r.mu.Unlock()
	list := make([]domain.Recording, 0, len(r.list))
	for _, e := range slices.Backward(r.list) {
		i := e.Recording
		if i.State == domain.RecordingActive && !e.busySince.IsZero() && now.Sub(e.busySince) >= stalledAfter {
			i.State = domain.RecordingStalled
		}
		list = append(list, i)
	}
	return list
}

// withDisk has f withDisk the disk when there is a place at it.
func (r *Recorder) withDisk(f func() error) error {
	r.diskOps <- struct{}{}
	defer func() { <-r.diskOps }()
	return f()
}

// addEntry puts e into the list.
func (r *Recorder) addEntry(e *entry) *entry {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.list = append(r.list, e)
	finished := 0
	for _, e := range r.list {
		if e.State == domain.RecordingFinished {
			finished++
		}
	}
	r.list = slices.DeleteFunc(r.list, func(e *entry) bool {
		old := finished > maxFinished && e.State == domain.RecordingFinished
		if old {
			finished--
		}
		return old
	})
	return e
}

// updateEntry changes e, which is in the list.
func (r *Recorder) updateEntry(e *entry, f func(e *entry)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	f(e)
}

// removeEntry takes e out of the list.
func (r *Recorder) removeEntry(e *entry) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.list = slices.DeleteFunc(r.list, func(other *entry) bool { return other == e })
}

// reportFinished tells of a file that has been closed, before the list does.
func (r *Recorder) reportFinished(i domain.Recording, log *slog.Logger) {
	if r.opt.Finished != nil {
		r.opt.Finished(i)
	}
	log.Info("recorded", "file", i.File, "duration", i.Duration.Round(time.Millisecond), "bytes", i.Bytes, "gaps", i.Gaps,
		"reason", string(i.Reason))
}

// recordStream records the session of name until it ends, or another that has begun when it has.
func (r *Recorder) recordStream(ctx context.Context, name domain.Name) {
	log := r.opt.Log.With("stream", name.String())
	t := &session{r: r, name: name, log: log, minFree: minFreeToStart}
	defer func() {
		if p := recover(); p != nil { // which ends this recording, and no other
			log.Error("panic", "panic", p, "stack", string(debug.Stack()))
			t.abandon()
			sleep(ctx, retryInterval)
		}
	}()
	t.run(ctx)
}

// sleep waits for d or until ctx is done; it reports false for that.
func sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
