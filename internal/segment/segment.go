// Package segment turns the frames of a stream into HLS segments and their media playlist (RFC 8216). It knows no HTTP and no
// viewer: one goroutine writes, any number read what there is at the moment.
//
// Segments are cut where a decoder may start and keep to one target duration for the session. Their names, "<epoch>-<start ms>",
// and their media sequence numbers are never used twice: see Numbers.
package segment

import (
	"sync"
	"time"

	"livego/internal/container/ts"
	"livego/internal/media"
)

// Carries reports whether frames of t have a place in segments: those of the first video and the first audio track, of a codec
// that MPEG-TS and HLS have.
func Carries(t *media.Track) bool { return t.ID == 0 && ts.CanCarry(t) }

// A Segment is a piece of the stream that is complete.
type Segment struct {
	Name     string // unique over sessions and restarts
	Duration time.Duration

	sequence uint64    // media sequence number
	discs    uint64    // discontinuity sequence number
	joint    bool      // discontinuous with the segment before
	date     time.Time // of the first frame by the wall clock

	video, audio           *media.Track
	videoBytes, audioBytes int // payload
	size                   int // about that of Data

	once   sync.Once
	frames []*media.Frame // until data is made of them
	data   []byte
}

// Data returns the segment as MPEG-TS. It is made on first need: most segments of a stream that nobody watches are never asked
// for. Shared: do not modify.
func (s *Segment) Data() []byte {
	s.once.Do(func() {
		s.data, _ = ts.AppendSegment(nil, s.video, s.audio, s.frames)
		s.frames = nil // from here on the memory is held once
	})
	return s.data
}

// Share divides n bytes of Data into those of video and those of audio, by their parts in the payload.
func (s *Segment) Share(n int) (video, audio int) {
	if s.videoBytes+s.audioBytes == 0 {
		return 0, n
	}
	video = int(int64(n) * int64(s.videoBytes) / int64(s.videoBytes+s.audioBytes))
	return video, n - video
}

// packed returns how many bytes of MPEG-TS a frame with n bytes of payload becomes, to within a packet: 184 of 188 bytes are
// payload, and headers take about 40.
func packed(n int) int { return (n + 40 + 183) / 184 * 188 }
