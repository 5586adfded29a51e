package stream

import (
	"sync"
	"sync/atomic"
	"time"

	"livego/internal/domain"
)

// ViewerOptions describe a viewer.
type ViewerOptions struct {
	Proto    string    // "rtmp", "flv", "hls", ...
	Remote   string    // host:port
	URL      string    // for statistics: without token or query
	Agent    string    // name and version of the client, as it says
	TLS      bool      // the connection is encrypted
	Internal bool      // part of the server: not counted as a viewer
	Relay    bool      // Internal, and sends the stream to another server: it has a session
	Expires  time.Time // when the viewer is kicked; zero: never
	// Reserve, if set, is called before the viewer joins. It may refuse the viewer. release is called
	// when the viewer has left.
	Reserve func() (release func(), err error)
	// FirstMedia, if set, is called once: when the viewer was sent the first media, or has left before
	// that or could not join. It must not block.
	FirstMedia func(sent bool)
}

// A Viewer is one viewer of a stream in statistics, which can be kicked. A Subscriber has one, and
// so does a viewer that gets what another component reads (HLS).
type Viewer struct {
	s            *stream
	id           uint64
	opt          ViewerOptions
	since        time.Time
	video, audio Meter
	kicked       chan struct{}
	reason       error // why kicked was closed; read after kicked
	kickOnce     sync.Once
	leaveOnce    sync.Once
	counter      *protoCounter // nil for a part of the server
	release      func()        // of ViewerOptions.Reserve; nil if there is none
	expiry       *time.Timer   // nil if it never expires
	skips        atomic.Uint64 // how often it skipped to a newer keyframe
	writtenDTS   atomic.Int64  // DTS of the last frame written to it
	queued       atomic.Pointer[func() int]
	hasMedia     bool                            // was sent media; for the goroutine that observes
	firstMedia   atomic.Pointer[func(sent bool)] // of ViewerOptions; nil once it was called
}

// Join adds a viewer to the session of name. It fails with NotFound if there is none, and with the
// error of ViewerOptions.Reserve. The caller must call Leave.
func (h *Hub) Join(name domain.Name, o ViewerOptions) (*Viewer, error) {
	s := h.session(name)
	if s == nil {
		o.reportFirstMedia()
		return nil, domain.Errorf(domain.NotFound, "nobody is publishing %s", name)
	}
	v := &Viewer{s: s, opt: o.truncated(), since: time.Now(), kicked: make(chan struct{})}
	if o.Reserve != nil {
		var err error
		if v.release, err = o.Reserve(); err != nil {
			o.reportFirstMedia()
			return nil, err
		}
	}
	if f := o.FirstMedia; f != nil {
		v.firstMedia.Store(&f)
	}
	if !o.Internal {
		v.counter = s.counters.of(o.Proto)
		v.counter.viewers.Add(1)
		v.counter.joins.Add(1)
	}
	s.viewers.add(v, &h.ids)
	if !o.Expires.IsZero() {
		v.expiry = time.AfterFunc(time.Until(o.Expires), func() {
			v.kick(domain.CodeErrorf(domain.Denied, domain.SessionExpired, "session expired: get a new token"))
		})
	}
	v.emit(Joined)
	return v, nil
}

// reportFirstMedia calls FirstMedia for a viewer that cannot join.
func (o *ViewerOptions) reportFirstMedia() {
	if o.FirstMedia != nil {
		o.FirstMedia(false)
	}
}

// Leave removes v from the stream.
func (v *Viewer) Leave() {
	v.leaveOnce.Do(func() {
		v.reportFirstMedia(false)
		v.s.viewers.remove(v)
		if v.counter != nil {
			v.counter.viewers.Add(-1)
		}
		if v.release != nil {
			v.release()
		}
		if v.expiry != nil {
			v.expiry.Stop()
		}
		v.emit(Left)
	})
}

// emit sends an event of v to the observers.
func (v *Viewer) emit(t EventType) {
	if v.opt.Internal {
		return
	}
	e := Event{Type: t, Name: v.s.name, Viewer: v.id, Proto: v.opt.Proto, Remote: v.opt.Remote}
	if reason := v.Reason(); t == Left && reason != nil {
		e.Reason = domain.Reason(reason)
	}
	v.s.hub.observers.send(e)
}

// ID returns the viewer's number in statistics.
func (v *Viewer) ID() uint64 { return v.id }

// Kicked is closed when the viewer must leave. A Subscriber's Next returns the reason.
func (v *Viewer) Kicked() <-chan struct{} { return v.kicked }

// Reason returns why Kicked was closed; nil before.
func (v *Viewer) Reason() error {
	select {
	case <-v.kicked:
		return v.reason
	default:
		return nil
	}
}

// Epoch returns the number of the session, higher than that of any session before.
func (v *Viewer) Epoch() uint64 { return v.s.epoch }

// AttachSocket sets a function that returns how many bytes the kernel holds for the viewer, now or
// some seconds ago. It must not block, and must be safe to call after the viewer has left.
func (v *Viewer) AttachSocket(queued func() int) { v.queued.Store(&queued) }

// ObserveBytes records payload bytes that were sent to the viewer. For one goroutine at a time.
func (v *Viewer) ObserveBytes(video, audio int) { v.observeBytes(video, audio, time.Now()) }

func (v *Viewer) observeBytes(video, audio int, now time.Time) {
	at := now.Sub(v.since)
	if video > 0 {
		v.video.Add(video, at)
	}
	if audio > 0 {
		v.audio.Add(audio, at)
	}
	if v.counter == nil || video+audio == 0 {
		return
	}
	v.counter.bytes.Add(uint64(video + audio))
	if !v.hasMedia {
		v.hasMedia = true
		v.counter.firstFrame.Observe(at)
		v.reportFirstMedia(true)
	}
}

// reportFirstMedia calls ViewerOptions.FirstMedia, if that was not done yet.
func (v *Viewer) reportFirstMedia(sent bool) {
	if f := v.firstMedia.Swap(nil); f != nil {
		(*f)(sent)
	}
}

// ObserveProgress records that frames up to dts, with so many payload bytes, were sent to the
// viewer. For one goroutine at a time.
func (v *Viewer) ObserveProgress(video, audio int, dts time.Duration, now time.Time) {
	v.observeBytes(video, audio, now)
	v.writtenDTS.Store(int64(dts))
	if v.counter != nil {
		v.counter.delay.Observe(time.Duration(v.s.newestDTS.Load()) - dts)
	}
}

// Skip records that the viewer had fallen behind and skipped to a newer keyframe.
func (v *Viewer) Skip() {
	v.skips.Add(1)
	if v.counter != nil {
		v.counter.skips.Add(1)
	}
	v.emit(Skipped)
}

// Skips returns how often the viewer skipped to a newer keyframe.
func (v *Viewer) Skips() uint64 { return v.skips.Load() }

// Delay returns how far the viewer is behind the newest frame, including what the kernel holds for
// it; 0 before it got any frame.
func (v *Viewer) Delay() time.Duration { return v.info(time.Now()).Delay }

func (v *Viewer) kick(reason error) {
	v.kickOnce.Do(func() {
		v.reason = reason
		close(v.kicked)
	})
}
