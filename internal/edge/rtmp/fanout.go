package rtmp

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"slices"

	"livego/internal/container/flv"
	"livego/internal/deliver/fanout"
	"livego/internal/domain"
	"livego/internal/media"
	"livego/internal/ops/logging"
	"livego/internal/ops/netx"
	"livego/internal/proto/rtmp"
	"livego/internal/stream"
)

// usesFanout reports whether the broadcaster can serve the player: in the default form, on plain
// TCP, from a keyframe.
func (ss *session) usesFanout(name domain.Name) bool {
	return ss.opt.GOPs != 0 && ss.usesDefaultForm() && ss.broadcaster.CanServe(ss.nc) &&
		ss.hub.StartPoint(name) != stream.StartMidGOP
}

// joinFanout passes the player to the broadcaster once the stream is there. The broadcaster then
// owns the connection.
func (ss *session) joinFanout(ctx context.Context, name domain.Name, log *slog.Logger) {
	p, waited := ss.c.Detach(), ss.hub.StartPoint(name) != stream.StartNow
	if waited {
		log.Info(waitingMessage)
	}
	if err := ss.waitForStream(ctx, p, name); err != nil {
		log.Debug("player left before its stream started", "reason", err)
		return
	}
	v, err := ss.hub.Join(name, ss.viewer(name))
	if err != nil {
		ss.rejectWaiting(p, err)
		return
	}
	netx.MarkStreaming(ss.nc) // until the connection is closed
	netx.SetUnsentLimit(ss.nc, v.UnsentLimit())
	err = ss.broadcaster.Add(name, ss.nc, fanout.Conn{
		Viewer: v, Waited: waited, Prefix: p.Accept(), OnReceive: p.Feed, Ping: p.Ping,
		CloseMessage: func(reason error) []byte {
			messages := requestReconnect(ctx, p.RequestReconnect)
			if errors.Is(reason, io.EOF) {
				return append(messages, p.End("NetStream.Play.UnpublishNotify", "the stream has ended")...)
			}
			return append(messages, p.StatusError("NetStream.Play.Failed", domain.CodedReason(reason))...)
		},
		OnClose: func(err error) {
			v.Leave()
			logging.PlayerEnded(log, err)
		},
	})
	if err != nil {
		v.Leave()
		ss.nc.Close()
		log.Warn("player lost", "reason", err)
		return
	}
	log.Info("playing")
}

// errPanic is the error of a wait that panicked.
var errPanic = errors.New("internal error")

// waitForStream serves the player until its stream is there. It closes the connection if the stream
// does not start, or if the player leaves.
func (ss *session) waitForStream(ctx context.Context, p *rtmp.Player, name domain.Name) error {
	if ss.hub.StartPoint(name) == stream.StartNow {
		return nil
	}
	// When the server stops, the hub ends the wait; ctx must not.
	ctx, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	defer cancel(nil)
	waiting, stopWaiting := context.WithCancel(ctx)
	served := make(chan struct{})
	go func() {
		defer close(served)
		err := errPanic
		defer func() {
			if waiting.Err() == nil {
				cancel(err)
			}
		}()
		defer logging.Recover(ss.log)
		err = p.Serve(waiting, ss.nc)
	}()
	err := ss.hub.Await(ctx, name, ss.playWait())
	stopWaiting()
	<-served
	if cause := context.Cause(ctx); cause != nil {
		ss.nc.Close()
		return cause
	}
	if err != nil {
		ss.rejectWaiting(p, err)
	}
	return err
}

// rejectWaiting tells a waiting player why it cannot play, and closes the connection.
func (ss *session) rejectWaiting(p *rtmp.Player, err error) {
	ss.logRefusal("play", err)
	p.Reject(ss.nc, playErrorCode(err), domain.CodedReason(err))
}

// encoder encodes a stream as RTMP chunks, the same for all players.
type encoder struct {
	pre    flv.Preamble
	primed bool
	tags   []flv.Tag
}

// StartHeader implements fanout.Encoder. It returns onMetaData and the sequence headers.
func (e *encoder) StartHeader(f *media.Frame, program *media.Program) []byte {
	var pre flv.Preamble
	return slices.Concat(appendTags(nil, pre.Append(nil, f, program), defaultStreamID)...)
}

// ResumeHeader implements fanout.Encoder.
func (e *encoder) ResumeHeader(f *media.Frame, program *media.Program) []byte {
	return e.StartHeader(f, program)
}

// AppendFrames implements fanout.Encoder.
func (e *encoder) AppendFrames(parts [][]byte, frames []*media.Frame, program *media.Program) [][]byte {
	for _, f := range frames {
		if !e.pre.Ready(f) {
			e.tags = e.pre.Append(e.tags[:0], f, program)
			if e.primed { // viewers that start here have it from StartHeader
				parts = appendTags(parts, e.tags, defaultStreamID)
			}
			e.primed = true
		}
		parts = appendFrame(parts, f, flv.Dialect{}, defaultStreamID)
	}
	return parts
}

func (ss *session) viewer(name domain.Name) stream.ViewerOptions {
	return stream.ViewerOptions{Proto: proto, Remote: ss.nc.RemoteAddr().String(), URL: ss.url(name),
		Reserve: ss.reserve, Expires: ss.expires}
}
