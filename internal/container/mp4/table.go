package mp4

import (
	"encoding/binary"
	"errors"
	"io"
	"math"
)

// A table is the array in a box of a sample table, read through a window: a film has megabytes of
// them.
type table struct {
	f      file
	off    int64
	entry  int64 // bytes of one entry
	n      uint32
	window []byte
	first  uint32 // the entry at the start of the window
}

const windowSize = 8 << 10

// newTable returns the table whose entry count is skip bytes into b.
func newTable(f file, b box, skip, entry int64) (table, error) {
	if b.size() < skip+4 {
		return table{}, errBoxTruncated
	}
	var n [4]byte
	if err := f.read(n[:], b.off+skip); err != nil {
		return table{}, err
	}
	t := table{f: f, off: b.off + skip + 4, entry: entry, n: binary.BigEndian.Uint32(n[:])}
	if int64(t.n)*entry > b.end-t.off {
		return table{}, errBoxTruncated
	}
	return t, nil
}

// at returns entry i, valid until the next call.
func (t *table) at(i uint32) ([]byte, error) {
	if i >= t.n {
		return nil, io.EOF
	}
	if have := uint32(int64(len(t.window)) / t.entry); i < t.first || i-t.first >= have {
		if t.window == nil {
			t.window = make([]byte, windowSize)
		}
		left := int64(t.n-i) * t.entry
		t.window = t.window[:min(left, windowSize/t.entry*t.entry)]
		t.first = i
		if err := t.f.read(t.window, t.off+int64(i)*t.entry); err != nil {
			t.window = t.window[:0]
			return nil, err
		}
	}
	at := int64(i-t.first) * t.entry
	return t.window[at : at+t.entry], nil
}

// u32 returns entry i, which consists of one 32-bit field.
func (t *table) u32(i uint32) (uint32, error) {
	b, err := t.at(i)
	if err != nil {
		return 0, err
	}
	return binary.BigEndian.Uint32(b), nil
}

// A sample is the position and time of a frame.
type sample struct {
	off      int64
	size     uint32
	dts, cts int64 // in the track's timescale; cts is the composition offset
	duration uint32
	sync     bool
	entry    uint32 // its sample description, zero-based
}

// A sampleTable lists the samples of a track (ISO/IEC 14496-12 clauses 8.5 to 8.7). The zero value
// has none.
type sampleTable struct {
	stts, ctts, stsc, stco, stsz, stss table

	is64    bool   // stco is a co64
	fixed   uint32 // size of every sample, 0 if stsz has the sizes
	samples uint32
	hasSync bool // there is an stss: only samples in it are sync samples

	cur cursor
}

// A cursor is the position of the next sample in the tables.
type cursor struct {
	sample         uint32
	stts, ctts     uint32 // entries
	sttsAt, cttsAt uint32 // samples of the entry already read
	stsc           uint32
	chunk          uint32 // from 0
	inChunk        uint32
	chunkOff       int64 // offset of the next sample in the chunk
	stss           uint32
	dts            int64
}

// readTables locates the tables of an stbl.
func readTables(f file, stbl box) (*sampleTable, error) {
	s := &sampleTable{}
	err := f.walk(stbl.off, stbl.end, func(b box) error {
		var err error
		switch string(b.typ[:]) {
		case "stts":
			s.stts, err = newTable(f, b, 4, 8)
		case "ctts":
			s.ctts, err = newTable(f, b, 4, 8)
		case "stsc":
			s.stsc, err = newTable(f, b, 4, 12)
		case "stco":
			s.stco, err = newTable(f, b, 4, 4)
		case "co64":
			s.stco, err = newTable(f, b, 4, 8)
			s.is64 = true
		case "stss":
			s.stss, err = newTable(f, b, 4, 4)
			s.hasSync = true
		case "stsz":
			err = s.sizes(f, b)
		}
		return err
	})
	return s, err
}

// sizes reads an stsz: one size for all samples, or a table.
func (s *sampleTable) sizes(f file, b box) error {
	var h [12]byte
	if b.size() < 12 {
		return errBoxTruncated
	}
	if err := f.read(h[:], b.off); err != nil {
		return err
	}
	s.fixed, s.samples = binary.BigEndian.Uint32(h[4:]), binary.BigEndian.Uint32(h[8:])
	if s.fixed != 0 {
		return nil
	}
	var err error
	s.stsz, err = newTable(f, b, 8, 4)
	return err
}

// bytes returns the size of all samples together, 0 if summing it up would take too long.
func (s *sampleTable) bytes() int64 {
	if s.fixed != 0 {
		return int64(s.fixed) * int64(s.samples)
	}
	const most = 4 << 20 // two days of video
	if s.samples > most {
		return 0
	}
	var sum int64
	for i := range s.samples {
		n, err := s.stsz.u32(i)
		if err != nil {
			return 0
		}
		sum += int64(n)
	}
	return sum
}

func (s *sampleTable) rewind() { s.cur = cursor{} }

// maxTime limits times so that sums do not overflow. It is years even in the finest timescale.
const maxTime = math.MaxInt64 / 4

// next returns the next sample, io.EOF after the last.
func (s *sampleTable) next() (sample, error) {
	a := &s.cur
	if a.sample >= s.samples {
		return sample{}, io.EOF
	}
	m := sample{dts: a.dts, size: s.fixed, sync: true}
	for _, read := range []func(*sample) error{s.readPosition, s.readTime, s.readCompositionOffset, s.readSync} {
		if err := read(&m); err != nil {
			return sample{}, tableError(err)
		}
	}
	a.sample++
	if a.dts += int64(m.duration); a.dts > maxTime {
		return sample{}, errTime
	}
	return m, nil
}

var (
	errTables = errors.New("mp4: inconsistent sample tables")
	errTime   = errors.New("mp4: timestamp out of range")
)

// tableError turns the end of a table into errTables: only the end of the track is an io.EOF.
func tableError(err error) error {
	if errors.Is(err, io.EOF) {
		return errTables
	}
	return err
}

// readPosition reads size, offset and sample description of the next sample.
func (s *sampleTable) readPosition(m *sample) error {
	a := &s.cur
	if s.fixed == 0 {
		n, err := s.stsz.u32(a.sample)
		if err != nil {
			return err
		}
		m.size = n
	}
	for {
		b, err := s.stsc.at(a.stsc)
		if err != nil {
			return err
		}
		samples := binary.BigEndian.Uint32(b[4:])
		m.entry = binary.BigEndian.Uint32(b[8:]) - 1
		if a.inChunk < samples {
			break
		}
		a.chunk++
		a.inChunk = 0
		if next, err := s.stsc.at(a.stsc + 1); err == nil && a.chunk+1 >= binary.BigEndian.Uint32(next) {
			a.stsc++
		}
		if a.chunk >= s.stco.n {
			return errTables
		}
	}
	if a.inChunk == 0 {
		b, err := s.stco.at(a.chunk)
		if err != nil {
			return err
		}
		if s.is64 {
			a.chunkOff = int64(min(binary.BigEndian.Uint64(b), maxTime))
		} else {
			a.chunkOff = int64(binary.BigEndian.Uint32(b))
		}
	}
	m.off = a.chunkOff
	a.chunkOff += int64(m.size)
	a.inChunk++
	return nil
}

func (s *sampleTable) readTime(m *sample) error {
	a := &s.cur
	for {
		b, err := s.stts.at(a.stts)
		if err != nil {
			return err
		}
		if m.duration = binary.BigEndian.Uint32(b[4:]); a.sttsAt < binary.BigEndian.Uint32(b) {
			a.sttsAt++
			break
		}
		a.stts, a.sttsAt = a.stts+1, 0
	}
	if m.duration > math.MaxInt32 { // some writers correct the time by a negative duration
		m.duration = 0
	}
	return nil
}

// readCompositionOffset reads the offset as signed in version 0 too, as QuickTime and other writers
// mean it.
func (s *sampleTable) readCompositionOffset(m *sample) error {
	a := &s.cur
	for s.ctts.n > 0 {
		b, err := s.ctts.at(a.ctts)
		if err != nil {
			return nil // later samples have no offset
		}
		if a.cttsAt < binary.BigEndian.Uint32(b) {
			a.cttsAt++
			m.cts = int64(int32(binary.BigEndian.Uint32(b[4:])))
			break
		}
		a.ctts, a.cttsAt = a.ctts+1, 0
	}
	return nil
}

func (s *sampleTable) readSync(m *sample) error {
	if !s.hasSync {
		return nil
	}
	m.sync = false
	a := &s.cur
	for a.stss < s.stss.n {
		n, err := s.stss.u32(a.stss)
		if err != nil {
			return err
		}
		if n > a.sample+1 {
			return nil
		}
		a.stss++
		if n == a.sample+1 {
			m.sync = true
			return nil
		}
	}
	return nil
}
