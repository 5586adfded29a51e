// Package hls serves live streams as HLS (RFC 8216) with low latency (RFC 8216bis): a small
// multivariant playlist for each viewer, and media playlists, segments and parts that are the same
// bytes for all viewers. It knows no store, no configuration and no other edge.
//
//	/{app}/{room}.m3u8[?token=T&format=F]  the multivariant playlist: asks the authorizer and starts a
//	                                       signed session. It leads to the format F, fmp4 or ts, if that
//	                                       can carry the stream. Without F it leads to fmp4, unless ts
//	                                       carries more tracks or the audio is MP3. With
//	                                       Options.NoSessions it may have no session
//	/{app}/{room}/index.m3u8[?s=S]         the media playlist of fragmented MP4, with parts and blocking
//	                                       reloads; viewers are counted by S
//	/{app}/{room}/ts.m3u8[?s=S]            the media playlist of MPEG-TS
//	/{app}/{room}/{name}                   .m4s segments and parts, .mp4 initialization sections,
//	                                       .ts segments
//
// A stream that is held for its encoder keeps its playlist and continues it. The playlist of a
// stream that has ended stays for a while, with EXT-X-ENDLIST. If the stream is published again in
// that time, its playlist continues with a discontinuity and without the end tag. RFC 8216 does not
// provide for that: players that saw the end have stopped, and new players get a list like that of
// any stream. The sequence numbers increase without a gap. After that time, or after a restart, they
// start at the epoch of the new stream session, which is higher than all numbers before.
package hls

import (
	"cmp"
	"context"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"livego/internal/deliver/segment"
	"livego/internal/domain"
	"livego/internal/ops/tracing"
	"livego/internal/quality"
	"livego/internal/stream"
)

// Options of a Server.
type Options struct {
	Segment time.Duration // intended duration of a segment; default 2 s
	Part    time.Duration // intended duration of a low-latency part; 0: no parts
	// TrackWait is how long a segment waits for the missing one of video and audio if the stream had
	// both.
	TrackWait    time.Duration
	Window       int  // target durations that a playlist lists; at least 8
	KeepAfterEnd bool // keep ended streams until they are published again or memory is needed
	// KeepBytes bounds the memory of all ended streams; the one that ended first is removed first.
	// Default 256 MiB.
	KeepBytes int
	FirstWait time.Duration // how long a playlist request waits for the first segment
	// SessionTimeout is the time without a request after which a viewer counts as gone; at least
	// three target durations. Default 30 s.
	SessionTimeout time.Duration
	// AnswerTimeout is the time in which a client must receive a response. It is four times the
	// playing time of the response if that is longer. Default 30 s.
	AnswerTimeout time.Duration
	// NoSessions leaves the session out of what viewers get that need none, so that all get the same:
	// those that gave no token and have no limits. They are not counted.
	NoSessions    bool
	Apps          func(app string) bool  // the apps that have HLS; nil: all
	Private       func(domain.Name) bool // rooms whose segments require a session too; nil: none
	LimitLoopback bool                   // session limits per address hold for loopback too
	// Secrets sign sessions, the first one new sessions: those of a server are valid on all that have
	// its secret, and after a restart. Without any they are valid as long as the server runs.
	// SetOptions does not change them.
	Secrets []string
	Quality *quality.Collector // of what players report; may be nil; SetOptions does not change it
	// MarkUsed, when set, receives each media sequence number before it is used: see
	// segment.SequenceAllocator.
	MarkUsed func(uint64)
	// Fetch, when set, returns what the Answer of the owner of a stream returns. The error is of kind
	// NotFound if the owner does not have it, or is this server.
	Fetch  func(ctx context.Context, name domain.Name, uri string) (Answer, error)
	Tracer *tracing.Tracer // may be nil; SetOptions does not change it
	Log    *slog.Logger
}

const (
	// keepEnded is how long the playlist of an ended stream stays, in addition to its duration.
	keepEnded = 30 * time.Second
	// minKeptBytes is the minimum that an ended stream counts, however small it is, so that the
	// number of ended streams is bounded too.
	minKeptBytes = 64 << 10

	consumer      = "hls" // the name of the stream.Consumer
	sweepInterval = time.Second
	drainInterval = 100 * time.Millisecond
)

// A Server serves HLS.
type Server struct {
	hub        *stream.Hub
	authorizer domain.Authorizer
	opt        atomic.Pointer[Options]
	registry   *sessionRegistry
	segments   segment.Counters
	blocked    blockedRequests
	fetches    fetches
	copies     sync.WaitGroup // copyWindow
	mismatches atomic.Uint64  // segments that differed from those of their owner

	mu             sync.RWMutex
	streamSessions map[domain.Name]*streamSession // the newest of each name
	changed        chan struct{}                  // closed when one of them starts or ends
}

// New returns a Server of the streams of hub for viewers that authorizer grants access. It segments
// nothing until Run.
func New(hub *stream.Hub, authorizer domain.Authorizer, o Options) *Server {
	s := &Server{
		hub: hub, authorizer: authorizer,
		registry:       newSessionRegistry(hub, authorizer, o),
		streamSessions: make(map[domain.Name]*streamSession),
		changed:        make(chan struct{}),
	}
	s.SetOptions(o)
	return s
}

// SetOptions replaces the options, except LimitLoopback and Secrets. Those of segments and playlists hold for
// stream sessions that start later, the others at once.
func (s *Server) SetOptions(o Options) {
	o.SessionTimeout = cmp.Or(o.SessionTimeout, 30*time.Second)
	o.AnswerTimeout = cmp.Or(o.AnswerTimeout, 30*time.Second)
	o.KeepBytes = cmp.Or(o.KeepBytes, 256<<20)
	s.opt.Store(&o)
	s.registry.setTimeout(o.SessionTimeout)
}

func (s *Server) options() *Options { return s.opt.Load() }

// Run segments every stream of the hub until ctx is done.
func (s *Server) Run(ctx context.Context) {
	defer s.registry.close()
	defer s.copies.Wait()
	defer s.hub.Supervise(ctx, stream.Consumer{Name: consumer, Run: s.feed, Ended: s.endSession, Replicas: true,
		Log: s.options().Log})()
	sweep := time.NewTicker(sweepInterval)
	defer sweep.Stop()
	for {
		select {
		case now := <-sweep.C:
			s.expire(now)
			s.registry.expire(now)
		case <-ctx.Done():
			return
		}
	}
}

// Drain waits until every viewer that is still watching has received the end of its stream, or
// until ctx is done.
func (s *Server) Drain(ctx context.Context) {
	poll := time.NewTicker(drainInterval)
	defer poll.Stop()
	for !s.registry.drained(time.Now()) {
		select {
		case <-poll.C:
		case <-ctx.Done():
			return
		}
	}
}

func (s *Server) servesApp(app string) bool {
	o := s.options()
	return o.Apps == nil || o.Apps(app)
}

// isPrivate reports whether every request for name requires a session, which a viewer gets at the
// multivariant playlist.
func (s *Server) isPrivate(name domain.Name) bool {
	o := s.options()
	return o.Private != nil && o.Private(name)
}

// EndSessions ends all sessions of a room so far, in app or in every app if that is "", and returns
// how many were in use. A viewer of a private room then needs a valid token to start again.
func (s *Server) EndSessions(app, room string) int { return s.registry.endSessions(app, room) }

// segmentOptions returns the options of a stream's Segmenter.
func (s *Server) segmentOptions() segment.Options {
	o := s.options()
	return segment.Options{
		Segment: o.Segment, Part: o.Part, Window: o.Window, TrackWait: o.TrackWait, MarkUsed: o.MarkUsed,
		Counters: &s.segments, KeepUnlisted: s.clustered(), // another server may have sent a playlist with them
	}
}
