package segment

import (
	"errors"
	"math"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"livego/internal/media"
)

// A List is the playlists, segments and parts of a stream at one moment. It is immutable.
type List struct {
	Ready  bool // the stream session has a playlist
	Ended  bool
	Paused bool // the encoder is away

	Target     time.Duration // target duration: no segment is longer, rounded to the nearest second
	PartTarget time.Duration // no part is longer; 0 when there are no parts

	segments   []*segment // oldest first
	frameBytes int        // approximate memory of their frames
	listed     int        // number of the newest segments that playlists list
	open       *segment   // the incomplete segment; nil when there is none
	parts      []*part    // complete parts of open
	full       bool       // open has no room for another part of PartTarget
	hadLine    bool       // the newest segment had its own line in an earlier list

	updated         chan struct{} // closed when there is a newer list
	waiters         *waiterGroup  // requests that wait for a newer list
	previousWaiters *waiterGroup  // requests that waited for this list; nil for the first list
	segmentAdded    chan struct{} // closed when a list with another segment is published

	compressor *compressor
	playlists  [formats][2]lazy[renderedPlaylist] // full playlist and delta update
}

// current returns the segments that are in the playlist.
func (l *List) current() []*segment { return l.segments[len(l.segments)-l.listed:] }

// newest returns the last complete segment; nil when there is none.
func (l *List) newest() *segment {
	if len(l.segments) == 0 {
		return nil
	}
	return l.segments[len(l.segments)-1]
}

// Duration returns the sum of the durations of the segments in the playlist.
func (l *List) Duration() time.Duration {
	var d time.Duration
	for _, s := range l.current() {
		d += s.duration
	}
	return d
}

// Tracks returns the tracks of the newest segment that format f carries, nil for a kind that it
// does not carry.
func (l *List) Tracks(f Format) (video, audio *media.Track) {
	if s := l.newest(); s != nil {
		video, audio = s.trackSet.tracks[f].video, s.trackSet.tracks[f].audio
	}
	return video, audio
}

// Bitrates returns the peak and the average bit/s of the segments in the playlist in format f. A
// segment shorter than half a target duration, which has a keyframe and little else, does not count
// for the peak.
func (l *List) Bitrates(f Format) (peak, average int) {
	bytes := 0
	for _, s := range l.current() {
		n := s.estimate(f)
		bytes += n
		if s.duration >= l.Target/2 {
			peak = max(peak, bitrate(n, s.duration))
		}
	}
	if l.listed > 0 {
		average = bitrate(bytes, l.Duration())
	}
	return max(peak, average), average
}

// bitrate returns the bit/s of n bytes in d, which is at least a millisecond.
func bitrate(n int, d time.Duration) int { return int(float64(n) * 8 / d.Seconds()) }

// advanceLimit is how far ahead of the newest part a request may ask: the Advance Part Limit of RFC
// 8216bis section 6.2.5.2, as a time.
const advanceLimit = 3 * time.Second

// newestByPartsOnly reports whether the playlist of format f lists the newest segment, which is
// complete, by its parts only. Its own line follows with the first part of the next segment, and
// stays from then on. hls.js considers a segment that has a line as buffered when less than 0.2 s
// is missing at its end, and then never requests its last part: it needs the time of one part to
// request that first.
func (l *List) newestByPartsOnly(f Format) bool {
	return f == FMP4 && l.PartTarget > 0 && l.listed > 1 && l.open != nil && len(l.parts) == 0 && !l.Ended && !l.hadLine &&
		!l.newest().trackSet.tracks[f].empty()
}

// Has reports whether l satisfies a blocking reload of the playlist in format f that waits for a
// part of segment msn, or for the whole segment if part is negative. A part beyond the last one of
// a complete segment means the first part of the next segment (RFC 8216bis section 6.2.5.2).
func (l *List) Has(f Format, msn uint64, part int) bool {
	newest := l.newest()
	if newest == nil || l.Ended {
		return l.Ended
	}
	first := l.segments[0].sequence
	switch {
	case msn > newest.sequence+1:
		return false
	case msn == newest.sequence+1:
		return part >= 0 && part < len(l.parts)
	case part < 0:
		return msn < newest.sequence || !l.newestByPartsOnly(f)
	case msn < first || part < len(l.segments[msn-first].parts):
		return true
	}
	return l.Has(f, msn+1, 0)
}

// TooFarAhead reports whether a blocking reload asks for something too far ahead to wait for.
func (l *List) TooFarAhead(msn uint64, part int) bool {
	newest := l.newest()
	if newest == nil {
		return false
	}
	switch {
	case msn > newest.sequence+2:
		return true
	case msn == newest.sequence+1 && l.PartTarget > 0:
		return part >= len(l.parts)+int(math.Ceil(max(advanceLimit, 3*l.PartTarget).Seconds()/l.PartTarget.Seconds()))
	}
	return false
}

// Updated returns a channel that is closed when there is a newer list or, with whole, a list whose
// playlists may have another whole segment.
func (l *List) Updated(whole bool) <-chan struct{} {
	if whole && !l.newestByPartsOnly(FMP4) {
		return l.segmentAdded
	}
	return l.updated
}

// AddWaiter registers a request that waits for Updated. Unless it returns false, call RemoveWaiter
// when the request stops waiting. False means that there is a newer list, and all that waited for
// it have been woken.
func (l *List) AddWaiter() bool { return l.waiters.add() }

// RemoveWaiter unregisters a request that AddWaiter registered.
func (l *List) RemoveWaiter() { l.waiters.remove() }

// WaitersDone returns a channel that is closed when all requests that waited for l have stopped
// waiting; nil when none waited.
func (l *List) WaitersDone() <-chan struct{} {
	if l.previousWaiters == nil {
		return nil
	}
	return l.previousWaiters.done
}

// File name extensions.
const (
	extTS   = ".ts"
	extPart = ".m4s" // of parts and of segments
	extInit = ".mp4"
)

// IsFile reports whether name may be the name of a File.
func IsFile(name string) bool {
	switch path.Ext(name) {
	case extTS, extPart, extInit:
		return !strings.Contains(name, "/")
	}
	return false
}

// A fileName is the parsed name of a segment or of a part.
type fileName struct {
	epoch, start uint64 // start in ms
	part         int    // -1: the whole segment
}

func (n fileName) String() string {
	s := strconv.FormatUint(n.epoch, 10) + "-" + strconv.FormatUint(n.start, 10)
	if n.part >= 0 {
		s += "." + strconv.Itoa(n.part)
	}
	return s
}

// parseFileName parses a name without its extension; false if no segment or part has such a name.
func parseFileName(name string) (n fileName, ok bool) {
	epoch, rest, _ := strings.Cut(name, "-")
	start, part, isPart := strings.Cut(rest, ".")
	var errs [3]error
	n.epoch, errs[0] = strconv.ParseUint(epoch, 10, 64)
	n.start, errs[1] = strconv.ParseUint(start, 10, 63)
	if n.part = -1; isPart {
		var part64 uint64
		part64, errs[2] = strconv.ParseUint(part, 10, 31)
		n.part = int(part64)
	}
	return n, errors.Join(errs[:]...) == nil && n.String() == name
}

// Ahead reports whether name may be that of a file of the stream session epoch, that of l, which is newer
// than all of l: another server that has the same frames may have it already.
func (l *List) Ahead(epoch uint64, name string) bool {
	base, ext := strings.TrimSuffix(name, path.Ext(name)), path.Ext(name)
	n, ok := parseFileName(base)
	if !ok || n.epoch != epoch || l.Ended || ext != extPart && (ext != extTS || n.part >= 0) {
		return false
	}
	if l.open != nil {
		open, _ := parseFileName(l.open.name)
		return n.start > open.start || n.start == open.start && (n.part < 0 || n.part >= len(l.parts))
	}
	newest := l.newest()
	if newest == nil {
		return true
	}
	last, _ := parseFileName(newest.name)
	return last.epoch != epoch || n.start > last.start
}

// A File is something that a playlist refers to: a segment, a part or an initialization section.
// The zero File has no data.
type File struct {
	Name     string
	Type     string        // media type
	Duration time.Duration // playing time
	IsPart   bool          // a part of a segment

	data   func() []byte
	totals *byteTotals // nil for an initialization section
	// rendered is where AddFile stores the bytes; nil for a file that is made of frames.
	rendered *lazyBytes
}

// Absent reports whether f has no bytes before AddFile.
func (f *File) Absent() bool { return f.rendered != nil && f.rendered.cached() == nil }

// Data returns the content of the file; nil when there is none. Shared: do not modify.
func (f *File) Data() []byte {
	if f.data == nil {
		return nil
	}
	return f.data()
}

// SplitBytes divides n bytes of the file into those of video and those of audio.
func (f *File) SplitBytes(n int) (video, audio int) {
	if f.totals == nil {
		return 0, 0
	}
	return f.totals.split(n)
}

// File returns the file of that name; the zero File when there is none or it has been dropped. A
// segment that has left the playlist stays for about the duration of a playlist, as RFC 8216
// section 6.2.2 requires for players that are late.
func (l *List) File(name string) File {
	ext := path.Ext(name)
	base := strings.TrimSuffix(name, ext)
	switch s := l.segment(base); {
	case ext == extInit:
		if s := l.segmentWithInit(base); s != nil {
			return File{Name: name, Type: "video/mp4", data: func() []byte { return s.trackSet.init }}
		}
	case ext == extTS && s != nil:
		return s.file(name, "video/mp2t", TS)
	case ext == extPart && s != nil:
		return s.file(name, "video/mp4", FMP4)
	case ext == extPart:
		for _, p := range slices.Backward(l.partsOf(strings.TrimSuffix(base, path.Ext(base)))) { // mostly the newest
			if p.name == base {
				return File{name, "video/mp4", p.duration, true, p.data, &p.totals, p.segment.remoteBytes(&p.rendered)}
			}
		}
	}
	return File{}
}

// file returns s in format f as a file.
func (s *segment) file(name, mediaType string, f Format) File {
	return File{name, mediaType, s.duration, false, func() []byte { return s.data(f) }, &s.totals,
		s.remoteBytes(&s.rendered[f])}
}

// remoteBytes returns b if s is remote, else nil.
func (s *segment) remoteBytes(b *lazyBytes) *lazyBytes {
	if s.remote {
		return b
	}
	return nil
}

// partsOf returns the complete parts of the segment of that name, which may be open.
func (l *List) partsOf(name string) []*part {
	if s := l.segment(name); s != nil {
		return s.parts
	}
	if l.open != nil && l.open.name == name {
		return l.parts
	}
	return nil
}

// segment returns the complete segment of that name, nil when there is none.
func (l *List) segment(name string) *segment {
	for _, s := range slices.Backward(l.segments) {
		if s.name == name {
			return s
		}
	}
	return nil
}

// segmentWithInit returns a segment whose initialization section has that name, nil when there is
// none.
func (l *List) segmentWithInit(init string) *segment {
	if len(l.parts) > 0 && l.open.trackSet.initName == init {
		return l.open
	}
	for _, s := range slices.Backward(l.segments) {
		if s.trackSet.initName == init {
			return s
		}
	}
	return nil
}

// IsPreloadHint reports whether playlists have the file of that name as their preload hint.
func (l *List) IsPreloadHint(name string) bool {
	base, ok := strings.CutSuffix(name, extPart)
	return ok && base != "" && base == l.preloadHint()
}

// preloadHint returns the name of the part that comes next, "" when none does.
func (l *List) preloadHint() string {
	if l.open == nil || l.PartTarget == 0 || l.Ended || l.full {
		return ""
	}
	return l.open.partName(len(l.parts))
}

// MemoryBytes returns the approximate memory of l: the frames of its segments, their rendered
// bytes, its playlists, and the compressor.
func (l *List) MemoryBytes() int {
	n := l.frameBytes + l.compressor.size()
	for _, s := range l.segments {
		n += s.renderedBytes()
	}
	for f := range l.playlists {
		for i := range l.playlists[f] {
			if p := l.playlists[f][i].cached().playlist; p != nil {
				n += cap(p.Body) + 8*cap(p.uriEnds) + p.gzipped.size()
			}
		}
	}
	return n
}

// DropRendered drops the rendered bytes of the segments, which can be rendered again, and the
// compressor's tables.
func (l *List) DropRendered() {
	l.compressor.release()
	for _, s := range l.segments {
		s.dropRendered()
	}
}
