// Package hls serves live streams as HLS (RFC 8216), with low latency (RFC 8216bis): a small
// multivariant playlist for each viewer, media playlists, segments and parts that are the same
// bytes for all. It knows no store, no configuration and no other edge.
//
//	/{app}/{room}.m3u8[?token=T&format=F]  the multivariant playlist: asks the gate, gives a signed session. It leads to the
//	                                       format F, fmp4 or ts, if that can carry the stream; without F to fmp4, unless ts
//	                                       carries more of it or its sound is MP3
//	/{app}/{room}/index.m3u8[?s=S]         the media playlist of fragmented MP4, with parts and blocking reloads; by S viewers
//	                                       are counted
//	/{app}/{room}/ts.m3u8[?s=S]            that of MPEG-TS
//	/{app}/{room}/{name}                   .m4s segments and parts, .mp4 initialization sections, .ts segments
//
// A stream that is held for its encoder keeps its playlist and goes on in it. One that has ended
// stays with EXT-X-ENDLIST for a while; if it is published again in that time, the playlist goes on
// with a discontinuity and the end mark goes. RFC 8216 has no word for that: players that saw the
// end have stopped, and those that come anew find a list as of any stream. The numbers rise without
// a hole, and after the while, or a restart, they begin at the new session's epoch, which is higher
// than all before.
package hls

import (
	"cmp"
	"context"
	"log/slog"
	"sync"
	"time"

	"livego/internal/deliver/segment"
	"livego/internal/domain"
	"livego/internal/stream"
)

// Options of a Server.
type Options struct {
	Segment      time.Duration // wished length of a segment; default 2 s
	Part         time.Duration // wished length of a low-latency part; 0 for none
	TrackWait    time.Duration // how long a segment waits for the other of picture and sound where the stream has had both
	Window       int           // target durations' worth of segments in a playlist; at least 8
	KeepAfterEnd bool          // keep what has ended until it is published again, or for want of memory
	KeepBytes    int           // what all that has ended may hold; the one that ended first goes first. Default 256 MiB
	FirstWait    time.Duration // how long a request for a playlist waits for the first segment
	// SessionTimeout is after how long without a request a viewer counts as gone; at least three target durations are
	// waited. Default 30 s.
	SessionTimeout time.Duration
	// AnswerTimeout is within which time a client has to take an answer, or four times what that plays
	// if it is longer. Default 30 s.
	AnswerTimeout time.Duration
	Apps          func(app string) bool  // the apps that have HLS; nil: all
	Private       func(domain.Name) bool // whose segments take a session too; nil: none
	LimitLoopback bool                   // the limits of sessions by address hold for this machine too
	// told each media sequence number in use, see segment.SequenceAllocator; nil: nobody
	MarkUsed func(uint64)
	Log      *slog.Logger
}

const (
	// keepEnded is how long the playlist of a stream that has ended stays beyond what its window lasts.
	keepEnded = 30 * time.Second
	// minKeptBytes is what a stream that has ended counts for however small it is, so that their number is bounded too.
	minKeptBytes = 64 << 10

	sweepInterval = time.Second
	drainInterval = 100 * time.Millisecond
)

// A Server serves HLS.
type Server struct {
	hub           *stream.Hub
	authorizer    domain.Authorizer
	opt           Options
	registry      *sessionRegistry
	startRequests chan startRequest

	mu             sync.RWMutex
	streamSessions map[domain.Name]*streamSession // the newest of each name
}

// A startRequest asks Run for the session of a stream that it may have missed.
type startRequest struct {
	name  domain.Name
	reply chan<- *streamSession // has room for the answer
}

// New returns a Server of the streams of hub for those whom gate lets in. Nothing is segmented until Run.
func New(hub *stream.Hub, gate domain.Authorizer, o Options) *Server {
	o.SessionTimeout = cmp.Or(o.SessionTimeout, 30*time.Second)
	o.AnswerTimeout = cmp.Or(o.AnswerTimeout, 30*time.Second)
	o.KeepBytes = cmp.Or(o.KeepBytes, 256<<20)
	return &Server{
		hub: hub, authorizer: gate, opt: o,
		registry:       newSessionRegistry(hub, o.SessionTimeout, o.LimitLoopback),
		startRequests:  make(chan startRequest),
		streamSessions: make(map[domain.Name]*streamSession),
	}
}

// Run segments every stream of the hub until ctx is done.
func (s *Server) Run(ctx context.Context) {
	events, _, stop := s.hub.Observe(1024, false) // what does not fit is made up for on request
	defer stop()
	defer s.registry.close()
	var feeds sync.WaitGroup
	defer feeds.Wait()
	start := func(name domain.Name) *streamSession {
		sess, fresh := s.startSession(name)
		if fresh {
			feeds.Go(func() { s.feed(ctx, name, sess) })
		}
		return sess
	}
	for _, in := range s.hub.Snapshot() {
		if s.servesApp(in.Name.App) {
			start(in.Name)
		}
	}
	sweep := time.NewTicker(sweepInterval)
	defer sweep.Stop()
	for {
		select {
		case e := <-events:
			if e.Type == stream.Started && s.servesApp(e.Name.App) {
				start(e.Name)
			}
		case w := <-s.startRequests:
			w.reply <- start(w.name)
		case now := <-sweep.C:
			s.expire(now)
			s.registry.expire(now)
		case <-ctx.Done():
			return
		}
	}
}

// Drain waits until every viewer who is still there has been told of his stream's end, or ctx is done.
func (s *Server) Drain(ctx context.Context) {
	again := time.NewTicker(drainInterval)
	defer again.Stop()
	for !s.registry.drained(time.Now()) {
		select {
		case <-again.C:
		case <-ctx.Done():
			return
		}
	}
}

func (s *Server) servesApp(app string) bool { return s.opt.Apps == nil || s.opt.Apps(app) }

// segmentOptions returns the options of a stream's segmenter.
func (s *Server) segmentOptions() segment.Options {
	return segment.Options{
		Segment: s.opt.Segment, Part: s.opt.Part, Window: s.opt.Window, TrackWait: s.opt.TrackWait, MarkUsed: s.opt.MarkUsed,
	}
}
