package stream

import (
	"context"
	"math"
	"slices"
	"time"

	"livego/internal/domain"
	"livego/internal/media"
)

// SubscribeOptions describe a reader and where it starts.
type SubscribeOptions struct {
	Viewer ViewerOptions
	Wait   time.Duration // how long to wait for a publisher; 0: not at all, negative: without limit
	// GOPs is the keyframe to start at, counted back from the newest. 0 starts at the live edge:
	// audio now, video at the next keyframe. A subscriber that waited for the stream starts at its
	// beginning, unless GOPs is 0.
	GOPs int
	// AllTracks requests every track. Otherwise the subscriber gets the default of each kind.
	AllTracks bool
	// Every requests every frame from the first one on, of every track, also those that a decoder
	// cannot use, and the marks between them: see ErrMark. The subscriber skips nothing: see ErrMissed.
	Every bool
	Notes bool // with Every: Noted marks too
}

// A Subscriber is a part of the server that reads one stream. It gets every frame that the ring
// still has, however late. Only one goroutine may call its methods, except for those of Viewer and
// Flush.
type Subscriber struct {
	*Viewer
	batchWindow
	all  bool
	gops int
	// every is set for a reader of every frame.
	every *markReader

	positioned   bool // cursor is set
	program      *media.Program
	needRAP      bool   // video of the default track is omitted until a random access point
	begun        idSet  // other video tracks that have had a random access point
	seenRAP      bool   // has had a random access point since it started or skipped
	firstGOP     bool   // but only one
	cursor       uint64 // Seq of the next frame to read
	flushPending bool   // WaitUntil waits for a frame only; under stream.mu
}

// Subscribe joins name, and waits for it as o says. It fails with NotFound if name has no
// publisher, or with ctx's error.
func (h *Hub) Subscribe(ctx context.Context, name domain.Name, o SubscribeOptions) (*Subscriber, error) {
	waited, err := h.await(ctx, name, o.Wait, o.Viewer.Internal)
	if err != nil {
		return nil, err
	}
	if waited && o.GOPs > 0 {
		o.GOPs = math.MaxInt // it came before the first frame, however late its goroutine is woken
	}
	v, err := h.Join(name, o.Viewer)
	if err != nil {
		return nil, err
	}
	s := &Subscriber{Viewer: v, batchWindow: batchWindow{wake: make(chan struct{}, 1)}, all: o.AllTracks, gops: o.GOPs}
	if o.Every {
		s.every = &markReader{notes: o.Notes}
	}
	v.s.mu.Lock()
	defer v.s.mu.Unlock()
	if s.getsNotes() {
		v.s.marks.readers++
	}
	s.program = v.s.program
	v.s.readers = append(v.s.readers, s)
	return s, nil
}

// Leave removes s from the stream.
func (s *Subscriber) Leave() {
	st := s.s
	st.mu.Lock()
	if s.getsNotes() && slices.Contains(st.readers, s) {
		st.marks.readers--
	}
	st.readers = slices.DeleteFunc(st.readers, func(r *Subscriber) bool { return r == s })
	st.updatePin()
	s.wakeUp() // stops its timer
	st.mu.Unlock()
	s.Viewer.Leave()
}

// Await waits as Subscribe does, for a viewer that is not a Subscriber.
func (h *Hub) Await(ctx context.Context, name domain.Name, wait time.Duration) error {
	_, err := h.await(ctx, name, wait, false)
	return err
}

// await waits until name is ready for viewers. A waiter that gives up leaves no stream entry
// behind. A viewer waits for a stream that has a publisher but no keyframe only until RAPWait and
// TrackWait are over; parts of the server wait without that limit. waited reports that name was not
// ready at first.
func (h *Hub) await(ctx context.Context, name domain.Name, wait time.Duration, internal bool) (waited bool, err error) {
	notFound := domain.Errorf(domain.NotFound, "nobody is publishing %s", name)
	limit, cause := wait, notFound
	if wait == 0 && !internal {
		limit = h.options().RAPWait + h.options().TrackWait
		cause = domain.Errorf(domain.Unavailable, "%s cannot be played yet: its encoder has sent no keyframe", name)
	}
	if limit > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, limit, cause)
		defer cancel()
	}
	var search Search
	for {
		if search == nil && !internal {
			if search = h.search(name); search != nil {
				defer search.End()
			}
		}
		h.mu.Lock()
		if h.closed {
			h.mu.Unlock()
			return false, domain.Errorf(domain.Unavailable, "the server is stopping")
		}
		s := h.streams[name]
		if (s == nil || !s.session) && wait == 0 && search == nil {
			h.mu.Unlock()
			return false, notFound
		}
		if s == nil {
			s = newStream(h, name)
			h.streams[name] = s
		}
		s.waiting++
		select {
		case <-s.readyCh:
		default:
			waited = true
		}
		var refused *waiterGroup
		if !internal {
			if s.waiters == nil {
				s.waiters = &waiterGroup{done: make(chan struct{})}
			}
			refused = s.waiters
			refused.n++
		}
		found := search
		if s.session || wait != 0 { // then it waits even if no server has the stream now
			found = nil
		}
		h.mu.Unlock()

		err := s.awaitReady(ctx, refused, found)

		h.mu.Lock()
		s.waiting--
		if refused != nil {
			refused.n--
		}
		if !s.session && s.waiting == 0 && h.streams[name] == s {
			delete(h.streams, name)
		}
		alive := h.streams[name] == s
		h.mu.Unlock()
		if err != nil {
			return false, err
		}
		if alive {
			return waited, nil
		}
		if wait == 0 {
			return false, notFound
		}
	}
}

// search starts a Search for name, nil if there is a session or no other server can have one.
func (h *Hub) search(name domain.Name) Search {
	if find := h.options().Search; find != nil && !h.Has(name) {
		return find(name)
	}
	return nil
}

// Next waits for a frame and returns all that are ready, as many as dst holds. It returns io.EOF if
// the stream has ended, a domain.Error if the viewer was kicked, or ctx's error. Frames are shared:
// do not modify.
func (s *Subscriber) Next(ctx context.Context, dst []*media.Frame) (int, error) {
	for {
		if n, err := s.poll(dst, true); n > 0 || err != nil {
			return n, err
		}
		select {
		case <-s.wake:
		case <-s.kicked:
			return 0, s.reason
		case <-ctx.Done():
			return 0, ctx.Err()
		}
	}
}

// Poll returns all frames that are ready, without waiting.
func (s *Subscriber) Poll(dst []*media.Frame) (int, error) { return s.poll(dst, false) }

// poll returns the frames that are ready. If there are none and wait is true, there will be a value
// in wake when there may be more.
func (s *Subscriber) poll(dst []*media.Frame, wait bool) (n int, err error) {
	select {
	case <-s.kicked:
		return 0, s.reason
	default:
	}
	st := s.s
	st.mu.RLock()
	r := &st.ring
	s.program = st.program
	if !s.positioned {
		s.seekStart(st)
	}
	limit, mark, skipped := r.head, false, false
	if s.every != nil {
		limit, mark, err = s.limitEvery()
	} else if skipped = s.cursor < r.tail; skipped {
		s.skip(r)
	}
	for ; s.cursor < limit && n < len(dst); s.cursor++ {
		if f := r.at(s.cursor); s.every != nil || s.accepts(f) {
			dst[n] = f
			n++
		}
	}
	switch {
	case n > 0 || err != nil:
	case mark:
		err = ErrMark
	case s.cursor == r.head:
		err, s.waiting = st.ended, wait
	}
	st.mu.RUnlock()
	if skipped {
		s.Skip()
	}
	return n, err
}

// seekStart sets the cursor to the subscriber's start. The caller holds st.mu.
func (s *Subscriber) seekStart(st *stream) {
	s.positioned = true
	r := &st.ring
	if seq, ok := r.rap(s.gops); ok {
		s.cursor = seq
	} else {
		s.needRAP = true
		s.cursor = r.head
		if s.gops > 0 && !st.program.Has(media.Video) {
			s.cursor = r.since(time.Second) // audio only: a second to fill the player's buffer
		}
	}
	if s.every != nil {
		s.every.next = st.marks.from(s.cursor)
	}
}

// skip moves s, whose position the ring no longer has, to the newest random access point. If there is
// none, s continues with audio until the next one. The caller holds st.mu.
func (s *Subscriber) skip(r *ring) {
	switch seq, ok := r.rap(1); {
	case ok:
		s.cursor, s.needRAP = seq, false
	case !s.s.program.Has(media.Video):
		s.cursor = r.head - 1 // audio only: it may continue at any frame
	default:
		s.cursor, s.needRAP = r.tail, true
	}
	s.seenRAP, s.begun = false, idSet{}
}

// accepts reports whether the subscriber gets f. The caller holds st.mu.
func (s *Subscriber) accepts(f *media.Frame) bool {
	isDefault, rap := f.IsDefault(s.program), f.RAP != media.NoRandomAccess
	switch {
	case !s.all && !isDefault:
		return false
	case f.Track.Kind != media.Video:
		return true
	case rap:
		s.begun.add(f.Track.ID) // also the default, which continues if another becomes the default
	}
	if !isDefault {
		return s.begun.has(f.Track.ID)
	}
	if rap {
		s.needRAP, s.seenRAP, s.firstGOP = false, true, !s.seenRAP
	}
	return !s.needRAP && !(f.Leading && s.firstGOP)
}

// An idSet is a set of track IDs.
type idSet [4]uint64

func (s *idSet) add(id uint8)      { s[id/64] |= 1 << (id % 64) }
func (s *idSet) has(id uint8) bool { return s[id/64]&(1<<(id%64)) != 0 }

// Program returns the newest Program of the stream, as of the last read or, before it, as of
// Subscribe: what a viewer that starts at any of the frames read will get.
func (s *Subscriber) Program() *media.Program { return s.program }

// ProtoViewers returns how many viewers by the protocol of s the stream has.
func (s *Subscriber) ProtoViewers() int { return int(s.s.counters.of(s.opt.Proto).viewers.Load()) }

// ObserveWritten records that frames were written to where the subscriber sends them.
func (s *Subscriber) ObserveWritten(frames []*media.Frame) {
	if len(frames) == 0 {
		return
	}
	var video, audio int
	for _, f := range frames {
		switch f.Track.Kind {
		case media.Video:
			video += len(f.Payload)
		case media.Audio:
			audio += len(f.Payload)
		}
	}
	s.ObserveProgress(video, audio, frames[len(frames)-1].DTS, time.Now())
}
