package hls

import (
	"cmp"
	"context"
	"errors"
	"io"
	"log/slog"
	"math"
	"time"

	"livego/internal/deliver/segment"
	"livego/internal/domain"
	"livego/internal/media"
	"livego/internal/stream"
)

const (
	// feedFrames is how many frames are read at once: some seconds of video and audio.
	feedFrames = 256
	// watchedFor is for how long after a playlist request parts are made as they come. Without
	// requests they are made once per segment.
	watchedFor = 10 * time.Second
	// idleAfter is the time without a frame after which the feed checks whether the encoder is
	// away, while there is no target duration.
	idleAfter = 2 * time.Second
)

var (
	errIdle   = errors.New("hls: no frame for some time")
	errMissed = errors.New("hls: frames were dropped before they were segmented")
)

// A feed segments one stream session.
type feed struct {
	srv     *Server
	name    domain.Name
	session *streamSession
	log     *slog.Logger
	warned  bool            // of a long keyframe interval
	replica *stream.Session // of a session that another server owns; else nil
	// following means that frames are written: the session is this server's, or the state of its
	// owner was restored.
	following bool
	pending   *segment.Seal      // of a segment that is not complete here yet
	stopCopy  context.CancelFunc // stops copying the window of the owner
}

// feed segments a stream session until it ends.
func (s *Server) feed(ctx context.Context, live *stream.Session) error {
	if !s.servesApp(live.Name().App) {
		return nil
	}
	gops := math.MaxInt // all that the stream keeps
	if live.Restarted() {
		gops = 0 // do not read again what may have caused the failure
	}
	sub, err := live.Subscribe(ctx, stream.SubscribeOptions{
		Viewer: stream.ViewerOptions{Proto: "hls", Internal: true},
		GOPs:   gops, Every: true, Notes: live.Replicated(),
	})
	if err != nil {
		return nil // the stream session or ctx has ended
	}
	defer sub.Leave()
	sub.SeekStart(gops)
	fd := &feed{srv: s, name: live.Name(), session: s.startSession(live, sub), following: !live.Replicated(),
		stopCopy: func() {}, log: s.options().Log.With("proto", "hls", "stream", live.Name().String())}
	if live.Replicated() {
		fd.replica = live
	}
	defer fd.session.subscriber.Store(nil)
	return fd.run(ctx, sub)
}

func (fd *feed) run(ctx context.Context, sub *stream.Subscriber) error {
	seg := fd.session.segmenter
	for {
		err := fd.read(ctx, sub, seg)
		switch {
		case errors.Is(err, errIdle):
			fd.handleIdle(sub, seg)
		case errors.Is(err, stream.ErrMark):
			fd.handleMark(ctx, sub, seg)
		case errors.Is(err, stream.ErrMissed):
			fd.handleMissed(sub)
		case errors.Is(err, stream.ErrAbandoned), errors.Is(err, io.EOF) && !fd.following:
			fd.session.writing.Lock()
			defer fd.session.writing.Unlock()
			seg.Abandon()
			return nil
		case errors.Is(err, io.EOF), ctx.Err() != nil:
			fd.publishLastParts(ctx, seg)
			fd.session.writing.Lock()
			defer fd.session.writing.Unlock()
			seg.End()
			fd.verifyPending(seg)
			return nil
		default:
			return err
		}
	}
}

// read writes frames of sub to seg until an error, or until nothing has become due for about a
// target duration: then it returns errIdle. It reads frames when they complete something, not one
// by one, because most streams have no viewers.
func (fd *feed) read(ctx context.Context, sub *stream.Subscriber, seg *segment.Segmenter) error {
	idleTime := func() time.Duration { return cmp.Or(seg.List().Target, idleAfter) }
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	timer := time.AfterFunc(idleTime(), func() { cancel(errIdle) })
	defer timer.Stop()

	buf := make([]*media.Frame, feedFrames)
	for {
		n, err := sub.WaitUntil(ctx, buf, seg.Due(fd.session.watched()))
		if errors.Is(err, context.Canceled) {
			return context.Cause(ctx)
		}
		if err != nil {
			return err
		}
		timer.Reset(idleTime())
		fd.write(sub, seg, buf[:n])
	}
}

// write writes frames to seg and clears them. The stream keeps those of the open segment: replicas that
// connect again start there.
func (fd *feed) write(sub *stream.Subscriber, seg *segment.Segmenter, frames []*media.Frame) {
	keep := sub.Position()
	if fd.following {
		fd.session.writing.Lock()
		for _, f := range frames {
			seg.WriteStream(f)
		}
		seg.Flush()
		fd.verifyPending(seg)
		keep = seg.From()
		fd.session.writing.Unlock()
		sub.ObserveWritten(frames)
		fd.warnKeyframeInterval(seg)
	}
	sub.Keep(keep)
	clear(frames)
}

// handleIdle writes frames that have come although nothing is due. If there are none and the stream
// is held for its encoder, it pauses the session.
func (fd *feed) handleIdle(sub *stream.Subscriber, seg *segment.Segmenter) {
	buf := make([]*media.Frame, feedFrames)
	n, err := sub.Poll(buf)
	if n > 0 {
		fd.write(sub, seg, buf[:n])
		return
	}
	// An encoder that is still connected may continue where it stopped.
	if err == nil {
		sub.Pause()
	}
}

// handleMark handles what happened before the next frame.
func (fd *feed) handleMark(ctx context.Context, sub *stream.Subscriber, seg *segment.Segmenter) {
	m, ok := sub.Mark()
	if !ok {
		return
	}
	switch v := m.Value.(type) {
	case *segment.Snapshot:
		fd.restore(ctx, sub, seg, v)
	case segment.OtherVersion:
		fd.fetchByName(seg, v)
	case segment.Seal:
		fd.verify(seg, v)
	default:
		switch {
		case m.Kind == stream.Restarting:
			fd.following = false
		case m.Kind == stream.Paused && fd.following: // the rest of the open segment
			fd.publishLastParts(ctx, seg)
			fd.session.writing.Lock()
			defer fd.session.writing.Unlock()
			seg.Pause()
		}
	}
}

// handleMissed continues at the newest start, as frames were dropped before they were read. A replica
// waits for the state of the owner.
func (fd *feed) handleMissed(sub *stream.Subscriber) {
	if fd.replica != nil {
		fd.following = false
		fd.replica.RequestRestart(errMissed)
	}
	sub.SeekStart(1)
}

// restore continues with the state of the owner.
func (fd *feed) restore(ctx context.Context, sub *stream.Subscriber, seg *segment.Segmenter, sn *segment.Snapshot) {
	fd.session.writing.Lock()
	defer fd.session.writing.Unlock()
	seg.Restore(sn)
	fd.following, fd.pending = true, nil
	fd.session.byName.Store(false)
	sub.Seek(sn.Next())
	fd.stopCopy()
	if l := seg.List(); fd.srv.clustered() && len(l.AbsentFiles(segment.FMP4)) > 0 {
		// It goes on after the end of the session, whose playlist is kept.
		ctx, cancel := context.WithCancel(ctx)
		fd.stopCopy = cancel
		fd.srv.copies.Go(func() {
			defer cancel()
			fd.srv.copyWindow(ctx, fd.name, l)
		})
	}
}

// fetchByName makes viewers get all from the owner by name: its code has another version, and makes other
// segments.
func (fd *feed) fetchByName(seg *segment.Segmenter, version segment.OtherVersion) {
	fd.session.writing.Lock()
	defer fd.session.writing.Unlock()
	if !fd.session.byName.Swap(true) {
		fd.log.Warn("HLS is fetched from the owner: its version makes other segments", "version", uint64(version),
			"own_version", segment.BytesVersion)
	}
	fd.following = false
	seg.Abandon() // requests that wait here
}

// verify compares a segment with that of the owner. If it differs, nothing more is segmented, and viewers
// get all from the owner, before its state is restored. The seal of the last segment comes before its end here.
func (fd *feed) verify(seg *segment.Segmenter, seal segment.Seal) {
	if !fd.following {
		return
	}
	if fd.verifyPending(seg); seg.IsOpen(seal.Sequence) {
		fd.pending = &seal
		return
	}
	fd.compare(seg, seal)
}

// verifyPending verifies the segment that was open when its seal came.
func (fd *feed) verifyPending(seg *segment.Segmenter) {
	if seal := fd.pending; seal != nil {
		fd.pending = nil
		fd.compare(seg, *seal)
	}
}

func (fd *feed) compare(seg *segment.Segmenter, seal segment.Seal) {
	if err := seg.Verify(seal); err != nil {
		fd.srv.mismatches.Add(1)
		fd.log.Error("segment differs from that of the owner", "err", err)
		fd.following = false
		fd.session.byName.Store(true)
		fd.replica.RequestRestart(err)
	}
}

// publishLastParts publishes the last parts of the open segment and waits until players can have
// requested them.
func (fd *feed) publishLastParts(ctx context.Context, seg *segment.Segmenter) {
	fd.session.writing.Lock()
	wait := seg.Finish()
	fd.session.writing.Unlock()
	if wait == 0 || !fd.session.watched() {
		return
	}
	select {
	case <-time.After(wait):
	case <-ctx.Done():
	}
}

// warnKeyframeInterval logs a warning, once, if the keyframe interval is too long for HLS.
func (fd *feed) warnKeyframeInterval(seg *segment.Segmenter) {
	interval := seg.LongKeyframeInterval()
	if fd.warned || interval == 0 {
		return
	}
	fd.warned = true
	fd.log.Warn("keyframe interval too long for HLS: a viewer that joins sees no picture until the next keyframe; "+
		"set the encoder's keyframe interval to 2 s", "keyframe_interval", interval.Round(time.Millisecond))
}
