package segment

import (
	"math"
	"path"
	"strings"
	"sync/atomic"
	"time"

	"livego/internal/media"
)

// A List is what there is to fetch of a stream at one moment. It is immutable.
type List struct {
	Ready  bool // the session has a playlist
	Ended  bool
	Paused bool // the encoder is away

	Target     time.Duration // the longest that a segment may be, to the nearest second
	PartTarget time.Duration // the longest that a part may be; 0 when there are none

	Bytes int // about what the frames of its segments hold of memory

	segments []*Segment // oldest first
	listed   int        // so many of the newest are in playlists
	open     *Segment   // that is not complete; nil when there is none
	parts    []*Part    // of it
	full     bool       // it has no place for another part as long as the target
	lined    bool       // the last complete segment had its line in a list before this one

	updated         chan struct{} // closed when there is a newer list
	waiters         *waiterGroup  // who waits for that
	previousWaiters *waiterGroup  // who has previousWaiters for this; nil for the first
	segmentAdded    chan struct{} // closed when there is one with another segment

	compressor *compressor
	playlists  [formats][2]renderedPlaylist // whole, and as a delta update
}

// current returns the segments that are in the playlist.
func (l *List) current() []*Segment { return l.segments[len(l.segments)-l.listed:] }

// newest returns the last complete segment; nil when there is none.
func (l *List) newest() *Segment {
	if len(l.segments) == 0 {
		return nil
	}
	return l.segments[len(l.segments)-1]
}

// Duration returns the sum of the durations of the segments in the playlist.
func (l *List) Duration() time.Duration {
	var d time.Duration
	for _, s := range l.current() {
		d += s.Duration
	}
	return d
}

// Tracks returns what format f carries of the newest segment; nil where it has none.
func (l *List) Tracks(f Format) (video, audio *media.Track) {
	if s := l.newest(); s != nil {
		video, audio = s.trackSet.tracks[f].video, s.trackSet.tracks[f].audio
	}
	return video, audio
}

// Bitrates returns the bit/s in format f of the segments in the playlist: the highest of any, and
// that of all. Short segments, of a keyframe and little else, say nothing about the highest.
func (l *List) Bitrates(f Format) (peak, average int) {
	bytes := 0
	for _, s := range l.current() {
		n := s.estimate(f)
		bytes += n
		if s.Duration >= l.Target/2 {
			peak = max(peak, bitrate(n, s.Duration))
		}
	}
	if l.listed > 0 {
		average = bitrate(bytes, l.Duration())
	}
	return max(peak, average), average
}

// bitrate returns the bit/s of n bytes in d, which is a millisecond or more.
func bitrate(n int, d time.Duration) int { return int(float64(n) * 8 / d.Seconds()) }

// advanceLimit bounds how far ahead a part may be asked for, RFC 8216bis section 6.2.5.2: three seconds' worth.
const advanceLimit = 3 * time.Second

// newestByPartsOnly reports whether the newest segment, which is complete, is in the playlist of format f by its parts
// alone, as it was before: its own line comes with the first part of the next. hls.js takes a segment that
// has a line of its own as buffered when what is missing at its end is shorter than 0.2 s, and then never
// asks for its last part: so it needs the time of a part to ask for that before.
func (l *List) newestByPartsOnly(f Format) bool {
	return f == FMP4 && l.PartTarget > 0 && l.listed > 1 && l.open != nil && len(l.parts) == 0 && !l.Ended && !l.lined &&
		!l.newest().trackSet.tracks[f].empty()
}

// Has reports whether l has what a blocking reload of the playlist in format f waits for: the part of segment
// msn, or all of it where part is negative. A part beyond the last of a complete segment is the first of the
// next (RFC 8216bis section 6.2.5.2).
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

// TooFarAhead reports whether a blocking reload asks for what is too far ahead to be waited for.
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

// Updated is closed when there is a newer list, or with whole one whose playlists may have another whole segment.
func (l *List) Updated(whole bool) <-chan struct{} {
	if whole && !l.newestByPartsOnly(FMP4) {
		return l.segmentAdded
	}
	return l.updated
}

// AddWaiter notes that a request waits for Next; Woken is to be called when it does so no longer,
// unless this reports false: there is a newer list, and all who waited for that have been woken.
func (l *List) AddWaiter() bool { return l.waiters.add() }

// RemoveWaiter notes that one who waited goes on.
func (l *List) RemoveWaiter() { l.waiters.remove() }

// WaitersDone is closed when all who waited for l go on; nil where nobody did.
func (l *List) WaitersDone() <-chan struct{} {
	if l.previousWaiters == nil {
		return nil
	}
	return l.previousWaiters.done
}

// A waiterGroup counts those who wait for something, and tells when it has come and the last of them has gone on.
type waiterGroup struct {
	count atomic.Int64 // of them, and one until it has come
	done  chan struct{}
}

func newWaiterGroup() *waiterGroup {
	t := &waiterGroup{done: make(chan struct{})}
	t.count.Store(1)
	return t
}

// add reports false when it is over: it does not begin again.
func (t *waiterGroup) add() bool {
	for {
		n := t.count.Load()
		if n == 0 {
			return false
		}
		if t.count.CompareAndSwap(n, n+1) {
			return true
		}
	}
}

func (t *waiterGroup) remove() {
	if t.count.Add(-1) == 0 {
		close(t.done)
	}
}

// Extensions of the names of files.
const (
	extTS   = ".ts"
	extPart = ".m4s" // of segments too
	extInit = ".mp4"
)

// IsFile reports whether name may be that of a File.
func IsFile(name string) bool {
	switch path.Ext(name) {
	case extTS, extPart, extInit:
		return !strings.Contains(name, "/")
	}
	return false
}

// A File is something that playlists lead to: a segment, a part, or an initialization section. Of
// the zero File there is nothing.
type File struct {
	Name string
	Type string // media type

	segment *Segment
	format  Format
	part    *Part
	init    []byte
}

// Duration returns for how long the file plays.
func (f *File) Duration() time.Duration {
	switch {
	case f.part != nil:
		return f.part.Duration
	case f.segment != nil:
		return f.segment.Duration
	}
	return 0
}

// Data returns what is in the file; nil when there is nothing. Shared: do not modify.
func (f *File) Data() []byte {
	switch {
	case f.part != nil:
		return f.part.Data()
	case f.segment != nil:
		return f.segment.Data(f.format)
	}
	return f.init
}

// IsPart reports whether the file is a part of a segment.
func (f *File) IsPart() bool { return f.part != nil }

// SplitBytes divides n bytes of the file into those of video and those of audio.
func (f *File) SplitBytes(n int) (video, audio int) {
	switch {
	case f.part != nil:
		return f.part.totals.split(n)
	case f.segment != nil:
		return f.segment.totals.split(n)
	}
	return 0, 0
}

// File returns the file of that name; a zero one when there is none or it has gone. A segment that
// has left the playlist stays for about as long as a playlist lasts, as RFC 8216 section 6.2.2
// wants for players that are late.
func (l *List) File(name string) File {
	if base, ok := strings.CutSuffix(name, extPart); ok {
		return l.fragment(name, base)
	}
	if base, ok := strings.CutSuffix(name, extTS); ok {
		if s := l.segment(base); s != nil {
			return File{Name: name, Type: "video/mp2t", segment: s, format: TS}
		}
	} else if base, ok := strings.CutSuffix(name, extInit); ok {
		if s := l.segmentWithInit(base); s != nil {
			return File{Name: name, Type: "video/mp4", init: s.trackSet.init}
		}
	}
	return File{}
}

// fragment returns a segment or part of fragmented MP4 by its base name.
func (l *List) fragment(name, base string) File {
	segment, _, isPart := strings.Cut(base, ".")
	s := l.segment(segment)
	if !isPart {
		if s == nil {
			return File{}
		}
		return File{Name: name, Type: "video/mp4", segment: s, format: FMP4}
	}
	parts := l.parts
	switch {
	case s != nil:
		parts = s.parts
	case l.open == nil || l.open.Name != segment:
		return File{}
	}
	for i := len(parts) - 1; i >= 0; i-- { // the newest are asked for most
		if parts[i].Name == base {
			return File{Name: name, Type: "video/mp4", part: parts[i]}
		}
	}
	return File{}
}

// segment returns the complete segment of that name, nil when there is none.
func (l *List) segment(name string) *Segment {
	for i := len(l.segments) - 1; i >= 0; i-- {
		if l.segments[i].Name == name {
			return l.segments[i]
		}
	}
	return nil
}

// segmentWithInit returns a segment whose initialization section has that name, nil when there is none.
func (l *List) segmentWithInit(init string) *Segment {
	if init == "" {
		return nil
	}
	if len(l.parts) > 0 && l.open.trackSet.initName == init {
		return l.open
	}
	for i := len(l.segments) - 1; i >= 0; i-- {
		if l.segments[i].trackSet.initName == init {
			return l.segments[i]
		}
	}
	return nil
}

// IsPreloadHint reports whether the file of that name is the one that playlists hint at: it comes next.
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

// minListed is how many segments stay in the playlist whatever their size; RFC 8216 section 6.3.3
// lets players start three target durations from the end.
const minListed = 3

// maxPerTarget is how many segments a target duration may be cut into before a playlist grows no
// further: an encoder that changes its parameters with each frame must not fill the memory with
// playlists.
const maxPerTarget = 8

// trim takes out of l what is older than window target durations, and drops what has been out of
// the playlist for long enough or is too much. The slice in l must be its own.
func (l *List) trim(targets, bytes int) {
	window, most := time.Duration(targets)*l.Target, targets*maxPerTarget
	listed := l.Duration()
	for cur := l.current(); l.listed > minListed && (listed-cur[0].Duration >= window || l.listed > most); cur = cur[1:] {
		listed -= cur[0].Duration
		l.listed--
	}

	var kept time.Duration
	l.Bytes = 0
	forms := 0
	for i, s := range l.segments {
		if i < len(l.segments)-l.listed {
			s.dropRendered() // who is late has it made again
		}
		kept += s.Duration
		l.Bytes += s.size
		forms += s.renderedBytes()
	}
	// A segment may be asked for as long as its own and the longest playlist's duration after it has left: that playlist
	// holds the window and up to a segment more at either end. Of one that nobody has seen in a playlist nothing is asked.
	old := 2*window + 4*l.Target
	for len(l.segments) > l.listed {
		oldest := l.segments[0]
		if oldest.listed.Load() && kept-oldest.Duration < old && len(l.segments) <= 3*most && l.Bytes+forms <= bytes {
			break
		}
		kept -= oldest.Duration
		l.dropOldest()
	}
	for _, s := range l.current() {
		if l.Bytes+forms <= bytes {
			return
		}
		forms -= s.renderedBytes()
		s.dropRendered() // it is made again when it is asked for
	}
	for l.listed > minListed && l.Bytes > bytes {
		l.listed--
		l.dropOldest()
	}
}

// MemoryBytes returns about how many bytes of memory l holds: the frames of its segments, what has
// been made of them, its playlists, and what compresses those.
func (l *List) MemoryBytes() int {
	n := l.Bytes + l.compressor.size()
	for _, s := range l.segments {
		n += s.renderedBytes()
	}
	for f := range l.playlists {
		for i := range l.playlists[f] {
			n += l.playlists[f][i].size()
		}
	}
	return n
}

// DropRendered gives up what has been made of the segments and can be made again, and what compresses playlists.
func (l *List) DropRendered() {
	l.compressor.release()
	for _, s := range l.segments {
		s.dropRendered()
	}
}

// dropOldest forgets the oldest segment, in the array too.
func (l *List) dropOldest() {
	l.Bytes -= l.segments[0].size
	l.segments[0] = nil
	l.segments = l.segments[1:]
}

// completed returns l with the open segment completed by the parts that have been shown of it, as a
// list before a new session: not ready.
func (l *List) completed() *List {
	c := &List{
		Target: l.Target, PartTarget: l.PartTarget, Bytes: l.Bytes, segments: l.segments, listed: l.listed,
		compressor: l.compressor,
		updated:    make(chan struct{}), waiters: newWaiterGroup(), segmentAdded: make(chan struct{}),
	}
	if len(l.parts) == 0 {
		return c
	}
	o := l.open
	s := &Segment{
		Name: o.Name, sequence: o.sequence, discontinuitySequence: o.discontinuitySequence, discontinuity: o.discontinuity,
		date: o.date, number: o.number,
		trackSet: o.trackSet, parts: l.parts,
	}
	for _, p := range l.parts {
		s.Duration += p.Duration
		for _, f := range p.frames {
			s.totals.add(f)
			s.size += len(f.Payload) + frameOverhead
		}
		s.frames = append(s.frames, p.frames...)
	}
	c.segments = append(append(make([]*Segment, 0, len(l.segments)+1), l.segments...), s)
	c.listed, c.Bytes = c.listed+1, c.Bytes+s.size
	return c
}
