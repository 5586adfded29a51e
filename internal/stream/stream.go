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

// errEnded is the reason of a stream that ended cleanly.
var errEnded = io.EOF

// A stream is one session of a name. Before a publisher comes, it holds the viewers that wait for
// the session to start.
type stream struct {
	name domain.Name
	hub  *Hub

	// Under hub.mu. They change under mu too, so that either lock is enough to read them.
	session bool // a publisher has attached
	started time.Time
	epoch   uint64
	pubs    [2]*Publisher // by role
	replica *Replica      // of a session that another server owns; nil for one of this server

	// Under hub.mu.
	owner     any          // of the newest publisher
	former    *Publisher   // the last that was detached
	waiting   int          // viewers that wait for the session to start
	waiters   *waiterGroup // those of them that are not part of the server; nil if there are none
	holds     int
	holdTimer *time.Timer

	readyCh chan struct{} // closed when ready is set, or the stream has ended
	done    chan struct{} // closed when the stream has ended

	viewers   viewerList
	active    atomic.Pointer[Publisher] // the publisher whose frames go into the ring; set under mu
	newestDTS atomic.Int64              // DTS of the newest frame
	counters  *protoCounters

	mu              sync.RWMutex
	ring            ring
	marks           marks
	timeline        timeline
	ended           error // set once; io.EOF for a clean end
	ready           bool  // viewers may start: every announced track has come
	firstArrival    time.Time
	program         *media.Program // of the newest frame
	repeated        media.Kinds    // the default track has sent another frame since program changed
	meta            *media.Meta
	lastStart       time.Duration // DTS of the newest random access point, if hasStart
	hasStart        bool
	gop             time.Duration // between the newest two; 0 before the second
	readers         []*Subscriber
	pinned          bool          // readers keep the frames from pin on
	pin             uint64        // the lowest Seq of theirs
	pictureInterval frameInterval // time between pictures
	deferred        deferredWake  // wakes readers that wait for a stream time
	off             []string      // consumers that are off for this session
}

func newStream(h *Hub, name domain.Name) *stream {
	return &stream{
		name: name, hub: h, counters: new(protoCounters),
		readyCh: make(chan struct{}), done: make(chan struct{}),
		program: &media.Program{Awaited: media.KindsOf(media.Video, media.Audio)},
	}
}

// publisher returns the publisher with that ID, nil if there is none.
func (s *stream) publisher(id uint64) *Publisher {
	s.mu.RLock()
	defer s.mu.RUnlock()
	for _, p := range s.pubs {
		if p != nil && p.id == id {
			return p
		}
	}
	return nil
}

// published reports whether s has a publisher. The caller holds hub.mu or s.mu.
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
	o := s.hub.options()
	return limits{gops: o.GOPs, minTime: o.KeepTime, time: o.RingTime, bytes: o.RingBytes, pinned: s.pinned, pin: s.pin}
}

// updatePin sets what readers keep. The caller holds s.mu.
func (s *stream) updatePin() {
	s.pinned = false
	for _, r := range s.readers {
		if r.every != nil && r.every.keeps && (!s.pinned || r.every.kept < s.pin) {
			s.pinned, s.pin = true, r.every.kept
		}
	}
}

// finish ends s for all readers and waiters.
func (s *stream) finish(reason error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended != nil {
		return
	}
	s.ended = reason
	close(s.done)
	if !s.ready {
		close(s.readyCh)
	}
	for _, r := range s.readers {
		r.wakeUp()
	}
	s.deferred.fire()
}

// put stamps f with stream time, appends it to the ring and wakes readers. The caller holds s.mu.
func (s *stream) put(f *media.Frame) {
	if s.firstArrival.IsZero() {
		s.firstArrival = f.Arrived
	}
	s.timeline.setTimes(f)
	s.active.Load().setProgram(f, s.timeline.disc)
	s.store(f)
	if !s.ready {
		s.checkReady(f)
	}
}

// store appends f, which has stream time and a Program, to the ring and wakes readers. The caller
// holds s.mu.
func (s *stream) store(f *media.Frame) {
	changed := f.Program != s.program
	if changed {
		s.setProgram(f.Program)
	} else if f.Program.IsDefault(f.Track) {
		s.repeated |= media.KindsOf(f.Track.Kind)
	}
	s.meta = f.Meta
	s.ring.push(f, s.limits())
	s.newestDTS.Store(int64(f.DTS))
	start := isStartPoint(f)
	if start {
		if s.hasStart {
			s.gop = f.DTS - s.lastStart
		}
		s.lastStart, s.hasStart = f.DTS, true
	}
	s.deferred.observe(f, changed || start)
	s.wakeReaders(f)
}

// setProgram makes p the newest Program. Frames of another track that was the default before, in
// the same discontinuity, are random access points no more; nor are any if there is no video now. The
// caller holds s.mu.
func (s *stream) setProgram(p *media.Program) {
	before, _ := s.program.DefaultID(media.Video)
	s.program, s.repeated = p, 0
	if id, _ := p.DefaultID(media.Video); id != before {
		s.ring.raps = slices.DeleteFunc(s.ring.raps, func(seq uint64) bool { return !s.ring.at(seq).IsDefault(p) })
	}
	if !p.Has(media.Video) && !p.Awaited.Has(media.Video) {
		s.ring.raps, s.ring.video = nil, false
	}
}

// checkReady lets viewers start when all awaited tracks have come, or after Options.TrackWait. They
// know the tracks from the start: all frames so far get the newest Program. The caller holds s.mu.
func (s *stream) checkReady(f *media.Frame) {
	if (!s.settled(media.Video) || !s.settled(media.Audio)) && f.Arrived.Sub(s.firstArrival) < s.hub.options().TrackWait {
		return
	}
	for seq := s.ring.tail; seq < s.ring.head; seq++ {
		if old := s.ring.at(seq); old.Program.Discontinuity == s.program.Discontinuity {
			old.Program = s.program
		}
	}
	s.ready = true
	close(s.readyCh)
}

// A waiterGroup ends the wait of its viewers when done is closed.
type waiterGroup struct {
	done   chan struct{}
	reason error // why done was closed; read after done
	n      int   // viewers that wait
}

// settled reports whether the default track of kind k is known: track 0 has come, or the default
// has come again with no new track in between, because encoders send their tracks in turn. A kind
// that is not awaited is settled without any track.
func (s *stream) settled(k media.Kind) bool {
	id, _ := s.program.DefaultID(k)
	return !s.program.Awaited.Has(k) && (!s.program.Has(k) || id == 0 || s.repeated.Has(k))
}

// awaitReady waits until s is ready or ended, ctx ends, r is closed, or search fails. r is nil for a
// reader that is part of the server, and search for one that waits until the stream starts.
func (s *stream) awaitReady(ctx context.Context, r *waiterGroup, search Search) error {
	var refused, failed <-chan struct{}
	if r != nil {
		refused = r.done
	}
	if search != nil {
		failed = search.Failed()
	}
	select {
	case <-s.readyCh:
		return nil
	case <-refused:
		return r.reason
	case <-failed:
		return search.Err()
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
