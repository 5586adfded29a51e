package rtmp

import (
	"context"
	"errors"
	"os"
	"sync"
	"time"

	"livego/internal/accessunit"
	"livego/internal/container/flv"
	"livego/internal/live"
	"livego/internal/media"
	"livego/internal/netx"
	"livego/internal/obs"
	"livego/internal/rtmp"
	"livego/internal/stream"
)

// publish serves an encoder.
func (ss *session) publish(ctx context.Context) {
	grant, err := ss.gate.Allow(ctx, ss.request(live.Publish))
	ss.req.ForgetArguments()
	if err == nil {
		err = netx.Publish(ss.nc)
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
			_ = ss.hub.Kick(p.ID(), live.Errorf(live.Denied, "the push key has expired")) // he may have left
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
				_ = comeBack(ctx, ss.c.RequestReconnect)
				ss.c.StatusError("NetStream.Publish.BadName", live.Reason(err))
				ss.c.Close()
			}
		case <-ended:
		}
	}()
	last, err := ss.pump(p, skips)
	how := stream.Lost
	if errors.Is(err, rtmp.ErrGoodbye) {
		how = stream.Goodbye
	}
	taken := p.Err()
	p.End(how)
	unwatch()
	if n := ss.skipped.Load() + skips.Stats().Total(); n > 0 {
		log = log.With("skipped", n)
	}
	if taken == nil {
		ss.tellEnd(err)
	}
	switch {
	case taken != nil:
		log.Info("publisher disconnected", "reason", live.Reason(taken))
	case how == stream.Goodbye:
		log.Info("publisher ended the stream")
	default:
		// What the publisher had not sent yet is not known here: say up to where the stream was saved, and what came in part.
		lost := []any{"reason", cause(err), "last_timestamp_ms", last}
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

// tellEnd tells an encoder why its stream ends, where it is the server that ends it.
func (ss *session) tellEnd(err error) {
	violation, violates := errors.AsType[*rtmp.ProtocolError](err)
	switch {
	case violates:
		ss.c.StatusError(codeFailed, violation.Detail)
	case errors.Is(err, flv.ErrFlood):
		ss.c.StatusError(codeFailed, "more than 2 configuration changes a second")
	case errors.Is(err, os.ErrDeadlineExceeded):
		ss.c.StatusError(codeIdle, cause(err))
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
	switch live.KindOf(err) {
	case live.Unavailable, live.Limit, live.Internal:
		code = codeFailed
	}
	ss.refuse("publish", code, err)
}

// refuse tells the peer and the log why not.
func (ss *session) refuse(what, code string, err error) {
	ss.noteRefusal(what, err)
	ss.c.Reject(code, live.CodedReason(err))
}

func (ss *session) noteRefusal(what string, err error) {
	app := obs.MaskKeys(ss.req.App) // it may be a key in the wrong place
	if kind := live.KindOf(err); kind == live.Internal {
		ss.log.Error(what+" failed", "app", app, "err", err)
	} else {
		attrs := []any{"app", app, "kind", kind.String()}
		if code := live.CodeOf(err); code != "" {
			attrs = append(attrs, "code", string(code))
		}
		ss.warn(ss.log, what+" refused", kind.String(), live.Reason(err), attrs...)
	}
}

// cause puts the end of a connection into words.
func cause(err error) string {
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return "no media for read_timeout"
	}
	return err.Error()
}
