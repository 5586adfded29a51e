package mp4

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"time"

	"livego/internal/media"
)

// A track is a video or audio track of the file.
type track struct {
	id      uint32
	stream  media.Stream
	entries []sampleDescription // its sample descriptions
	scale   uint32              // ticks per second
	media   int64               // declared duration, in ticks

	// The edit list, in ticks: presentation time is media time minus shift, and presentation ends
	// at media time end.
	shift, end int64

	table *sampleTable
	frag  fragments

	nextSample sample // valid if hasNext
	hasNext    bool
	done       bool
}

// readMovie reads a moov into r.
func (r *Reader) readMovie(moov box) error {
	mvhd, ok := r.find("mvhd", moov.off, moov.end)
	if !ok {
		return errors.New("mp4: no mvhd")
	}
	scale, duration, err := r.readTimescale(mvhd)
	if err != nil {
		return err
	}
	r.scale, r.declared = scale, duration
	return r.walk(moov.off, moov.end, func(b box) error {
		switch {
		case b.is("trak"):
			return r.readTrack(b)
		case b.is("mvex"):
			r.fragmented = true
		case b.is("cmov"):
			return errors.New("mp4: the index is compressed (cmov) by an old QuickTime: not supported")
		}
		return nil
	})
}

// readTimescale reads the timescale and duration of an mvhd or mdhd (ISO/IEC 14496-12 clauses 8.2.2
// and 8.4.2).
func (f file) readTimescale(b box) (scale uint32, duration int64, err error) {
	c, err := f.content(b, maxEntry)
	if err != nil {
		return 0, 0, err
	}
	h := newFullBox(c)
	h.u32or64() // creation_time
	h.u32or64() // modification_time
	scale = h.u32()
	all := uint64(math.MaxUint32)
	if h.version == 1 {
		all = math.MaxUint64
	}
	d := h.u32or64()
	if h.short || scale == 0 || scale > math.MaxInt32 {
		return 0, 0, fmt.Errorf("mp4: malformed %v", b.typ)
	}
	if d == all || d > maxTime { // unknown
		d = 0
	}
	return scale, int64(d), nil
}

// readTrack reads a trak. Tracks that are neither video nor audio are skipped.
func (r *Reader) readTrack(trak box) error {
	mdia, ok := r.find("mdia", trak.off, trak.end)
	if !ok {
		return errors.New("mp4: track without mdia")
	}
	kind, err := r.handlerKind(mdia)
	if err != nil || kind == media.Data {
		return err
	}
	if len(r.tracks) == maxTracks {
		return fmt.Errorf("mp4: more than %d tracks", maxTracks)
	}
	t := &track{end: math.MaxInt64}
	if err := r.readHeader(t, trak); err != nil {
		return err
	}
	mdhd, ok := r.find("mdhd", mdia.off, mdia.end)
	if !ok {
		return errors.New("mp4: track without mdhd")
	}
	if t.scale, t.media, err = r.readTimescale(mdhd); err != nil {
		return err
	}
	minf, _ := r.find("minf", mdia.off, mdia.end)
	stbl, ok := r.find("stbl", minf.off, minf.end)
	if !ok {
		return errors.New("mp4: track without sample table")
	}
	stsd, ok := r.find("stsd", stbl.off, stbl.end)
	if !ok {
		return errors.New("mp4: track without sample description")
	}
	if t.entries, err = readSampleDescriptions(r.file, stsd, kind); err != nil {
		return err
	}
	if t.table, err = readTables(r.file, stbl); err != nil {
		return err
	}
	if err := r.readEdits(t, trak); err != nil {
		return err
	}
	for i := range t.entries {
		t.entries[i].track.ID = uint8(r.countTracks(kind))
		t.entries[i].fileTrack.ID = t.entries[i].track.ID
	}
	t.stream.Track = t.entries[0].track
	t.stream.Bytes = t.table.bytes()
	t.stream.Duration = t.editedDuration()
	r.tracks = append(r.tracks, t)
	return nil
}

// countTracks returns how many tracks of kind k there are.
func (r *Reader) countTracks(k media.Kind) (n int) {
	for _, t := range r.tracks {
		if t.stream.Track.Kind == k {
			n++
		}
	}
	return n
}

// handlerKind returns the kind of a track by its handler, Data for all but video and audio.
func (r *Reader) handlerKind(mdia box) (media.Kind, error) {
	hdlr, ok := r.find("hdlr", mdia.off, mdia.end)
	if !ok || hdlr.size() < 12 {
		return 0, errors.New("mp4: track without handler")
	}
	var h [4]byte
	if err := r.read(h[:], hdlr.off+8); err != nil {
		return 0, err
	}
	switch string(h[:]) {
	case "vide":
		return media.Video, nil
	case "soun":
		return media.Audio, nil
	}
	return media.Data, nil
}

// readHeader reads a tkhd: the track's ID and the rotation of its video (clause 8.3.2).
func (r *Reader) readHeader(t *track, trak box) error {
	b, ok := r.find("tkhd", trak.off, trak.end)
	if !ok {
		return errors.New("mp4: track without tkhd")
	}
	c, err := r.content(b, maxEntry)
	if err != nil {
		return err
	}
	h := newFullBox(c)
	h.u32or64() // creation_time
	h.u32or64() // modification_time
	t.id = h.u32()
	h.u32()                   // reserved
	h.u32or64()               // duration
	h.next(8 + 2 + 2 + 2 + 2) // layer, alternate_group, volume
	a, b1 := h.u32(), h.u32() // the matrix: a b u, c d v, x y w
	h.u32()                   //
	c1, d := h.u32(), h.u32() //
	one, minus := uint32(1<<16), uint32(0xFFFF0000)
	switch {
	case h.short:
		return errors.New("mp4: malformed tkhd")
	case b1 == one && c1 == minus:
		t.stream.Rotation = 90
	case a == minus && d == minus:
		t.stream.Rotation = 180
	case b1 == minus && c1 == one:
		t.stream.Rotation = 270
	}
	return nil
}

// readEdits reads the edit list (clause 8.6.6): a delay, then one section of the media. If a list
// has several sections that are not contiguous, the media is presented from the start of the first
// section on, and the stream is marked as Edited.
func (r *Reader) readEdits(t *track, trak box) error {
	edts, _ := r.find("edts", trak.off, trak.end)
	elst, ok := r.find("elst", edts.off, edts.end)
	if !ok {
		return nil
	}
	c, err := r.content(elst, 8+maxEdits*20)
	if err != nil {
		return err
	}
	h := newFullBox(c)
	n := h.u32()
	delay, started := int64(0), false
	for range n {
		duration, at := int64(min(h.u32or64(), maxTime)), h.i32or64()
		rate := h.u32()
		if h.short {
			return errors.New("mp4: malformed edit list")
		}
		length := rescale(duration, r.scale, t.scale)
		switch {
		case at < 0 || rate == 0: // an empty edit, or a still frame
			if started {
				t.stream.Edited = true
			} else {
				delay += length
			}
		case at > maxTime:
			return errTime
		case !started:
			started = true
			t.shift = at
			if duration > 0 {
				t.end = at + length
			}
		case t.end == at && duration > 0:
			t.end += length
		default:
			t.stream.Edited = true
		}
	}
	if t.stream.Edited {
		t.end = math.MaxInt64
	}
	// The edit's duration is in the movie's coarser timescale.
	if t.end < math.MaxInt64 {
		t.end += int64(t.scale/r.scale) + 1
	}
	t.shift -= delay
	return nil
}

// editedDuration returns the duration of the track by its edit list.
func (t *track) editedDuration() time.Duration {
	end := min(t.end, t.media)
	if t.media == 0 {
		return 0
	}
	return max(t.presentationTime(end), 0)
}

// presentationTime returns the presentation time of a media time.
func (t *track) presentationTime(ticks int64) time.Duration {
	return time.Duration(rescale(ticks-t.shift, t.scale, uint32(time.Second)))
}

// rescale converts from 1/from to 1/to seconds, rounded to the nearest and clamped to the range of
// the result.
func rescale(t int64, from, to uint32) int64 {
	f, g := int64(from), int64(to)
	s, rest := t/f, t%f
	if rest < 0 {
		s, rest = s-1, rest+f
	}
	const most = math.MaxInt64 / 4
	if s > most/g || s < -most/g {
		if s > 0 {
			return most
		}
		return -most
	}
	return s*g + (rest*g+f/2)/f
}

// trackDefaults are the sample defaults of a trex, overridden by a tfhd.
type trackDefaults struct {
	entry, duration, size, flags uint32
}

// readDefaults reads the trex boxes of an mvex (clause 8.8.3).
func (r *Reader) readDefaults(moov box) error {
	mvex, ok := r.find("mvex", moov.off, moov.end)
	if !ok {
		return nil
	}
	return r.walk(mvex.off, mvex.end, func(b box) error {
		c, err := r.content(b, maxEntry)
		if err != nil {
			return err
		}
		switch {
		case b.is("mehd"):
			if d := newFullBox(c).u32or64(); d < maxTime {
				r.declared = int64(d)
			}
		case b.is("trex") && len(c) >= 24:
			id := binary.BigEndian.Uint32(c[4:])
			for _, t := range r.tracks {
				if t.id == id {
					t.frag.trex = trackDefaults{
						entry: binary.BigEndian.Uint32(c[8:]), duration: binary.BigEndian.Uint32(c[12:]),
						size: binary.BigEndian.Uint32(c[16:]), flags: binary.BigEndian.Uint32(c[20:]),
					}
				}
			}
		}
		return nil
	})
}
