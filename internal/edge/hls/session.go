package hls

import (
	"context"
	"slices"
	"strings"
	"time"

	"livego/internal/live"
	"livego/internal/media"
	"livego/internal/segment"
)

// A session is what HLS has of one session of a stream.
type session struct {
	before  *segment.Segmenter // of the session before this, as far as it is kept; nil
	resumes bool               // the session before this broke, and the stream may be the same

	// Set before begun is closed. Where the stream was gone before it could be read, what was kept is kept.
	begun chan struct{}
	seg   *segment.Segmenter // nil when there is nothing
	epoch uint64

	// Under Server.mu.
	ended  time.Time // zero while a feed is at work
	broken bool      // by a fault of ours
}

// list returns what there is to fetch now; nil when there is nothing.
func (s *session) list() *segment.List {
	seg := s.before
	select {
	case <-s.begun:
		seg = s.seg
	default:
	}
	if seg == nil {
		return nil
	}
	return seg.List()
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
		sess.before, sess.resumes = old.seg, old.broken // begun, since it has ended
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
	ctx, cancel := context.WithTimeoutCause(ctx, s.opt.FirstWait, live.Errorf(live.Unavailable, "%s has no segment yet", name))
	defer cancel()
	sess, err := s.current(ctx, name)
	if err != nil {
		return nil, nil, err
	}
	if err := wait(ctx, sess.begun); err != nil { // until the tracks that were announced are there
		return nil, nil, s.explain(name, err)
	}
	if sess.seg != nil {
		if err := s.ready(ctx, name, sess); err != nil {
			return nil, nil, err
		}
		if l := sess.seg.List(); l.Playlist != nil {
			return sess, l, nil
		}
	}
	return nil, nil, live.Errorf(live.NotFound, "%s has ended, and HLS has nothing of it", name)
}

// ready waits until sess, which has begun, has a playlist or has ended. It does not wait where there will never be one.
func (s *Server) ready(ctx context.Context, name live.Name, sess *session) error {
	if sess.seg.List().Playlist != nil {
		return nil
	}
	if err := s.explain(name, nil); err != nil {
		return err
	}
	if err := wait(ctx, sess.seg.Ready()); err != nil {
		return s.explain(name, err)
	}
	return nil
}

// explain returns err, why name has no playlist, or a better reason where the tracks that have come say that it will have none.
func (s *Server) explain(name live.Name, err error) error {
	in, _ := s.hub.Info(name)
	var codecs []string
	for _, t := range in.Tracks {
		switch {
		case segment.Carries(t):
			return err
		case t.Kind == media.Data:
		case t.Codec == media.Opaque && t.Label != "":
			codecs = append(codecs, t.Label)
		default:
			codecs = append(codecs, t.Codec.String())
		}
	}
	if codecs == nil {
		return err
	}
	return live.Errorf(live.NotFound, "%s has no track that HLS can carry here, only %s", name, strings.Join(codecs, ", "))
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

// find returns a segment of name by its own name; nil when there is none.
func (s *Server) find(name live.Name, segment string) *segment.Segment {
	s.mu.RLock()
	sess := s.sessions[name]
	s.mu.RUnlock()
	if sess == nil {
		return nil
	}
	l := sess.list()
	if l == nil {
		return nil
	}
	return l.Segment(segment)
}

// sweep forgets sessions that ended long ago or hold too much.
func (s *Server) sweep(now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var names []live.Name // of what has ended
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
		bytes += max(l.Bytes, keepLeast)
	}
	if bytes <= keepBytes {
		return
	}
	slices.SortFunc(names, func(a, b live.Name) int { return s.sessions[a].ended.Compare(s.sessions[b].ended) })
	for _, name := range names {
		if bytes <= keepBytes {
			return
		}
		bytes -= max(s.sessions[name].list().Bytes, keepLeast)
		delete(s.sessions, name)
	}
}
