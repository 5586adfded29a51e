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

var errIdle = errors.New("hls: no frame for some time")

// A feed segments one stream session.
type feed struct {
	srv     *Server
	name    domain.Name
	session *streamSession
	log     *slog.Logger
	warned  bool // of a long keyframe interval
	carries func(*media.Track) bool
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
		GOPs:   gops,
	})
	if err != nil {
		return nil // the stream session or ctx has ended
	}
	defer sub.Leave()
	fd := &feed{srv: s, name: live.Name(), session: s.startSession(live.Name(), sub),
		log: s.options().Log.With("proto", "hls", "stream", live.Name().String()), carries: carriesCached()}
	defer fd.session.subscriber.Store(nil)
	return fd.run(ctx, sub)
}

func (fd *feed) run(ctx context.Context, sub *stream.Subscriber) error {
	seg := fd.session.segmenter
	for {
		err := fd.read(ctx, sub, seg)
		switch {
		case errors.Is(err, errIdle):
			fd.handleIdle(ctx, sub, seg)
		case errors.Is(err, io.EOF), ctx.Err() != nil:
			fd.publishLastParts(ctx, seg)
			seg.End()
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

// write writes frames to seg and clears them.
func (fd *feed) write(sub *stream.Subscriber, seg *segment.Segmenter, frames []*media.Frame) {
	for _, f := range frames {
		if fd.carries(f.Track) {
			seg.Write(f)
		}
	}
	seg.Flush()
	sub.ObserveWritten(frames)
	clear(frames)
	fd.warnKeyframeInterval(seg)
}

// handleIdle writes frames that have come although nothing is due. If there are none and the stream
// is held for its encoder, it publishes the rest of the open segment.
func (fd *feed) handleIdle(ctx context.Context, sub *stream.Subscriber, seg *segment.Segmenter) {
	buf := make([]*media.Frame, feedFrames)
	n, err := sub.Poll(buf)
	if n > 0 {
		fd.write(sub, seg, buf[:n])
		return
	}
	// An encoder that is still connected may continue where it stopped.
	if in, ok := fd.srv.hub.Info(fd.name); err == nil && ok && in.Held {
		fd.publishLastParts(ctx, seg)
		seg.Pause()
	}
}

// publishLastParts publishes the last parts of the open segment and waits until players can have
// requested them.
func (fd *feed) publishLastParts(ctx context.Context, seg *segment.Segmenter) {
	wait := seg.Finish()
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

// carriesCached returns segment.Carries for one goroutine. It caches the result of the last track
// of each kind, because it is called for every frame, and only for frames of default tracks.
func carriesCached() func(*media.Track) bool {
	var known [media.Data + 1]struct { // by kind
		track *media.Track // the newest
		yes   bool
	}
	return func(t *media.Track) bool {
		k := &known[t.Kind]
		if k.track != t {
			k.track, k.yes = t, segment.Carries(t)
		}
		return k.yes
	}
}
