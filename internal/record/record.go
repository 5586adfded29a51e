// Package record writes live streams to FLV files. Each stream has a goroutine that reads it like
// a viewer, so that a full or stalled disk delays nobody: unwritten frames are in the stream's
// ring, which exists for viewers anyway, and frames that leave the ring are a gap in the file.
// The package knows no HTTP and no settings.
package record

import (
	"cmp"
	"context"
	"io/fs"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"livego/internal/domain"
	"livego/internal/stream"
)

// Options of a Recorder.
type Options struct {
	Dir  string      // directory of the files, with a subdirectory for each app; created if missing
	Mode fs.FileMode // mode of new files; 0: defaultMode
	Off  bool        // record nothing: only the files of earlier recordings are kept
	Limits
	Finished func(domain.Recording) // called for each closed file; must not block; may be nil
	Event    func(domain.Event)     // called for each event; must not block; may be nil
	Log      *slog.Logger
}

// Limits are Options that may change while the Recorder runs.
type Limits struct {
	Keep      time.Duration // how long finished recordings are kept; 0: no limit
	KeepBytes int64         // how much space recordings may use together; 0: no limit
	MinFree   Space         // the free space that recordings leave on the disk
}

// defaultMode is the mode of new files. Other users of the machine must not read private streams.
const defaultMode fs.FileMode = 0o640

const (
	// writeInterval is how much of a stream is written at once, and maxWriteSize the limit in
	// bytes: a crash loses no more.
	writeInterval = 500 * time.Millisecond
	maxWriteSize  = 1 << 20
	// syncInterval is how often a file's metadata is updated and the file synced to the disk: a
	// power failure loses no more.
	syncInterval = 5 * time.Second
	// retryInterval is how often a failed disk is tried again.
	retryInterval = 5 * time.Second
	// maxDiskOps limits concurrent disk operations. Each blocks a thread, and the Go runtime ends
	// a process with 10,000 threads. No disk is faster with more.
	maxDiskOps = 64
	// stalledAfter is how long a disk operation may take before the recording is shown as
	// stalled.
	stalledAfter = 2 * time.Second
	// closeTimeout is how long a stopping server waits for a disk that does not respond.
	closeTimeout = time.Second
	drainPoll    = 20 * time.Millisecond
)

// A Recorder records every stream of a hub, and manages the files.
type Recorder struct {
	hub     *stream.Hub
	opt     Options
	dir     directory
	disk    disk          // the directory, except in tests
	space   spaceBudget   // of the disk
	diskOps chan struct{} // has an element for each running disk operation
	check   chan struct{} // has an element when old files must be looked for
	limits  atomic.Pointer[Limits]

	mu   sync.Mutex
	list []*entry // the current recordings, oldest first

	statistics Statistics // without States; under mu
}

// An entry is a Recording in the list.
type entry struct {
	domain.Recording
	busySince time.Time // when the running disk operation started; zero: none is running
}

// New returns a Recorder of the streams of hub. It records nothing until Run is called.
func New(hub *stream.Hub, o Options) *Recorder {
	dir := directory{o.Dir, cmp.Or(o.Mode, defaultMode)}
	r := &Recorder{hub: hub, opt: o, dir: dir, disk: dir, diskOps: make(chan struct{}, maxDiskOps),
		check: make(chan struct{}, 1), statistics: Statistics{Files: map[domain.RecordingReason]uint64{}}}
	r.SetLimits(o.Limits)
	return r
}

// SetLimits replaces the Limits.
func (r *Recorder) SetLimits(l Limits) {
	r.limits.Store(&l)
	r.wakeKeep()
}

// wakeKeep has old files looked for.
func (r *Recorder) wakeKeep() {
	select {
	case r.check <- struct{}{}:
	default:
	}
}

// Run repairs the files that a crash left, deletes old files, and records until ctx is done. It
// waits until its files are closed, but not for a disk that does not respond.
func (r *Recorder) Run(ctx context.Context) {
	var work sync.WaitGroup
	work.Go(func() { r.repairFiles(ctx) })
	work.Go(func() { r.keep(ctx) })
	if !r.opt.Off {
		work.Go(r.hub.Supervise(ctx, stream.Consumer{Name: "recorder", Run: r.record, Log: r.opt.Log}))
	}
	<-ctx.Done()
	r.waitForClose(&work)
}

// record records a session of a stream until it ends.
func (r *Recorder) record(ctx context.Context, live *stream.Session) error {
	s := &session{r: r, live: live, log: r.opt.Log.With("stream", live.Name().String()), spaceFactor: 1}
	defer s.abandon() // after a panic
	s.run(ctx)
	return nil
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
		r.opt.Log.Error("disk does not respond: recordings are not closed")
	}
}

// Drain waits until the recordings of all ended streams are closed, or ctx is done. It is part of
// the graceful shutdown.
func (r *Recorder) Drain(ctx context.Context) {
	again := time.NewTicker(drainPoll)
	defer again.Stop()
	open := func(i domain.Recording) bool {
		return i.State == domain.RecordingActive || i.State == domain.RecordingStalled
	}
	for slices.ContainsFunc(r.current(), open) {
		select {
		case <-again.C:
		case <-ctx.Done():
			return
		}
	}
}

// current returns the recordings that are not finished, oldest first.
func (r *Recorder) current() []domain.Recording {
	now := time.Now()
	r.mu.Lock()
	defer r.mu.Unlock()
	list := make([]domain.Recording, 0, len(r.list))
	for _, e := range r.list {
		i := e.Recording
		if i.State == domain.RecordingActive && !e.busySince.IsZero() && now.Sub(e.busySince) >= stalledAfter {
			i.State = domain.RecordingStalled
		}
		list = append(list, i)
	}
	return list
}

// withDisk runs f when fewer than maxDiskOps operations are running.
func (r *Recorder) withDisk(f func() error) error {
	r.diskOps <- struct{}{}
	defer func() { <-r.diskOps }()
	return f()
}

// addEntry adds e to the list.
func (r *Recorder) addEntry(e *entry) *entry {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.list = append(r.list, e)
	return e
}

// updateEntry calls f with e, which is in the list, under the lock.
func (r *Recorder) updateEntry(e *entry, f func(e *entry)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	f(e)
}

// removeEntry removes e from the list.
func (r *Recorder) removeEntry(e *entry) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.list = slices.DeleteFunc(r.list, func(other *entry) bool { return other == e })
}

// reportFinished reports a closed file, while the list still shows it.
func (r *Recorder) reportFinished(i domain.Recording, log *slog.Logger) {
	r.mu.Lock()
	r.statistics.Files[i.Reason]++
	r.mu.Unlock()
	if r.opt.Finished != nil {
		r.opt.Finished(i)
	}
	r.emit(i.Event(domain.EventRecordingFinished, string(i.Reason)))
	r.wakeKeep()
	log.Info("recorded", "file", i.File, "duration", i.Duration.Round(time.Millisecond), "bytes", i.Bytes, "gaps", i.Gaps,
		"reason", string(i.Reason))
}

// reportDeleted reports a file that was deleted by request, or because of the setting why.
func (r *Recorder) reportDeleted(i domain.Recording, why string) {
	r.emit(i.Event(domain.EventRecordingDeleted, why))
	r.opt.Log.Info("recording deleted", "stream", i.Name.String(), "file", i.File, "bytes", i.Bytes, "reason", why)
}

func (r *Recorder) emit(e domain.Event) {
	if r.opt.Event != nil {
		r.opt.Event(e)
	}
}
