package stream

import (
	"cmp"
	"maps"
	"slices"
	"time"

	"livego/internal/domain"
	"livego/internal/media"
)

// Info is what is known of a live stream at one moment.
type Info struct {
	Name         domain.Name
	Since        time.Time
	Epoch        uint64
	Held         bool // without a publisher
	Frames       uint64
	Tracks       []*media.Track // ordered by kind and ID
	Firsts       []*media.Track // of Tracks those that viewers get who do not ask for all: one of each kind
	Meta         *media.Meta
	BatchWindows map[string]time.Duration // the gather windows in force, by the protocol of the viewers
	Skips        uint64                   // how often a viewer was moved to a newer keyframe, of all there were
	Publishers   []ConnInfo
}

// ConnInfo is what is known of one publisher or viewer.
type ConnInfo struct {
	ID         uint64
	Proto      string
	Remote     string
	URL        string
	Role       domain.Role // of a publisher
	Active     bool        // of a publisher: its frames are what viewers see
	Since      time.Time
	VideoBytes uint64
	AudioBytes uint64
	VideoKbps  float64
	AudioKbps  float64
	Skipped    media.SkipStats // of a publisher: what of it reaches no viewer, for it cannot be used
	Dropped    uint64          // of a publisher: video frames that came before the first keyframe
	// of a publisher: its time stamps are of no use, and frames are paced by when they arrive
	ArrivalTimestamps bool
	Skips             uint64 // of a viewer: how often it was moved to a newer keyframe
	// of a viewer: newest DTS less the DTS last written to it, and as long as what the kernel holds
	// lasts
	Delay      time.Duration
	Queued     int  // of a viewer: bytes that the kernel holds for it
	DelayKnown bool // of a viewer: Delay is known

	queued func() int
	rate   float64 // kbit/s of the stream, or of the viewer where nobody publishes it
}

// addQueued completes what is known of a viewer by what the kernel holds for him. No lock is held.
func (c *ConnInfo) addQueued() {
	if c.queued == nil {
		return
	}
	if c.Queued = c.queued(); c.rate > 0 {
		c.Delay += time.Duration(float64(c.Queued) * 8 / (c.rate * 1000) * float64(time.Second))
	}
}

// Snapshot returns all sessions, ordered by name. Viewers has those that watch them.
func (h *Hub) Snapshot() []Info {
	now := time.Now()
	h.mu.Lock()
	defer h.mu.Unlock()
	infos := make([]Info, 0, len(h.streams))
	for _, s := range h.streams {
		if s.session {
			infos = append(infos, s.info(now))
		}
	}
	slices.SortFunc(infos, func(a, b Info) int { return cmp.Compare(a.Name.String(), b.Name.String()) })
	return infos
}

// Names returns the names of all sessions, in order.
func (h *Hub) Names() []domain.Name {
	h.mu.Lock()
	names := make([]domain.Name, 0, len(h.streams))
	for name, s := range h.streams {
		if s.session {
			names = append(names, name)
		}
	}
	h.mu.Unlock()
	slices.SortFunc(names, func(a, b domain.Name) int { return cmp.Compare(a.String(), b.String()) })
	return names
}

// Info returns the session of name; false when there is none.
func (h *Hub) Info(name domain.Name) (Info, bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	s := h.streams[name]
	if s == nil || !s.session {
		return Info{}, false
	}
	return s.info(time.Now()), true
}

// Viewers writes to dst the viewers of name whose IDs are higher than after, in the order of their
// IDs, and returns how many; fewer than dst holds are the last. A stream may have any number of
// viewers, so whoever reads them all does so in pieces, each with the last ID of the piece before:
// the stream is held up for no longer than one piece takes.
func (h *Hub) Viewers(name domain.Name, after uint64, dst []ConnInfo) int {
	n := h.viewers(name, after, dst)
	for i := range dst[:n] {
		dst[i].addQueued()
	}
	return n
}

func (h *Hub) viewers(name domain.Name, after uint64, dst []ConnInfo) (n int) {
	now := time.Now()
	h.mu.Lock()
	s := h.streams[name]
	h.mu.Unlock()
	if s == nil || len(dst) == 0 {
		return 0
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	s.viewers.after(after, func(v *Viewer) bool {
		if !v.opt.Internal {
			dst[n] = v.info(now)
			n++
		}
		return n < len(dst)
	})
	return n
}

// Has reports whether there is a session of name.
func (h *Hub) Has(name domain.Name) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	s := h.streams[name]
	return s != nil && s.session
}

// StartPoint tells what a viewer who comes now has to begin with.
type StartPoint uint8

// Starts.
const (
	StartLater  StartPoint = iota // nothing yet, but with what begins the stream
	StartNow                      // the newest random access point, or audio alone
	StartMidGOP                   // the middle of a GOP whose beginning is no longer held: audio, and video at the next
)

// StartPoint returns with what a viewer of name would start now.
func (h *Hub) StartPoint(name domain.Name) StartPoint {
	h.mu.Lock()
	s := h.streams[name]
	h.mu.Unlock()
	if s == nil {
		return StartLater
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	switch {
	case !s.ready || s.ended != nil:
		return StartLater
	case len(s.ring.raps) > 0 || !s.kinds[media.Video]:
		return StartNow
	}
	return StartMidGOP
}

// info describes s. Caller holds hub.mu.
func (s *stream) info(now time.Time) Info {
	s.mu.RLock()
	defer s.mu.RUnlock()
	in := Info{
		Name: s.name, Since: s.started, Epoch: s.epoch, Held: !s.published(),
		Frames: s.ring.head, Meta: s.meta, BatchWindows: make(map[string]time.Duration), Skips: s.skips.Load(),
	}
	for _, p := range s.batchers {
		if p.viewers > 0 {
			in.BatchWindows[p.proto] = p.window
		}
	}
	in.Tracks = s.sortedTracks()
	in.Firsts = slices.DeleteFunc(slices.Clone(in.Tracks),
		func(t *media.Track) bool { return t.ID != s.firsts[t.Kind].id })
	for _, p := range s.pubs {
		if p != nil {
			c := p.info(now, s.active == p)
			c.ArrivalTimestamps = c.Active && s.timeline.unreliable()
			in.Publishers = append(in.Publishers, c)
		}
	}
	return in
}

// sortedTracks returns the tracks seen, ordered by kind and ID. Caller holds s.mu.
func (s *stream) sortedTracks() []*media.Track {
	return slices.SortedFunc(maps.Values(s.tracks), func(a, b *media.Track) int {
		return cmp.Or(cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.ID, b.ID))
	})
}

func (p *Publisher) info(now time.Time, active bool) ConnInfo {
	return ConnInfo{
		ID: p.id, Proto: p.opt.Proto, Remote: p.opt.Remote, URL: p.opt.URL, Role: p.opt.Grant.Role, Active: active,
		Since:      p.since,
		VideoBytes: p.video.total.Load(), AudioBytes: p.audio.total.Load(),
		VideoKbps: p.video.kbps(now), AudioKbps: p.audio.kbps(now),
		Dropped: p.dropped.Load(), Skipped: p.opt.Skips.Stats(),
	}
}

// info describes v. Caller holds s.mu.
func (v *Viewer) info(now time.Time) ConnInfo {
	in := ConnInfo{
		ID: v.id, Proto: v.opt.Proto, Remote: v.opt.Remote, URL: v.opt.URL, Since: v.since,
		VideoBytes: v.video.total.Load(), AudioBytes: v.audio.total.Load(),
		VideoKbps: v.video.kbps(now), AudioKbps: v.audio.kbps(now),
	}
	in.Skips = v.skips.Load()
	if f, flushed := v.s.ring.newest(), v.writtenDTS.Load(); f != nil && flushed > 0 {
		in.DelayKnown, in.Delay = true, max(0, f.DTS-time.Duration(flushed))
	}
	if q := v.queued.Load(); q != nil {
		in.queued = *q
	}
	in.rate = in.VideoKbps + in.AudioKbps
	if p := v.s.active; p != nil {
		in.rate = p.video.kbps(now) + p.audio.kbps(now)
	}
	return in
}
