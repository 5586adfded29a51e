package fmp4

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"math/bits"
	"slices"
	"time"

	"livego/internal/media"
)

const (
	// maxFragment is the largest fragment in bytes: trun's data_offset is a signed 32-bit number.
	maxFragment = math.MaxInt32
	// maxSpan limits the duration and composition time of a frame, so that no product overflows.
	maxSpan = time.Hour
)

// Sample flags (ISO/IEC 14496-12 clause 8.8.3.1).
const (
	sampleSync    = 2 << 24       // sample_depends_on 2: on no other
	sampleNonSync = 1<<24 | 1<<16 // sample_depends_on 1: on others; sample_is_non_sync_sample
)

// Flags of tfhd and trun that say which fields are present (ISO/IEC 14496-12 clauses 8.8.7 and
// 8.8.8).
const (
	tfhdDuration       = 0x08
	tfhdFlags          = 0x20
	tfhdBaseIsMoof     = 0x020000
	trunDataOffset     = 0x001
	trunDuration       = 0x100
	trunSize           = 0x200
	trunFlags          = 0x400
	trunOffset         = 0x800
	sizeMfhd, sizeTfdt = fullBox + 4, fullBox + 8
)

// A TrackEnd is the end of a track's last sample in a fragment. It is ignored for a track that is
// not in the fragment, or that continues with another timescale.
type TrackEnd struct {
	Track *media.Track
	Ticks int64 // Ticks of the track's next frame
}

// AppendFragment appends one movie fragment to dst: a moof with sequence number seq, and an mdat.
// frames are published, in stream order, and of tracks that Carries accepts. In the mdat, the
// samples of a track are contiguous, video first. Without frames, dst is returned unchanged.
//
// The duration of a sample is the distance to the next of its track; that of the last sample is up
// to its TrackEnd, else Frame.Duration. So the durations of consecutive fragments match the
// decoding times if the caller knows the next frame, or if durations are exact, as for audio. A
// frame whose decoding time is before that of the previous frame, because the encoder's clock
// jitters, gets the decoding time of that frame and keeps its presentation time.
//
// A random access point, including a recovery point, is a sync sample: players start nowhere else.
//
// It is an error, and dst is returned unchanged, if a track changes its configuration within
// frames, which requires another init segment, or if a number does not fit its field: a fragment
// above 2 GiB, a time before 0.
func AppendFragment(dst []byte, seq uint32, frames []*media.Frame, ends ...TrackEnd) ([]byte, error) {
	if len(frames) == 0 {
		return dst, nil
	}
	p, err := newLayout(frames, ends)
	if err != nil {
		return dst, fmt.Errorf("fmp4: %w", err)
	}
	if need := len(dst) + int(p.fragmentSize()); need > cap(dst) {
		dst = append(make([]byte, 0, need), dst...)
	}
	return p.write(dst, seq), nil
}

// A layout is a fragment whose sizes and times are known.
type layout struct {
	frames  []*media.Frame
	samples []sample // one for each frame
	runs    []run    // by track ID
}

// A sample holds the fields of a frame in trun, except its size.
type sample struct {
	track           uint32
	duration, flags uint32
	offset          int32 // composition time minus decoding time
}

// A run is the samples of one track.
type run struct {
	track *media.Track
	id    uint32
	count int

	first, newest int    // indexes into samples
	start, at     int64  // decoding times of first and newest
	bytes         int64  // of payload
	varying       uint32 // trun flags of the fields that differ between samples
}

func newLayout(frames []*media.Frame, ends []TrackEnd) (*layout, error) {
	p := &layout{frames: frames, samples: make([]sample, len(frames)), runs: make([]run, 0, 2)}
	for i := range frames {
		if err := p.addFrame(i); err != nil {
			return nil, err
		}
	}
	for i := range p.runs {
		if err := p.finish(&p.runs[i], ends); err != nil {
			return nil, err
		}
	}
	if p.fragmentSize() > maxFragment {
		return nil, errors.New("fragment exceeds 2 GiB")
	}
	return p, nil
}

// addFrame adds frame i to its run, which ends the sample before it.
func (p *layout) addFrame(i int) error {
	f, s := p.frames[i], &p.samples[i]
	r, err := p.run(f.Track, i)
	if err != nil {
		return err
	}
	if f.Ticks < 0 {
		return fmt.Errorf("%s frame at %d is before the start of the stream", f.Track.Kind, f.Ticks)
	}
	if r.count == 0 {
		r.start, r.at = f.Ticks, f.Ticks
	} else if err := p.endSample(r, f.Ticks); err != nil {
		return err
	}
	r.at = max(r.at, f.Ticks)
	if s.offset, err = offset(f, r.at); err != nil {
		return err
	}
	s.track, s.flags = r.id, sampleNonSync
	if f.RAP != media.NoRandomAccess || f.Track.Kind == media.Audio {
		s.flags = sampleSync
	}
	if s.offset != 0 {
		r.varying |= trunOffset
	}
	if s.flags != p.samples[r.first].flags {
		r.varying |= trunFlags
	}
	r.newest = i
	r.count++
	r.bytes += int64(len(f.Payload))
	return nil
}

// run returns the run of t, new if frame i is the first of t.
func (p *layout) run(t *media.Track, i int) (*run, error) {
	if kindOf(t.Codec) != t.Kind {
		return nil, fmt.Errorf("%s %s has no sample entry", t.Kind, t.Codec)
	}
	id := trackID(t)
	at, found := slices.BinarySearchFunc(p.runs, id, func(r run, id uint32) int { return cmp.Compare(r.id, id) })
	if !found {
		p.runs = slices.Insert(p.runs, at, run{track: t, id: id, first: i})
	}
	r := &p.runs[at]
	if o := r.track; o != t && (o.Codec != t.Codec || o.Timescale != t.Timescale || !bytes.Equal(o.Config, t.Config)) {
		return nil, fmt.Errorf("%s track %d changes its configuration within a fragment", t.Kind, t.ID)
	}
	return r, nil
}

// finish ends the last sample of r.
func (p *layout) finish(r *run, ends []TrackEnd) error {
	for _, e := range ends {
		if t := e.Track; t.Kind == r.track.Kind && t.ID == r.track.ID && t.Timescale == r.track.Timescale {
			return p.endSample(r, e.Ticks)
		}
	}
	d := min(max(p.frames[r.newest].Duration, 0), maxSpan)
	return p.endSample(r, r.at+scale(d, r.track.Timescale))
}

// endSample ends the last sample of r at time end, or at its start if end is earlier.
func (p *layout) endSample(r *run, end int64) error {
	d := max(end-r.at, 0)
	if d > math.MaxUint32 {
		return fmt.Errorf("%s sample duration of %d ticks is too long", r.track.Kind, d)
	}
	p.samples[r.newest].duration = uint32(d)
	if p.samples[r.newest].duration != p.samples[r.first].duration {
		r.varying |= trunDuration
	}
	return nil
}

// offset returns the composition time of f relative to its decoding time at.
func offset(f *media.Frame, at int64) (int32, error) {
	d := f.PTS - f.DTS
	if d < -maxSpan || d > maxSpan {
		return 0, fmt.Errorf("%s composition time of %v is out of range", f.Track.Kind, d)
	}
	o := f.Ticks - at + scale(d, f.Track.Timescale)
	if o != int64(int32(o)) {
		return 0, fmt.Errorf("%s composition time of %d ticks is out of range", f.Track.Kind, o)
	}
	return int32(o), nil
}

// scale converts d, at most maxSpan, to ticks of 1/rate s, rounded to the nearest.
func scale(d time.Duration, rate uint32) int64 {
	s, rest := int64(d/time.Second), int64(d%time.Second)
	if rest < 0 {
		s, rest = s-1, rest+int64(time.Second)
	}
	return s*int64(rate) + (rest*int64(rate)+int64(time.Second)/2)/int64(time.Second)
}

// fragmentSize returns the size of the fragment in bytes.
func (p *layout) fragmentSize() int64 {
	n := p.moofSize() + boxHeader
	for i := range p.runs {
		n += p.runs[i].bytes
	}
	return n
}

// moofSize returns the size of the moof in bytes.
func (p *layout) moofSize() int64 {
	n := int64(boxHeader + sizeMfhd)
	for i := range p.runs {
		n += p.runs[i].trafSize()
	}
	return n
}

func (r *run) trafSize() int64 { return boxHeader + r.tfhdSize() + sizeTfdt + r.trunSize() }

// tfhdSize returns the size of tfhd in bytes: it has the duration and the flags if they are the
// same for all samples.
func (r *run) tfhdSize() int64 {
	n := int64(fullBox + 4)
	if r.varying&trunDuration == 0 {
		n += 4
	}
	if r.varying&trunFlags == 0 {
		n += 4
	}
	return n
}

// trunSize returns the size of trun in bytes: it has the size of each sample, and what differs
// between samples.
func (r *run) trunSize() int64 {
	return fullBox + 8 + int64(r.count)*4*int64(1+bits.OnesCount32(r.varying))
}

// write appends the fragment to dst.
func (p *layout) write(dst []byte, seq uint32) []byte {
	at := p.moofSize() + boxHeader // offset of the next run's samples from the moof
	payload := p.fragmentSize() - at
	dst = appendBoxHeader(dst, "moof", int(p.moofSize()))
	dst = appendFullBoxHeader(dst, "mfhd", sizeMfhd, 0, 0)
	dst = binary.BigEndian.AppendUint32(dst, seq)
	for i := range p.runs {
		dst = p.appendTraf(dst, &p.runs[i], uint32(at))
		at += p.runs[i].bytes
	}
	dst = appendBoxHeader(dst, "mdat", int(boxHeader+payload))
	for i := range p.runs {
		for j, f := range p.frames {
			if p.samples[j].track == p.runs[i].id {
				dst = append(dst, f.Payload...)
			}
		}
	}
	return dst
}

// appendTraf appends the traf of r, whose samples start at bytes after the start of the moof.
func (p *layout) appendTraf(dst []byte, r *run, at uint32) []byte {
	first := &p.samples[r.first]
	dst = appendBoxHeader(dst, "traf", int(r.trafSize()))

	flags := uint32(tfhdBaseIsMoof)
	if r.varying&trunDuration == 0 {
		flags |= tfhdDuration
	}
	if r.varying&trunFlags == 0 {
		flags |= tfhdFlags
	}
	dst = appendFullBoxHeader(dst, "tfhd", int(r.tfhdSize()), 0, flags)
	dst = binary.BigEndian.AppendUint32(dst, r.id)
	if flags&tfhdDuration != 0 {
		dst = binary.BigEndian.AppendUint32(dst, first.duration)
	}
	if flags&tfhdFlags != 0 {
		dst = binary.BigEndian.AppendUint32(dst, first.flags)
	}

	dst = appendFullBoxHeader(dst, "tfdt", sizeTfdt, 1, 0)
	dst = binary.BigEndian.AppendUint64(dst, uint64(r.start))

	dst = appendFullBoxHeader(dst, "trun", int(r.trunSize()), 1, trunDataOffset|trunSize|r.varying)
	dst = binary.BigEndian.AppendUint32(dst, uint32(r.count))
	dst = binary.BigEndian.AppendUint32(dst, at)
	for i, s := range p.samples {
		if s.track == r.id {
			dst = s.append(dst, len(p.frames[i].Payload), r.varying)
		}
	}
	return dst
}

// append appends the fields of s that vary in its run, and the size of its frame.
func (s sample) append(dst []byte, size int, vary uint32) []byte {
	if vary&trunDuration != 0 {
		dst = binary.BigEndian.AppendUint32(dst, s.duration)
	}
	dst = binary.BigEndian.AppendUint32(dst, uint32(size))
	if vary&trunFlags != 0 {
		dst = binary.BigEndian.AppendUint32(dst, s.flags)
	}
	if vary&trunOffset != 0 {
		dst = binary.BigEndian.AppendUint32(dst, uint32(s.offset))
	}
	return dst
}
