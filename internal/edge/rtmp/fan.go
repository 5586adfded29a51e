package rtmp

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"slices"

	"livego/internal/container/flv"
	"livego/internal/fan"
	"livego/internal/live"
	"livego/internal/media"
	"livego/internal/netx"
	"livego/internal/obs"
	"livego/internal/rtmp"
	"livego/internal/stream"
)

// carried reports whether the fan can serve the player: an ordinary one on plain TCP who begins at a keyframe.
func (ss *session) carried(name live.Name) bool {
	return ss.opt.GOPs != 0 && ss.ordinary() && ss.fan.Carries(ss.nc) && ss.hub.Start(name) != stream.StartInside
}

// handOver gives a player to the fan, once there is something to see. The connection is no longer ours.
func (ss *session) handOver(ctx context.Context, name live.Name, log *slog.Logger) {
	p, waited := ss.c.Detach(), ss.hub.Start(name) != stream.StartNow
	if waited {
		log.Info(waiting)
	}
	if err := ss.await(ctx, p, name); err != nil {
		log.Debug("player left before his stream came", "reason", err)
		return
	}
	v, err := ss.hub.Join(name, ss.viewer(name))
	if err != nil {
		ss.turnAway(p, err)
		return
	}
	netx.Stream(ss.nc) // until it is closed
	netx.BoundUnsent(ss.nc, v.Backlog())
	err = ss.fan.Add(name, ss.nc, fan.Conn{
		Viewer: v, Waited: waited, First: p.Accept(), Received: p.Feed, Ping: p.Ping,
		Farewell: func(reason error) []byte {
			words := comeBack(ctx, p.RequestReconnect)
			if errors.Is(reason, io.EOF) {
				return append(words, p.End("NetStream.Play.UnpublishNotify", "the stream has ended")...)
			}
			return append(words, p.StatusError("NetStream.Play.Failed", live.CodedReason(reason))...)
		},
		Left: func(err error) {
			v.Leave()
			obs.PlayerLeft(log, err)
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

// errFault is how a wait ends that panicked.
var errFault = errors.New("internal error")

// await waits with a player for his stream. Where that does not come, or he leaves, the connection is closed.
func (ss *session) await(ctx context.Context, p *rtmp.Player, name live.Name) error {
	if ss.hub.Start(name) == stream.StartNow {
		return nil
	}
	// The server's stop reaches a player as the end of his wait, not by ctx.
	ctx, leave := context.WithCancelCause(context.WithoutCancel(ctx))
	defer leave(nil)
	waiting, begun := context.WithCancel(ctx)
	left := make(chan struct{})
	go func() {
		defer close(left)
		err := errFault
		defer func() {
			if waiting.Err() == nil {
				leave(err)
			}
		}()
		defer obs.Recover(ss.log)
		err = p.Await(waiting, ss.nc)
	}()
	err := ss.hub.Await(ctx, name, ss.patience())
	begun()
	<-left
	if cause := context.Cause(ctx); cause != nil {
		ss.nc.Close()
		return cause
	}
	if err != nil {
		ss.turnAway(p, err)
	}
	return err
}

// turnAway tells a player who waited why there is nothing to see.
func (ss *session) turnAway(p *rtmp.Player, err error) {
	ss.noteRefusal("play", err)
	p.Refuse(ss.nc, playRefusal(err), live.CodedReason(err))
}

// encoder lays a stream out as RTMP chunks for all players.
type encoder struct {
	pre    flv.Preamble
	primed bool
	tags   []flv.Tag
}

// Start implements fan.Encoder: onMetaData and the sequence headers.
func (e *encoder) Start(f *media.Frame, known []*media.Track) []byte {
	var pre flv.Preamble
	return slices.Concat(appendTags(nil, pre.Before(nil, f, known), sharedStream)...)
}

// Again implements fan.Encoder.
func (e *encoder) Again(f *media.Frame, known []*media.Track) []byte { return e.Start(f, known) }

// Batch implements fan.Encoder.
func (e *encoder) Batch(parts [][]byte, frames []*media.Frame, known []*media.Track) [][]byte {
	for _, f := range frames {
		if !e.pre.Ready(f) {
			e.tags = e.pre.Before(e.tags[:0], f, known)
			if e.primed { // who starts here has been sent it
				parts = appendTags(parts, e.tags, sharedStream)
			}
			e.primed = true
		}
		parts = appendFrame(parts, f, flv.Dialect{}, sharedStream)
	}
	return parts
}

func (ss *session) viewer(name live.Name) stream.ViewerOptions {
	return stream.ViewerOptions{Proto: proto, Remote: ss.nc.RemoteAddr().String(), URL: ss.url(name), Pass: ss.pass, Expires: ss.expires}
}
