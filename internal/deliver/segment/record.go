package segment

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"livego/internal/media"
	"livego/internal/ops/varint"
)

// BytesVersion is the version of the code that shapes segments, parts and playlists. It rises with each
// change of testdata/golden.txt. Servers of different versions do not make the same bytes.
const BytesVersion = 1

// OtherVersion is the BytesVersion of a server whose segments this one cannot make or continue.
type OtherVersion uint64

// recordVersion is the version of the form of records. A record of another version is refused.
const recordVersion = 1

// Limits of a record. What a Segmenter of default options can reach is far below them.
const (
	maxRecordTime     = 1 << 60 * time.Nanosecond // of the stream, 36 years: sums do not overflow
	maxRecordLength   = 24 * time.Hour            // of a segment, a target or a wait
	maxRecordFrames   = 1 << 20                   // in the open segment
	maxRecordSegments = 1 << 16
	maxRecordParts    = 1 << 16 // of a segment
	maxRecordName     = 64      // bytes of a segment's name
	maxRecordBytes    = 1 << 44 // of a segment, and of all segments
)

// AppendRecord appends sn as a record. trackID returns the number by which the reader of the record
// knows a track; it is not 0.
func (sn *Snapshot) AppendRecord(b []byte, trackID func(*media.Track) uint64) []byte {
	c := &recordCodec{b: append(b, recordVersion), trackID: trackID}
	c.snapshot(sn)
	return c.b
}

// DecodeRecord returns the Snapshot of a record. track and frame return the track of a number and the
// frame with a Seq, nil if there is none.
func DecodeRecord(b []byte, track func(id uint64) *media.Track, frame func(seq uint64) *media.Frame) (*Snapshot,
	error) {
	c := &recordCodec{r: varint.NewReader(b), track: track, frame: frame}
	if v := c.r.Byte(); v != recordVersion && c.r.Err() == nil {
		return nil, fmt.Errorf("segment: record has the unknown version %d", v)
	}
	sn := new(Snapshot)
	c.snapshot(sn)
	if err := c.r.End(); err != nil {
		return nil, fmt.Errorf("segment: invalid record: %w", err)
	}
	if err := sn.check(); err != nil {
		return nil, fmt.Errorf("segment: invalid record: %w", err)
	}
	return sn, nil
}

// A recordCodec encodes or decodes a record: its methods append a value to b or, if r is set, read it.
// So both directions have one order of fields.
type recordCodec struct {
	b       []byte
	trackID func(*media.Track) uint64

	r     *varint.Reader
	track func(uint64) *media.Track
	frame func(uint64) *media.Frame

	sets []*trackSet
}

func (c *recordCodec) snapshot(sn *Snapshot) {
	c.options(&sn.opt)
	c.state(&sn.state)
	codeSlice(c, &sn.Frames, maxRecordFrames, "number of frames", c.frameRef)
	codeNumber(c, &sn.held, maxRecordFrames, "number of held frames")
	codeSlice(c, &sn.points, maxRecordFrames, "number of points", func(p *cutPoint) {
		codeNumber(c, &p.index, maxRecordFrames, "index of a point")
		c.time(&p.at)
	})
	if c.r == nil {
		c.sets = sn.trackSets()
	}
	codeSlice(c, &c.sets, maxRecordSegments, "number of track sets", func(t **trackSet) {
		var video, audio *media.Track
		if c.r == nil {
			video, audio = (*t).pair()
		}
		c.trackRef(&video)
		c.trackRef(&audio)
		if c.r != nil {
			*t = c.newTrackSet(video, audio)
		}
	})
	c.trackSet(&sn.tracks)
	codeSlice(c, &sn.parts, maxRecordParts, "number of parts", func(p *openPart) {
		c.length(&p.duration)
		codeNumber(c, &p.end, maxRecordFrames, "end of a part")
		c.trackRef(&p.next)
		codeInt(c, &p.ticks)
	})
	c.list(&sn.list)
}

// newTrackSet returns the track set of two tracks of a record.
func (c *recordCodec) newTrackSet(video, audio *media.Track) *trackSet {
	if video != nil && video.Kind != media.Video || audio != nil && audio.Kind != media.Audio {
		c.r.Fail(errors.New("a track is not of its kind"))
		return new(trackSet)
	}
	return newTrackSet(video, audio)
}

func (c *recordCodec) options(o *Options) {
	c.length(&o.Segment)
	c.length(&o.Part)
	c.length(&o.TrackWait)
	codeNumber(c, &o.Window, maxRecordSegments, "window")
	codeNumber(c, &o.Bytes, maxRecordBytes, "limit of bytes")
}

func (c *recordCodec) state(s *state) {
	for _, n := range []*uint64{&s.epoch, &s.nextSequence, &s.discontinuitySequence, &s.nextFrame} {
		codeNumber(c, n, 1<<62, "number")
	}
	for _, d := range []*time.Duration{&s.target, &s.minTarget, &s.partTarget, &s.frameDuration} {
		c.length(d)
	}
	for _, d := range []*time.Duration{&s.newestDTS, &s.videoDTS, &s.lastRAP, &s.lastGOP, &s.repeatedGOP, &s.minStart,
		&s.start, &s.end, &s.partStart} {
		c.time(d)
	}
	for _, v := range []*bool{&s.firstSegment, &s.slow, &s.continues, &s.open, &s.discontinuous, &s.finished,
		&s.period.fixed} {
		c.bool(v)
	}
	codeNumber(c, &s.raps, 2, "number of random access points")
	c.date(&s.endDate)
	c.trackRef(&s.nextAudio)
	codeNumber(c, &s.size, maxRecordBytes, "size of a segment")
	codeNumber(c, &s.firstFrame, maxRecordFrames, "first frame of a part")
	p := &s.period
	codeNumber(c, &p.discontinuityNumber, 1<<32-1, "discontinuity")
	for _, t := range []**media.Track{&p.video, &p.audio, &p.carriedOver} {
		c.trackRef(t)
	}
	c.time(&p.start)
	c.date(&p.arrived)
}

func (c *recordCodec) list(l *listSnapshot) {
	for _, v := range []*bool{&l.ready, &l.paused, &l.ended, &l.open, &l.full, &l.hadLine} {
		c.bool(v)
	}
	c.length(&l.target)
	c.length(&l.partTarget)
	codeNumber(c, &l.listed, maxRecordSegments, "number of listed segments")
	codeNumber(c, &l.parts, maxRecordParts, "number of published parts")
	codeSlice(c, &l.segments, maxRecordSegments, "number of segments", c.segment)
}

func (c *recordCodec) segment(s *segmentSnapshot) {
	c.string(&s.name)
	c.length(&s.duration)
	codeNumber(c, &s.sequence, 1<<62, "sequence number")
	codeNumber(c, &s.discontinuitySequence, 1<<62, "discontinuity sequence number")
	c.bool(&s.discontinuity)
	c.date(&s.date)
	c.trackSet(&s.trackSet)
	codeSlice(c, &s.parts, maxRecordParts, "number of parts", func(p *partSnapshot) {
		c.length(&p.duration)
		c.bool(&p.independent)
		codeNumber(c, &p.payload[0], maxRecordBytes, "number of bytes")
		codeNumber(c, &p.payload[1], maxRecordBytes, "number of bytes")
	})
	for k := range s.totals.payload {
		codeNumber(c, &s.totals.payload[k], maxRecordBytes, "number of bytes")
		for f := range s.totals.rendered {
			codeNumber(c, &s.totals.rendered[f][k], maxRecordBytes, "number of bytes")
		}
	}
	codeNumber(c, &s.size, maxRecordBytes, "size of a segment")
	c.time(&s.keep)
	c.bool(&s.listed)
}

// codeNumber codes a number from 0 to limit.
func codeNumber[T ~int | ~uint8 | ~uint32 | ~uint64](c *recordCodec, v *T, limit uint64, what string) {
	if c.r == nil {
		c.b = varint.AppendUint(c.b, uint64(*v))
		return
	}
	*v = T(c.r.UintMax(limit, what))
}

func codeInt(c *recordCodec, v *int64) {
	if c.r == nil {
		c.b = varint.AppendInt(c.b, *v)
		return
	}
	*v = c.r.Int()
}

// codeSlice codes a slice by one of its elements. Memory grows with the elements that are there.
func codeSlice[T any](c *recordCodec, v *[]T, limit int, what string, code func(*T)) {
	if c.r == nil {
		c.b = varint.AppendCount(c.b, len(*v))
		for i := range *v {
			code(&(*v)[i])
		}
		return
	}
	n := c.r.Count(limit, what)
	for ; n > 0 && c.r.Err() == nil; n-- {
		var e T
		code(&e)
		*v = append(*v, e)
	}
}

func (c *recordCodec) bool(v *bool) {
	if c.r == nil {
		c.b = varint.AppendBool(c.b, *v)
		return
	}
	*v = c.r.Bool()
}

func (c *recordCodec) string(v *string) {
	if c.r == nil {
		c.b = varint.AppendBytes(c.b, *v)
		return
	}
	*v = c.r.String(maxRecordName, "length of a name")
}

// time codes a time or a distance in stream time.
func (c *recordCodec) time(v *time.Duration) { c.duration(v, maxRecordTime, "time") }

// length codes the length of something short.
func (c *recordCodec) length(v *time.Duration) {
	if c.duration(v, maxRecordLength, "length"); c.r != nil && *v < 0 {
		c.r.Fail(errors.New("a length is negative"))
	}
}

func (c *recordCodec) duration(v *time.Duration, limit time.Duration, what string) {
	if c.r == nil {
		c.b = varint.AppendInt(c.b, *v)
		return
	}
	*v = c.r.Duration(limit, what)
}

// date codes a time of the wall clock.
func (c *recordCodec) date(v *time.Time) {
	if c.r == nil {
		c.b = varint.AppendTime(c.b, *v)
		return
	}
	*v = c.r.Time()
}

// trackRef codes a reference to a track; 0 for nil.
func (c *recordCodec) trackRef(v **media.Track) {
	var id uint64
	if c.r == nil && *v != nil {
		id = c.trackID(*v)
	}
	if codeNumber(c, &id, 1<<62, "track"); c.r == nil || id == 0 {
		return
	}
	if *v = c.track(id); *v == nil {
		c.r.Fail(fmt.Errorf("track %d is missing", id))
	}
}

// frameRef codes a reference to a frame.
func (c *recordCodec) frameRef(v **media.Frame) {
	var seq uint64
	if c.r == nil {
		seq = (*v).Seq
	}
	if codeNumber(c, &seq, 1<<62, "frame"); c.r == nil {
		return
	}
	if *v = c.frame(seq); *v == nil {
		c.r.Fail(fmt.Errorf("frame %d is missing", seq))
	}
}

// trackSet codes a reference to a track set; 0 for nil.
func (c *recordCodec) trackSet(v **trackSet) {
	n := slices.Index(c.sets, *v) + 1
	if codeNumber(c, &n, uint64(len(c.sets)), "track set"); c.r != nil && n > 0 {
		*v = c.sets[n-1]
	}
}

// check checks that the values of sn, which come from outside, fit to each other, so that no
// Segmenter with them can panic.
func (sn *Snapshot) check() error {
	s, l, frames := &sn.state, &sn.list, len(sn.Frames)-sn.held
	switch {
	case sn.opt.Segment < time.Millisecond, sn.opt.Bytes < 1, sn.opt.Window < minWindow:
		return errors.New("invalid options")
	case frames < 0, s.open && s.firstFrame > frames:
		return errors.New("frames are missing")
	case s.nextSequence < 1 && s.open:
		return errors.New("invalid sequence number")
	case s.open != (frames > 0), !s.open && sn.held > 0:
		return errors.New("an open segment has no frame, or there are frames without one")
	case !s.open && (len(sn.parts) > 0 || len(sn.points) > 0):
		return errors.New("there is a part without a segment")
	case l.parts > len(sn.parts), l.parts > 0 && !l.open, l.open && !s.open:
		return errors.New("parts are missing")
	case l.listed > len(l.segments), l.ready && l.listed == 0:
		return errors.New("segments are missing")
	case len(sn.parts) > 0 && sn.tracks == nil:
		return errors.New("parts have no tracks")
	}
	for i, f := range sn.Frames {
		if f.Track.Kind != media.Video && f.Track.Kind != media.Audio || i > 0 && f.Seq <= sn.Frames[i-1].Seq ||
			f.Seq >= s.nextFrame {
			return fmt.Errorf("frame %d is not one of a segment", f.Seq)
		}
	}
	if err := checkEnds(sn.points, frames, func(p cutPoint) int { return p.index }); err != nil {
		return err
	}
	if err := checkEnds(sn.parts, frames, func(p openPart) int { return p.end }); err != nil {
		return err
	}
	if n := len(sn.parts); s.open && (n > 0 && sn.parts[n-1].end != s.firstFrame || n == 0 && s.firstFrame > 0) {
		return errors.New("the open part does not follow the last one")
	}
	for i := range l.segments {
		g := &l.segments[i]
		if g.trackSet == nil || len(g.parts) == 0 || g.duration <= 0 || i > 0 && g.sequence != l.segments[i-1].sequence+1 {
			return fmt.Errorf("segment %s is incomplete", g.name)
		}
	}
	return nil
}

// checkEnds checks that the ends of list rise and do not exceed limit.
func checkEnds[T any](list []T, limit int, end func(T) int) error {
	for i, e := range list {
		if end(e) > limit || i > 0 && end(e) < end(list[i-1]) {
			return errors.New("an index is out of order")
		}
	}
	return nil
}
