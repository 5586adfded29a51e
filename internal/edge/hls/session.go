package hls

import (
	"context"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"livego/internal/live"
	"livego/internal/media"
	"livego/internal/segment"
	"livego/internal/stream"
)

// A session is what HLS has of one session of a stream.
type session struct {
	resumes bool // the session before this broke, and the stream may be the same

	// segmenter is that of the session before this, as far as it is kept, until this one has begun; nil when there is nothing. Where the
	// stream was gone before it could be read, it stays.
	segmenter atomic.Pointer[segment.Segmenter]
	// subscriber is set while the feed reads the stream. A session that has ended keeps none: it would hold the frames of the stream.
	subscriber atomic.Pointer[stream.Subscriber]

	begun chan struct{} // closed when segmenter and epoch are final
	epoch uint64        // of the stream; 0 where that was gone before it could be read

	asked atomic.Int64 // Unix time in ms of a request for a playlist, about the last

	// Under Server.mu.
	ended  time.Time // zero while a feed is at work
	broken bool      // by a fault of ours
}

// watched reports whether somebody has asked for a playlist of late.
func (s *session) watched() bool {
	return time.Now().UnixMilli()-s.asked.Load() < watchedFor.Milliseconds()
}

// watch notes that somebody asks for a playlist.
func (s *session) watch() {
	const often = 500 // ms: the memory that all who ask share is written no more often
	now, last := time.Now().UnixMilli(), s.asked.Load()
	if now-last < often {
		return
	}
	s.asked.Store(now)
	if now-last >= watchedFor.Milliseconds() {
		s.hurry()
	}
}

// hurry has the feed, if one reads the stream, process the frames that have come.
func (s *session) hurry() {
	if sub := s.subscriber.Load(); sub != nil {
		sub.Hurry()
	}
}

// list returns what there is to fetch now; nil when there is nothing.
func (s *session) list() *segment.List {
	seg := s.segmenter.Load()
	if seg == nil {
		return nil
	}
	return seg.List()
}

// ready reports whether there is a playlist.
func (s *session) ready() bool {
	l := s.list()
	return l != nil && l.Ready
}

// begin returns the running session of name, which is fresh when somebody has to feed it.
func (s *Server) begin(name live.Name) (sess *session, fresh bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	old := s.sessions[name]
	if old != nil && old.ended.IsZero() {
		return old, false
	}
	sess = &session{begun: make(chan struct{})}
	if old != nil {
		sess.segmenter.Store(old.segmenter.Load())
		sess.resumes = old.broken
	}
	s.sessions[name] = sess
	return sess, true
}

// ask has Run begin the session of name, which it may have missed; nil when ctx ends first.
func (s *Server) ask(ctx context.Context, name live.Name) *session {
	reply := make(chan *session, 1)
	select {
	case s.wanted <- want{name, reply}:
		return <-reply
	case <-ctx.Done():
		return nil
	}
}

// current returns the session of name that a request is about: the running one, or one that has ended and is kept.
func (s *Server) current(ctx context.Context, name live.Name) (*session, error) {
	s.mu.RLock()
	sess := s.sessions[name]
	running := sess != nil && sess.ended.IsZero()
	s.mu.RUnlock()
	if running {
		return sess, nil
	}
	if s.hub.Has(name) { // an event was lost, or is on its way
		sess = s.ask(ctx, name)
		if sess == nil {
			return nil, context.Cause(ctx)
		}
	}
	if sess == nil {
		return nil, live.Errorf(live.NotFound, "nobody is publishing %s", name)
	}
	return sess, nil
}

// await returns the session of name and its list when that has a playlist, waiting for the first segment as the options say.
func (s *Server) await(ctx context.Context, name live.Name) (*session, *segment.List, error) {
	sess := s.running(name)
	if sess == nil || !sess.ready() {
		var err error
		if sess, err = s.awaitReady(ctx, name); err != nil {
			return nil, nil, err
		}
	}
	sess.watch()
	return sess, sess.list(), nil
}

// running returns the session of name that is fed and has begun, nil when there is none.
func (s *Server) running(name live.Name) *session {
	s.mu.RLock()
	defer s.mu.RUnlock()
	sess := s.sessions[name]
	if sess == nil || !sess.ended.IsZero() {
		return nil
	}
	select {
	case <-sess.begun:
		return sess
	default:
		return nil
	}
}

// awaitReady returns the session of name when it has a playlist.
func (s *Server) awaitReady(ctx context.Context, name live.Name) (*session, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, s.opt.FirstWait, live.Errorf(live.Unavailable, "%s has no segment yet", name))
	defer cancel()
	sess, err := s.current(ctx, name)
	if err != nil {
		return nil, err
	}
	if err := wait(ctx, sess.begun); err != nil { // until the tracks that were announced are there
		return nil, s.explain(name, err)
	}
	if err := s.awaitPlaylist(ctx, name, sess); err != nil {
		return nil, err
	}
	if sess.ready() {
		return sess, nil
	}
	return nil, live.Errorf(live.NotFound, "%s has ended, and HLS has nothing of it", name)
}

// awaitPlaylist waits until sess, which has begun, has a playlist or has ended. It does not wait where there will never be one.
func (s *Server) awaitPlaylist(ctx context.Context, name live.Name, sess *session) error {
	seg := sess.segmenter.Load()
	if seg == nil || seg.List().Ready {
		return nil
	}
	if err := s.explain(name, nil); err != nil {
		return err
	}
	if err := wait(ctx, seg.Ready()); err != nil {
		return s.explain(name, err)
	}
	return nil
}

// explain returns err, why name has no playlist, or a better reason where the tracks that have come say that it will have none.
func (s *Server) explain(name live.Name, err error) error {
	in, _ := s.hub.Info(name)
	if slices.ContainsFunc(in.Firsts, segment.Carries) {
		return err
	}
	if codecs := codecs(in.Firsts); codecs != "" {
		return live.Errorf(live.NotFound, "%s has no track that HLS can carry here, only %s", name, codecs)
	}
	return err
}

// codecs names those of audio and video tracks for people.
func codecs(tracks []*media.Track) string {
	var names []string
	for _, t := range tracks {
		switch {
		case t == nil, t.Kind == media.Data:
		case t.Codec == media.Opaque && t.Label != "":
			names = append(names, t.Label)
		default:
			names = append(names, t.Codec.String())
		}
	}
	return strings.Join(names, ", ")
}

// wait waits for ready, which wins where ctx is done too.
func wait(ctx context.Context, ready <-chan struct{}) error {
	select {
	case <-ready:
		return nil
	default:
	}
	select {
	case <-ready:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// kept returns the list of name, of a session that runs or has ended; nil when there is none.
func (s *Server) kept(name live.Name) (*session, *segment.List) {
	s.mu.RLock()
	sess := s.sessions[name]
	s.mu.RUnlock()
	if sess == nil {
		return nil, nil
	}
	return sess, sess.list()
}

// blockedFor is how many target durations a request is held for what has not come, RFC 8216bis section 6.2.5.2.
const blockedFor = 3

// hold returns the list of sess, from l on, when until is true of it. Where the stream is held for its encoder it returns what there
// is after a target duration: players give a playlist up that does not come.
func (s *session) hold(ctx context.Context, l *segment.List, whole bool, until func(*segment.List) bool) (*segment.List, error) {
	if until(l) {
		return l, nil
	}
	timer := time.NewTimer(l.Target)
	defer timer.Stop()
	for waited := 0; ; {
		counted := !whole && l.Wait()
		var err error
		select {
		case <-l.Next(whole):
		case <-timer.C:
			waited++
			timer.Reset(l.Target)
		case <-ctx.Done():
			err = context.Cause(ctx)
		}
		if counted {
			l.Woken()
		}
		if err != nil {
			return nil, err
		}
		switch l = s.list(); {
		case until(l), l.Paused && waited > 0:
			return l, nil
		case waited >= blockedFor:
			return nil, live.Errorf(live.Unavailable, "what comes next has not come for %v", blockedFor*l.Target)
		}
	}
}

// block returns the list of sess, from l on, whose playlist in format f has what d waits for.
func (s *session) block(ctx context.Context, l *segment.List, f segment.Format, d query) (*segment.List, error) {
	if l.Beyond(d.msn, d.part) && !l.Ended {
		return nil, live.Errorf(live.Invalid, "segment %d is too far ahead to be waited for", d.msn)
	}
	return s.hold(ctx, l, d.part < 0, func(l *segment.List) bool { return l.Has(f, d.msn, d.part) })
}

// sweep forgets sessions that ended long ago or hold too much.
func (s *Server) sweep(now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var names []live.Name // of what has ended
	held := map[live.Name]int{}
	bytes := 0
	for name, sess := range s.sessions {
		if sess.ended.IsZero() {
			continue
		}
		l := sess.list()
		if l == nil || !s.opt.KeepAfterEnd && now.Sub(sess.ended) >= l.Lasts()+keepFor {
			delete(s.sessions, name)
			continue
		}
		names = append(names, name)
		held[name] = max(l.Held(), keepLeast)
		bytes += held[name]
	}
	if bytes <= s.opt.KeepBytes {
		return
	}
	slices.SortFunc(names, func(a, b live.Name) int { return s.sessions[a].ended.Compare(s.sessions[b].ended) })
	for _, name := range names { // what can be made again goes first
		if bytes <= s.opt.KeepBytes {
			return
		}
		l := s.sessions[name].list()
		l.Forget()
		left := max(l.Held(), keepLeast)
		bytes -= held[name] - left
		held[name] = left
	}
	for _, name := range names {
		if bytes <= s.opt.KeepBytes {
			return
		}
		bytes -= held[name]
		delete(s.sessions, name)
	}
}
