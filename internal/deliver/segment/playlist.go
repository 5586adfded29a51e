package segment

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"strconv"
	"sync"
	"time"

	"livego/internal/container/m3u8"
)

// skipBoundaryTargets is the Skip Boundary of delta updates in target durations: the minimum that
// RFC 8216bis section 4.4.3.8 allows.
const skipBoundaryTargets = 6

// holdBackParts is the PART-HOLD-BACK in part targets, how far from the end players stay: the
// recommendation of the same section.
const holdBackParts = 3

// partsListedTargets is for how many target durations from the end playlists list parts: RFC
// 8216bis section 4.4.4.9.
const partsListedTargets = 3

// A Playlist is a media playlist. All clients get the same bytes.
type Playlist struct {
	Body []byte // shared: do not modify
	ETag string // identifies this state of the stream's playlist in its format

	uriEnds    []int // offsets in Body
	compressor *compressor
	gzipped    lazyBytes
}

// WithQuery returns Body with a query at the end of each URI.
func (p *Playlist) WithQuery(query string) []byte {
	b := make([]byte, 0, len(p.Body)+len(p.uriEnds)*(1+len(query)))
	from := 0
	for _, end := range p.uriEnds {
		b = append(append(b, p.Body[from:end]...), '?')
		b, from = append(b, query...), end
	}
	return append(b, p.Body[from:]...)
}

// Gzip returns Body compressed. Shared: do not modify.
func (p *Playlist) Gzip() []byte {
	return p.gzipped.get(func() []byte { return p.Compress(p.Body) })
}

// Compress returns b, a form of Body, compressed.
func (p *Playlist) Compress(b []byte) []byte { return p.compressor.compress(b) }

// compressorBytes is the approximate memory of a compressor's tables.
const compressorBytes = 800 << 10

// A compressor compresses the playlists of one stream. Its tables need most of a megabyte, too much
// to allocate for each playlist.
type compressor struct {
	mu sync.Mutex
	w  *gzip.Writer
}

func (z *compressor) compress(b []byte) []byte {
	z.mu.Lock()
	defer z.mu.Unlock()
	var out bytes.Buffer
	if z.w == nil {
		z.w = gzip.NewWriter(&out)
	}
	z.w.Reset(&out)
	_, _ = z.w.Write(b) // writing to a bytes.Buffer cannot fail
	_ = z.w.Close()
	return out.Bytes()
}

// size returns the approximate memory of the compressor in bytes.
func (z *compressor) size() int {
	z.mu.Lock()
	defer z.mu.Unlock()
	if z.w == nil {
		return 0
	}
	return compressorBytes
}

// release frees the tables; they can be allocated again.
func (z *compressor) release() {
	z.mu.Lock()
	defer z.mu.Unlock()
	z.w = nil
}

// A renderedPlaylist is the result of List.render.
type renderedPlaylist struct {
	playlist *Playlist
	err      error
}

// Playlist returns the media playlist in format f; nil before the first segment of the stream
// session. With delta it returns a delta update, which leaves out older segments, if there are
// enough of them.
func (l *List) Playlist(f Format, delta bool) (*Playlist, error) {
	if !l.Ready {
		return nil, nil
	}
	form := &l.playlists[f][0]
	if delta = delta && f == FMP4 && l.skippedSegments() > 0; delta {
		form = &l.playlists[f][1]
	}
	r := form.get(func() renderedPlaylist {
		p, err := l.render(f, delta)
		return renderedPlaylist{p, err}
	})
	return r.playlist, r.err
}

// skippedSegments returns how many segments of the playlist a delta update leaves out.
func (l *List) skippedSegments() int {
	if l.PartTarget == 0 {
		return 0
	}
	after := l.openDuration() // from the end of the segment to the end of the playlist
	cur := l.current()
	for n := len(cur); n > 0; n-- {
		if after += cur[n-1].duration; after > skipBoundaryTargets*l.Target {
			return n - 1 // the Skip Boundary is inside this one
		}
	}
	return 0
}

// openDuration returns the duration of the parts after the last segment.
func (l *List) openDuration() time.Duration {
	var d time.Duration
	for _, p := range l.parts {
		d += p.duration
	}
	return d
}

func (l *List) render(f Format, delta bool) (*Playlist, error) {
	cur := l.current()
	p := m3u8.Media{
		TargetDuration: l.Target, MediaSequence: cur[0].sequence, DiscontinuitySequence: cur[0].discontinuitySequence,
		Ended:       l.Ended,
		Independent: l.independent(f), Segments: make([]m3u8.Segment, len(cur)),
	}
	if cur[0].discontinuity {
		// The segment's own discontinuity tag counts too: RFC 8216 section 6.2.2.
		p.DiscontinuitySequence--
	}
	low := f == FMP4 && l.PartTarget > 0
	open, parts := l.open, l.parts
	hint := l.preloadHint()
	if l.newestByPartsOnly(f) {
		if l.open.discontinuity { // no discontinuity tag may stand between the parts of two segments
			hint = ""
		}
		open, cur = l.newest(), cur[:len(cur)-1]
		parts, p.Segments = open.parts, p.Segments[:len(cur)]
	}
	after := l.openDuration()
	if open != l.open {
		after = open.duration
	}
	for i := len(cur) - 1; i >= 0; i-- {
		s := cur[i]
		p.Segments[i] = s.entry(f)
		// An ended playlist lists no parts: without them hls.js sees the end of the stream,
		// whichever of the last parts it has.
		if low && after < partsListedTargets*l.Target && !p.Segments[i].Gap && !l.Ended {
			p.Segments[i].Parts = l.partEntries(s.parts)
		}
		after += s.duration
		s.listed.Store(true)
	}
	if low {
		p.PartTarget, p.PartHoldBack, p.SkipUntil = l.PartTarget, holdBackParts*l.PartTarget, skipBoundaryTargets*l.Target
		if len(parts) > 0 && open.trackSet.init != nil {
			p.OpenSegment, p.OpenParts = open.head(f), l.partEntries(parts)
			open.listed.Store(true)
		} else {
			// If no line follows the last segment, hls.js expects it to continue with the next one,
			// and stops when that one turns out to be discontinuous.
			p.PendingDiscontinuity = l.Paused && !l.Ended || l.open != nil && l.open.discontinuity
		}
		if hint != "" {
			p.PreloadHint = hint + extPart
		}
		if delta {
			p.SkippedSegments = l.skippedSegments()
		}
	}
	body, uriEnds, err := p.Encode()
	if err != nil {
		return nil, fmt.Errorf("encoding the media playlist: %w", err)
	}
	return &Playlist{Body: body, ETag: l.etag(f, delta), uriEnds: uriEnds, compressor: l.compressor}, nil
}

// etag identifies the playlist of l in format f.
func (l *List) etag(f Format, delta bool) string {
	b := append([]byte(nil), l.newest().name...)
	mark := func(what string, is bool) {
		if is {
			b = append(append(b, '-'), what...)
		}
	}
	if f == FMP4 {
		b = strconv.AppendInt(append(b, '.'), int64(len(l.parts)), 10)
		if l.open != nil { // the playlist has its preload hint
			mark(l.open.name, true)
			mark("discontinuous", l.open.discontinuity)
			mark("full", l.full)
		}
		mark("parts", l.newestByPartsOnly(f))
		mark("paused", l.Paused)
	}
	mark("end", l.Ended)
	mark("delta", delta)
	return string(b)
}

// entry returns the playlist entry of s, which is complete.
func (s *segment) entry(f Format) m3u8.Segment {
	e := s.head(f)
	e.URI, e.Duration = s.name+extTS, s.duration
	if f == FMP4 {
		e.URI = s.name + extPart
	}
	return e
}

// head returns the tags that precede s in a playlist.
func (s *segment) head(f Format) m3u8.Segment {
	e := m3u8.Segment{Discontinuity: s.discontinuity, ProgramDateTime: s.date, Gap: s.trackSet.tracks[f].empty()}
	if f == FMP4 && s.trackSet.init != nil {
		e.Map = s.trackSet.initName + extInit
	}
	return e
}

// partEntries returns the playlist entries of parts. A part that exceeds the part target, such as a
// single frame of an encoder that paused or the audio at the end of the stream, is listed with the
// part target as its duration.
func (l *List) partEntries(parts []*part) []m3u8.Part {
	list := make([]m3u8.Part, len(parts))
	for i, p := range parts {
		list[i] = m3u8.Part{URI: p.name + extPart, Duration: min(p.duration, l.PartTarget), Independent: p.independent}
	}
	return list
}

// independent reports whether a decoder can start with each segment in the playlist of format f.
func (l *List) independent(f Format) bool {
	for _, s := range l.current() {
		if s.trackSet.tracks[f].video != nil && !s.parts[0].independent {
			return false
		}
	}
	return f != FMP4 || len(l.parts) == 0 || l.open.trackSet.tracks[f].video == nil || l.parts[0].independent
}
