package record

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"math"
	"time"

	"livego/internal/container/flv"
	"livego/internal/domain"
	"livego/internal/media"
	"livego/internal/stream"
)

// A session records one session of a stream, in one file after the other. For one goroutine.
type session struct {
	r            *Recorder
	name         domain.Name
	log          *slog.Logger
	minFree      float64 // of the disk, to begin a file
	loggedReason string  // nothing is recorded, as the log knows; "" while it is

	sub           *stream.Subscriber
	wakeAt        time.Duration // stream time up to which there is no need to look
	reportedSkips uint64        // of sub, that have been told
	droppedKind   media.Kind    // whose last frame had no place in a file; 0: no track's

	writer   *flv.FileWriter
	entry    *entry
	file     file // nil: there is none yet
	syncedAt time.Time
}

// run records until the stream ends or ctx is done. Where the disk fails it goes on, in another
// file, when that is well.
func (t *session) run(ctx context.Context) {
	defer func() {
		if t.entry != nil {
			t.r.removeEntry(t.entry) // it never got a file
		}
	}()
	for gops := math.MaxInt; ; gops = 1 { // all there is; later what is new
		err := t.record(ctx, gops)
		if err == nil || !t.waitForDisk(ctx, err) {
			return
		}
	}
}

// waitForDisk waits until the disk is to be tried again; it reports false when there is nothing to record any more.
func (t *session) waitForDisk(ctx context.Context, err error) bool {
	for {
		said := describe(err)
		why := said
		if errors.Is(err, errDiskFull) {
			why = errDiskFull.Error() // how full changes all the time
		}
		if why != t.loggedReason {
			t.loggedReason = why
			t.log.Error("not recording", "err", said)
		}
		t.ensureEntry()
		t.r.updateEntry(t.entry, func(e *entry) { e.State, e.Error = domain.RecordingWaiting, said })
		if !sleep(ctx, retryInterval) || !t.r.hub.Has(t.name) {
			return false
		}
		if err = t.r.withDisk(t.checkSpace); err == nil {
			return true
		}
	}
}

// describe returns what err says, without the path: that is told otherwise.
func describe(err error) string {
	var p *fs.PathError
	if errors.As(err, &p) {
		return p.Op + ": " + p.Err.Error()
	}
	return err.Error()
}

var errDiskFull = errors.New("the disk is full")

// checkSpace returns an error where the disk has not as much checkSpace as is needed to begin.
func (t *session) checkSpace() error {
	free, err := t.r.disk.free()
	if err == nil && free < t.minFree {
		t.minFree = minFreeToResume
		err = fmt.Errorf("%w: %.1f %% is free, and %.0f %% is needed to begin", errDiskFull, 100*free, 100*t.minFree)
	}
	return err
}

// ensureEntry sees to it that there is an entry for the file that comes next.
func (t *session) ensureEntry() {
	if t.entry == nil {
		t.entry = t.r.addEntry(&entry{Recording: domain.Recording{Name: t.name, Started: time.Now().UTC(),
			State: domain.RecordingActive}})
	}
}

// record records until the stream ends, which is no error, or the disk fails.
func (t *session) record(ctx context.Context, gops int) error {
	sub, err := t.r.hub.Subscribe(ctx, t.name, stream.SubscribeOptions{
		Viewer: stream.ViewerOptions{Proto: "record", Internal: true}, GOPs: gops,
	})
	if err != nil {
		return nil // it has ended, or the server is stopping
	}
	defer sub.Leave()
	t.sub, t.reportedSkips, t.wakeAt, t.writer = sub, 0, 0, new(flv.FileWriter)
	// One frame at a time: more would not be in the ring any more, and in nobody's count, while the disk stands still.
	var one [1]*media.Frame
	for {
		n, err := sub.WaitUntil(ctx, one[:], t.wakeAt)
		for n > 0 && err == nil {
			if err := t.write(one[0]); err != nil {
				return t.fail(err)
			}
			n, err = sub.Poll(one[:])
		}
		if ferr := t.flush(); ferr != nil {
			return t.fail(ferr)
		}
		if err != nil { // the end of the stream or of the server
			return t.close(domain.EndOfStream, nil)
		}
	}
}

// fail closes the file because of err.
func (t *session) fail(err error) error {
	t.minFree = minFreeToResume
	return errors.Join(err, t.close(domain.DiskFailed, err))
}

func (t *session) write(f *media.Frame) error {
	if !t.writer.CanAppend(f) {
		if err := t.flush(); err != nil {
			return err
		}
		if err := t.close(domain.CodecChanged, nil); err != nil {
			return err
		}
	}
	t.ensureEntry()
	if n := t.sub.Skips(); n != t.reportedSkips {
		t.addGap("it came faster than it was written", n-t.reportedSkips)
		t.reportedSkips = n
	}
	k, ok := f.Track.Kind, t.writer.Append(f)
	switch {
	case ok && t.droppedKind == k:
		t.droppedKind = 0
	case !ok && t.droppedKind != k:
		t.addGap("frames have no place in a file: they are before the first keyframe, or too large", 1)
		t.droppedKind = k
	}
	t.wakeAt = f.DTS + writeInterval
	if t.writer.Buffered() >= maxWriteSize {
		return t.flush()
	}
	return nil
}

// addGap counts n gaps.
func (t *session) addGap(why string, n uint64) {
	t.r.updateEntry(t.entry, func(e *entry) { e.Gaps += int(n) })
	t.log.Warn("a recording has a gap: "+why, "file", t.entry.File)
}

// flush writes what is laid out, into a new file if there is none.
func (t *session) flush() error {
	if t.writer.Buffered() == 0 {
		return nil
	}
	now := time.Now()
	err := t.withDisk(now, func() error { return t.writeBuffered(now) })
	t.r.updateEntry(t.entry, func(e *entry) { e.Bytes, e.Duration = t.writer.Size(), t.writer.Duration() })
	return err
}

// withDisk has f withDisk the disk from now on, or when there is a place at it.
func (t *session) withDisk(now time.Time, f func() error) error {
	t.r.updateEntry(t.entry, func(e *entry) { e.busySince = now })
	err := t.r.withDisk(f)
	t.r.updateEntry(t.entry, func(e *entry) { e.busySince = time.Time{} })
	return err
}

func (t *session) writeBuffered(now time.Time) error {
	fresh := t.file == nil
	if fresh {
		if err := t.checkSpace(); err != nil {
			return err
		}
		f, path, err := t.r.disk.create(t.name, now)
		if err != nil {
			return err
		}
		t.file, t.syncedAt, t.minFree = f, now, minFreeToStart
		t.r.updateEntry(t.entry, func(e *entry) {
			e.File, e.Started, e.State, e.Error = path, now.UTC(), domain.RecordingActive, ""
		})
	}
	if err := t.writer.Flush(t.file); err != nil {
		return err
	}
	if fresh {
		t.loggedReason = ""
		t.log.Info("recording", "file", t.entry.File)
	}
	if now.Sub(t.syncedAt) < syncInterval {
		return nil
	}
	t.syncedAt = now
	if err := t.writer.UpdateHeader(t.file); err != nil {
		return err
	}
	return t.file.Sync()
}

// close closes the file, if there is one, with what has been written to it. cause is what the disk
// says, if that is the reason.
func (t *session) close(reason domain.RecordingReason, cause error) error {
	f, out := t.file, t.writer
	t.file, t.writer = nil, new(flv.FileWriter)
	if f == nil {
		return nil
	}
	if out.Size() == 0 { // nothing is in it
		_ = t.withDisk(time.Now(), func() error {
			err := f.Close()
			t.r.disk.remove(t.entry.File)
			return err
		})
		t.r.updateEntry(t.entry, func(e *entry) { e.File = "" })
		return nil
	}
	err := t.withDisk(time.Now(), func() error {
		return errors.Join(f.Truncate(out.Size()), out.Finish(f), f.Sync(),
			f.Close())
	})
	if err != nil && cause == nil {
		reason, cause = domain.DiskFailed, err
	}
	i := t.entry.Recording
	i.State, i.Reason = domain.RecordingFinished, reason
	if cause != nil {
		i.Error = describe(cause)
	}
	t.r.reportFinished(i, t.log)
	t.r.updateEntry(t.entry, func(e *entry) { e.Recording = i })
	t.entry = nil
	return err
}

// abandon gives up after a panic: the file is as after a crash.
func (t *session) abandon() {
	if t.file != nil {
		_ = t.file.Close()
	}
}
