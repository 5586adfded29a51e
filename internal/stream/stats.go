package stream

import (
	"cmp"
	"slices"
	"time"

	"livego/internal/domain"
	"livego/internal/media"
)

// Info describes a live stream at one moment.
type Info struct {
	Name       domain.Name
	Since      time.Time
	Epoch      uint64
	Replicated bool // another server owns it
	Held       bool // it has no publisher
	Frames     uint64
	Program    *media.Program
	Meta       *media.Meta
	Viewers    map[string]ProtoStats // by the viewers' protocol
	Off        []string              // parts of the server that have failed and are off: see Consumer
	Publishers []ConnInfo
}

// ConnInfo describes one publisher or viewer.
type ConnInfo struct {
	ID         uint64
	Proto      string
	Remote     string
	URL        string
	Agent      string
	TLS        bool
	Relay      bool // to or from another server
	Since      time.Time
	Role       domain.Role // of a publisher
	Active     bool        // of a publisher: viewers get its frames
	VideoBytes uint64
	AudioBytes uint64
	VideoKbps  float64
	AudioKbps  float64
	Skipped    media.SkipStats // of a publisher: media that reaches no viewer, as it is not usable

	// ArrivalTimestamps marks a publisher with an unreliable clock: its frames are timestamped by
	// arrival.
	ArrivalTimestamps bool

	Skips uint64 // of a viewer: how often it skipped to a newer keyframe
	// Delay of a viewer is the newest DTS less the DTS last written to it, and the send time of
	// Queued.
	Delay      time.Duration
	Queued     int  // of a viewer: bytes that the kernel holds for it
	DelayKnown bool // of a viewer: Delay is known
}

// Snapshot returns all sessions, ordered by name, without their viewers. For these, see Viewers.
func (h *Hub) Snapshot() []Info {
	now := time.Now()
	sessions := h.sessions()
	infos := make([]Info, len(sessions))
	for i, s := range sessions {
		infos[i] = s.info(now)
	}
	return infos
}

// Names returns the names of all sessions, in order.
func (h *Hub) Names() []domain.Name {
	sessions := h.sessions()
	names := make([]domain.Name, len(sessions))
	for i, s := range sessions {
		names[i] = s.name
	}
	return names
}

// sessions returns all sessions, ordered by name.
func (h *Hub) sessions() []*stream {
	h.mu.Lock()
	sessions := make([]*stream, 0, len(h.streams))
	for _, s := range h.streams {
		if s.session {
			sessions = append(sessions, s)
		}
	}
	h.mu.Unlock()
	slices.SortFunc(sessions, func(a, b *stream) int { return cmp.Compare(a.name.String(), b.name.String()) })
	return sessions
}

// Info returns the session of name; false if there is none.
func (h *Hub) Info(name domain.Name) (Info, bool) {
	s := h.session(name)
	if s == nil {
		return Info{}, false
	}
	return s.info(time.Now()), true
}

// Viewers writes the viewers of name whose IDs are higher than after to dst, ordered by ID, and
// returns how many these are. If they do not fill dst, they are the last. A stream may have any
// number of viewers, so the caller reads them in pieces, each after the last ID of the piece
// before. No lock of the stream is held.
func (h *Hub) Viewers(name domain.Name, after uint64, dst []ConnInfo) (n int) {
	return h.viewers(name, after, dst, func(v *Viewer) bool { return !v.opt.Internal })
}

// Sessions is Viewers with the relays that send name to other servers, and without the viewers that
// were kicked and have not left yet.
func (h *Hub) Sessions(name domain.Name, after uint64, dst []ConnInfo) (n int) {
	return h.viewers(name, after, dst, (*Viewer).hasSession)
}

// viewers writes the viewers of name for which listed returns true.
func (h *Hub) viewers(name domain.Name, after uint64, dst []ConnInfo, listed func(*Viewer) bool) (n int) {
	s := h.session(name)
	if s == nil || len(dst) == 0 {
		return 0
	}
	now := time.Now()
	for v := range s.viewers.from(after) {
		if !listed(v) {
			continue
		}
		dst[n] = v.info(now)
		if n++; n == len(dst) {
			break
		}
	}
	return n
}

// Session returns the publisher or viewer with that ID, and its stream; false if there is none.
func (h *Hub) Session(id uint64) (name domain.Name, c ConnInfo, publisher, ok bool) {
	for _, s := range h.sessions() {
		if v := s.viewers.find(id); v != nil {
			return s.name, v.info(time.Now()), false, v.hasSession()
		}
		if p := s.publisher(id); p != nil {
			return s.name, p.info(time.Now(), p == s.active.Load()), true, true
		}
	}
	return name, c, false, false
}

// hasSession reports whether v has a session: it is a viewer or a relay, and was not kicked.
func (v *Viewer) hasSession() bool { return (!v.opt.Internal || v.opt.Relay) && v.Reason() == nil }

// session returns the session of name, nil if there is none.
func (h *Hub) session(name domain.Name) *stream {
	h.mu.Lock()
	defer h.mu.Unlock()
	if s := h.streams[name]; s != nil && s.session {
		return s
	}
	return nil
}

// Has reports whether there is a session of name.
func (h *Hub) Has(name domain.Name) bool { return h.session(name) != nil }

// HasViewers reports whether name has a viewer, or a relay that sends it to another server.
func (h *Hub) HasViewers(name domain.Name) bool {
	s := h.session(name)
	if s == nil {
		return false
	}
	for v := range s.viewers.from(0) {
		if v.hasSession() {
			return true
		}
	}
	return false
}

// Ready reports whether viewers of name can start now.
func (h *Hub) Ready(name domain.Name) bool {
	s := h.session(name)
	if s == nil {
		return false
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.ready && s.ended == nil
}

// info describes s. The lock is held for a time that does not depend on the viewers.
func (s *stream) info(now time.Time) Info {
	in := Info{Name: s.name, Viewers: s.counters.stats()}
	s.mu.RLock()
	in.Since, in.Epoch, in.Held, in.Frames = s.started, s.epoch, !s.published(), s.ring.head
	if in.Replicated = s.replica != nil; in.Replicated {
		in.Held = s.paused()
	}
	in.Program, in.Meta, in.Off = s.program, s.meta, slices.Clone(s.off)
	for _, r := range s.readers {
		if sum := in.Viewers[r.opt.Proto]; sum.Viewers > 0 {
			sum.BatchWindow = max(sum.BatchWindow, r.window)
			in.Viewers[r.opt.Proto] = sum
		}
	}
	pubs, active, unreliable := s.pubs, s.active.Load(), s.timeline.unreliable()
	s.mu.RUnlock()
	for _, p := range pubs {
		if p != nil {
			c := p.info(now, p == active)
			c.ArrivalTimestamps = c.Active && unreliable
			in.Publishers = append(in.Publishers, c)
		}
	}
	return in
}

func (p *Publisher) info(now time.Time, active bool) ConnInfo {
	return ConnInfo{
		ID: p.id, Proto: p.opt.Proto, Remote: p.opt.Remote, URL: p.opt.URL, Active: active,
		Agent: p.opt.Agent, TLS: p.opt.TLS, Relay: p.opt.Relay, Since: p.since, Role: p.opt.Role,
		VideoBytes: p.video.Total(), AudioBytes: p.audio.Total(),
		VideoKbps: p.video.Kbps(now.Sub(p.since)), AudioKbps: p.audio.Kbps(now.Sub(p.since)),
		Skipped: p.opt.Skips.Stats(),
	}
}

// kbps returns the rate of p in kbit/s.
func (p *Publisher) kbps(now time.Time) float64 {
	at := now.Sub(p.since)
	return p.video.Kbps(at) + p.audio.Kbps(at)
}

// info describes v. It takes no lock, so that it delays neither a frame nor another viewer.
func (v *Viewer) info(now time.Time) ConnInfo {
	at := now.Sub(v.since)
	in := ConnInfo{
		ID: v.id, Proto: v.opt.Proto, Remote: v.opt.Remote, URL: v.opt.URL,
		Agent: v.opt.Agent, TLS: v.opt.TLS, Relay: v.opt.Relay, Since: v.since,
		VideoBytes: v.video.Total(), AudioBytes: v.audio.Total(),
		VideoKbps: v.video.Kbps(at), AudioKbps: v.audio.Kbps(at),
		Skips: v.skips.Load(),
	}
	if written := v.writtenDTS.Load(); written > 0 {
		in.DelayKnown, in.Delay = true, max(0, time.Duration(v.s.newestDTS.Load()-written))
	}
	queued := v.queued.Load()
	if queued == nil {
		return in
	}
	rate := in.VideoKbps + in.AudioKbps
	if p := v.s.active.Load(); p != nil {
		rate = p.kbps(now)
	}
	if in.Queued = (*queued)(); rate > 0 {
		in.Delay += time.Duration(float64(in.Queued) * 8 / (rate * 1000) * float64(time.Second))
	}
	return in
}
