package stream

import (
	"sync"
	"time"

	"livego/internal/live"
)

// ViewerOptions tell who watches.
type ViewerOptions struct {
	Proto    string // "rtmp", "flv", "hls", ...
	Remote   string // host:port
	URL      string // for statistics: without token or query
	Internal bool   // part of the server: not counted as a viewer
}

// A Viewer is somebody who watches a stream, as statistics and kicks see him. Subscribers have one; so does whoever fetches
// what others read (HLS).
type Viewer struct {
	s            *stream
	id           uint64
	opt          ViewerOptions
	since        time.Time
	video, audio meter
	kicked       chan struct{}
	reason       error // why kicked was closed; read after kicked
	kickOnce     sync.Once
	leaveOnce    sync.Once
	sub          *Subscriber // nil where nobody reads the ring for it
}

// Join adds a viewer to the session of name. It fails with NotFound when there is none. Leave must be called.
func (h *Hub) Join(name live.Name, o ViewerOptions) (*Viewer, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	s := h.streams[name]
	if s == nil || !s.session {
		return nil, live.Errorf(live.NotFound, "nobody is publishing %s", name)
	}
	v := &Viewer{s: s, id: h.ids.Add(1), opt: o, since: time.Now(), kicked: make(chan struct{})}
	s.mu.Lock()
	s.viewers[v] = struct{}{}
	if !o.Internal {
		s.watching++
	}
	s.mu.Unlock()
	if !o.Internal {
		h.emit(Event{Type: Joined, Name: name, Viewer: v.id})
	}
	return v, nil
}

// Leave takes v off the stream.
func (v *Viewer) Leave() {
	v.leaveOnce.Do(func() {
		h, s := v.s.hub, v.s
		h.mu.Lock()
		defer h.mu.Unlock()
		s.mu.Lock()
		delete(s.viewers, v)
		if !v.opt.Internal {
			s.watching--
		}
		s.mu.Unlock()
		if !v.opt.Internal {
			h.emit(Event{Type: Left, Name: s.name, Viewer: v.id})
		}
	})
}

// ID is the viewer's number in statistics.
func (v *Viewer) ID() uint64 { return v.id }

// Kicked is closed when the viewer must go. A Subscriber learns it, and why, from Next.
func (v *Viewer) Kicked() <-chan struct{} { return v.kicked }

// Epoch numbers the session: higher than that of any session before.
func (v *Viewer) Epoch() uint64 { return v.s.epoch }

// Count adds payload bytes that went to the viewer. For one goroutine at a time.
func (v *Viewer) Count(video, audio int) {
	now := time.Now()
	if video > 0 {
		v.video.add(video, now)
	}
	if audio > 0 {
		v.audio.add(audio, now)
	}
}

func (v *Viewer) kick(reason error) {
	v.kickOnce.Do(func() {
		v.reason = reason
		close(v.kicked)
	})
}

// viewer returns the viewer of that ID, nil when s has none.
func (s *stream) viewer(id uint64) *Viewer {
	s.mu.RLock()
	defer s.mu.RUnlock()
	for v := range s.viewers {
		if v.id == id {
			return v
		}
	}
	return nil
}
