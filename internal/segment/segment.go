// Package segment turns the frames of a stream into HLS segments, their low-latency parts and their media playlists (RFC 8216,
// RFC 8216bis). It knows no HTTP and no viewer: one goroutine writes, any number read what there is at the moment.
//
// Segments are cut where a decoder may start and keep to one target duration for the session. Their names, "<epoch>-<start ms>",
// those of their parts, "<epoch>-<start ms>.<part>", and their media sequence numbers are never used twice: see Numbers.
//
// A segment is frames. What it is in a format, fragmented MP4 or MPEG-TS, is made when somebody first asks for it, once, and
// follows from its frames and its name alone: whoever makes it makes the same bytes.
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

// A lineup is the tracks of segments that one decoder plays in a row. It is immutable.
type lineup struct {
	tracks [formats]tracks
	init   []byte // initialization section of fragmented MP4; nil when that carries nothing
	name   string // of init: who makes it again gives it the same
}

// tracks are those that a format carries; nil where it has none.
type tracks struct{ video, audio *media.Track }

func (t tracks) none() bool { return t.video == nil && t.audio == nil }

// has reports whether f is of one of t.
func (t tracks) has(f *media.Frame) bool { return f.Track == t.video || f.Track == t.audio }

func newLineup(video, audio *media.Track) *lineup {
	l := new(lineup)
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
		l.tracks[FMP4] = tracks{}
		return l
	}
	sum := sha256.Sum256(b)
	l.init, l.name = b, hex.EncodeToString(sum[:10])
	return l
}

// both reports whether there is picture and sound in some format.
func (l *lineup) both() bool {
	return slices.ContainsFunc(l.tracks[:], func(t tracks) bool { return t.video != nil && t.audio != nil })
}

// A Segment is a piece of the stream that is complete.
type Segment struct {
	Name     string // unique over sessions and restarts
	Duration time.Duration

	sequence uint64    // media sequence number
	discs    uint64    // discontinuity sequence number
	joint    bool      // discontinuous with the segment before
	date     time.Time // of the first frame by the wall clock
	number   uint32    // of the first fragment

	lineup *lineup // set with the first part
	frames []*media.Frame
	parts  []*Part
	load   load
	size   int         // about what the frames hold of memory
	shown  atomic.Bool // a playlist with it has been given out

	whole [formats]blob
}

// A Part is a partial segment. It is complete before the rest of its segment is there.
type Part struct {
	Name     string
	Duration time.Duration

	segment     *Segment
	independent bool // a decoder may start with it
	number      uint32
	frames      []*media.Frame
	ends        []fmp4.End
	load        load

	data blob // as fragmented MP4
}

// load is how much frames are.
type load struct {
	video, audio   int // payload bytes
	videos, audios int // frames
	packets        [2]int
}

func (l *load) add(f *media.Frame) {
	n := len(f.Payload)
	if f.Track.Kind == media.Video {
		l.video, l.videos, l.packets[0] = l.video+n, l.videos+1, l.packets[0]+packed(n)
	} else {
		l.audio, l.audios, l.packets[1] = l.audio+n, l.audios+1, l.packets[1]+packed(n)
	}
}

// share divides n bytes into those of video and those of audio, by their parts in the payload.
func (l *load) share(n int) (video, audio int) {
	if l.video+l.audio == 0 {
		return 0, n
	}
	video = int(int64(n) * int64(l.video) / int64(l.video+l.audio))
	return video, n - video
}

// packed returns how many bytes of MPEG-TS a frame with n bytes of payload becomes, to within a packet: 184 of 188 bytes are
// payload, and headers take about 40.
func packed(n int) int { return (n + 40 + 183) / 184 * 188 }

// What fragmented MP4 adds to the payload, about: to each frame, and to each part.
const (
	sampleCost   = 8
	fragmentCost = 200
)

// estimate returns about how many bytes s has in format f, which need not have been made.
func (s *Segment) estimate(f Format) int {
	t, l, n := s.lineup.tracks[f], &s.load, 0
	if t.video != nil {
		n += [formats]int{l.video + sampleCost*l.videos, l.packets[0]}[f]
	}
	if t.audio != nil {
		n += [formats]int{l.audio + sampleCost*l.audios, l.packets[1]}[f]
	}
	if f == FMP4 {
		n += fragmentCost * len(s.parts)
	}
	return n
}

// Data returns the segment in format f; nil when that carries nothing of it. It is made on first need: most segments of a stream
// that nobody watches are never asked for. Shared: do not modify.
func (s *Segment) Data(f Format) []byte {
	t := s.lineup.tracks[f]
	if t.none() {
		return nil
	}
	return s.whole[f].get(func() []byte {
		if f == TS {
			b, _ := ts.AppendSegment(nil, t.video, t.audio, s.frames)
			return b
		}
		return s.join()
	})
}

// join returns the parts one after the other. They are parts of it from then on, so that the memory is held once.
func (s *Segment) join() []byte {
	n := 0
	for _, p := range s.parts {
		n += p.load.video + p.load.audio + fragmentCost + 2*sampleCost*len(p.frames)
	}
	b := make([]byte, 0, n)
	ends := make([]int, len(s.parts))
	for i, p := range s.parts {
		if data := p.data.made(); data != nil {
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

// forget gives up what was made of s; it can be made again.
func (s *Segment) forget() {
	for f := range s.whole {
		s.whole[f].forget()
	}
	for _, p := range s.parts {
		p.data.forget()
	}
}

// formBytes returns how many bytes have been made of s. The parts of a segment that was made as a whole are
// pieces of that.
func (s *Segment) formBytes() int {
	n := s.whole[TS].size()
	if whole := s.whole[FMP4].size(); whole > 0 {
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
	t, frames := p.segment.lineup.tracks[FMP4], p.frames
	for i, f := range frames {
		if t.has(f) {
			continue
		}
		frames = append(make([]*media.Frame, 0, len(p.frames)), p.frames[:i]...)
		for _, f := range p.frames[i:] {
			if t.has(f) {
				frames = append(frames, f)
			}
		}
		break
	}
	// Numbers that do not fit their fields, the only error that is left, are left out as a damaged frame is.
	dst, _ = fmp4.AppendFragment(dst, p.number, frames, p.ends...)
	return dst
}

// A blob is bytes that are made on first need, and once however many ask at the same time.
type blob struct {
	making sync.Mutex
	data   atomic.Pointer[[]byte]
}

func (b *blob) get(made func() []byte) []byte {
	if p := b.data.Load(); p != nil {
		return *p
	}
	b.making.Lock()
	defer b.making.Unlock()
	if p := b.data.Load(); p != nil {
		return *p
	}
	d := made()
	b.data.Store(&d)
	return d
}

// made returns the bytes if they are there.
func (b *blob) made() []byte {
	if p := b.data.Load(); p != nil {
		return *p
	}
	return nil
}

// size returns how many bytes of memory the blob holds.
func (b *blob) size() int { return cap(b.made()) }

func (b *blob) set(d []byte) { b.data.Store(&d) }
func (b *blob) forget()      { b.data.Store(nil) }
