package segment

import (
	"fmt"
	"time"

	"livego/internal/container/m3u8"
	"livego/internal/media"
)

// A List is what there is to fetch of a stream at one moment. It is immutable.
type List struct {
	Playlist []byte // the media playlist; nil before the first segment of the session. Shared: do not modify
	Tag      string // names this state of Playlist among all of the stream
	Ended    bool

	Target        time.Duration // the longest that a segment may be, to the nearest second
	Video, Audio  *media.Track  // of the newest segment; nil where there is none
	Peak, Average int           // bit/s of the segments in the playlist

	Bytes int // about what the segments hold of memory

	segments []*Segment // oldest first
	listed   int        // so many of the newest are in Playlist
}

// Segment returns the segment of that name, nil when there is none or it has gone. One that has left the playlist stays for about
// as long as a playlist lasts, as RFC 8216 section 6.2.2 wants for players that are late.
func (l *List) Segment(name string) *Segment {
	for i := len(l.segments) - 1; i >= 0; i-- { // the newest are asked for most
		if l.segments[i].Name == name {
			return l.segments[i]
		}
	}
	return nil
}

// current returns the segments that are in the playlist.
func (l *List) current() []*Segment { return l.segments[len(l.segments)-l.listed:] }

// Lasts returns the sum of the durations of the segments in the playlist.
func (l *List) Lasts() time.Duration {
	var d time.Duration
	for _, s := range l.current() {
		d += s.Duration
	}
	return d
}

// minListed is how many segments stay in the playlist whatever their size; RFC 8216 section 6.3.3 lets players start three
// target durations from the end.
const minListed = 3

// perTarget is how many segments a target duration may be cut into before a playlist grows no further: an encoder that changes
// its parameters with each frame must not fill the memory with playlists.
const perTarget = 8

// trim takes out of l what is older than window target durations, and drops what has been out of the playlist for long enough
// or is too much. The slice in l must be its own.
func (l *List) trim(targets, bytes int) {
	window, most := time.Duration(targets)*l.Target, targets*perTarget
	var kept time.Duration
	listed := l.Lasts()
	for cur := l.current(); l.listed > minListed && (listed-cur[0].Duration >= window || l.listed > most); cur = cur[1:] {
		listed -= cur[0].Duration
		l.listed--
	}

	l.Bytes = 0
	for _, s := range l.segments {
		kept += s.Duration
		l.Bytes += s.size
	}
	// A segment may be asked for as long as its own and the longest playlist's duration after it has left: that playlist
	// holds the window and up to a segment more at either end.
	old := 2*window + 4*l.Target
	for len(l.segments) > l.listed && (kept-l.segments[0].Duration >= old || len(l.segments) > 3*most || l.Bytes > bytes) {
		kept -= l.segments[0].Duration
		l.drop()
	}
	for l.listed > minListed && l.Bytes > bytes {
		l.listed--
		l.drop()
	}
}

// drop forgets the oldest segment, in the array too.
func (l *List) drop() {
	l.Bytes -= l.segments[0].size
	l.segments[0] = nil
	l.segments = l.segments[1:]
}

// render writes the playlist of l and what there is to say about it.
func (l *List) render() error {
	cur := l.current()
	newest := cur[len(cur)-1]
	l.Video, l.Audio = newest.video, newest.audio
	l.measure()

	p := m3u8.Media{Target: l.Target, Sequence: cur[0].sequence, DiscontinuitySequence: cur[0].discs, Ended: l.Ended}
	if cur[0].joint {
		p.DiscontinuitySequence-- // its own mark, still in the playlist, counts too: RFC 8216 section 6.2.2
	}
	for _, s := range cur {
		p.Segments = append(p.Segments, m3u8.Segment{
			URI: s.Name + ".ts", Duration: s.Duration, Discontinuity: s.joint, Time: s.date,
		})
	}
	l.Tag = newest.Name
	if l.Ended {
		l.Tag += "-end"
	}
	var err error
	if l.Playlist, err = p.Encode(); err != nil {
		return fmt.Errorf("writing the media playlist: %w", err)
	}
	return nil
}

// measure finds the bit rates. Short segments, of a keyframe and little else, say nothing about the peak.
func (l *List) measure() {
	var bytes int
	for _, s := range l.current() {
		bytes += s.size
		if s.Duration >= l.Target/2 {
			l.Peak = max(l.Peak, rate(s.size, s.Duration))
		}
	}
	l.Average = rate(bytes, l.Lasts())
	l.Peak = max(l.Peak, l.Average)
}

// rate returns the bit/s of n bytes in d, which is a millisecond or more.
func rate(n int, d time.Duration) int { return int(float64(n) * 8 / d.Seconds()) }
