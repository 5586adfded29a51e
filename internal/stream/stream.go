package stream

import (
	"context"
	"io"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"livego/internal/domain"
	"livego/internal/media"
)

// errEnded is how a stream ends that ends well.
var errEnded = io.EOF

// A stream is one name's session, or the place where viewers wait for it to begin.
type stream struct {
	name domain.Name
	hub  *Hub

	// Under hub.mu.
	session   bool // a publisher has come
	started   time.Time
	epoch     uint64
	pubs      [2]*Publisher // by role
	lastKey   domain.KeyRef // of the last publisher that came
	waiting   int           // viewers who wait for the session to begin
	waiters   *waiterGroup  // of those of them that are not part of the server; nil when there are none
	holds     int
	holdTimer *time.Timer
	release   func()

	readyCh chan struct{} // closed when ready is set, or the stream has finished

	mu              sync.RWMutex
	active          *Publisher // whose frames go into the ring
	ring            ring
	timeline        timeline
	ended           error // set once; io.EOF for a good end
	ready           bool  // viewers may start: every announced track is there
	firstArrival    time.Time
	kinds           [media.Data + 1]bool // kinds of track seen
	tracks          map[trackKey]*media.Track
	firsts          [media.Data + 1]first // by kind
	repeats         [media.Data + 1]bool  // a second frame of that has come
	meta            *media.Meta
	viewers         viewerList
	batchers        []*wakeBatcher // one for each protocol that somebody reads it by
	pictureInterval frameInterval  // of the pictures
	deferred        deferredWake   // wakes who waits for a time
	skips           atomic.Uint64
}

func newStream(h *Hub, name domain.Name) *stream {
	return &stream{
		name: name, hub: h,
		readyCh: make(chan struct{}),
		tracks:  make(map[trackKey]*media.Track),
	}
}

// published reports whether s has a publisher. Caller holds hub.mu.
func (s *stream) published() bool {
	return s.pubs[domain.Primary] != nil || s.pubs[domain.Backup] != nil
}

func (s *stream) hasFrames() bool {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.ring.head > 0
}

// limits returns the bounds of the ring.
func (s *stream) limits() limits {
	o := &s.hub.opt
	return limits{gops: o.GOPs, minTime: o.MaxLatency + time.Second, time: o.RingTime, bytes: o.RingBytes}
}

// finish ends s for everybody who reads or waits.
func (s *stream) finish(reason error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended != nil {
		return
	}
	s.ended = reason
	if !s.ready {
		close(s.readyCh)
	}
	for _, p := range s.batchers {
		p.stop()
	}
	s.deferred.fire()
}

// put appends f, in stream time from now on, and sees to it that viewers hear of it. Caller holds s.mu.
func (s *stream) put(f *media.Frame) {
	if s.firstArrival.IsZero() {
		s.firstArrival = f.Arrived
	}
	disc := s.timeline.disc
	s.timeline.setTimes(f)
	urgent := s.timeline.disc != disc || isStartPoint(f)
	s.kinds[f.Track.Kind] = true
	if !f.Secondary {
		s.lead(f)
	}
	if k := (trackKey{f.Track.Kind, f.Track.ID}); s.tracks[k] != f.Track {
		s.tracks[k] = f.Track
		urgent = true
	}
	s.meta = f.Meta
	s.ring.push(f, s.limits())
	s.deferred.observe(f, urgent)
	if !s.ready {
		s.checkReady(f)
	}
	s.wakeReaders(f)
}

// A first says which track of a kind is the first, and since when at the latest.
type first struct {
	id   uint8
	disc uint32
}

// lead notes that f is of the first track of its kind. What the same encoder sent of a higher
// number before was not, as shows now. Caller holds s.mu.
func (s *stream) lead(f *media.Frame) {
	now := first{f.Track.ID, f.Discontinuity}
	if s.repeats[f.Track.Kind] = s.firsts[f.Track.Kind] == now; s.repeats[f.Track.Kind] {
		return
	}
	s.firsts[f.Track.Kind] = now
	s.ring.raps = slices.DeleteFunc(s.ring.raps, func(seq uint64) bool { return s.superseded(s.ring.at(seq)) })
}

// superseded reports whether f was taken for one of the first track of its kind until that came. Caller holds s.mu.
func (s *stream) superseded(f *media.Frame) bool {
	now := s.firsts[f.Track.Kind]
	return f.Discontinuity == now.disc && f.Track.ID != now.id
}

// checkReady lets viewers start when every track that the encoder announced has come, or has been
// waited for long enough. An encoder that announced nothing is expected to send both audio and
// video.
func (s *stream) checkReady(f *media.Frame) {
	video, audio := true, true
	if m := f.Meta; m != nil && (m.HasVideo || m.HasAudio) {
		video, audio = m.HasVideo, m.HasAudio
	}
	if s.settled(media.Video, video) && s.settled(media.Audio, audio) ||
		f.Arrived.Sub(s.firstArrival) >= s.hub.opt.TrackWait {
		s.ready = true
		close(s.readyCh)
	}
}

// A waiterGroup ends the wait of viewers.
type waiterGroup struct {
	done   chan struct{}
	reason error // why done was closed; read after done
	n      int   // viewers who wait
}

// settled reports whether it is known which track of a kind is the first: number 0 has come, or a
// track twice and none of a lower number in between, for encoders send their tracks in turn. A kind
// that is not expected is settled without any.
func (s *stream) settled(k media.Kind, expected bool) bool {
	if !s.kinds[k] {
		return !expected
	}
	return s.firsts[k].id == 0 || s.repeats[k]
}

// awaitReady waits until s is ready or finished, ctx ends, or the viewer is refused; r is nil for one that cannot be.
func (s *stream) awaitReady(ctx context.Context, r *waiterGroup) error {
	var refused <-chan struct{}
	if r != nil {
		refused = r.done
	}
	select {
	case <-s.readyCh:
		return nil
	case <-refused:
		return r.reason
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
