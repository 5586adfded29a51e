package health

import "livego/internal/media"

const (
	minStaticSize   = 100  // bytes of a frame that may be larger than its pixels ask for
	staticPixels    = 1000 // pixels for each byte of a frame without change
	staticPercent   = 15   // of the size of frames with motion: below it there is no change
	sceneFactor     = 4    // times the size of frames with motion: above it the scene changed
	motionSeconds   = 8    // of motion before the picture can freeze
	refineSeconds   = 15   // in which an encoder improves a still picture
	frozenSeconds   = 15   // without change until the picture counts as frozen
	motionSmoothing = 8    // seconds
)

// motion finds a picture that freezes: after some seconds of motion the frames become as small as those
// of a still picture, without a new scene before. A still picture that follows a new scene is a slide
// or a screen without activity, and so is one that never moved: what is frozen there cannot be seen in
// the bytes.
type motion struct {
	size     int  // mean size of a frame in seconds with motion, 0 before
	moving   int  // seconds of motion
	mixed    int  // seconds since then, until the picture was still
	still    int  // seconds without change in a row
	newScene bool // the scene changed since about the last second of motion
	frozen   bool

	// Of the current second.
	frames, small, bytes int
	scene                bool
}

// observe examines a frame of size bytes, without filler data. irregular says that a keyframe came
// earlier than usual: encoders start a scene with one.
func (m *motion) observe(t *media.Track, size int, key, irregular bool) {
	if key {
		m.scene = m.scene || irregular
		return
	}
	m.frames++
	m.bytes += size
	limit := max(minStaticSize, t.Width*t.Height/staticPixels)
	if m.size > 0 {
		limit = min(limit, m.size*staticPercent/100)
		m.scene = m.scene || size > m.size*sceneFactor
	}
	if size <= limit {
		m.small++
	}
}

// finish ends a second. It reports whether the picture did not change in it.
func (m *motion) finish(video bool) (static bool) {
	defer func() { m.frames, m.small, m.bytes, m.scene = 0, 0, 0, false }()
	if !video || m.frames == 0 {
		return false
	}
	switch static = m.small*10 >= m.frames*9; {
	case m.small*5 <= m.frames: // motion
		if mean := m.bytes / m.frames; m.size == 0 {
			m.size = mean
		} else {
			m.size += (mean - m.size) / motionSmoothing
		}
		m.moving = min(m.moving+1, 2*motionSeconds)
		if m.still > 0 {
			m.moving = 1
		}
		m.newScene, m.mixed, m.still, m.frozen = m.scene, 0, 0, false
	case static:
		m.newScene = m.newScene || m.scene
		m.still++
		if m.still == frozenSeconds {
			m.frozen = m.moving >= motionSeconds && !m.newScene
		}
	default:
		m.newScene = m.newScene || m.scene
		m.mixed++
		if m.mixed > refineSeconds || m.still > 0 {
			m.moving, m.still, m.frozen = 0, 0, false
		}
	}
	return static
}
