package hls

import (
	"cmp"
	"context"
	"errors"
	"io"
	"log/slog"
	"math"
	"runtime/debug"
	"time"

	"livego/internal/deliver/segment"
	"livego/internal/domain"
	"livego/internal/media"
	"livego/internal/stream"
)

const (
	// feedFrames is how many frames are taken at once: some seconds of video and audio.
	feedFrames = 256
	// feedRetry is after how long segmenting is taken up again where it broke.
	feedRetry = time.Second
	// watchedFor is for how long after a request for a playlist parts are made at once; without one
	// they are made a segment at a time.
	watchedFor = 10 * time.Second
	// idleAfter is after how long without a frame it is looked whether the encoder is away, before
	// there is a target duration.
	idleAfter = 2 * time.Second
)

var (
	errPanic = errors.New("hls: segmenting panicked")
	errIdle  = errors.New("hls: no frame for some time")
)

// A feed segments one session of a stream.
type feed struct {
	srv     *Server
	name    domain.Name
	session *streamSession
	log     *slog.Logger
	warned  bool // that keyframes are far apart
}

// feed segments the session of name until it ends.
func (s *Server) feed(ctx context.Context, name domain.Name, sess *streamSession) {
	fd := &feed{srv: s, name: name, session: sess, log: s.opt.Log.With("proto", "hls", "stream", name.String())}
	err := fd.runSafely(ctx)
	broken := err != nil && ctx.Err() == nil && domain.KindOf(err) != domain.NotFound
	if broken {
		if !errors.Is(err, errPanic) { // which is in the log
			fd.log.Error("segmenting ended", "err", err)
		}
		select { // what broke it may do so again at once
		case <-time.After(feedRetry):
		case <-ctx.Done():
		}
	}
	s.mu.Lock()
	sess.ended, sess.failed = time.Now(), broken
	s.mu.Unlock()
	// A session that began before this line was taken for the one that has just ended.
	if s.hub.Has(name) {
		s.requestStart(ctx, name)
	}
}

// runSafely is run, but for panics: they end this feed, as an error does, and no other.
func (fd *feed) runSafely(ctx context.Context) (err error) {
	defer func() {
		if r := recover(); r != nil {
			fd.log.Error("panic", "panic", r, "stack", string(debug.Stack()))
			err = errPanic
		}
	}()
	return fd.run(ctx)
}

func (fd *feed) run(ctx context.Context) error {
	sub, err := fd.subscribe(ctx)
	if err != nil {
		return err
	}
	defer sub.Leave()
	defer fd.session.subscriber.Store(nil)
	seg := fd.session.segmenter.Load()
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

// subscribe subscribes to the stream and begins the session.
func (fd *feed) subscribe(ctx context.Context) (*stream.Subscriber, error) {
	s, sess := fd.srv, fd.session
	defer close(sess.started)
	gops := math.MaxInt // all there is
	if sess.afterFault {
		gops = 0 // what broke the session before is not read again
	}
	sub, err := s.hub.Subscribe(ctx, fd.name, stream.SubscribeOptions{
		Viewer:      stream.ViewerOptions{Proto: "hls", Internal: true},
		GOPs:        gops,
		TrackFilter: carriesCached(),
	})
	if err != nil {
		return nil, err
	}
	sess.epoch = sub.Epoch()
	if before := sess.segmenter.Load(); before != nil {
		sess.segmenter.Store(before.Successor(sess.epoch))
	} else {
		sess.segmenter.Store(segment.New(sess.epoch, s.segmentOptions()))
	}
	sess.subscriber.Store(sub)
	return sub, nil
}

// read writes what sub gives to seg until that fails, or with errIdle until nothing has become due
// for about a target duration. It takes frames when they complete something, not one by one: most
// streams are watched by nobody.
func (fd *feed) read(ctx context.Context, sub *stream.Subscriber, seg *segment.Segmenter) error {
	patience := func() time.Duration { return cmp.Or(seg.List().Target, idleAfter) }
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	timer := time.AfterFunc(patience(), func() { cancel(errIdle) })
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
		timer.Reset(patience())
		fd.write(sub, seg, buf[:n])
	}
}

// write gives frames to seg and forgets them.
func (fd *feed) write(sub *stream.Subscriber, seg *segment.Segmenter, frames []*media.Frame) {
	for _, f := range frames {
		seg.Write(f)
	}
	seg.Flush()
	sub.ObserveWritten(frames)
	clear(frames)
	fd.warnKeyframeInterval(seg)
}

// handleIdle takes what has come though nothing is due. Where that is nothing and the stream is
// held for its encoder, viewers get what came last of it.
func (fd *feed) handleIdle(ctx context.Context, sub *stream.Subscriber, seg *segment.Segmenter) {
	buf := make([]*media.Frame, feedFrames)
	n, err := sub.Poll(buf)
	if n > 0 {
		fd.write(sub, seg, buf[:n])
		return
	}
	// an encoder that is there may go on where it stopped
	if in, ok := fd.srv.hub.Info(fd.name); err == nil && ok && in.Held {
		fd.publishLastParts(ctx, seg)
		seg.Pause()
	}
}

// publishLastParts publishes the last parts of the open segment and waits until players can have requested them.
func (fd *feed) publishLastParts(ctx context.Context, seg *segment.Segmenter) {
	wait := seg.Finish()
	if wait == 0 || !fd.session.watched() {
		return
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

// warnKeyframeInterval warns of an encoder whose keyframes are too far apart for HLS, once.
func (fd *feed) warnKeyframeInterval(seg *segment.Segmenter) {
	apart := seg.LongKeyframeInterval()
	if fd.warned || apart == 0 {
		return
	}
	fd.warned = true
	fd.log.Warn("keyframes are further apart than an HLS segment may last: who joins in between sees no picture until "+
		"the next; "+
		"have the encoder send one every 2 s", "keyframe interval", apart.Round(time.Millisecond))
}

// carriesCached returns segment.Carries for one goroutine, which looks at each track once: it is
// asked for every frame, of the first track of its kind alone.
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
