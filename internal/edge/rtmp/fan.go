package rtmp

import (
	"errors"
	"io"
	"log/slog"

	"livego/internal/container/flv"
	"livego/internal/fan"
	"livego/internal/live"
	"livego/internal/media"
	"livego/internal/netx"
	"livego/internal/obs"
	"livego/internal/stream"
)

// handOver gives a player of a stream that is live to the fan, if it can serve him. It reports whether it has: then the connection
// is no longer ours.
func (ss *session) handOver(name live.Name, log *slog.Logger) bool {
	if ss.opt.GOPs == 0 || ss.req.StreamID != sharedStream || !ss.fan.Carries(ss.nc) || !ss.hub.Startable(name) {
		return false
	}
	v, err := ss.hub.Join(name, ss.viewer(name))
	if err != nil {
		return false
	}
	netx.LimitUnsent(ss.nc, v.Backlog())
	p := ss.c.Detach()
	err = ss.fan.Add(name, ss.nc, fan.Conn{
		Viewer: v, First: p.Accept(), Received: p.Feed, Ping: p.Ping,
		Farewell: func(reason error) []byte {
			if errors.Is(reason, io.EOF) {
				return p.End("NetStream.Play.UnpublishNotify", "the stream has ended")
			}
			return p.StatusError("NetStream.Play.Failed", live.Reason(reason))
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
		return true
	}
	log.Info("playing")
	return true
}

// encoder lays a stream out as RTMP chunks for all players.
type encoder struct {
	pre    flv.Preamble
	primed bool
	tags   []flv.Tag
	parts  [][]byte
}

// Start implements fan.Encoder: onMetaData and the sequence headers.
func (e *encoder) Start(f *media.Frame, known []*media.Track) []byte {
	var pre flv.Preamble
	return flatten(appendTags(nil, pre.Before(nil, f, known), sharedStream))
}

// Again implements fan.Encoder.
func (e *encoder) Again(f *media.Frame, known []*media.Track) []byte { return e.Start(f, known) }

// Batch implements fan.Encoder.
func (e *encoder) Batch(frames []*media.Frame, known []*media.Track) []byte {
	e.parts = e.parts[:0]
	for _, f := range frames {
		if !e.pre.Ready(f) {
			e.tags = e.pre.Before(e.tags[:0], f, known)
			if e.primed { // who starts here has been sent it
				e.parts = appendTags(e.parts, e.tags, sharedStream)
			}
			e.primed = true
		}
		e.parts = appendFrame(e.parts, f, sharedStream)
	}
	b := flatten(e.parts)
	clear(e.parts)
	return b
}

// flatten puts parts into one piece: a system call costs by the piece too.
func flatten(parts [][]byte) []byte {
	size := 0
	for _, p := range parts {
		size += len(p)
	}
	b := make([]byte, 0, size)
	for _, p := range parts {
		b = append(b, p...)
	}
	return b
}

func (ss *session) viewer(name live.Name) stream.ViewerOptions {
	return stream.ViewerOptions{Proto: "rtmp", Remote: ss.nc.RemoteAddr().String(), URL: ss.url(name), Pass: ss.pass}
}
