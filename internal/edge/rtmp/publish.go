package rtmp

import (
	"context"
	"errors"
	"os"
	"sync"
	"time"

	"livego/internal/codec/accessunit"
	"livego/internal/container/flv"
	"livego/internal/domain"
	"livego/internal/media"
	"livego/internal/ops/logging"
	"livego/internal/ops/netx"
	"livego/internal/proto/rtmp"
	"livego/internal/stream"
)

// publish serves a publisher.
func (ss *session) publish(ctx context.Context) {
	request := ss.hub.NewPublishRequest()
	grant, err := ss.authorizer.Authorize(ctx, ss.authRequest(domain.Publish))
	ss.req.ClearQuery()
	if err == nil {
		err = netx.MarkPublisher(ss.nc)
	}
	if err != nil {
		ss.refusePublish(err)
		return
	}
	log := ss.log.With("stream", grant.Name.String())
	skips := media.NewSkips(log)
	ctx, span := ss.opt.Tracer.Start(ctx, "publish")
	span.SetStream(grant.Name)
	p, err := request.Publish(ctx, grant.Name, stream.PublishOptions{
		Proto: proto, Remote: ss.nc.RemoteAddr().String(), URL: ss.url(grant.Name), Role: grant.Role, Owner: grant.Owner(),
		Takeover: grant.Takeover, Skips: skips, Agent: ss.req.FlashVer, TLS: ss.isTLS(),
	})
	span.End(err)
	if err != nil {
		ss.refusePublish(err)
		return
	}
	if ss.req.CapsEx.CanReconnect() {
		ss.movable.Add(1)
		defer ss.movable.Add(-1)
	}
	if err := ss.c.AcceptPublish(); err != nil {
		p.End(stream.Lost)
		log.Debug("encoder left before the reply", "err", err)
		return
	}
	log.Info("publishing")

	if !grant.Expires.IsZero() {
		expiry := time.AfterFunc(time.Until(grant.Expires), func() {
			// An error means that the publisher has left.
			_ = ss.hub.Kick(p.ID(), domain.Errorf(domain.Denied, "stream key expired"))
		})
		defer expiry.Stop()
	}
	watched := make(chan struct{})
	ended := make(chan struct{})
	unwatch := sync.OnceFunc(func() {
		close(ended)
		<-watched
	})
	defer unwatch()          // also after a panic
	defer p.End(stream.Lost) // after a panic; otherwise p has ended
	go func() {
		defer close(watched)
		ss.watch(ctx, p, ended)
	}()
	last, err := ss.pump(p, skips)
	reason := stream.Lost
	if errors.Is(err, rtmp.ErrStreamEnded) {
		reason = stream.Clean
	}
	hubErr := p.Err()
	p.End(reason)
	unwatch()
	if n := ss.skipped.Load() + skips.Stats().Total(); n > 0 {
		log = log.With("skipped", n)
	}
	if hubErr == nil {
		ss.sendEndStatus(err)
	}
	switch {
	case hubErr != nil:
		log.Info("publisher disconnected", "reason", domain.Reason(hubErr))
	case reason == stream.Clean:
		log.Info("publisher ended the stream")
	default:
		// How much the publisher had not sent yet is unknown. Log the last timestamp that was
		// received, and the size of an unfinished message.
		lost := []any{"reason", endReason(err), "last_timestamp_ms", last}
		if have, missing := ss.c.Unfinished(); have > 0 {
			lost = append(lost, "discarded_bytes", have, "missing_bytes", missing)
		}
		log.Info("publisher lost", lost...)
	}
}

// watch closes the connection when the hub ends the publisher. Before, it asks the publisher to
// reconnect if the server stops. It returns when either has happened, or ended is closed.
func (ss *session) watch(ctx context.Context, p *stream.Publisher, ended <-chan struct{}) {
	tcURL, canMove := ss.reconnectURL()
	moving := ss.moving
	for {
		select {
		case <-moving:
			_ = ss.c.RequestReconnect(tcURL, stopping) // a publisher that has left needs none
			moving, canMove = nil, false
			continue
		case <-p.Done():
		case <-ended:
			return
		}
		switch err := p.Err(); {
		case err == nil:
			return
		case ctx.Err() == nil:
			ss.c.StatusError("NetStream.Publish.BadName", domain.Reason(err))
		case canMove:
			_ = ss.c.RequestReconnect(tcURL, stopping)
		}
		// Without a status, a server that stops is a lost connection, after which encoders reconnect.
		ss.c.Close()
		return
	}
}

// pump writes frames from the connection to p until either ends. It skips what it cannot use; an
// encoder that repeats such data is not disconnected for it. It returns the RTMP timestamp of the
// last media message.
func (ss *session) pump(p *stream.Publisher, skips *media.Skips) (last uint32, err error) {
	ss.c.SetReadTimeout(ss.opt.ReadTimeout)
	demux := flv.Demuxer{Skips: skips}
	pictures := accessunit.NewWriter(p.Write, ss.c.Receiving)
	// An error means that p has ended, which is known already.
	defer func() { _ = pictures.Close() }()
	for {
		m, err := ss.c.ReadMessage()
		if err != nil {
			return last, err
		}
		if m.Type != rtmp.TypeData {
			last = m.Timestamp
		}
		frames, bad := demux.Message(m.Type, m.Timestamp, m.Payload, time.Now())
		if err := pictures.Write(frames); err != nil {
			return last, err
		}
		if bad != nil && !errors.Is(bad, flv.ErrSkip) {
			return last, bad
		}
	}
}

// sendEndStatus tells a publisher why its stream ends, if the server ends it.
func (ss *session) sendEndStatus(err error) {
	violation, ok := errors.AsType[*rtmp.ProtocolError](err)
	switch {
	case ok:
		ss.c.StatusError(codeFailed, violation.Detail)
	case errors.Is(err, flv.ErrFlood):
		ss.c.StatusError(codeFailed, "too many configuration changes: more than 2 a second")
	case errors.Is(err, os.ErrDeadlineExceeded):
		ss.c.StatusError(codeIdle, endReason(err))
	}
}

// Status codes for a publisher that has violated the protocol, and for one that was idle for too
// long.
const (
	codeFailed = "NetStream.Publish.Failed"
	codeIdle   = "NetStream.Publish.Idle"
)

// refusePublish refuses a publish request with the reason, before any NetStream.Publish.Start.
func (ss *session) refusePublish(err error) {
	code := "NetStream.Publish.BadName"
	switch domain.KindOf(err) {
	case domain.Unavailable, domain.Limit, domain.Internal:
		code = codeFailed
	}
	ss.refuse("publish", code, err)
}

// refuse refuses the request, which is "publish" or "play", and logs the refusal.
func (ss *session) refuse(what, code string, err error) {
	ss.logRefusal(what, err)
	ss.c.Reject(code, domain.CodedReason(err))
}

func (ss *session) logRefusal(what string, err error) {
	app := logging.MaskKeys(ss.req.App) // it may contain a stream key
	if kind := domain.KindOf(err); kind == domain.Internal {
		ss.log.Error(what+" failed", "app", app, "err", err) //nolint:sloglint // publish or play
	} else {
		attrs := []any{"app", app, "kind", kind.String()}
		if code := domain.CodeOf(err); code != "" {
			attrs = append(attrs, "code", string(code))
		}
		ss.warn(ss.log, what+" refused", kind.String(), domain.Reason(err), attrs...)
	}
}

// endReason returns the reason for the end of a connection, for people.
func endReason(err error) string {
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return "no media for read_timeout"
	}
	return err.Error()
}
