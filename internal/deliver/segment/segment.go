// Package segment turns the frames of a stream into HLS segments, their low-latency parts and their
// media playlists (RFC 8216, RFC 8216bis). It knows no HTTP and no viewer: one goroutine writes,
// any number read what there is at the moment.
//
// Segments are cut where a decoder may start and keep to one target duration for the session. Their
// names, "<epoch>-<start ms>", those of their parts, "<epoch>-<start ms>.<part>", and their media
// sequence numbers are never used twice: see Numbers.
//
// A segment is frames. What it is in a format, fragmented MP4 or MPEG-TS, is made when somebody
// first asks for it, once, and follows from its frames and its name alone: whoever makes it makes
// the same bytes.
package segment

import (
	"crypto/sha256"
	"encoding/hex"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"livego/internal/container/fmp4"
	"livego/internal/container/ts"
	"livego/internal/media"
)

// A Format is how segments are laid out.
type Format uint8

// Formats.
const (
	FMP4 Format = iota // fragmented MP4, with low-latency parts
	TS                 // MPEG transport stream, in whole segments
	formats
)

// Carries reports whether frames of t have a place in segments of format f, which take one video and one audio track.
func (f Format) Carries(t *media.Track) bool {
	if f == TS {
		return ts.Carries(t)
	}
	return fmp4.Carries(t)
}

// Carries reports whether frames of t have a place in segments of some format.
func Carries(t *media.Track) bool { return FMP4.Carries(t) || TS.Carries(t) }

// A trackSet is the tracks of segments that one decoder plays in a row. It is immutable.
type trackSet struct {
	tracks   [formats]formatTracks
	init     []byte // initialization section of fragmented MP4; nil when that carries nothing
	initName string // of init: who makes it again gives it the same
}

// formatTracks are those that a format carries; nil where it has none.
type formatTracks struct{ video, audio *media.Track }

func (t formatTracks) empty() bool { return t.video == nil && t.audio == nil }

// contains reports whether f is of one of t.
func (t formatTracks) contains(f *media.Frame) bool { return f.Track == t.video || f.Track == t.audio }

func newTrackSet(video, audio *media.Track) *trackSet {
	l := new(trackSet)
	for f := range formats {
		if video != nil && f.Carries(video) {
			l.tracks[f].video = video
		}
		if audio != nil && f.Carries(audio) {
			l.tracks[f].audio = audio
		}
	}
	var list []*media.Track
	for _, t := range []*media.Track{l.tracks[FMP4].video, l.tracks[FMP4].audio} {
		if t != nil {
			list = append(list, t)
		}
	}
	if len(list) == 0 {
		return l
	}
	b, err := fmp4.Init(list)
	if err != nil { // what Carries accepts has an init segment
		l.tracks[FMP4] = formatTracks{}
		return l
	}
	sum := sha256.Sum256(b)
	l.init, l.initName = b, hex.EncodeToString(sum[:10])
	return l
}

// hasBoth reports whether there is picture and sound in some format.
func (l *trackSet) hasBoth() bool {
	return slices.ContainsFunc(l.tracks[:], func(t formatTracks) bool { return t.video != nil && t.audio != nil })
}

// A Segment is a piece of the stream that is complete.
type Segment struct {
	Name     string // unique over sessions and restarts
	Duration time.Duration

	sequence              uint64    // media sequence number
	discontinuitySequence uint64    // discontinuity sequence number
	discontinuity         bool      // discontinuous with the segment before
	date                  time.Time // of the first frame by the wall clock
	number                uint32    // of the first fragment

	trackSet *trackSet // set with the first part
	frames   []*media.Frame
	parts    []*Part
	totals   byteTotals
	size     int         // about what the frames hold of memory
	listed   atomic.Bool // a playlist with it has been given out

	rendered [formats]lazyBytes
}

// A Part is a partial segment. It is complete before the rest of its segment is there.
type Part struct {
	Name     string
	Duration time.Duration

	segment     *Segment
	independent bool // a decoder may start with it
	number      uint32
	frames      []*media.Frame
	ends        []fmp4.TrackEnd
	totals      byteTotals

	data lazyBytes // as fragmented MP4
}

// byteTotals is how much frames are.
type byteTotals struct {
	videoBytes, audioBytes   int // payload bytes
	videoFrames, audioFrames int // frames
	tsBytes                  [2]int
}

func (l *byteTotals) add(f *media.Frame) {
	n := len(f.Payload)
	if f.Track.Kind == media.Video {
		l.videoBytes, l.videoFrames, l.tsBytes[0] = l.videoBytes+n, l.videoFrames+1, l.tsBytes[0]+tsSize(n)
	} else {
		l.audioBytes, l.audioFrames, l.tsBytes[1] = l.audioBytes+n, l.audioFrames+1, l.tsBytes[1]+tsSize(n)
	}
}

// split divides n bytes into those of video and those of audio, by their parts in the payload.
func (l *byteTotals) split(n int) (video, audio int) {
	if l.videoBytes+l.audioBytes == 0 {
		return 0, n
	}
	video = int(int64(n) * int64(l.videoBytes) / int64(l.videoBytes+l.audioBytes))
	return video, n - video
}

// tsSize returns how many bytes of MPEG-TS a frame with n bytes of payload becomes, to within a
// packet: 184 of 188 bytes are payload, and headers take about 40.
func tsSize(n int) int { return (n + 40 + 183) / 184 * 188 }

// What fragmented MP4 adds to the payload, about: to each frame, and to each part.
const (
	sampleOverhead   = 8
	fragmentOverhead = 200
)

// estimate returns about how many bytes s has in format f, which need not have been made.
func (s *Segment) estimate(f Format) int {
	t, l, n := s.trackSet.tracks[f], &s.totals, 0
	if t.video != nil {
		n += [formats]int{l.videoBytes + sampleOverhead*l.videoFrames, l.tsBytes[0]}[f]
	}
	if t.audio != nil {
		n += [formats]int{l.audioBytes + sampleOverhead*l.audioFrames, l.tsBytes[1]}[f]
	}
	if f == FMP4 {
		n += fragmentOverhead * len(s.parts)
	}
	return n
}

// Data returns the segment in format f; nil when that carries nothing of it. It is made on first
// need: most segments of a stream that nobody watches are never asked for. Shared: do not modify.
func (s *Segment) Data(f Format) []byte {
	t := s.trackSet.tracks[f]
	if t.empty() {
		return nil
	}
	return s.rendered[f].get(func() []byte {
		if f == TS {
			b, _ := ts.AppendSegment(nil, t.video, t.audio, s.frames)
			return b
		}
		return s.joinParts()
	})
}

// joinParts returns the parts one after the other. They are parts of it from then on, so that the memory is held once.
func (s *Segment) joinParts() []byte {
	n := 0
	for _, p := range s.parts {
		n += p.totals.videoBytes + p.totals.audioBytes + fragmentOverhead + 2*sampleOverhead*len(p.frames)
	}
	b := make([]byte, 0, n)
	ends := make([]int, len(s.parts))
	for i, p := range s.parts {
		if data := p.data.cached(); data != nil {
			b = append(b, data...)
		} else {
			b = p.append(b)
		}
		ends[i] = len(b)
	}
	from := 0
	for i, p := range s.parts {
		p.data.set(b[from:ends[i]:ends[i]])
		from = ends[i]
	}
	return b
}

// dropRendered gives up what was made of s; it can be made again.
func (s *Segment) dropRendered() {
	for f := range s.rendered {
		s.rendered[f].drop()
	}
	for _, p := range s.parts {
		p.data.drop()
	}
}

// renderedBytes returns how many bytes have been made of s. The parts of a segment that was made as a whole are
// pieces of that.
func (s *Segment) renderedBytes() int {
	n := s.rendered[TS].size()
	if whole := s.rendered[FMP4].size(); whole > 0 {
		return n + whole
	}
	for _, p := range s.parts {
		n += p.data.size()
	}
	return n
}

// Data returns the part as fragmented MP4; empty when that carries nothing of it. Shared: do not modify.
func (p *Part) Data() []byte {
	return p.data.get(func() []byte { return p.append(nil) })
}

// append appends p as fragmented MP4.
func (p *Part) append(dst []byte) []byte {
	t, frames := p.segment.trackSet.tracks[FMP4], p.frames
	for i, f := range frames {
		if t.contains(f) {
			continue
		}
		frames = append(make([]*media.Frame, 0, len(p.frames)), p.frames[:i]...)
		for _, f := range p.frames[i:] {
			if t.contains(f) {
				frames = append(frames, f)
			}
		}
		break
	}
	// Numbers that do not fit their fields, the only error that is left, are left out as a damaged frame is.
	dst, _ = fmp4.AppendFragment(dst, p.number, frames, p.ends...)
	return dst
}

// A lazyBytes is bytes that are made on first need, and once however many ask at the same time.
type lazyBytes struct {
	mu   sync.Mutex
	data atomic.Pointer[[]byte]
}

func (b *lazyBytes) get(made func() []byte) []byte {
	if p := b.data.Load(); p != nil {
		return *p
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if p := b.data.Load(); p != nil {
		return *p
	}
	d := made()
	b.data.Store(&d)
	return d
}

// cached returns the bytes if they are there.
func (b *lazyBytes) cached() []byte {
	if p := b.data.Load(); p != nil {
		return *p
	}
	return nil
}

// size returns how many bytes of memory the blob holds.
func (b *lazyBytes) size() int { return cap(b.cached()) }

func (b *lazyBytes) set(d []byte) { b.data.Store(&d) }
func (b *lazyBytes) drop()        { b.data.Store(nil) }
