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

// usesFanout reports whether the fan can serve the player: an ordinary one on plain TCP who begins at a keyframe.
func (ss *session) usesFanout(name domain.Name) bool {
	return ss.opt.GOPs != 0 && ss.usesDefaultForm() && ss.broadcaster.CanServe(ss.nc) &&
		ss.hub.StartPoint(name) != stream.StartMidGOP
}

// joinFanout gives a player to the fan, once there is something to see. The connection is no longer ours.
func (ss *session) joinFanout(ctx context.Context, name domain.Name, log *slog.Logger) {
	p, waited := ss.c.Detach(), ss.hub.StartPoint(name) != stream.StartNow
	if waited {
		log.Info(waitingMessage)
	}
	if err := ss.waitForStream(ctx, p, name); err != nil {
		log.Debug("player left before his stream came", "reason", err)
		return
	}
	v, err := ss.hub.Join(name, ss.viewer(name))
	if err != nil {
		ss.rejectWaiting(p, err)
		return
	}
	netx.MarkStreaming(ss.nc) // until it is closed
	netx.SetUnsentLimit(ss.nc, v.UnsentLimit())
	err = ss.broadcaster.Add(name, ss.nc, fanout.Conn{
		Viewer: v, Waited: waited, Prefix: p.Accept(), OnReceive: p.Feed, Ping: p.Ping,
		CloseMessage: func(reason error) []byte {
			words := requestReconnect(ctx, p.RequestReconnect)
			if errors.Is(reason, io.EOF) {
				return append(words, p.End("NetStream.Play.UnpublishNotify", "the stream has ended")...)
			}
			return append(words, p.StatusError("NetStream.Play.Failed", domain.CodedReason(reason))...)
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

// errPanic is how a wait ends that panicked.
var errPanic = errors.New("internal error")

// waitForStream waits with a player for his stream. Where that does not come, or he leaves, the connection is closed.
func (ss *session) waitForStream(ctx context.Context, p *rtmp.Player, name domain.Name) error {
	if ss.hub.StartPoint(name) == stream.StartNow {
		return nil
	}
	// The server's stop reaches a player as the end of his wait, not by ctx.
	ctx, leave := context.WithCancelCause(context.WithoutCancel(ctx))
	defer leave(nil)
	waiting, begun := context.WithCancel(ctx)
	left := make(chan struct{})
	go func() {
		defer close(left)
		err := errPanic
		defer func() {
			if waiting.Err() == nil {
				leave(err)
			}
		}()
		defer logging.Recover(ss.log)
		err = p.Serve(waiting, ss.nc)
	}()
	err := ss.hub.Await(ctx, name, ss.playWait())
	begun()
	<-left
	if cause := context.Cause(ctx); cause != nil {
		ss.nc.Close()
		return cause
	}
	if err != nil {
		ss.rejectWaiting(p, err)
	}
	return err
}

// rejectWaiting tells a player who waited why there is nothing to see.
func (ss *session) rejectWaiting(p *rtmp.Player, err error) {
	ss.logRefusal("play", err)
	p.Reject(ss.nc, playErrorCode(err), domain.CodedReason(err))
}

// encoder lays a stream out as RTMP chunks for all players.
type encoder struct {
	pre    flv.Preamble
	primed bool
	tags   []flv.Tag
}

// StartHeader implements fanout.Encoder: onMetaData and the sequence headers.
func (e *encoder) StartHeader(f *media.Frame, known []*media.Track) []byte {
	var pre flv.Preamble
	return slices.Concat(appendTags(nil, pre.Append(nil, f, known), defaultStreamID)...)
}

// ResumeHeader implements fanout.Encoder.
func (e *encoder) ResumeHeader(f *media.Frame, known []*media.Track) []byte {
	return e.StartHeader(f, known)
}

// AppendFrames implements fanout.Encoder.
func (e *encoder) AppendFrames(parts [][]byte, frames []*media.Frame, known []*media.Track) [][]byte {
	for _, f := range frames {
		if !e.pre.Ready(f) {
			e.tags = e.pre.Append(e.tags[:0], f, known)
			if e.primed { // who starts here has been sent it
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
		ViewerLimit: ss.viewerLimit, Expires: ss.expires}
}
