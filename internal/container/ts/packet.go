package ts

import (
	"encoding/binary"

	"livego/internal/media"
)

// packets writes transport packets. Continuity counters start at 0 with each value, and each PID's
// first packet signals it as a discontinuity.
type packets struct {
	buf      []byte
	counters [4]counter
}

type counter struct {
	begun bool
	next  byte
}

// maxAudioPES is the largest payload of a PES packet with a length field: 16 bits, minus the
// optional header.
const maxAudioPES = 0xFFFF - 3 - 5

// A pes is the header of a PES packet. Times are in 1/90000 s.
type pes struct {
	pid          uint16
	streamID     byte
	unbounded    bool // without a length, which is valid for video only
	pts, dts     int64
	hasPCR       bool // its first packet has the program clock reference
	randomAccess bool // random access point
}

// writePES writes one PES packet with payload es.
func (p *packets) writePES(h pes, es []byte) {
	var header [19]byte
	head := appendPESHeader(header[:0], h, len(es))
	for first := true; first || len(es) > 0; first = false {
		a := adaptation{}
		if first {
			a.randomAccess, a.hasPCR, a.pcr = h.randomAccess, h.hasPCR, h.dts-pcrLead
		}
		n := p.writeHeader(h.pid, first, a, len(head)+len(es))
		p.buf = append(p.buf, head...)
		n -= len(head)
		head = nil
		p.buf = append(p.buf, es[:n]...)
		es = es[n:]
	}
}

// appendPESHeader appends the header of a PES packet with n bytes of payload (ISO/IEC 13818-1
// clause 2.4.3.7).
func appendPESHeader(dst []byte, h pes, n int) []byte {
	const (
		onlyPTS = 0x2
		bothPTS = 0x3
		onlyDTS = 0x1
	)
	flags, size := byte(onlyPTS), 5
	if h.dts != h.pts {
		flags, size = bothPTS, 10
	}
	length := 0
	if !h.unbounded {
		length = 3 + size + n
	}
	dst = append(dst, 0, 0, 1, h.streamID)
	dst = binary.BigEndian.AppendUint16(dst, uint16(length))
	dst = append(dst, 0x84, flags<<6, byte(size)) // data_alignment_indicator
	dst = appendTimestamp(dst, flags, h.pts)
	if flags == bothPTS {
		dst = appendTimestamp(dst, onlyDTS, h.dts)
	}
	return dst
}

// appendTimestamp appends the low 33 bits of t with the marker bits between them.
func appendTimestamp(dst []byte, prefix byte, t int64) []byte {
	return append(dst,
		prefix<<4|byte(t>>29)&0x0E|1,
		byte(t>>22), byte(t>>14)|1,
		byte(t>>7), byte(t<<1)|1)
}

// adaptation is the content of a packet's adaptation field.
type adaptation struct {
	randomAccess bool
	hasPCR       bool
	pcr          int64 // 90 kHz
}

// writeHeader writes the header and the adaptation field of a packet of pid, for n bytes of payload
// or as many as fit. It returns how many fit; exactly that many must follow.
func (p *packets) writeHeader(pid uint16, unitStart bool, a adaptation, n int) (room int) {
	c := p.counter(pid)
	var flags byte
	if !c.begun {
		flags |= 0x80 // discontinuity_indicator
		c.begun = true
	}
	if a.randomAccess {
		flags |= 0x40
	}
	if a.hasPCR {
		flags |= 0x10
	}
	const header = 4
	field := 0 // bytes of the adaptation field, length byte included
	switch {
	case a.hasPCR:
		field = 8
	case flags != 0:
		field = 2
	}
	room = packetSize - header - field
	stuffing := max(0, room-n)
	room -= stuffing
	field += stuffing

	start, control := byte(0), byte(0x10)
	if unitStart {
		start = 0x40
	}
	if field > 0 {
		control = 0x30
	}
	p.buf = append(p.buf, 0x47, start|byte(pid>>8), byte(pid), control|c.next)
	c.next = (c.next + 1) & 0xF
	if field > 0 {
		p.adaptationField(field, flags, a.pcr)
	}
	return room
}

// adaptationField writes a field of size bytes (ISO/IEC 13818-1 clause 2.4.3.4).
func (p *packets) adaptationField(size int, flags byte, pcr int64) {
	p.buf = append(p.buf, byte(size-1))
	if size == 1 {
		return
	}
	end := len(p.buf) + size - 1
	p.buf = append(p.buf, flags)
	if flags&0x10 != 0 {
		// 33 bits of base, 6 reserved, 9 of extension, which is 0.
		p.buf = append(p.buf, byte(pcr>>25), byte(pcr>>17), byte(pcr>>9), byte(pcr>>1), byte(pcr<<7)|0x7E, 0)
	}
	for len(p.buf) < end {
		p.buf = append(p.buf, 0xFF)
	}
}

func (p *packets) counter(pid uint16) *counter {
	switch pid {
	case pidPAT:
		return &p.counters[0]
	case pidPMT:
		return &p.counters[1]
	case pidVideo:
		return &p.counters[2]
	}
	return &p.counters[3]
}

// writeTables writes PAT and PMT (ISO/IEC 13818-1 clauses 2.4.4.3 and 2.4.4.8): one program, number
// 1.
func (m *muxer) writeTables() {
	const program = 1
	pat := []byte{0, program, 0xE0 | pidPMT>>8, pidPMT & 0xFF}
	m.packets.writeSection(pidPAT, 0x00, program, pat)

	pcrPID := m.video.pid
	if m.video.announced == nil {
		pcrPID = m.audio.pid
	}
	pmt := []byte{0xE0 | byte(pcrPID>>8), byte(pcrPID), 0xF0, 0}
	for _, e := range []muxStream{m.video, m.audio} {
		if e.announced != nil {
			desc := descriptors(e.announced)
			pmt = append(pmt, streamType(e.announced), 0xE0|byte(e.pid>>8), byte(e.pid), 0xF0, byte(len(desc)))
			pmt = append(pmt, desc...)
		}
	}
	m.packets.writeSection(pidPMT, 0x02, program, pmt)
}

// descriptors returns the PMT descriptors of t: a registration_descriptor (ISO/IEC 13818-1 clause
// 2.6.8) where the stream type alone is ambiguous, as players outside ATSC need it.
func descriptors(t *media.Track) []byte {
	switch t.Codec {
	case media.AC3:
		return []byte("\x05\x04AC-3")
	case media.EAC3:
		return []byte("\x05\x04EAC3")
	}
	return nil
}

// writeSection writes a packet with one PSI section, with table ID extension id and body data.
func (p *packets) writeSection(pid uint16, table byte, id uint16, data []byte) {
	const after = 5 + 4 // bytes that the length counts besides data: section header and CRC
	b := []byte{0, table, 0xB0, byte(after + len(data)), byte(id >> 8), byte(id), 0xC1, 0, 0}
	b = append(b, data...)
	b = binary.BigEndian.AppendUint32(b, crc(b[1:]))
	p.writeHeader(pid, true, adaptation{}, len(b))
	p.buf = append(p.buf, b...)
}

// crc is CRC-32/MPEG-2 (ISO/IEC 13818-1 annex A). Sections are few and short, so it uses no table.
func crc(b []byte) uint32 {
	c := ^uint32(0)
	for _, v := range b {
		c ^= uint32(v) << 24
		for range 8 {
			if c&(1<<31) != 0 {
				c = c<<1 ^ 0x04C11DB7
			} else {
				c <<= 1
			}
		}
	}
	return c
}
