package rtmp

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"time"

	"livego/internal/container/flv"
	"livego/internal/live"
	"livego/internal/rtmp"
	"livego/internal/stream"
)

// publish serves an encoder.
func (ss *session) publish(ctx context.Context) {
	grant, err := ss.gate.Allow(ctx, ss.request(live.Publish))
	ss.req.ForgetArguments()
	if err != nil {
		ss.refusePublish(err)
		return
	}
	p, err := ss.hub.Publish(ctx, grant.Name, stream.PublishOptions{
		Proto: proto, Remote: ss.nc.RemoteAddr().String(), URL: ss.url(grant.Name), Grant: grant,
	})
	if err != nil {
		ss.refusePublish(err)
		return
	}
	log := ss.log.With("stream", grant.Name.String())
	if err := ss.c.AcceptPublish(); err != nil {
		p.End(stream.Lost)
		log.Debug("encoder left before it was answered", "err", err)
		return
	}
	ss.opt.Limiter.Settle(ss.nc)
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
	err = ss.pump(p, log)
	how := stream.Lost
	if errors.Is(err, rtmp.ErrGoodbye) {
		how = stream.Goodbye
	}
	taken := p.Err()
	p.End(how)
	unwatch()
	if n := ss.skipped.Load(); n > 0 {
		log = log.With("skipped", n)
	}
	switch {
	case taken != nil:
		log.Info("publisher disconnected", "reason", live.Reason(taken))
	case how == stream.Goodbye:
		log.Info("publisher ended the stream")
	default:
		log.Info("publisher lost", "reason", cause(err))
	}
}

// maxBad is how many bad messages in badWindow end a publisher.
const (
	maxBad    = 100
	badWindow = 10 * time.Second
)

var errBadMedia = errors.New("more than 100 bad messages in 10 s")

// pump moves frames from the connection to p until either ends.
func (ss *session) pump(p *stream.Publisher, log *slog.Logger) error {
	ss.c.SetReadTimeout(ss.opt.ReadTimeout)
	var (
		demux    flv.Demuxer
		mistakes tally
	)
	for {
		m, err := ss.c.ReadMessage()
		if err != nil {
			return err
		}
		now := time.Now()
		frames, bad := demux.Message(m.Type, m.Timestamp, m.Payload, now)
		for _, f := range frames {
			if err := p.Write(f); err != nil {
				return err
			}
		}
		if bad != nil {
			if err := ss.skip(log, &mistakes, bad, now); err != nil {
				return err
			}
		}
	}
}

// A tally counts what a publisher sends that makes no sense.
type tally struct {
	since time.Time
	n     int
	told  bool // of what is unknown
}

// skip passes over a message, or a part of one, for which err is the reason. It returns what ends the publisher.
func (ss *session) skip(log *slog.Logger, t *tally, err error, now time.Time) error {
	switch {
	case !errors.Is(err, flv.ErrSkip):
		return err
	case errors.Is(err, flv.ErrUnknown):
		ss.skipped.Add(1)
		if !t.told {
			t.told = true
			ss.warn(log, "publisher sends what nobody will get", "unknown", err.Error())
		}
		return nil
	}
	ss.skipped.Add(1)
	if now.Sub(t.since) > badWindow {
		t.n, t.since = 0, now
	}
	if t.n++; t.n > maxBad {
		return fmt.Errorf("%w, the last: %w", errBadMedia, err)
	}
	return nil
}

// refusePublish tells an encoder why it may not publish, before any Publish.Start.
func (ss *session) refusePublish(err error) {
	code := "NetStream.Publish.BadName"
	switch live.KindOf(err) {
	case live.Unavailable, live.Limit, live.Internal:
		code = "NetStream.Publish.Failed"
	}
	ss.refuse("publish", code, err)
}

// refuse tells the peer and the log why not.
func (ss *session) refuse(what, code string, err error) {
	ss.noteRefusal(what, err)
	ss.c.Reject(code, live.Reason(err))
}

func (ss *session) noteRefusal(what string, err error) {
	if kind := live.KindOf(err); kind == live.Internal {
		ss.log.Error(what+" failed", "app", ss.req.App, "err", err)
	} else {
		ss.warn(ss.log, what+" refused", kind.String(), live.Reason(err), "app", ss.req.App, "kind", kind.String())
	}
}

// cause puts the end of a connection into words.
func cause(err error) string {
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return "no media for read_timeout"
	}
	return err.Error()
}
