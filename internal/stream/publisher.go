package stream

import (
	"cmp"
	"context"
	"errors"
	"sync/atomic"
	"time"

	"livego/internal/domain"
	"livego/internal/media"
)

// PublishOptions describe a publisher.
type PublishOptions struct {
	Proto  string // "rtmp", "file", ...: where the frames come from
	Remote string // host:port, "" for a file
	URL    string // for statistics: without key, token or query
	Agent  string // name and version of the client, as it says
	TLS    bool   // the connection is encrypted
	Relay  bool   // it comes from another server
	Role   domain.Role
	// Owner is a comparable value, for EndOwners: in whose name it publishes.
	Owner    any
	Takeover domain.Takeover // whether it may replace another publisher
	Skips    *media.Skips    // counts its media that was skipped, for statistics; may be nil
}

// A Publisher writes the frames of one encoder, relay or file. Only one goroutine may call Write
// and End.
type Publisher struct {
	s     *stream
	id    uint64
	opt   PublishOptions
	since time.Time

	done   chan struct{}
	reason error // why done was closed; read after done

	lastFrame    atomic.Int64 // wall clock in ns of the newest frame, 0 before the first
	video, audio Meter

	// Under s.mu.
	detached     bool
	firstFrameAt time.Time      // when the first frame came
	program      *media.Program // its tracks, video from its first random access point on
	before       media.Kinds    // kinds that the stream had or awaited when it became active
	waitRAPSince time.Time      // time of the newest random access point of the default video track
	healthySince time.Time      // start of the frames that came without a pause
	// warm holds the frames of a publisher that is not active, from its newest random access point
	// on, in encoder time.
	warm    []*media.Frame
	warmed  int  // bytes in warm, counted as in a ring
	pending bool // active, but waits for a random access point
}

// A PublishRequest is a publisher whose rights are not known yet. It is created before they are
// checked, so that EndOwners holds for it from then on.
type PublishRequest struct {
	hub   *Hub
	since *ending // the newest when the request was created
}

// An ending is one call of EndOwners. It keeps later ones in memory, and no request keeps earlier
// ones. Under hub.mu.
type ending struct {
	owners map[any]bool
	reason error
	next   *ending
}

// NewPublishRequest returns a new PublishRequest.
func (h *Hub) NewPublishRequest() *PublishRequest {
	h.mu.Lock()
	defer h.mu.Unlock()
	return &PublishRequest{hub: h, since: h.lastEnding}
}

// refusal returns the reason if EndOwners was called for owner since the request was created. The
// caller holds h.mu.
func (r *PublishRequest) refusal(owner any) error {
	for e := r.since.next; e != nil; e = e.next {
		if e.owners[owner] {
			return e.reason
		}
	}
	return nil
}

// Publish is PublishRequest.Publish for a publisher whose rights need no check.
func (h *Hub) Publish(ctx context.Context, name domain.Name, o PublishOptions) (*Publisher, error) {
	return h.NewPublishRequest().Publish(ctx, name, o)
}

// Publish starts a session of name, or continues a held one. It fails with Conflict if name has a
// publisher, with the reason of EndOwners if that was called for o.Owner since the request was
// created, and with Unavailable if the hub is closed.
func (r *PublishRequest) Publish(ctx context.Context, name domain.Name, o PublishOptions) (*Publisher, error) {
	h := r.hub
	for {
		epoch, err := h.reserveEpoch(ctx, name)
		if err != nil {
			return nil, err
		}
		p := &Publisher{id: h.ids.Add(1), opt: o.truncated(), since: time.Now(), done: make(chan struct{}),
			program: new(media.Program)}
		switch err := r.attach(p, name, epoch); {
		case err == nil:
			return p, nil
		case !errors.Is(err, errNoSession):
			return nil, err
		}
	}
}

// errNoSession reports that the session which reserveEpoch found has ended since.
var errNoSession = errors.New("the session ended during publish")

// reserveEpoch returns the number of a new session of name, without holding the lock. It returns nil
// if there is a session already.
func (h *Hub) reserveEpoch(ctx context.Context, name domain.Name) (*uint64, error) {
	epoch := new(uint64)
	if h.Has(name) {
		return nil, nil
	}
	if h.options().Epoch != nil {
		var err error
		if *epoch, err = h.options().Epoch(ctx); err != nil {
			return nil, &domain.Error{Kind: domain.Unavailable, Op: "reserving an epoch", Name: name, Err: err}
		}
	}
	return epoch, nil
}

// attach makes p the publisher of its role. If there is no session, it starts one with the number
// epoch, or fails with errNoSession if that is nil.
func (r *PublishRequest) attach(p *Publisher, name domain.Name, epoch *uint64) error {
	h, role := r.hub, p.opt.Role
	h.mu.Lock()
	defer h.unlock()
	if h.closed {
		return domain.Errorf(domain.Unavailable, "the server is stopping")
	}
	if err := r.refusal(p.opt.Owner); err != nil {
		return err
	}
	s := h.streams[name]
	if epoch == nil && (s == nil || !s.session) {
		return errNoSession
	}
	if s == nil {
		s = newStream(h, name)
		h.streams[name] = s
	}
	if s.replica != nil {
		return domain.Errorf(domain.Conflict, "%s is being published on another server", name)
	}
	if old := s.pubs[role]; old != nil {
		if !p.mayReplace(old) {
			h.ended.conflicts++
			return domain.Errorf(domain.Conflict, "%s is being published by another encoder", name)
		}
		h.detach(old, domain.Errorf(domain.Conflict, "another encoder took over"))
		h.ended.takeovers++
	}
	p.s = s
	if s.holdTimer != nil {
		s.holdTimer.Stop()
		s.holds++
	}
	s.mu.Lock()
	s.pubs[role], s.owner = p, p.opt.Owner
	event := Resumed
	if !s.session {
		s.session, s.started, s.epoch, event = true, p.since, *epoch, Started
		for _, v := range h.supervisors {
			v.start(s)
		}
	}
	if s.paused() {
		s.addMark(Continued, nil)
	}
	if s.active.Load() == nil {
		s.activate(p)
	}
	s.mu.Unlock()
	h.record(event, s, p, "")
	return nil
}

// mayReplace reports whether p may replace old.
func (p *Publisher) mayReplace(old *Publisher) bool {
	switch p.opt.Takeover {
	case domain.TakeoverAlways:
		return true
	case domain.TakeoverNever:
		return false
	}
	return old.idle(time.Now()) >= old.s.hub.options().Idle
}

// idle returns how long p has sent no frame.
func (p *Publisher) idle(now time.Time) time.Duration {
	if ns := p.lastFrame.Load(); ns != 0 {
		return now.Sub(time.Unix(0, ns))
	}
	return now.Sub(p.since)
}

// detach removes p from its stream, which may then have no publisher. The caller holds h.mu.
func (h *Hub) detach(p *Publisher, reason error) {
	s := p.s
	if s.pubs[p.opt.Role] != p {
		return
	}
	h.ended.addPublisher(p)
	s.mu.Lock()
	s.pubs[p.opt.Role] = nil
	p.detached = true
	p.dropWarm()
	if s.active.CompareAndSwap(p, nil) {
		for _, other := range s.pubs {
			if other != nil {
				s.switchTo(other)
			}
		}
	}
	s.mu.Unlock()
	p.reason, s.former = reason, p
	close(p.done)
}

// Done is closed when the publisher has been detached from its stream: it ended, its key was
// revoked, it was kicked, or another took over. The edge then closes the connection.
func (p *Publisher) Done() <-chan struct{} { return p.done }

// Err returns why Done was closed. It returns nil before that, and after End.
func (p *Publisher) Err() error {
	select {
	case <-p.done:
		return p.reason
	default:
		return nil
	}
}

// ID returns the publisher's number in statistics.
func (p *Publisher) ID() uint64 { return p.id }

// Name returns the stream's name.
func (p *Publisher) Name() domain.Name { return p.s.name }

// EndReason is how a publisher ended.
type EndReason uint8

// Reasons.
const (
	Clean EndReason = iota // it ended the stream
	Lost                   // its connection was lost: the stream is held
)

// End detaches p from its stream.
func (p *Publisher) End(how EndReason) {
	d, why := p.s.hub.options().Hold, "the publisher was lost"
	if how == Clean {
		d, why = p.s.hub.options().HoldClean, "the publisher ended the stream"
	}
	p.leave(nil, d, why)
}

// leave detaches p from its stream for reason, if it is attached, and holds the stream for d. why is
// the reason of the event.
func (p *Publisher) leave(reason error, d time.Duration, why string) {
	h, s := p.s.hub, p.s
	h.mu.Lock()
	defer h.unlock()
	if s.pubs[p.opt.Role] != p {
		return
	}
	h.detach(p, reason)
	if !s.published() {
		h.hold(s, d, why)
	}
}

// Write publishes f and takes ownership of it. It never blocks on a viewer. It fails if p has been
// detached from its stream.
func (p *Publisher) Write(f *media.Frame) error {
	now := f.Arrived
	switch f.Track.Kind {
	case media.Video:
		p.video.Add(len(f.Payload), now.Sub(p.since))
	case media.Audio:
		p.audio.Add(len(f.Payload), now.Sub(p.since))
	}
	s := p.s
	s.mu.Lock()
	defer s.mu.Unlock()
	if p.detached || s.ended != nil {
		return domain.Errorf(domain.Conflict, "no longer the publisher of %s", s.name)
	}
	p.markAlive(now)
	p.chooseDefault(f.Track, now)
	if !p.decodable(f) {
		return nil
	}
	if s.active.Load() == p && !p.pending {
		s.put(f)
		return nil
	}
	p.program = p.program.With(f.Track)
	f.Program = p.program
	p.keepWarm(f)
	s.choose(p, now)
	return nil
}

// markAlive records that a frame came. The caller holds s.mu.
func (p *Publisher) markAlive(now time.Time) {
	if last := p.lastFrame.Load(); last == 0 || now.Sub(time.Unix(0, last)) >= p.s.hub.options().Idle {
		p.healthySince = now
	}
	p.lastFrame.Store(now.UnixNano())
}

// chooseDefault makes t the default of its kind if it has the lowest ID. A lower one that comes
// after Options.TrackWait does not replace the default, because viewers have started with that. The
// caller holds s.mu.
func (p *Publisher) chooseDefault(t *media.Track, now time.Time) {
	if p.firstFrameAt.IsZero() {
		p.firstFrameAt = now
	}
	if id, ok := p.program.DefaultID(t.Kind); !ok || t.ID < id && p.awaitsTracks(now) {
		p.program = p.program.WithDefault(t)
	}
}

// awaitsTracks reports whether Options.TrackWait has not passed since the first frame. The caller
// holds s.mu.
func (p *Publisher) awaitsTracks(now time.Time) bool {
	return now.Sub(p.firstFrameAt) < p.s.hub.options().TrackWait
}

// setProgram gives f, the next frame of the stream, its Program. Tracks are awaited of the kinds
// that the encoder announces or, if it announces nothing, of those that the stream had before. The
// caller holds s.mu.
func (p *Publisher) setProgram(f *media.Frame, discontinuity uint32) {
	q := p.program.With(f.Track).WithDiscontinuity(discontinuity)
	var awaited media.Kinds
	if p.awaitsTracks(f.Arrived) {
		awaited = cmp.Or(f.Meta.Kinds(), p.before) &^ q.Kinds()
	}
	p.program = q.WithAwaited(awaited)
	f.Program = p.program
}

// decodable reports whether a decoder can use f: each video track counts from its first random
// access point on. If none comes for Options.RAPWait, the encoder's keyframe flag is trusted. The
// caller holds s.mu.
func (p *Publisher) decodable(f *media.Frame) bool {
	if f.Track.Kind != media.Video {
		return true
	}
	switch {
	case !p.program.IsDefault(f.Track):
	case p.waitRAPSince.IsZero() || f.RAP != media.NoRandomAccess:
		p.waitRAPSince = f.Arrived
	case f.KeyFlag && f.Arrived.Sub(p.waitRAPSince) >= p.s.hub.options().RAPWait:
		f.RAP = media.RecoveryPoint
	}
	return f.RAP != media.NoRandomAccess || p.program.Track(media.Video, f.Track.ID) != nil
}

// hasVideo reports whether the default video track has had a random access point. The caller holds
// s.mu.
func (p *Publisher) hasVideo() bool { return p.program.Default(media.Video) != nil }
