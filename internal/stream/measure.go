package stream

import (
	"time"

	"livego/internal/domain"
	"livego/internal/media"
)

// measureWindow is how much of a stream Measure looks at.
const measureWindow = 10 * time.Second

// Measurements are what was measured of a stream's newest frames.
type Measurements struct {
	Tracks []TrackRate   // one for each track of the newest program
	GOP    time.Duration // between the newest two random access points; 0 if unknown
}

// A TrackRate is what was measured of one track; zero if it had fewer than two frames.
type TrackRate struct {
	Track     *media.Track
	Kbps      float64 // payload, in kbit/s
	FrameRate float64 // access units or coded frames a second
}

// Measure measures the newest frames of name, up to ten seconds of those in memory. It reports false
// if there is no session. The lock of the stream is held to copy pointers only.
func (h *Hub) Measure(name domain.Name) (m Measurements, ok bool) {
	s := h.session(name)
	if s == nil {
		return m, false
	}
	s.mu.RLock()
	m.GOP = s.gop
	program := s.program
	frames := make([]*media.Frame, 0, s.ring.head-s.ring.tail)
	for seq := s.ring.tail; seq < s.ring.head; seq++ {
		frames = append(frames, s.ring.at(seq))
	}
	s.mu.RUnlock()
	for _, t := range program.Tracks {
		m.Tracks = append(m.Tracks, measureTrack(t, frames))
	}
	return m, true
}

// measureTrack measures the frames of t's kind and ID. The last one only ends the time of the others.
func measureTrack(t *media.Track, frames []*media.Frame) TrackRate {
	r := TrackRate{Track: t}
	var first, last time.Duration
	n, bytes := 0, 0
	for _, f := range frames {
		if f.Track.Kind != t.Kind || f.Track.ID != t.ID || frames[len(frames)-1].DTS-f.DTS > measureWindow {
			continue
		}
		if n == 0 {
			first = f.DTS
		}
		last = f.DTS
		n++
		bytes += len(f.Payload)
	}
	if span := (last - first).Seconds(); n >= 2 && span > 0 {
		r.FrameRate = float64(n-1) / span
		r.Kbps = float64(bytes) * 8 / 1000 / span * float64(n-1) / float64(n)
	}
	return r
}
