package rtmp

import (
	"cmp"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"time"

	"livego/internal/container/flv"
	"livego/internal/domain"
	"livego/internal/media"
	"livego/internal/ops/logging"
	"livego/internal/ops/netx"
	"livego/internal/proto/rtmp"
	"livego/internal/stream"
)

// play serves a player. It reports whether another owner has taken over the connection.
func (ss *session) play(ctx context.Context) (handedOver bool) {
	grant, err := ss.authorizer.Authorize(ctx, ss.authRequest(domain.Play))
	ss.req.ClearQuery()
	if err != nil {
		ss.refusePlay(err)
		return false
	}
	if err := netx.MarkViewer(ss.nc); err != nil {
		ss.refusePlay(err)
		return false
	}
	ss.reserve, ss.expires = grant.Reservation(ss.authorizer), grant.Expires
	log := ss.log.With(logging.StreamAttr(grant.Name, ss.hub.Has(grant.Name)))
	if ss.usesFanout(grant.Name) {
		ss.joinFanout(ctx, grant.Name, log)
		return true
	}
	ss.playHere(ctx, grant.Name, log)
	return false
}

// playHere serves a player by goroutines: one whose connection is not plain TCP, or that starts
// within a GOP.
func (ss *session) playHere(ctx context.Context, name domain.Name, log *slog.Logger) {
	// When the server stops, the hub ends the stream; ctx must not.
	serving := ctx
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	left := make(chan struct{})
	go func() {
		defer close(left)
		defer cancel()
		defer logging.Recover(log)
		_ = ss.c.ServePlayer() // any error means that the player has left
	}()
	defer func() {
		ss.c.Close()
		<-left
	}()

	if !ss.hub.Has(name) {
		log.Info(waitingMessage)
	}
	sub, err := ss.hub.Subscribe(ctx, name, stream.SubscribeOptions{
		Viewer: ss.viewer(name), Wait: ss.playWait(), GOPs: ss.opt.GOPs, AllTracks: ss.dialect.Multitrack,
	})
	if err != nil {
		if ctx.Err() == nil {
			ss.refusePlay(err)
		}
		return
	}
	defer sub.Leave()
	for _, t := range ss.dialect.Tracks(sub.Program()) {
		if err := ss.checkCodec(t); err != nil {
			ss.refuse("play", "NetStream.Play.Failed", err)
			return
		}
	}
	defer netx.MarkStreaming(ss.nc)()
	if err := ss.c.AcceptPlay(); err != nil {
		log.Debug("player left before the reply", "err", err)
		return
	}
	netx.SetUnsentLimit(ss.nc, sub.UnsentLimit())
	sub.AttachSocket(func() int { return netx.Queued(ss.nc) }, func(n int) { netx.SetUnsentLimit(ss.nc, n) })
	log.Info("playing")
	err = ss.send(ctx, sub)
	_ = requestReconnect(serving, ss.c.RequestReconnect)
	switch {
	case errors.Is(err, io.EOF):
		ss.c.EndPlay("NetStream.Play.UnpublishNotify", "the stream has ended")
	case domain.KindOf(err) != domain.Internal:
		ss.c.StatusError("NetStream.Play.Failed", domain.CodedReason(err))
	}
	logging.PlayerEnded(log, err)
}

// waitingMessage is logged for a player that connects before its stream starts.
const waitingMessage = "waiting for the stream"

// playWait returns how long a player waits for its stream, for stream.SubscribeOptions.Wait.
func (ss *session) playWait() time.Duration { return cmp.Or(ss.opt.PlayWait, -1) }

// refusePlay refuses a play request with the reason.
func (ss *session) refusePlay(err error) { ss.refuse("play", playErrorCode(err), err) }

// playErrorCode returns the status code for a player that err keeps from playing.
func playErrorCode(err error) string {
	switch domain.KindOf(err) {
	case domain.NotFound, domain.Invalid:
		return "NetStream.Play.StreamNotFound"
	}
	return "NetStream.Play.Failed"
}

// requestReconnect asks a peer by request to reconnect if the server stops, that is, if ctx, the
// context of Serve, has ended.
func requestReconnect[T any](ctx context.Context, request func(why string) T) (asked T) {
	if ctx.Err() != nil {
		asked = request("the server is stopping")
	}
	return asked
}

// batchFrames is the most frames in a write: a second of video and audio.
const batchFrames = 128

// send writes frames to the player until the stream or the connection ends.
func (ss *session) send(ctx context.Context, sub *stream.Subscriber) error {
	var (
		pre   = flv.Preamble{Dialect: ss.dialect}
		tags  []flv.Tag
		parts [][]byte
		buf   [batchFrames]*media.Frame

		shared = ss.dialect == flv.Dialect{} && ss.req.StreamID == defaultStreamID
	)
	for {
		n, err := sub.Next(ctx, buf[:])
		if err != nil {
			return err
		}
		parts = parts[:0]
		for _, f := range buf[:n] {
			if !pre.Ready(f) {
				if err := ss.checkCodec(f.Track); err != nil {
					return err
				}
				tags = pre.Append(tags[:0], f, sub.Program())
				parts = appendTags(parts, tags, ss.req.StreamID)
			}
			if shared {
				parts = append(parts, f.Wire(media.FormRTMP, encode).Parts...)
			} else {
				parts = appendFrame(parts, f, ss.dialect, ss.req.StreamID)
			}
		}
		bufs := net.Buffers(parts)
		if _, err := ss.c.WriteMedia(&bufs); err != nil {
			return err
		}
		sub.ObserveWritten(buf[:n])
		clear(buf[:n])
		clear(parts)
	}
}

// defaultStreamID is the first message stream that a client creates. Nearly every player uses it,
// so its frames are encoded once for all.
const defaultStreamID = 1

func encode(f *media.Frame) [][]byte { return appendFrame(nil, f, flv.Dialect{}, defaultStreamID) }

func appendFrame(parts [][]byte, f *media.Frame, d flv.Dialect, streamID uint32) [][]byte {
	head, payload := d.TagBody(f)
	h := rtmp.Header{Type: flv.MessageType(f.Track.Kind), Timestamp: flv.Timestamp(f), StreamID: streamID}
	return rtmp.AppendMessage(parts, h, head, payload)
}

func appendTags(parts [][]byte, tags []flv.Tag, streamID uint32) [][]byte {
	for _, t := range tags {
		parts = rtmp.AppendMessage(parts, rtmp.Header{Type: t.Type, Timestamp: t.Timestamp, StreamID: streamID}, t.Body)
	}
	return parts
}
