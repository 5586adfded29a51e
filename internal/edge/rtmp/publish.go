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

// publish serves an encoder.
func (ss *session) publish(ctx context.Context) {
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
	p, err := ss.hub.Publish(ctx, grant.Name, stream.PublishOptions{
		Proto: proto, Remote: ss.nc.RemoteAddr().String(), URL: ss.url(grant.Name), Grant: grant, Skips: skips,
	})
	if err != nil {
		ss.refusePublish(err)
		return
	}
	if err := ss.c.AcceptPublish(); err != nil {
		p.End(stream.Lost)
		log.Debug("encoder left before it was answered", "err", err)
		return
	}
	log.Info("publishing")

	if !grant.Expires.IsZero() {
		expiry := time.AfterFunc(time.Until(grant.Expires), func() {
			_ = ss.hub.Kick(p.ID(), domain.Errorf(domain.Denied, "the push key has expired")) // he may have left
		})
		defer expiry.Stop()
	}
	watched := make(chan struct{})
	ended := make(chan struct{})
	unwatch := sync.OnceFunc(func() {
		close(ended)
		<-watched
	})
	defer unwatch()          // also
	defer p.End(stream.Lost) // after a panic
	go func() {              // hangs up when the stream is taken away
		defer close(watched)
		select {
		case <-p.Done():
			if err := p.Err(); err != nil {
				_ = requestReconnect(ctx, ss.c.RequestReconnect)
				ss.c.StatusError("NetStream.Publish.BadName", domain.Reason(err))
				ss.c.Close()
			}
		case <-ended:
		}
	}()
	last, err := ss.pump(p, skips)
	how := stream.Lost
	if errors.Is(err, rtmp.ErrStreamEnded) {
		how = stream.Clean
	}
	taken := p.Err()
	p.End(how)
	unwatch()
	if n := ss.skipped.Load() + skips.Stats().Total(); n > 0 {
		log = log.With("skipped", n)
	}
	if taken == nil {
		ss.sendEndStatus(err)
	}
	switch {
	case taken != nil:
		log.Info("publisher disconnected", "reason", domain.Reason(taken))
	case how == stream.Clean:
		log.Info("publisher ended the stream")
	default:
		// What the publisher had not sent yet is not known here: say up to where the stream was saved, and what came in part.
		lost := []any{"reason", endReason(err), "last_timestamp_ms", last}
		if have, missing := ss.c.Unfinished(); have > 0 {
			lost = append(lost, "discarded_bytes", have, "missing_bytes", missing)
		}
		log.Info("publisher lost", lost...)
	}
}

// pump moves frames from the connection to p until either ends. What cannot be used of a message is skipped:
// that one encoder sends it again and again is no reason to end it. It returns the RTMP timestamp of the last
// media message.
func (ss *session) pump(p *stream.Publisher, skips *media.Skips) (last uint32, err error) {
	ss.c.SetReadTimeout(ss.opt.ReadTimeout)
	demux := flv.Demuxer{Skips: skips}
	pictures := accessunit.NewWriter(p.Write, ss.c.Receiving)
	defer func() { _ = pictures.Close() }() // that p has been taken off its stream is known already
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

// sendEndStatus tells an encoder why its stream ends, where it is the server that ends it.
func (ss *session) sendEndStatus(err error) {
	violation, violates := errors.AsType[*rtmp.ProtocolError](err)
	switch {
	case violates:
		ss.c.StatusError(codeFailed, violation.Detail)
	case errors.Is(err, flv.ErrFlood):
		ss.c.StatusError(codeFailed, "more than 2 configuration changes a second")
	case errors.Is(err, os.ErrDeadlineExceeded):
		ss.c.StatusError(codeIdle, endReason(err))
	}
}

// Codes of what a publisher is told: that it did what ends it, and that it was silent for too long.
const (
	codeFailed = "NetStream.Publish.Failed"
	codeIdle   = "NetStream.Publish.Idle"
)

// refusePublish tells an encoder why it may not publish, before any Publish.Start.
func (ss *session) refusePublish(err error) {
	code := "NetStream.Publish.BadName"
	switch domain.KindOf(err) {
	case domain.Unavailable, domain.Limit, domain.Internal:
		code = codeFailed
	}
	ss.refuse("publish", code, err)
}

// refuse tells the peer and the log why not.
func (ss *session) refuse(what, code string, err error) {
	ss.logRefusal(what, err)
	ss.c.Reject(code, domain.CodedReason(err))
}

func (ss *session) logRefusal(what string, err error) {
	app := logging.MaskKeys(ss.req.App) // it may be a key in the wrong place
	if kind := domain.KindOf(err); kind == domain.Internal {
		ss.log.Error(what+" failed", "app", app, "err", err)
	} else {
		attrs := []any{"app", app, "kind", kind.String()}
		if code := domain.CodeOf(err); code != "" {
			attrs = append(attrs, "code", string(code))
		}
		ss.warn(ss.log, what+" refused", kind.String(), domain.Reason(err), attrs...)
	}
}

// endReason puts the end of a connection into words.
func endReason(err error) string {
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return "no media for read_timeout"
	}
	return err.Error()
}
