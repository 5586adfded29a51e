package mp4

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"math"
)

// Flags of tfhd, trun and samples (ISO/IEC 14496-12 clauses 8.8.7, 8.8.8 and 8.8.3.1).
const (
	tfhdBaseOffset = 0x1
	tfhdEntry      = 0x2
	tfhdDuration   = 0x8
	tfhdSize       = 0x10
	tfhdFlags      = 0x20

	trunOffset     = 0x1
	trunFirstFlags = 0x4
	trunDuration   = 0x100
	trunSize       = 0x200
	trunFlags      = 0x400
	trunCTS        = 0x800

	sampleIsNonSync = 0x10000
)

const (
	// maxAhead and maxAheadBytes limit the number and size of the runs of one track that are
	// buffered while a run of another is searched.
	maxAhead      = 64
	maxAheadBytes = 16 << 20
	// maxImplicitSamples is how many samples a run without per-sample fields may have: its count
	// takes no bytes.
	maxImplicitSamples = 1 << 16
)

// fragments holds the runs of one track that were read but not used yet.
type fragments struct {
	trex trackDefaults
	runs []run
	dts  int64 // decoding time of the next run without its own
}

// A run is one trun.
type run struct {
	entries  []byte // fields of the samples, by flags
	flags    uint32
	first    uint32 // flags of the first sample, if trunFirstFlags is set
	n, i     uint32
	off      int64
	dts      int64
	defaults trackDefaults
}

// next returns the next buffered sample, io.EOF if there is none.
func (f *fragments) next() (sample, error) {
	for len(f.runs) > 0 && f.runs[0].i >= f.runs[0].n {
		f.runs = f.runs[1:]
	}
	if len(f.runs) == 0 {
		return sample{}, io.EOF
	}
	return f.runs[0].next()
}

func (r *run) next() (sample, error) {
	m := sample{off: r.off, dts: r.dts, size: r.defaults.size, duration: r.defaults.duration, entry: r.defaults.entry}
	flags := r.defaults.flags
	if r.i == 0 && r.flags&trunFirstFlags != 0 {
		flags = r.first
	}
	for _, field := range []struct {
		flag uint32
		v    *uint32
	}{{trunDuration, &m.duration}, {trunSize, &m.size}, {trunFlags, &flags}} {
		if r.flags&field.flag != 0 {
			*field.v = r.u32()
		}
	}
	if r.flags&trunCTS != 0 {
		m.cts = int64(int32(r.u32()))
	}
	m.sync = flags&sampleIsNonSync == 0
	r.i++
	r.off += int64(m.size)
	if r.dts += int64(m.duration); r.dts > maxTime {
		return m, errTime
	}
	return m, nil
}

// u32 reads a field of the entries. Their size was checked before.
func (r *run) u32() uint32 {
	v := binary.BigEndian.Uint32(r.entries)
	r.entries = r.entries[4:]
	return v
}

// readAheadFull reports whether some track has reached the read-ahead limit.
func (r *Reader) readAheadFull() bool {
	size := 0
	for _, t := range r.tracks {
		if len(t.frag.runs) > maxAhead {
			return true
		}
		for _, u := range t.frag.runs {
			size += len(u.entries)
		}
	}
	return size > maxAheadBytes
}

// nextFragment reads the next moof. io.EOF is the end of the file.
func (r *Reader) nextFragment() error {
	for r.pos < r.size {
		b, err := r.boxAt(r.pos, r.size)
		if err != nil {
			return asUnexpectedEOF(err)
		}
		r.pos = b.end
		if b.is("moof") {
			return r.readFragment(b)
		}
	}
	return io.EOF
}

// asUnexpectedEOF turns errBoxTruncated into io.ErrUnexpectedEOF.
func asUnexpectedEOF(err error) error {
	if errors.Is(err, errBoxTruncated) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// readFragment reads the runs of a moof into the tracks.
func (r *Reader) readFragment(moof box) error {
	b, err := r.content(moof, maxFragment)
	if err != nil {
		return err
	}
	mem := file{bytes.NewReader(b), int64(len(b))}
	end := moof.head // end of the previous run's data, for runs that follow it
	return mem.walk(0, mem.size, func(traf box) error {
		if !traf.is("traf") {
			return nil
		}
		return r.readTraf(mem, traf, moof.head, &end)
	})
}

// readTraf reads a traf of the moof that starts at start.
func (r *Reader) readTraf(f file, traf box, start int64, end *int64) error {
	tfhd, ok := f.find("tfhd", traf.off, traf.end)
	if !ok {
		return errors.New("mp4: fragment without tfhd")
	}
	c, err := f.content(tfhd, maxFragment)
	if err != nil {
		return err
	}
	h := newFullBox(c)
	t := r.track(h.u32())
	if t == nil { // a track that is not read
		return nil
	}
	d, base := t.frag.trex, start
	if h.flags&tfhdBaseOffset != 0 {
		base = int64(min(h.u64(), math.MaxInt64/2))
	}
	for _, field := range []struct {
		flag uint32
		v    *uint32
	}{{tfhdEntry, &d.entry}, {tfhdDuration, &d.duration}, {tfhdSize, &d.size}, {tfhdFlags, &d.flags}} {
		if h.flags&field.flag != 0 {
			*field.v = h.u32()
		}
	}
	if h.short {
		return errors.New("mp4: malformed tfhd")
	}
	d.entry-- // zero-based; an invalid 0 is detected when it is used
	if tfdt, ok := f.find("tfdt", traf.off, traf.end); ok {
		if c, err = f.content(tfdt, maxFragment); err != nil {
			return err
		}
		at := newFullBox(c).u32or64()
		if at > maxTime {
			return errTime
		}
		t.frag.dts = int64(at)
	}
	*end = base
	return f.walk(traf.off, traf.end, func(b box) error {
		if !b.is("trun") {
			return nil
		}
		c, err := f.content(b, maxFragment)
		if err != nil {
			return err
		}
		return t.frag.addRun(c, d, base, end)
	})
}

// addRun adds the run of a trun.
func (f *fragments) addRun(trun []byte, d trackDefaults, base int64, end *int64) error {
	h := newFullBox(trun)
	u := run{n: h.u32(), flags: h.flags, off: *end, dts: f.dts, defaults: d}
	if h.flags&trunOffset != 0 {
		u.off = base + int64(int32(h.u32()))
	}
	if h.flags&trunFirstFlags != 0 {
		u.first = h.u32()
	}
	fields := int64(0)
	for _, flag := range []uint32{trunDuration, trunSize, trunFlags, trunCTS} {
		if h.flags&flag != 0 {
			fields++
		}
	}
	u.entries = h.b
	implicit := fields == 0
	if h.short || u.off < 0 || int64(len(h.b)) < 4*fields*int64(u.n) || implicit &&
		(u.n > maxImplicitSamples || d.size == 0) {
		return errors.New("mp4: malformed trun")
	}
	f.runs = append(f.runs, u)
	// Find where the next run starts, in the file and in time.
	if implicit {
		f.dts, *end = u.dts+int64(u.n)*int64(d.duration), u.off+int64(u.n)*int64(d.size)
		return nil
	}
	for scan := u; scan.i < scan.n; {
		if _, err := scan.next(); err != nil {
			return err
		}
		f.dts, *end = scan.dts, scan.off
	}
	return nil
}

// track returns the track with that ID, nil if there is none.
func (r *Reader) track(id uint32) *track {
	for _, t := range r.tracks {
		if t.id == id {
			return t
		}
	}
	return nil
}

// readLastFragments finds the duration of a fragmented file that does not declare it: by the end of
// its last fragments, which are found by box headers only.
func (r *Reader) readLastFragments(from int64) {
	const last = 4 // a fragment may hold only one track
	var moofs []box
	for n := 0; from < r.size && n < maxTopLevel; n++ {
		b, err := r.boxAt(from, r.size)
		if err != nil {
			break
		}
		if b.is("moof") {
			if moofs = append(moofs, b); len(moofs) > last {
				moofs = moofs[1:]
			}
		}
		from = b.end
	}
	for _, b := range moofs {
		if err := r.readFragment(b); err != nil {
			break
		}
	}
	for _, t := range r.tracks {
		if d := t.presentationTime(t.frag.dts); t.frag.dts > 0 && d > t.stream.Duration {
			t.stream.Duration = d
		}
		t.frag.runs, t.frag.dts = nil, 0
	}
}
