package fmp4

import (
	"encoding/binary"
	"fmt"
	"slices"
)

// This reader checks the written boxes. It shares no code with the writer.

// An atom is one box.
type atom struct {
	name     string
	body     []byte // without size and type
	children []atom
}

// childOffset is how many bytes of a container precede its boxes.
var childOffset = map[string]int{
	"moov": 0, "trak": 0, "mdia": 0, "minf": 0, "dinf": 0, "stbl": 0, "mvex": 0, "moof": 0, "traf": 0,
	"dref": 8, "stsd": 8,
	"avc1": 78, "hvc1": 78, "av01": 78, "vp09": 78,
	"mp4a": 28, "Opus": 28, "fLaC": 28, "ac-3": 28, "ec-3": 28,
}

// readAtoms reads boxes that fill b.
func readAtoms(b []byte) (atoms []atom, err error) {
	for len(b) > 0 {
		if len(b) < 8 {
			return nil, fmt.Errorf("%d bytes after the last box", len(b))
		}
		size := int(binary.BigEndian.Uint32(b))
		a := atom{name: string(b[4:8])}
		if size < 8 || size > len(b) {
			return nil, fmt.Errorf("%s of %d bytes where %d are left", a.name, size, len(b))
		}
		a.body, b = b[8:size], b[size:]
		if skip, ok := childOffset[a.name]; ok {
			if len(a.body) < skip {
				return nil, fmt.Errorf("%s of %d bytes", a.name, size)
			}
			if a.children, err = readAtoms(a.body[skip:]); err != nil {
				return nil, fmt.Errorf("%s: %w", a.name, err)
			}
		}
		atoms = append(atoms, a)
	}
	return atoms, nil
}

// find returns all boxes at path, depth first.
func find(atoms []atom, path ...string) (found []atom) {
	for _, a := range atoms {
		switch {
		case a.name != path[0]:
		case len(path) == 1:
			found = append(found, a)
		default:
			found = append(found, find(a.children, path[1:]...)...)
		}
	}
	return found
}

// A playedSample is one sample as a player sees it.
type playedSample struct {
	track    uint32
	dts      int64
	duration uint32
	offset   int32
	sync     bool
	data     string
}

// readFragments reads moof and mdat pairs that fill b, and checks them against ISO/IEC 14496-12:
// every byte of an mdat belongs to one sample.
func readFragments(b []byte) (seqs []uint32, units []playedSample, err error) {
	atoms, err := readAtoms(b)
	if err != nil {
		return nil, nil, err
	}
	for len(atoms) > 0 {
		if len(atoms) < 2 || atoms[0].name != "moof" || atoms[1].name != "mdat" || atoms[0].children[0].name != "mfhd" {
			return nil, nil, fmt.Errorf("no moof and mdat: %d boxes, the first %s", len(atoms), atoms[0].name)
		}
		size := 8 + len(atoms[0].body) + 8 + len(atoms[1].body)
		seqs = append(seqs, binary.BigEndian.Uint32(atoms[0].children[0].body[4:]))
		at := size - len(atoms[1].body)
		for _, traf := range find(atoms[:1], "moof", "traf") {
			more, end, err := readTraf(traf, b[:size], at)
			if err != nil {
				return nil, nil, err
			}
			units, at = append(units, more...), end
		}
		if at != size {
			return nil, nil, fmt.Errorf("mdat has %d bytes more than its samples", size-at)
		}
		b, atoms = b[size:], atoms[2:]
	}
	return seqs, units, nil
}

// readTraf reads the samples of traf in fragment, which must start at byte at, and returns where
// they end.
func readTraf(traf atom, fragment []byte, at int) (units []playedSample, end int, err error) {
	names := make([]string, 0, 3)
	for _, k := range traf.children {
		names = append(names, k.name)
	}
	if !slices.Equal(names, []string{"tfhd", "tfdt", "trun"}) {
		return nil, 0, fmt.Errorf("traf of %q", names)
	}
	tfhd, tfdt, trun := &fields{b: traf.children[0].body}, &fields{b: traf.children[1].body},
		&fields{b: traf.children[2].body}

	flags := tfhd.u32()
	if flags&^0x28 != 0x020000 {
		return nil, 0, fmt.Errorf("tfhd flags %#x", flags)
	}
	track := tfhd.u32()
	var duration, sampleFlags uint32
	if flags&0x08 != 0 {
		duration = tfhd.u32()
	}
	if flags&0x20 != 0 {
		sampleFlags = tfhd.u32()
	}
	if v := tfdt.u32(); v != 1<<24 {
		return nil, 0, fmt.Errorf("tfdt version and flags %#x", v)
	}
	dts := int64(tfdt.u32())<<32 | int64(tfdt.u32())

	run := trun.u32()
	count, start := trun.u32(), int(int32(trun.u32()))
	switch {
	case run&^0xF01 != 1<<24 || run&0x201 != 0x201:
		return nil, 0, fmt.Errorf("trun version and flags %#x", run)
	case (flags&0x08 == 0) != (run&0x100 != 0) || (flags&0x20 == 0) != (run&0x400 != 0):
		return nil, 0, fmt.Errorf("trun flags %#x with tfhd flags %#x", run, flags)
	case start != at:
		return nil, 0, fmt.Errorf("samples of track %d start at %d, not at %d", track, start, at)
	}
	for range count {
		if run&0x100 != 0 {
			duration = trun.u32()
		}
		size := int(trun.u32())
		if run&0x400 != 0 {
			sampleFlags = trun.u32()
		}
		var offset uint32
		if run&0x800 != 0 {
			offset = trun.u32()
		}
		if size < 0 || size > len(fragment)-at {
			return nil, 0, fmt.Errorf("sample of %d bytes where %d are left", size, len(fragment)-at)
		}
		if sampleFlags != 0x02000000 && sampleFlags != 0x01010000 {
			return nil, 0, fmt.Errorf("sample flags %#x", sampleFlags)
		}
		units = append(units, playedSample{
			track: track, dts: dts, duration: duration, offset: int32(offset), sync: sampleFlags == 0x02000000,
			data: string(fragment[at:][:size]),
		})
		at += size
		dts += int64(duration)
	}
	for _, f := range []*fields{tfhd, tfdt, trun} {
		if f.short || len(f.b) != 0 {
			return nil, 0, fmt.Errorf("box of track %d: short %v, %d bytes left", track, f.short, len(f.b))
		}
	}
	return units, at, nil
}

// fields reads numbers from a box.
type fields struct {
	b     []byte
	short bool
}

func (f *fields) u32() uint32 {
	if len(f.b) < 4 {
		f.short = true
		return 0
	}
	v := binary.BigEndian.Uint32(f.b)
	f.b = f.b[4:]
	return v
}
