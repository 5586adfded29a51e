package hls

import (
	"context"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"livego/internal/deliver/segment"
	"livego/internal/domain"
	"livego/internal/media"
	"livego/internal/stream"
)

// A streamSession is the HLS side of one session of a stream.
type streamSession struct {
	segmenter *segment.Segmenter
	writing   sync.Mutex       // held to write to segmenter, or to read what only its writer may
	blocked   *blockedRequests // of the Server
	epoch     uint64           // of the stream
	// replicated means that another server owns the session.
	replicated bool
	// byName means that this server cannot make the segments of the owner: it fetches all by name.
	byName atomic.Bool
	// subscriber is set while the feed reads the stream. An ended session keeps none: it would keep
	// the frames of the stream in memory.
	subscriber atomic.Pointer[stream.Subscriber]

	lastRequest atomic.Int64 // Unix time in ms of about the last playlist request

	ended time.Time // zero while the stream session is segmented; guarded by Server.mu
}

// watched reports whether a playlist was requested recently.
func (s *streamSession) watched() bool {
	return time.Now().UnixMilli()-s.lastRequest.Load() < watchedFor.Milliseconds()
}

// recordRequest records a playlist request.
func (s *streamSession) recordRequest() {
	const interval = 500 // in ms: limits writes to memory that all requests share
	now, last := time.Now().UnixMilli(), s.lastRequest.Load()
	if now-last < interval {
		return
	}
	s.lastRequest.Store(now)
	if now-last >= watchedFor.Milliseconds() {
		s.flush()
	}
}

// flush makes the feed, if it reads the stream, process the frames that have come.
func (s *streamSession) flush() {
	if sub := s.subscriber.Load(); sub != nil {
		sub.Flush()
	}
}

// list returns the current list.
func (s *streamSession) list() *segment.List { return s.segmenter.List() }

// startSession starts the session live that sub reads. It continues the playlist of the one before, if
// that is kept. The playlist of a replicated session is that of its owner.
func (s *Server) startSession(live *stream.Session, sub *stream.Subscriber) *streamSession {
	name := live.Name()
	sess := &streamSession{epoch: sub.Epoch(), replicated: live.Replicated(), blocked: &s.blocked}
	sess.subscriber.Store(sub)
	s.mu.Lock()
	defer s.mu.Unlock()
	if old := s.streamSessions[name]; old != nil && !live.Replicated() {
		sess.segmenter = old.segmenter.Successor(sess.epoch)
	} else {
		sess.segmenter = segment.New(sess.epoch, s.segmentOptions())
	}
	sess.segmenter.StartAt(sub.Position())
	sess.segmenter.OnSealed(func(done segment.Sealed) { sub.Note(done) })
	s.streamSessions[name] = sess
	s.notifyChange()
	return sess
}

// Snapshot returns the state of the session of name, for a server that replicates it. It waits until
// the session is segmented; false if it is not going to be.
func (s *Server) Snapshot(ctx context.Context, name domain.Name) (*segment.Snapshot, bool) {
	if !s.servesApp(name.App) {
		return nil, false
	}
	sess, err := s.currentSession(ctx, name)
	if err != nil {
		return nil, false
	}
	sess.writing.Lock()
	defer sess.writing.Unlock()
	return sess.segmenter.Snapshot(), true
}

// Final returns the state of the session of name that has ended, and its last segment, for a server that
// replicates it. It waits until the session has been segmented to its end. The state is nil if there is no
// such session, or another server owned it. The segment may be of a session before; nil if there is none.
func (s *Server) Final(ctx context.Context, name domain.Name) (sn *segment.Snapshot, last *segment.Sealed) {
	for {
		sess, running, changed := s.session(name)
		switch {
		case sess == nil || sess.replicated:
			return nil, nil
		case !running:
			sess.writing.Lock()
			defer sess.writing.Unlock()
			return sess.segmenter.Snapshot(), sess.segmenter.Newest()
		}
		if wait(ctx, changed) != nil {
			return nil, nil
		}
	}
}

// endSession records that live is not segmented any more: it has ended, or segmenting is off.
func (s *Server) endSession(live *stream.Session) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if sess := s.streamSessions[live.Name()]; sess != nil { // of live, or kept if live had no media
		sess.ended = time.Now()
	}
	s.notifyChange()
}

// notifyChange wakes the requests in currentSession. The caller holds s.mu.
func (s *Server) notifyChange() {
	close(s.changed)
	s.changed = make(chan struct{})
}

// session returns the newest session of name, nil if there is none, and whether it is running.
// changed is closed when that may have changed.
func (s *Server) session(name domain.Name) (sess *streamSession, running bool, changed <-chan struct{}) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	sess = s.streamSessions[name]
	return sess, sess != nil && sess.ended.IsZero(), s.changed
}

// currentSession returns the session of name for a request: the running one, which it waits for
// until the announced tracks of the stream have started, or one that has ended and is kept.
func (s *Server) currentSession(ctx context.Context, name domain.Name) (*streamSession, error) {
	for {
		sess, running, changed := s.session(name)
		if running {
			return sess, nil
		}
		in, live := s.hub.Info(name)
		switch {
		case !live:
			if err := s.hub.Await(ctx, name, 0); err != nil { // another server may have it
				if sess != nil && ctx.Err() == nil {
					return sess, nil
				}
				return nil, err
			}
			continue
		case slices.Contains(in.Off, consumer):
			return nil, domain.Errorf(domain.Unavailable, "HLS of %s has failed: it is off until the stream starts again", name)
		}
		if err := wait(ctx, changed); err != nil {
			return nil, err
		}
	}
}

// awaitSession returns the session of name and its list. It waits for the first segment, for up to
// FirstWait.
func (s *Server) awaitSession(ctx context.Context, name domain.Name) (*streamSession, *segment.List, error) {
	sess, running, _ := s.session(name)
	if !running || !sess.list().Ready {
		var err error
		if sess, err = s.awaitReady(ctx, name); err != nil {
			return nil, nil, err
		}
	}
	sess.recordRequest()
	return sess, sess.list(), nil
}

// awaitReady returns the session of name when it has a playlist.
func (s *Server) awaitReady(ctx context.Context, name domain.Name) (*streamSession, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, s.options().FirstWait,
		domain.Errorf(domain.Unavailable, "%s has no segment yet", name))
	defer cancel()
	sess, err := s.currentSession(ctx, name)
	if err == nil && !sess.list().Ready { // there is nothing to wait for if HLS can carry none of the tracks
		if err = s.explain(name, nil); err == nil {
			err = wait(ctx, sess.segmenter.Ready())
		}
	}
	switch {
	case err != nil:
		return nil, s.explain(name, err)
	case sess.byName.Load():
	case !sess.list().Ready:
		return nil, domain.Errorf(domain.NotFound, "%s has ended without an HLS segment", name)
	}
	return sess, nil
}

// explain returns err, why name has no playlist, or a better error if HLS can carry none of its
// tracks.
func (s *Server) explain(name domain.Name, err error) error {
	tracks := s.defaultTracks(name)
	if slices.ContainsFunc(tracks, segment.Carries) {
		return err
	}
	if codecs := codecs(tracks); codecs != "" {
		return domain.Errorf(domain.NotFound, "%s has no track that HLS can carry, only %s", name, codecs)
	}
	return err
}

// defaultTracks returns the default tracks of name, nil if there is no such stream.
func (s *Server) defaultTracks(name domain.Name) []*media.Track {
	if in, ok := s.hub.Info(name); ok {
		return in.Program.Defaults()
	}
	return nil
}

// codecs returns the names of the audio and video codecs of tracks, for messages.
func codecs(tracks []*media.Track) string {
	var names []string
	for _, t := range tracks {
		switch {
		case t == nil, t.Kind == media.Data:
		case t.Codec == media.Passthrough && t.Label != "":
			names = append(names, t.Label)
		default:
			names = append(names, t.Codec.String())
		}
	}
	return strings.Join(names, ", ")
}

// wait waits for ready, which has priority over ctx.
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

// lookupList returns the session of name, running or ended, and its list; nil when there is none.
func (s *Server) lookupList(name domain.Name) (*streamSession, *segment.List) {
	sess, _, _ := s.session(name)
	if sess == nil {
		return nil, nil
	}
	return sess, sess.list()
}

// awaits reports whether a file that l does not have is to come.
func (s *streamSession) awaits(l *segment.List, file string) bool {
	return l.IsPreloadHint(file) || s.replicated && l.Ready && !s.byName.Load() && l.Ahead(s.epoch, file)
}

// awaitFile sets f to the file of that name, for which it waits if it is to come, and returns the list that
// has it. f stays the zero File if there is none. l is the current list.
func (s *streamSession) awaitFile(ctx context.Context, f *segment.File, l *segment.List, file string) (*segment.List,
	error) {
	if *f = l.File(file); f.Name != "" || !s.awaits(l, file) {
		if f.IsPart {
			awaitReloads(ctx, l)
		}
		return l, nil
	}
	l, err := s.hold(ctx, l, false, func(l *segment.List) bool { return !s.awaits(l, file) })
	if err == nil {
		*f = l.File(file)
	}
	return l, err
}

// maxBlockedTargets is how many target durations a request is blocked at most, RFC 8216bis section
// 6.2.5.2.
const maxBlockedTargets = 3

// hold blocks a request until a list of s, starting with l, satisfies until. If the stream is
// held for its encoder, it returns the current list after a target duration: players give up on a
// playlist that does not come.
func (s *streamSession) hold(ctx context.Context, l *segment.List, whole bool,
	until func(*segment.List) bool) (*segment.List, error) {
	if until(l) {
		return l, nil
	}
	timer := s.blocked.start(l.Target)
	defer s.blocked.end(timer)
	for waited := 0; ; {
		counted := !whole && l.AddWaiter()
		var err error
		select {
		case <-l.Updated(whole):
		case <-timer.C:
			waited++
			timer.Reset(l.Target)
		case <-ctx.Done():
			err = context.Cause(ctx)
		}
		if counted {
			l.RemoveWaiter()
		}
		if err != nil {
			return nil, err
		}
		switch l = s.list(); {
		case until(l), l.Paused && waited > 0:
			return l, nil
		case waited >= maxBlockedTargets:
			s.blocked.timeouts.Add(1)
			return nil, domain.Errorf(domain.Unavailable, "no new segment or part for %v", maxBlockedTargets*l.Target)
		}
	}
}

// blockReload blocks a reload until a list of s, starting with l, has what d asks for in format f.
func (s *streamSession) blockReload(ctx context.Context, l *segment.List, f segment.Format, d *query) (*segment.List,
	error) {
	if l.TooFarAhead(d.msn, d.part) && !l.Ended {
		return nil, domain.Errorf(domain.Invalid, "invalid _HLS_msn or _HLS_part: too far ahead of the stream")
	}
	return s.hold(ctx, l, d.part < 0, func(l *segment.List) bool { return l.Has(f, d.msn, d.part) })
}

// expire removes ended sessions after a while, or when all of them use too much memory.
func (s *Server) expire(now time.Time) {
	o := s.options()
	s.mu.Lock()
	defer s.mu.Unlock()
	var names []domain.Name // of ended sessions
	held := map[domain.Name]int{}
	bytes := 0
	for name, sess := range s.streamSessions {
		if sess.ended.IsZero() || s.hub.Has(name) { // the next session may continue it
			continue
		}
		l := sess.list()
		if !o.KeepAfterEnd && now.Sub(sess.ended) >= l.Duration()+keepEnded {
			delete(s.streamSessions, name)
			continue
		}
		names = append(names, name)
		held[name] = max(l.MemoryBytes(), minKeptBytes)
		bytes += held[name]
	}
	if bytes <= o.KeepBytes {
		return
	}
	slices.SortFunc(names, func(a, b domain.Name) int {
		return s.streamSessions[a].ended.Compare(s.streamSessions[b].ended)
	})
	for _, name := range names { // first drop what can be rendered again
		if bytes <= o.KeepBytes {
			return
		}
		l := s.streamSessions[name].list()
		l.DropRendered()
		left := max(l.MemoryBytes(), minKeptBytes)
		bytes -= held[name] - left
		held[name] = left
	}
	for _, name := range names {
		if bytes <= o.KeepBytes {
			return
		}
		bytes -= held[name]
		delete(s.streamSessions, name)
	}
}
