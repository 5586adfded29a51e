// Package segment turns the frames of a stream into HLS segments, low-latency parts and media
// playlists (RFC 8216, RFC 8216bis). It knows no HTTP and no viewers. One goroutine writes; any
// number of goroutines read the current List.
//
// Segments are cut at random access points and keep to one target duration for the stream session.
// The names of segments, "<epoch>-<start ms>", those of parts, "<epoch>-<start ms>.<part>", and
// media sequence numbers are never reused: see SequenceAllocator.
//
// A rule decides where segments and parts end, a builder makes them, and a publisher replaces the
// List.
//
// A segment holds frames. Its bytes in a format, fragmented MP4 or MPEG-TS, are rendered once, on
// the first request, and depend on its frames and its name only: whichever server renders them,
// they are the same.
package segment

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"livego/internal/container/fmp4"
	"livego/internal/container/ts"
	"livego/internal/media"
)

// A Format is the container format of segments.
type Format uint8

// Formats.
const (
	FMP4 Format = iota // fragmented MP4, with low-latency parts
	TS                 // MPEG transport stream, in whole segments
	formats
)

// Carries reports whether segments of format f can carry t. They have one video and one audio
// track.
func (f Format) Carries(t *media.Track) bool {
	if f == TS {
		return ts.Carries(t)
	}
	return fmp4.Carries(t)
}

// Carries reports whether segments of some format can carry t.
func Carries(t *media.Track) bool { return FMP4.Carries(t) || TS.Carries(t) }

// A trackSet is the tracks of consecutive segments that one decoder setup plays. It is immutable.
type trackSet struct {
	tracks   [formats]formatTracks
	init     []byte // initialization section of fragmented MP4; nil when that carries no track
	initName string // derived from init: the same bytes always have the same name
}

// formatTracks are the tracks that a format carries; nil for a kind that it does not carry.
type formatTracks struct{ video, audio *media.Track }

func (t formatTracks) empty() bool { return t.video == nil && t.audio == nil }

// contains reports whether f belongs to one of the tracks.
func (t formatTracks) contains(f *media.Frame) bool { return f.Track == t.video || f.Track == t.audio }

// pair returns the video and the audio track that some format carries.
func (l *trackSet) pair() (video, audio *media.Track) {
	for f := range formats {
		video, audio = cmp.Or(video, l.tracks[f].video), cmp.Or(audio, l.tracks[f].audio)
	}
	return video, audio
}

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
	if err != nil { // not expected: Carries accepts only tracks that Init can describe
		l.tracks[FMP4] = formatTracks{}
		return l
	}
	sum := sha256.Sum256(b)
	l.init, l.initName = b, hex.EncodeToString(sum[:10])
	return l
}

// A segment is a piece of the stream. It gets its frames when it is complete.
type segment struct {
	name     string // unique over stream sessions and restarts
	duration time.Duration

	sequence              uint64    // media sequence number
	discontinuitySequence uint64    // discontinuity sequence number
	discontinuity         bool      // does not continue the segment before
	date                  time.Time // wall clock time of the first frame
	number                uint32    // fragment sequence number of the first part

	trackSet *trackSet // set with the first part
	counters *Counters
	remote   bool // it has no frames, only the bytes that AddFile sets
	frames   []*media.Frame
	parts    []*part
	totals   byteTotals
	size     int         // approximate memory of the frames
	listed   atomic.Bool // a playlist with it has been rendered
	// keep is the duration of the longest playlist with the segment until it leaves the playlist, and
	// then how much media follows it when it is dropped: it may be requested for its own duration plus
	// that of the playlist (RFC 8216 section 6.2.2). For the writer goroutine.
	keep time.Duration

	rendered [formats]lazyBytes
}

// A part is a partial segment. It is complete before the rest of its segment exists.
type part struct {
	name     string
	duration time.Duration

	segment     *segment
	independent bool // a decoder can start with it
	number      uint32
	frames      []*media.Frame
	ends        []fmp4.TrackEnd
	totals      byteTotals

	rendered lazyBytes // as fragmented MP4
}

// setFrames sets the frames of s.
func (s *segment) setFrames(frames []*media.Frame) {
	s.frames = frames
	for _, f := range frames {
		s.totals.add(f)
		s.size += len(f.Payload) + frameOverhead
	}
}

// partName returns the name of a part of s by its index.
func (s *segment) partName(index int) string { return s.name + "." + strconv.Itoa(index) }

// byteTotals count the bytes of a segment or part: of its video and of its audio.
type byteTotals struct {
	payload  [2]int
	rendered [formats][2]int // approximately
}

func (l *byteTotals) add(f *media.Frame) {
	n, k := len(f.Payload), f.Track.Kind-media.Video
	l.payload[k] += n
	l.rendered[FMP4][k] += n + sampleOverhead
	l.rendered[TS][k] += tsSize(n)
}

// split divides n bytes into those of video and those of audio, in proportion to their payload.
func (l *byteTotals) split(n int) (video, audio int) {
	all := l.payload[0] + l.payload[1]
	if all == 0 {
		return 0, n
	}
	video = int(int64(n) * int64(l.payload[0]) / int64(all))
	return video, n - video
}

// tsSize returns the size in MPEG-TS of a frame with n bytes of payload, to within one packet: 184
// of 188 bytes are payload, and headers need about 40 bytes.
func tsSize(n int) int { return (n + 40 + 183) / 184 * 188 }

// Approximate bytes that fragmented MP4 adds to the payload, per frame and per part.
const (
	sampleOverhead   = 8
	fragmentOverhead = 200
)

// estimate returns the approximate size of s in format f, whether it is rendered or not.
func (s *segment) estimate(f Format) (n int) {
	t, l := s.trackSet.tracks[f], &s.totals.rendered[f]
	if t.video != nil {
		n += l[0]
	}
	if t.audio != nil {
		n += l[1]
	}
	if f == FMP4 {
		n += fragmentOverhead * len(s.parts)
	}
	return n
}

// data returns the segment in format f; nil when the format carries none of its tracks. It is
// rendered on the first call: most segments of a stream without viewers are never requested.
// Shared: do not modify.
func (s *segment) data(f Format) []byte {
	t := s.trackSet.tracks[f]
	if t.empty() {
		return nil
	}
	if s.remote {
		return s.rendered[f].cached()
	}
	return s.rendered[f].get(func() []byte {
		s.counters.addRenderedSegment()
		if f == TS {
			b, _ := ts.AppendSegment(nil, t.video, t.audio, s.frames)
			return b
		}
		return s.joinParts()
	})
}

// joinParts returns the concatenated parts. From then on the parts are slices of the result, so the
// memory is held once.
func (s *segment) joinParts() []byte {
	n := 0
	for _, p := range s.parts {
		n += p.totals.rendered[FMP4][0] + p.totals.rendered[FMP4][1] + fragmentOverhead + sampleOverhead*len(p.frames)
	}
	b := make([]byte, 0, n)
	ends := make([]int, len(s.parts))
	for i, p := range s.parts {
		if data := p.rendered.cached(); data != nil {
			b = append(b, data...)
		} else {
			b = p.append(b)
		}
		ends[i] = len(b)
	}
	from := 0
	for i, p := range s.parts {
		p.rendered.set(b[from:ends[i]:ends[i]])
		from = ends[i]
	}
	return b
}

// dropRendered drops the rendered bytes of s, which can be rendered again.
func (s *segment) dropRendered() {
	if s.remote {
		return
	}
	for f := range s.rendered {
		s.rendered[f].drop()
	}
	s.dropParts()
}

// dropParts drops the rendered bytes of the parts of s, unless they are slices of the rendered segment.
func (s *segment) dropParts() {
	if s.remote || s.rendered[FMP4].cached() != nil {
		return
	}
	for _, p := range s.parts {
		p.rendered.drop()
	}
}

// renderedBytes returns the number of rendered bytes of s. The parts of a whole rendered segment
// are slices of it and do not count, nor do those of a remote segment: its size is in their place.
func (s *segment) renderedBytes() int {
	if s.remote {
		return 0
	}
	n := s.rendered[TS].size()
	if whole := s.rendered[FMP4].size(); whole > 0 {
		return n + whole
	}
	for _, p := range s.parts {
		n += p.rendered.size()
	}
	return n
}

// data returns the part as fragmented MP4; empty when that carries none of its tracks. Shared: do
// not modify.
func (p *part) data() []byte {
	if p.segment.remote {
		return p.rendered.cached()
	}
	return p.rendered.get(func() []byte {
		p.segment.counters.addRenderedPart()
		return p.append(nil)
	})
}

// append appends p as fragmented MP4.
func (p *part) append(dst []byte) []byte {
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
	// The only possible error is a number that does not fit its field: the frame is left out, like
	// a damaged one.
	dst, _ = fmp4.AppendFragment(dst, p.number, frames, p.ends...)
	return dst
}

// A lazy value is made on the first use, once for all concurrent callers.
type lazy[T any] struct {
	mu    sync.Mutex
	value atomic.Pointer[T]
}

func (z *lazy[T]) get(render func() T) T {
	if v := z.value.Load(); v != nil {
		return *v
	}
	z.mu.Lock()
	defer z.mu.Unlock()
	if v := z.value.Load(); v != nil {
		return *v
	}
	v := render()
	z.value.Store(&v)
	return v
}

// cached returns the value if it is made, else the zero value.
func (z *lazy[T]) cached() (v T) {
	if p := z.value.Load(); p != nil {
		v = *p
	}
	return v
}

func (z *lazy[T]) set(v T) { z.value.Store(&v) }
func (z *lazy[T]) drop()   { z.value.Store(nil) }

// lazyBytes are rendered on the first use.
type lazyBytes struct{ lazy[[]byte] }

// size returns the memory in bytes that the rendered bytes occupy.
func (b *lazyBytes) size() int { return cap(b.cached()) }
