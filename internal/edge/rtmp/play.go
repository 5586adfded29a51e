package rtmp

import (
	"cmp"
	"context"
	"errors"
	"io"
	"log/slog"

	"livego/internal/deliver/fanout"
	"livego/internal/domain"
	"livego/internal/ops/logging"
	"livego/internal/ops/netx"
	"livego/internal/proto/rtmp"
	"livego/internal/stream"
)

// play serves a player.
func (ss *session) play(ctx context.Context) {
	grant, err := ss.authorizer.Authorize(ctx, ss.authRequest(domain.Play))
	ss.req.ClearQuery()
	if err == nil {
		err = netx.MarkViewer(ss.nc)
	}
	if err != nil {
		ss.refuse("play", playErrorCode(err), err)
		return
	}
	live := ss.hub.Has(grant.Name)
	// From here on, the broadcaster owns the connection.
	p := &player{Player: ss.c.Detach(), stopped: ctx.Done(), log: ss.log.With(logging.StreamAttr(grant.Name, live))}
	p.tcURL, p.canMove = ss.reconnectURL()
	if !live {
		p.log.Info("waiting for the stream")
	}
	waited, err := ss.broadcaster.Await(ctx, grant.Name, cmp.Or(ss.opt.PlayWait, -1), ss.nc, p)
	if err == nil {
		if err = ss.join(ctx, p, grant); err != nil {
			ss.broadcaster.Refuse(ss.nc, p, err)
		}
	}
	if err != nil {
		if domain.KindOf(err) != domain.Internal {
			ss.logRefusal("play", err)
		} else {
			p.log.Debug("player left before its stream started", "reason", err)
		}
		return
	}
	p.accepted = true
	netx.MarkStreaming(ss.nc) // until the connection is closed
	p.log.Info("playing")
	ss.broadcaster.Serve(ss.nc, fanout.Viewer{Name: grant.Name, Format: ss.format, Stats: p.viewer, Waited: waited,
		Prefix: p.Accept(), Protocol: p})
}

// join joins the stream, unless the player cannot be sent one of its tracks.
func (ss *session) join(ctx context.Context, p *player, grant domain.Grant) (err error) {
	in, live := ss.hub.Info(grant.Name)
	if !live {
		return domain.Errorf(domain.NotFound, "nobody is publishing %s", grant.Name)
	}
	for _, t := range ss.format.dialect.Tracks(in.Program) {
		if err := ss.format.check(t); err != nil {
			p.refusal = "NetStream.Play.Failed"
			return err
		}
	}
	p.viewer, err = ss.hub.Join(grant.Name, stream.ViewerOptions{Proto: proto, Remote: ss.nc.RemoteAddr().String(),
		URL: ss.url(grant.Name), Agent: ss.req.FlashVer, TLS: ss.isTLS(), Reserve: grant.Reservation(ss.authorizer),
		Expires: grant.Expires, FirstMedia: ss.opt.Tracer.FirstFrame(ctx, grant.Name, proto)})
	return err
}

// playErrorCode returns the status code for a player that err keeps from playing.
func playErrorCode(err error) string {
	switch domain.KindOf(err) {
	case domain.NotFound, domain.Invalid:
		return "NetStream.Play.StreamNotFound"
	}
	return "NetStream.Play.Failed"
}

// A player is the protocol of a player.
type player struct {
	*rtmp.Player
	stopped  <-chan struct{} // closed when the server stops
	tcURL    string          // where it is asked to reconnect then,
	canMove  bool            // if it is asked
	log      *slog.Logger
	viewer   *stream.Viewer
	accepted bool   // it has been told that it plays
	refusal  string // status code of a refusal; "" if that depends on the reason
}

// Receive implements fanout.Protocol.
func (p *player) Receive(b []byte) ([]byte, error) { return p.Feed(b) }

// Ping implements fanout.Protocol. Players need not reply.
func (p *player) Ping(bool) ([]byte, error) { return p.Player.Ping(), nil }

// Close implements fanout.Protocol.
func (p *player) Close(reason error) []byte {
	if !p.accepted {
		return p.StatusError(cmp.Or(p.refusal, playErrorCode(reason)), domain.CodedReason(reason))
	}
	var last []byte
	select {
	case <-p.stopped:
		if p.canMove {
			last = p.RequestReconnect(p.tcURL, stopping)
		}
	default:
	}
	if errors.Is(reason, io.EOF) {
		return append(last, p.End("NetStream.Play.UnpublishNotify", "the stream has ended")...)
	}
	return append(last, p.StatusError("NetStream.Play.Failed", domain.CodedReason(reason))...)
}

// Closed implements fanout.Protocol.
func (p *player) Closed(err error) {
	p.viewer.Leave()
	logging.PlayerEnded(p.log, err)
}

// stopping is why peers are asked to reconnect.
const stopping = "the server is stopping"
