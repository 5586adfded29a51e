package mp4

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"livego/internal/codec"
	"livego/internal/media"
)

// A Reader reads the frames of all tracks of a file in decoding order. Not for concurrent use.
type Reader struct {
	file
	tracks     []*track
	scale      uint32 // ticks per second of the movie
	declared   int64  // the movie's duration, in ticks
	fragmented bool
	first, pos int64 // offsets for fragments: the first and the next
	ended      bool  // there are no more fragments
}

// NewReader reads the index of a file of size bytes: its moov, at any position. A file without one
// is incomplete.
func NewReader(r io.ReaderAt, size int64) (*Reader, error) {
	m := &Reader{file: file{r, size}}
	moov, err := m.findMovie()
	if err != nil {
		return nil, err
	}
	if err := m.readMovie(moov); err != nil {
		return nil, asUnexpectedEOF(err)
	}
	if err := m.readDefaults(moov); err != nil {
		return nil, asUnexpectedEOF(err)
	}
	if len(m.tracks) == 0 {
		return nil, errors.New("mp4: no video or audio in the file")
	}
	m.first = moov.end
	if m.fragmented {
		m.readLastFragments(m.first)
	}
	// Skip what the edit lists do not present: video before the last keyframe that is needed, and
	// audio more than preroll before.
	return m, m.Seek(0)
}

// findMovie finds the moov among the top-level boxes.
func (r *Reader) findMovie() (box, error) {
	for n, off := 0, int64(0); off < r.size && n < maxTopLevel; n++ {
		b, err := r.boxAt(off, r.size)
		switch {
		case errors.Is(err, errBoxTruncated):
			return b, errors.New("mp4: the file is cut off before its index (moov): the recording or copy is incomplete")
		case err != nil:
			return b, err
		case b.is("moov"):
			return b, nil
		}
		off = b.end
	}
	return box{}, errors.New("mp4: there is no index (moov): the recording or copy is incomplete")
}

// Streams returns the tracks that the file declares, in file order. Shared: do not modify.
func (r *Reader) Streams() []media.Stream {
	out := make([]media.Stream, len(r.tracks))
	for i, t := range r.tracks {
		out[i] = t.stream
	}
	return out
}

// Duration returns the duration of the file by its tracks, or as its header declares; 0 if unknown.
func (r *Reader) Duration() time.Duration {
	var d time.Duration
	for _, t := range r.tracks {
		d = max(d, t.stream.Duration)
	}
	if d == 0 {
		d = time.Duration(rescale(r.declared, r.scale, uint32(time.Second)))
	}
	return d
}

// Fragmented reports whether the file consists of fragments.
func (r *Reader) Fragmented() bool { return r.fragmented }

func (r *Reader) rewind() {
	r.pos, r.ended = r.first, !r.fragmented
	for _, t := range r.tracks {
		t.table.rewind()
		t.frag.runs, t.frag.dts = nil, 0
		t.hasNext, t.done = false, t.stream.Track.Codec == media.Passthrough
	}
}

// Next returns the next frame, io.EOF after the last. Frames before time 0 are those that decoders
// need before the first presented one, for example AAC's encoder delay. After a read error, the
// error repeats.
func (r *Reader) Next() (*media.Frame, error) {
	for {
		t, err := r.nextTrack()
		if err != nil {
			return nil, err
		}
		m := t.nextSample
		t.hasNext = false
		if m.size == 0 {
			continue
		}
		return r.frame(t, m)
	}
}

// frame reads the frame of a sample.
func (r *Reader) frame(t *track, m sample) (*media.Frame, error) {
	if m.size > maxFrame {
		return nil, fmt.Errorf("mp4: frame of %d bytes exceeds the limit of %d", m.size, maxFrame)
	}
	if m.off > r.size-int64(m.size) {
		return nil, io.ErrUnexpectedEOF
	}
	if int64(m.entry) >= int64(len(t.entries)) {
		return nil, errTables
	}
	e := &t.entries[m.entry]
	f := &media.Frame{
		Track: e.track, DTS: t.presentationTime(m.dts), PTS: t.presentationTime(m.dts + m.cts),
		Duration: time.Duration(rescale(int64(m.duration), t.scale, uint32(time.Second))),
		KeyFlag:  m.sync, Payload: make([]byte, m.size),
	}
	if err := r.read(f.Payload, m.off); err != nil {
		return nil, err
	}
	if codec.SelfDescribing(e.track.Codec) {
		// keep the track if the frame is invalid
		if now, err := codec.TrackFromFrame(e.fileTrack, f.Payload, e.frameTrack); err == nil {
			e.track, e.frameTrack, f.Track = now, now, now
		}
	}
	// checked again when it is published
	f.RAP, f.Leading, _ = codec.RandomAccess(f.Track, e.lengthSize, m.sync, f.Payload)
	return f, nil
}

// nextTrack returns the track whose next sample has the lowest decoding time.
func (r *Reader) nextTrack() (*track, error) {
	var first *track
	for _, t := range r.tracks {
		if err := r.fill(t); err != nil {
			return nil, err
		}
		if t.hasNext && (first == nil ||
			t.presentationTime(t.nextSample.dts) < first.presentationTime(first.nextSample.dts)) {
			first = t
		}
	}
	if first == nil {
		return nil, io.EOF
	}
	return first, nil
}

// fill reads the next sample of t, unless it is there or there is none.
func (r *Reader) fill(t *track) error {
	for !t.hasNext && !t.done {
		m, err := t.table.next()
		if err == io.EOF {
			m, err = t.frag.next()
		}
		switch {
		case err == nil:
			t.nextSample, t.hasNext = m, true
			t.done = m.dts >= t.end
			t.hasNext = !t.done
		case err != io.EOF:
			return err
		case r.ended:
			t.done = true
		case r.readAheadFull():
			return nil
		default:
			if err = r.nextFragment(); err == io.EOF {
				r.ended = true
			} else if err != nil {
				return err
			}
		}
	}
	return nil
}

// preroll is how much audio before the presented part is kept, for decoders that need some to
// settle. Encoder delays are much shorter.
const preroll = time.Second

// Seek moves to the last keyframe at or before a time, with the audio of that time; without video
// to the audio of that time.
func (r *Reader) Seek(to time.Duration) error {
	if to <= 0 {
		return r.seekTo(0, -preroll)
	}
	return r.seekTo(to, 0)
}

// seekTo restarts reading at the last keyframe presented at or before the time to, and with audio
// that ends later than that plus margin. It reads the index only.
func (r *Reader) seekTo(to, margin time.Duration) error {
	r.rewind()
	var pictures *track
	from, key := to, 0
	isVideo := func(t *track) bool { return t.stream.Track.Kind == media.Video && !t.done }
	if i := slices.IndexFunc(r.tracks, isVideo); i >= 0 {
		pictures = r.tracks[i]
		var err error
		if from, key, err = r.lastKeyframe(pictures, to); err != nil {
			return err
		}
		r.rewind()
		from = min(from, to)
	}
	seen := map[*track]int{}
	for {
		var skip *track
		for _, t := range r.tracks {
			if err := r.fill(t); err != nil {
				return err
			}
			switch {
			case !t.hasNext || skip != nil:
			case t == pictures:
				if seen[t] < key {
					skip = t
				}
			case t.stream.Track.Kind == media.Video:
				if t.presentationTime(t.nextSample.dts) < from {
					skip = t
				}
			case t.presentationTime(t.nextSample.dts+t.nextSample.cts+int64(t.nextSample.duration)) <= from+margin:
				skip = t
			}
		}
		if skip == nil {
			return nil
		}
		seen[skip]++
		skip.hasNext = false
	}
}

// lastKeyframe returns the presentation time and the number of the last keyframe of t that is
// presented at or before to.
func (r *Reader) lastKeyframe(t *track, to time.Duration) (at time.Duration, key int, err error) {
	at = to
	for i := 0; ; i++ {
		if err := r.fill(t); err != nil {
			return 0, 0, err
		}
		if !t.hasNext || i > 0 && t.presentationTime(t.nextSample.dts) > to {
			return at, key, nil
		}
		if pts := t.presentationTime(t.nextSample.dts + t.nextSample.cts); t.nextSample.sync && (i == 0 || pts <= to) {
			at, key = pts, i
		}
		t.hasNext = false
		if len(r.tracks) > 1 {
			r.dropOtherRuns(t)
		}
	}
}

// dropOtherRuns discards the fragment runs of other tracks that were read while searching in t's.
func (r *Reader) dropOtherRuns(keep *track) {
	for _, t := range r.tracks {
		if t != keep {
			t.frag.runs = nil
		}
	}
}
