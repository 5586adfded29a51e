package stream

import (
	"time"

	"livego/internal/domain"
	"livego/internal/media"
)

// Keyframe returns the newest random access point of the default video track of name, and when its
// session started, which identifies the session. The frame is shared: do not modify. It fails with
// NotFound if there is no session, or one without video, and with Unavailable if the stream keeps no
// keyframe now.
func (h *Hub) Keyframe(name domain.Name) (f *media.Frame, session time.Time, err error) {
	s := h.session(name)
	if s == nil {
		return nil, session, domain.Errorf(domain.NotFound, "nobody is publishing %s", name)
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	seq, ok := s.ring.rap(1)
	switch {
	case ok:
		return s.ring.at(seq), s.started, nil
	case s.ready && !s.program.Has(media.Video):
		return nil, s.started, domain.Errorf(domain.NotFound, "%s has no video", name)
	}
	return nil, s.started, domain.Errorf(domain.Unavailable, "the encoder of %s has sent no keyframe lately", name)
}
