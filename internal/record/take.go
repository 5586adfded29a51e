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
	"livego/internal/live"
	"livego/internal/media"
	"livego/internal/stream"
)

// A take records one session of a stream, in one file after the other. For one goroutine.
type take struct {
	r    *Recorder
	name live.Name
	log  *slog.Logger
	need float64 // of the disk, to begin a file
	why  string  // nothing is recorded, as the log knows; "" while it is

	sub   *stream.Subscriber
	due   time.Duration // stream time up to which there is no need to look
	skips uint64        // of sub, that have been told
	lost  media.Kind    // whose last frame had no place in a file; 0: no track's

	out    *flv.FileWriter
	entry  *entry
	file   file // nil: there is none yet
	synced time.Time
}

// run records until the stream ends or ctx is done. Where the disk fails it goes on, in another file, when that is well.
func (t *take) run(ctx context.Context) {
	defer func() {
		if t.entry != nil {
			t.r.drop(t.entry) // it never got a file
		}
	}()
	for gops := math.MaxInt; ; gops = 1 { // all there is; later what is new
		err := t.session(ctx, gops)
		if err == nil || !t.wait(ctx, err) {
			return
		}
	}
}

// wait waits until the disk is to be tried again; it reports false when there is nothing to record any more.
func (t *take) wait(ctx context.Context, err error) bool {
	for {
		said := describe(err)
		why := said
		if errors.Is(err, errFull) {
			why = errFull.Error() // how full changes all the time
		}
		if why != t.why {
			t.why = why
			t.log.Error("not recording", "err", said)
		}
		t.begin()
		t.r.change(t.entry, func(e *entry) { e.State, e.Error = live.RecordingWaiting, said })
		if !sleep(ctx, retryEvery) || !t.r.hub.Has(t.name) {
			return false
		}
		if err = t.r.use(t.room); err == nil {
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

var errFull = errors.New("the disk is full")

// room returns an error where the disk has not as much room as is needed to begin.
func (t *take) room() error {
	free, err := t.r.disk.free()
	if err == nil && free < t.need {
		t.need = enoughWater
		err = fmt.Errorf("%w: %.1f %% is free, and %.0f %% is needed to begin", errFull, 100*free, 100*t.need)
	}
	return err
}

// begin sees to it that there is an entry for the file that comes next.
func (t *take) begin() {
	if t.entry == nil {
		t.entry = t.r.add(&entry{Recording: live.Recording{Name: t.name, Started: time.Now().UTC(), State: live.RecordingActive}})
	}
}

// session records until the stream ends, which is no error, or the disk fails.
func (t *take) session(ctx context.Context, gops int) error {
	sub, err := t.r.hub.Subscribe(ctx, t.name, stream.SubscribeOptions{
		Viewer: stream.ViewerOptions{Proto: "record", Internal: true}, GOPs: gops,
	})
	if err != nil {
		return nil // it has ended, or the server is stopping
	}
	defer sub.Leave()
	t.sub, t.skips, t.due, t.out = sub, 0, 0, new(flv.FileWriter)
	// One frame at a time: more would not be in the ring any more, and in nobody's count, while the disk stands still.
	var one [1]*media.Frame
	for {
		n, err := sub.NextAt(ctx, one[:], t.due)
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
			return t.close(live.EndOfStream, nil)
		}
	}
}

// fail closes the file because of err.
func (t *take) fail(err error) error {
	t.need = enoughWater
	return errors.Join(err, t.close(live.DiskFailed, err))
}

func (t *take) write(f *media.Frame) error {
	if !t.out.Takes(f) {
		if err := t.flush(); err != nil {
			return err
		}
		if err := t.close(live.NewCoding, nil); err != nil {
			return err
		}
	}
	t.begin()
	if n := t.sub.Skips(); n != t.skips {
		t.gap("it came faster than it was written", n-t.skips)
		t.skips = n
	}
	k, ok := f.Track.Kind, t.out.Append(f)
	switch {
	case ok && t.lost == k:
		t.lost = 0
	case !ok && t.lost != k:
		t.gap("frames have no place in a file: they are before the first keyframe, or too large", 1)
		t.lost = k
	}
	t.due = f.DTS + pieceTime
	if t.out.Buffered() >= pieceSize {
		return t.flush()
	}
	return nil
}

// gap counts n gaps.
func (t *take) gap(why string, n uint64) {
	t.r.change(t.entry, func(e *entry) { e.Gaps += int(n) })
	t.log.Warn("a recording has a gap: "+why, "file", t.entry.File)
}

// flush writes what is laid out, into a new file if there is none.
func (t *take) flush() error {
	if t.out.Buffered() == 0 {
		return nil
	}
	now := time.Now()
	err := t.use(now, func() error { return t.put(now) })
	t.r.change(t.entry, func(e *entry) { e.Bytes, e.Duration = t.out.Size(), t.out.Duration() })
	return err
}

// use has f use the disk from now on, or when there is a place at it.
func (t *take) use(now time.Time, f func() error) error {
	t.r.change(t.entry, func(e *entry) { e.busy = now })
	err := t.r.use(f)
	t.r.change(t.entry, func(e *entry) { e.busy = time.Time{} })
	return err
}

func (t *take) put(now time.Time) error {
	fresh := t.file == nil
	if fresh {
		if err := t.room(); err != nil {
			return err
		}
		f, path, err := t.r.disk.create(t.name, now)
		if err != nil {
			return err
		}
		t.file, t.synced, t.need = f, now, lowWater
		t.r.change(t.entry, func(e *entry) {
			e.File, e.Started, e.State, e.Error = path, now.UTC(), live.RecordingActive, ""
		})
	}
	if err := t.out.Flush(t.file); err != nil {
		return err
	}
	if fresh {
		t.why = ""
		t.log.Info("recording", "file", t.entry.File)
	}
	if now.Sub(t.synced) < syncEvery {
		return nil
	}
	t.synced = now
	if err := t.out.Update(t.file); err != nil {
		return err
	}
	return t.file.Sync()
}

// close closes the file, if there is one, with what has been written to it. cause is what the disk says, if that is the reason.
func (t *take) close(reason live.RecordingReason, cause error) error {
	f, out := t.file, t.out
	t.file, t.out = nil, new(flv.FileWriter)
	if f == nil {
		return nil
	}
	if out.Size() == 0 { // nothing is in it
		_ = t.use(time.Now(), func() error {
			err := f.Close()
			t.r.disk.remove(t.entry.File)
			return err
		})
		t.r.change(t.entry, func(e *entry) { e.File = "" })
		return nil
	}
	err := t.use(time.Now(), func() error { return errors.Join(f.Truncate(out.Size()), out.End(f), f.Sync(), f.Close()) })
	if err != nil && cause == nil {
		reason, cause = live.DiskFailed, err
	}
	i := t.entry.Recording
	i.State, i.Reason = live.RecordingFinished, reason
	if cause != nil {
		i.Error = describe(cause)
	}
	t.r.tell(i, t.log)
	t.r.change(t.entry, func(e *entry) { e.Recording = i })
	t.entry = nil
	return err
}

// abandon gives up after a panic: the file is as after a crash.
func (t *take) abandon() {
	if t.file != nil {
		_ = t.file.Close()
	}
}
