package record

import (
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"math"
	"time"

	"livego/internal/container/flv"
	"livego/internal/domain"
	"livego/internal/media"
	"livego/internal/stream"
)

// A session records one session of a stream, in one or more files. For one goroutine.
type session struct {
	r            *Recorder
	live         *stream.Session
	log          *slog.Logger
	spaceFactor  float64 // how many times Limits.MinFree must be free to start a file
	loggedReason string  // logged reason why the stream is not recorded; "" while it is

	sub           *stream.Subscriber
	wakeAt        time.Duration // stream time until which the subscriber need not wake up
	reportedSkips uint64        // skips of sub that were reported
	droppedKind   media.Kind    // kind whose last frame was dropped; 0: none

	writer   *flv.FileWriter
	entry    *entry
	file     file // nil if no file is open
	syncedAt time.Time
}

// run records until the stream ends or ctx is done. After a disk failure it continues in another
// file when the disk works.
func (s *session) run(ctx context.Context) {
	defer func() {
		if s.entry != nil {
			s.r.removeEntry(s.entry) // no file was created
		}
	}()
	gops := math.MaxInt // everything in the ring at first, later only new frames
	if s.live.Restarted() {
		gops = 0 // do not read again what may have caused the failure
	}
	for ; ; gops = 1 {
		err := s.record(ctx, gops)
		if err == nil || !s.waitForDisk(ctx, err) {
			return
		}
	}
}

// waitForDisk waits until the disk can be used again. It returns false if the stream has ended or
// ctx is done.
func (s *session) waitForDisk(ctx context.Context, err error) bool {
	for {
		text := describe(err)
		reason := text
		if errors.Is(err, errDiskFull) {
			reason = errDiskFull.Error() // the message has a number that changes often
		}
		if reason != s.loggedReason {
			s.loggedReason = reason
			s.log.Error("cannot record the stream", "err", text)
		}
		s.ensureEntry()
		s.r.updateEntry(s.entry, func(e *entry) { e.State, e.Error = domain.RecordingWaiting, text })
		if !s.live.Sleep(ctx, retryInterval) {
			return false
		}
		if err = s.r.withDisk(s.checkSpace); err == nil {
			return true
		}
	}
}

// describe returns the text of err without the path, which is reported separately.
func describe(err error) string {
	var p *fs.PathError
	if errors.As(err, &p) {
		return p.Op + ": " + p.Err.Error()
	}
	return err.Error()
}

// checkSpace returns an error if the disk has too little free space to start a file.
func (s *session) checkSpace() error {
	return s.r.checkSpace(s.r.limits.Load().MinFree.times(s.spaceFactor))
}

// ensureEntry adds an entry for the next file if there is none.
func (s *session) ensureEntry() {
	if s.entry == nil {
		s.entry = s.r.addEntry(&entry{Recording: domain.Recording{Name: s.live.Name(), Started: time.Now().UTC(),
			State: domain.RecordingActive}})
	}
}

// record records until the stream ends, which is not an error, or the disk fails.
func (s *session) record(ctx context.Context, gops int) error {
	sub, err := s.live.Subscribe(ctx, stream.SubscribeOptions{
		Viewer: stream.ViewerOptions{Proto: "record", Internal: true}, GOPs: gops,
	})
	if err != nil {
		return nil // the stream has ended, or the server is stopping
	}
	defer sub.Leave()
	s.sub, s.reportedSkips, s.wakeAt, s.writer = sub, 0, 0, new(flv.FileWriter)
	// Read one frame at a time: frames in a larger batch would be in memory outside of the ring's
	// limit while the disk stalls.
	var one [1]*media.Frame
	for {
		n, err := sub.WaitUntil(ctx, one[:], s.wakeAt)
		for n > 0 && err == nil {
			if err := s.write(one[0]); err != nil {
				return s.fail(err)
			}
			n, err = sub.Poll(one[:])
		}
		if ferr := s.flush(); ferr != nil {
			return s.fail(ferr)
		}
		if err != nil { // end of the stream or of the server
			return s.close(domain.EndOfStream, nil)
		}
	}
}

// fail closes the file after err.
func (s *session) fail(err error) error {
	s.spaceFactor = resumeFactor
	reason := domain.DiskFailed
	if errors.Is(err, errDiskFull) {
		reason = domain.DiskFull
	}
	return errors.Join(err, s.close(reason, err))
}

func (s *session) write(f *media.Frame) error {
	if !s.writer.CanAppend(f) {
		if err := s.flush(); err != nil {
			return err
		}
		if err := s.close(domain.CodecChanged, nil); err != nil {
			return err
		}
	}
	s.ensureEntry()
	if n := s.sub.Skips(); n != s.reportedSkips {
		s.addGap("the disk is slower than the stream", n-s.reportedSkips)
		s.reportedSkips = n
	}
	k, ok := f.Track.Kind, s.writer.Append(f)
	switch {
	case ok && s.droppedKind == k:
		s.droppedKind = 0
	case !ok && s.droppedKind != k:
		s.addGap("video before the first keyframe, or frames that exceed the size limit of a tag", 1)
		s.droppedKind = k
	}
	s.wakeAt = f.DTS + writeInterval
	if s.writer.Buffered() >= maxWriteSize {
		return s.flush()
	}
	return nil
}

// addGap records n gaps.
func (s *session) addGap(reason string, n uint64) {
	s.r.updateEntry(s.entry, func(e *entry) {
		e.Gaps += int(n)
		s.r.statistics.Gaps += n
	})
	s.log.Warn("recording has a gap", "reason", reason, "file", s.entry.File)
}

// flush writes the buffered data, into a new file if none is open.
func (s *session) flush() error {
	if s.writer.Buffered() == 0 {
		return nil
	}
	now := time.Now()
	err := s.withDisk(now, func() error { return s.writeBuffered(now) })
	s.r.updateEntry(s.entry, func(e *entry) {
		s.r.statistics.Bytes += s.writer.Size() - e.Bytes
		e.Bytes, e.Duration = s.writer.Size(), s.writer.Duration()
	})
	return err
}

// withDisk runs f when a disk operation may start. It marks the entry as busy meanwhile.
func (s *session) withDisk(now time.Time, f func() error) error {
	s.r.updateEntry(s.entry, func(e *entry) { e.busySince = now })
	err := s.r.withDisk(f)
	s.r.updateEntry(s.entry, func(e *entry) { e.busySince = time.Time{} })
	return err
}

func (s *session) writeBuffered(now time.Time) error {
	fresh := s.file == nil
	if fresh {
		if err := s.checkSpace(); err != nil {
			return err
		}
		f, path, err := s.r.disk.create(s.live.Name(), now)
		if err != nil {
			return err
		}
		s.file, s.syncedAt, s.spaceFactor = f, now, 1
		s.writer.Mark = flv.Mark{File: path, Started: now}
		s.r.updateEntry(s.entry, func(e *entry) {
			e.File, e.Started, e.State, e.Error = path, now.UTC(), domain.RecordingActive, ""
		})
	}
	if err := s.r.write(s.writer.Buffered(), func() error { return s.writer.Flush(s.file) }); err != nil {
		return err
	}
	if fresh {
		s.loggedReason = ""
		s.r.emit(s.entry.Event(domain.EventRecordingStarted, ""))
		s.log.Info("recording", "file", s.entry.File)
	}
	if now.Sub(s.syncedAt) < syncInterval {
		return nil
	}
	s.syncedAt = now
	s.writer.Mark.Gaps = s.entry.Gaps
	if err := s.writer.UpdateHeader(s.file); err != nil {
		return err
	}
	return s.file.Sync()
}

// close closes the file, if there is one. cause is the disk error that is the reason, if any.
func (s *session) close(reason domain.RecordingReason, cause error) error {
	f, out := s.file, s.writer
	s.file, s.writer = nil, new(flv.FileWriter)
	if f == nil {
		return nil
	}
	if out.Size() == 0 { // the file is empty
		_ = s.withDisk(time.Now(), func() error {
			err := f.Close()
			s.r.disk.remove(s.entry.File)
			return err
		})
		s.r.updateEntry(s.entry, func(e *entry) { e.File = "" })
		return nil
	}
	out.Mark.Gaps, out.Mark.Reason = s.entry.Gaps, string(reason)
	if cause != nil {
		out.Mark.Error = describe(cause)
	}
	err := s.withDisk(time.Now(), func() error {
		return errors.Join(f.Truncate(out.Size()), out.Finish(f), f.Sync(),
			f.Close())
	})
	if err != nil && cause == nil {
		reason, cause = domain.DiskFailed, err
	}
	i := s.entry.Recording
	i.State, i.Reason = domain.RecordingFinished, reason
	if cause != nil {
		i.Error = describe(cause)
	}
	s.r.reportFinished(i, s.log)
	s.r.removeEntry(s.entry)
	s.entry = nil
	return err
}

// abandon closes the file that a panic left open, without finishing it: it is repaired like after a
// crash.
func (s *session) abandon() {
	if s.file != nil {
		_ = s.file.Close()
	}
}
