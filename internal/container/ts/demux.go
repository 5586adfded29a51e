package ts

import (
	"encoding/binary"
	"slices"
	"time"

	"livego/internal/codec"
	"livego/internal/container/es"
	"livego/internal/media"
)

// Limits of what a transport stream may contain.
const (
	maxStreams = 16       // elementary streams of the program
	maxPES     = 16 << 20 // bytes of a PES packet
	maxSection = 4096     // bytes of a PSI section: its length field has 12 bits
)

// A demuxer decodes the packets of the first program into frames.
type demuxer struct {
	// Counters of damage. Broadcast streams usually have some.
	Lost      uint64 // packets missing by the continuity counters
	Scrambled uint64 // packets
	Malformed uint64 // sections, PES packets and access units

	pmtPID  int // -1 before the PAT
	program uint16
	psi     map[int]*sectionBuffer
	streams []*demuxStream
	ready   []positionedFrame
	clock   unwrapper

	earliest, latest int64 // presentation times, 90 kHz
	hasPTS           bool
	pos              int64 // file offset of the current packet
}

// A positionedFrame is a frame with the file offset of its first packet.
type positionedFrame struct {
	f   *media.Frame
	pos int64
}

// A sectionBuffer assembles a PSI section.
type sectionBuffer struct {
	buf  []byte
	next byte // continuity counter
}

// A demuxStream is an elementary stream.
type demuxStream struct {
	pid   int
	typ   byte
	kind  media.Kind
	label string // of an unsupported stream
	id    uint8

	next         byte // continuity counter
	started      bool
	pes          []byte
	open         bool  // pes holds the start of a packet
	length       int   // of the PES packet with its header, 0 if unknown
	randomAccess bool  // random_access_indicator
	start        int64 // file offset of its first packet
	pts          int64 // of the last PES packet, 90 kHz
	undetermined bool  // its first PES packet decides whether it is audio
	ignored      bool  // it is neither video nor audio
	audio        *es.Splitter
	video        *videoAssembler
	track        *media.Track // of the last frame
	clock        audioClock
}

// Stream types that are read but not written (ISO/IEC 13818-1 table 2-34 and its registry).
const (
	streamPrivate = 0x06
	streamLATM    = 0x11
)

var unsupportedTypes = map[byte]struct {
	kind  media.Kind
	label string
}{
	0x01: {media.Video, "mpeg1"}, 0x02: {media.Video, "mpeg2"}, 0x10: {media.Video, "mpeg4"},
	0x21: {media.Video, "jpeg2000"}, 0x33: {media.Video, "vvc"},
	0x42: {media.Video, "avs"}, 0xD1: {media.Video, "dirac"}, 0xD2: {media.Video, "avs2"}, 0xD4: {media.Video, "avs3"},
	0xEA: {media.Video, "vc1"}, 0xDB: {media.Video, "encrypted h264"},
	streamLATM: {media.Audio, "aac in latm"}, 0x80: {media.Audio, "pcm"}, 0x82: {media.Audio, "dts"},
	0x83: {media.Audio, "truehd"},
	0x85: {media.Audio, "dts"}, 0x86: {media.Audio, "dts"}, 0xCF: {media.Audio, "encrypted aac"},
	0xC1: {media.Audio, "encrypted ac3"},
}

func newDemuxer() *demuxer { return &demuxer{pmtPID: -1, psi: map[int]*sectionBuffer{}} }

// packet decodes one packet of 188 bytes, which starts with the sync byte.
func (d *demuxer) packet(p []byte) {
	pid := int(binary.BigEndian.Uint16(p[1:]) & 0x1FFF)
	start, locked, control, counter := p[1]&0x40 != 0, p[3]&0xC0 != 0, p[3]>>4&3, p[3]&0xF
	if p[1]&0x80 != 0 || control&1 == 0 { // a transport error, or no payload
		return
	}
	body := p[4:]
	random, jump := false, false
	if control&2 != 0 {
		n := int(body[0])
		if n >= len(body)-1 {
			d.Malformed++
			return
		}
		if n > 0 {
			jump, random = body[1]&0x80 != 0, body[1]&0x40 != 0
		}
		body = body[1+n:]
	}
	if pid == pidPAT || pid == d.pmtPID {
		d.psiPacket(pid, body, start, counter)
		return
	}
	e := d.stream(pid)
	switch {
	case e == nil, e.ignored:
	case locked:
		d.Scrambled++
		e.label = scrambled
	default:
		d.pesPacket(e, body, start, random, jump, counter)
	}
}

func (d *demuxer) stream(pid int) *demuxStream {
	for _, e := range d.streams {
		if e.pid == pid {
			return e
		}
	}
	return nil
}

// psiPacket assembles sections (ISO/IEC 13818-1 clause 2.4.4).
func (d *demuxer) psiPacket(pid int, b []byte, start bool, counter byte) {
	s := d.psi[pid]
	if s == nil {
		s = &sectionBuffer{}
		d.psi[pid] = s
	}
	if start {
		n := int(b[0]) + 1 // pointer_field
		if n > len(b) {
			d.Malformed++
			return
		}
		s.buf = append(s.buf[:0], b[n:]...)
	} else {
		if len(s.buf) == 0 || counter != s.next {
			s.buf = s.buf[:0]
			return
		}
		s.buf = append(s.buf, b...)
	}
	s.next = (counter + 1) & 0xF
	for len(s.buf) >= 3 && s.buf[0] != 0xFF {
		size := 3 + int(binary.BigEndian.Uint16(s.buf[1:])&0xFFF)
		if len(s.buf) < size {
			if len(s.buf) > maxSection {
				s.buf = s.buf[:0]
			}
			return
		}
		d.section(pid, s.buf[:size])
		if pid != pidPAT && pid != d.pmtPID { // the PID of the PMT changed
			return
		}
		s.buf = s.buf[size:]
	}
	s.buf = s.buf[:0]
}

// section decodes a complete section. One with a wrong CRC, or not current yet, is skipped.
func (d *demuxer) section(pid int, b []byte) {
	const overhead = 8 + 4
	if len(b) < overhead || crc(b) != 0 {
		d.Malformed++
		return
	}
	if b[5]&1 == 0 { // current_next_indicator
		return
	}
	body := b[8 : len(b)-4]
	switch {
	case pid == pidPAT && b[0] == 0:
		d.pat(body)
	case pid == d.pmtPID && b[0] == 2 && binary.BigEndian.Uint16(b[3:]) == d.program:
		d.pmt(body)
	}
}

// pat selects the first program of a PAT, unless the current one is still in it.
func (d *demuxer) pat(b []byte) {
	first := -1
	for ; len(b) >= 4; b = b[4:] {
		program, pid := binary.BigEndian.Uint16(b), int(binary.BigEndian.Uint16(b[2:])&0x1FFF)
		if program == 0 { // the network PID
			continue
		}
		if pid == d.pmtPID && program == d.program {
			return
		}
		if first < 0 {
			first = pid
			defer func() { d.program = program }()
		}
	}
	if first >= 0 {
		d.pmtPID = first
	}
}

// pmt updates the streams of the program. Streams that existed before continue.
func (d *demuxer) pmt(b []byte) {
	if len(b) < 4 {
		d.Malformed++
		return
	}
	n := 4 + int(binary.BigEndian.Uint16(b[2:])&0xFFF)
	var now []*demuxStream
	for b = b[min(n, len(b)):]; len(b) >= 5 && len(now) < maxStreams; {
		typ, pid := b[0], int(binary.BigEndian.Uint16(b[1:])&0x1FFF)
		info := int(binary.BigEndian.Uint16(b[3:]) & 0xFFF)
		b = b[5:]
		descriptors := b[:min(info, len(b))]
		b = b[len(descriptors):]
		e := d.stream(pid)
		if e == nil || e.typ != typ {
			if e = newDemuxStream(typ, pid, descriptors); e == nil {
				continue
			}
			for _, other := range now {
				if other.kind == e.kind {
					e.id++
				}
			}
		}
		now = append(now, e)
	}
	for _, e := range d.streams { // removed streams emit their pending data
		if !slices.Contains(now, e) {
			d.endPES(e)
			d.flush(e)
		}
	}
	d.streams = now
}

// newDemuxStream returns a stream of the PMT, nil if it is neither video nor audio.
func newDemuxStream(typ byte, pid int, descriptors []byte) *demuxStream {
	e := &demuxStream{pid: pid, typ: typ, kind: media.Audio}
	switch typ {
	case streamH264:
		e.kind, e.video = media.Video, &videoAssembler{codec: media.H264}
	case streamHEVC:
		e.kind, e.video = media.Video, &videoAssembler{codec: media.HEVC}
	case streamADTS:
		e.audio = &es.Splitter{Codec: media.AAC}
	case streamMPEG1Audio, streamMPEG2Audio:
		e.audio = &es.Splitter{Codec: media.MP3}
	case streamAC3:
		e.audio = &es.Splitter{Codec: media.AC3}
	case streamEAC3:
		e.audio = &es.Splitter{Codec: media.EAC3}
	case streamPrivate:
		switch {
		case e.readPrivate(descriptors):
		case onlyLanguage(descriptors):
			e.kind, e.undetermined = media.Data, true
		default:
			return nil
		}
	default:
		f, ok := unsupportedTypes[typ]
		if !ok {
			return nil
		}
		e.kind, e.label = f.kind, f.label
	}
	return e
}

// readPrivate identifies a private stream by its descriptors: DVB audio (ETSI EN 300 468 annex D),
// or a registered format identifier.
func (e *demuxStream) readPrivate(b []byte) bool {
	for len(b) >= 2 {
		tag, n := b[0], min(int(b[1]), len(b)-2)
		body := b[2 : 2+n]
		b = b[2+n:]
		switch {
		case tag == 0x6A, tag == 5 && string(body[:min(4, n)]) == "AC-3":
			e.audio = &es.Splitter{Codec: media.AC3}
			return true
		case tag == 0x7A, tag == 5 && string(body[:min(4, n)]) == "EAC3":
			e.audio = &es.Splitter{Codec: media.EAC3}
			return true
		case tag == 5 && string(body[:min(4, n)]) == "HEVC":
			e.kind, e.video = media.Video, &videoAssembler{codec: media.HEVC}
			return true
		case tag == 5 && string(body[:min(4, n)]) == "Opus":
			e.label = "opus in ts"
			return true
		case tag == 5 && string(body[:min(4, n)]) == "AV01":
			e.kind, e.label = media.Video, "av1 in ts"
			return true
		case tag == 0x7B:
			e.label = "dts"
			return true
		}
	}
	return false
}

// onlyLanguage reports whether descriptors hold nothing but a private stream's language: ffmpeg
// writes AAC so for Blu-ray.
func onlyLanguage(b []byte) bool {
	const language = 0x0A
	for len(b) >= 2 {
		if b[0] != language {
			return false
		}
		b = b[min(2+int(b[1]), len(b)):]
	}
	return true
}

// detectAAC finds out from the first PES packet whether e is AAC.
func (d *demuxer) detectAAC(e *demuxStream, data []byte) {
	e.undetermined = false
	s := es.Splitter{Codec: media.AAC, Ended: true}
	s.Write(slices.Clone(data))
	if _, _, ok := s.Next(); !ok || data[0] != 0xFF || data[1]&0xF6 != 0xF0 { // the packet must start with a frame
		e.ignored = true
		return
	}
	e.kind, e.audio = media.Audio, &es.Splitter{Codec: media.AAC}
	for _, other := range d.streams {
		if other != e && other.kind == media.Audio {
			e.id++
		}
	}
}

// pesPacket adds a packet to the PES packet of e.
func (d *demuxer) pesPacket(e *demuxStream, b []byte, start, random, jump bool, counter byte) {
	switch {
	case e.started && !jump && counter == (e.next-1)&0xF: // a duplicate, which is allowed
		return
	case e.started && !jump && counter != e.next:
		d.Lost += uint64((counter - e.next) & 0xF)
		e.reset()
	}
	e.started, e.next = true, (counter+1)&0xF
	if start {
		d.endPES(e)
		e.open, e.start, e.randomAccess, e.length = true, d.pos, random, 0
	}
	if !e.open {
		return
	}
	if e.pes = append(e.pes, b...); len(e.pes) > maxPES {
		d.Malformed++
		e.reset()
		return
	}
	if e.length == 0 && len(e.pes) >= 6 {
		if n := int(binary.BigEndian.Uint16(e.pes[4:])); n > 0 {
			e.length = 6 + n
		}
	}
	if e.length > 0 && len(e.pes) >= e.length {
		e.pes = e.pes[:e.length]
		d.endPES(e)
	}
}

// reset discards incomplete data after packet loss.
func (e *demuxStream) reset() {
	e.pes, e.open = nil, false
	if e.audio != nil {
		e.audio.Reset()
		e.clock.marks = nil
	}
}

// endPES decodes the PES packet that was assembled in e (ISO/IEC 13818-1 clause 2.4.3.6).
func (d *demuxer) endPES(e *demuxStream) {
	b := e.pes
	open := e.open
	e.pes, e.open = nil, false
	if !open || e.label == scrambled {
		return
	}
	if len(b) < 9 || b[0] != 0 || b[1] != 0 || b[2] != 1 || b[6]&0xC0 != 0x80 || 9+int(b[8]) > len(b) {
		d.Malformed++
		return
	}
	if b[6]&0x30 != 0 {
		d.Scrambled++
		e.label = scrambled
		return
	}
	header, data := b[9:9+int(b[8])], b[9+int(b[8]):]
	if e.undetermined {
		if d.detectAAC(e, data); e.ignored {
			return
		}
	}
	pts, dts, ok := timestamps(b[7]>>6, header)
	if ok {
		e.pts = d.clock.at(pts)
		dts = e.pts - (pts-dts)&mask33
		d.clock.advance(dts)
		d.observePTS(e.pts)
	}
	switch {
	case e.label != "":
	case e.video != nil:
		d.videoData(e, data, e.pts, dts, ok)
	case e.audio != nil:
		d.audioData(e, data, ok)
	}
}

// scrambled is the label of streams that cannot be decrypted.
const scrambled = "scrambled"

// observePTS records a presentation time.
func (d *demuxer) observePTS(pts int64) {
	if !d.hasPTS || pts < d.earliest {
		d.earliest = pts
	}
	if !d.hasPTS || pts > d.latest {
		d.latest = pts
	}
	d.hasPTS = true
}

const mask33 = 1<<33 - 1

// timestamps reads PTS and DTS by their flags.
func timestamps(flags byte, b []byte) (pts, dts int64, ok bool) {
	if flags&2 == 0 || len(b) < 5 {
		return 0, 0, false
	}
	pts = timestamp(b)
	dts = pts
	if flags == 3 && len(b) >= 10 {
		dts = timestamp(b[5:])
	}
	return pts, dts, true
}

func timestamp(b []byte) int64 {
	return int64(b[0]>>1&7)<<30 | int64(b[1])<<22 | int64(b[2]>>1)<<15 | int64(b[3])<<7 | int64(b[4]>>1)
}

// An unwrapper extends 33-bit times to 64 bits, relative to the last time of any stream.
type unwrapper struct {
	last int64
	set  bool
}

func (u *unwrapper) at(t int64) int64 {
	if !u.set {
		return t
	}
	return u.last + (t-u.last)<<31>>31
}

func (u *unwrapper) advance(t int64) { u.last, u.set = t, true }

// An audioClock is the time of the next frame of an audio stream.
type audioClock struct {
	base    int64 // PTS of a PES packet, 90 kHz
	samples int64 // samples since base
	set     bool
	written int64     // bytes of the stream
	marks   []ptsMark // not yet used by a frame
}

// A ptsMark is the PTS of the first frame that starts at or after a stream position.
type ptsMark struct {
	at, pts int64
}

// maxMarks is how many marks may wait for a frame.
const maxMarks = 64

// audioData extracts the frames of a PES packet.
func (d *demuxer) audioData(e *demuxStream, data []byte, stamped bool) {
	s := &e.clock
	if stamped {
		if len(s.marks) == maxMarks {
			s.marks = s.marks[1:]
		}
		s.marks = append(s.marks, ptsMark{s.written, e.pts})
	}
	e.audio.Write(data)
	s.written += int64(len(data))
	d.audioFrames(e)
}

func (d *demuxer) audioFrames(e *demuxStream) {
	s := &e.clock
	for {
		t, payload, ok := e.audio.Next()
		if !ok {
			if e.audio.OtherCodec != "" {
				e.label = e.audio.OtherCodec
			}
			return
		}
		frameStart := s.written - int64(e.audio.Buffered()+e.audio.Size)
		for len(s.marks) > 0 && s.marks[0].at <= frameStart {
			s.base, s.samples, s.set = s.marks[0].pts, 0, true
			s.marks = s.marks[1:]
		}
		if s.set {
			d.audioFrame(e, t, payload)
		}
	}
}

func (d *demuxer) audioFrame(e *demuxStream, t *media.Track, payload []byte) {
	t = e.numberTrack(t)
	s := &e.clock
	rate := int64(max(t.SampleRate, 1))
	at := seconds(s.base) + time.Duration(s.samples)*time.Second/time.Duration(rate)
	s.samples += int64(codec.Samples(t, payload))
	d.emit(&media.Frame{
		Track: t, DTS: at, PTS: at, Duration: seconds(s.base) + time.Duration(s.samples)*time.Second/time.Duration(rate) - at,
		RAP: media.Keyframe, KeyFlag: true, Payload: payload,
	}, e.start)
}

// numberTrack returns t with the number of e among the streams of its kind.
func (e *demuxStream) numberTrack(t *media.Track) *media.Track {
	if e.id == 0 {
		e.track = t
		return t
	}
	if e.track == nil || !e.track.SameConfig(t) {
		numbered := *t
		numbered.ID = e.id
		e.track = &numbered
	}
	return e.track
}

func (d *demuxer) emit(f *media.Frame, pos int64) { d.ready = append(d.ready, positionedFrame{f, pos}) }

// flush emits the data of e that waits for more.
func (d *demuxer) flush(e *demuxStream) {
	if e.audio != nil && e.label == "" {
		e.audio.Ended = true
		d.audioFrames(e)
		e.audio.Ended = false
	}
	if e.video != nil {
		d.flushVideo(e)
	}
}

// flushAll emits all pending data.
func (d *demuxer) flushAll() {
	for _, e := range d.streams {
		d.endPES(e)
		d.flush(e)
	}
}

// seconds converts from 90 kHz, to the nanosecond.
func seconds(t int64) time.Duration {
	return time.Duration(t/clockRate)*time.Second + time.Duration(t%clockRate)*time.Second/clockRate
}

// describe returns the track of e: from its frames, or from the PMT if it is not supported. Nil
// before the first frame.
func (e *demuxStream) describe() *media.Track {
	if e.label != "" {
		return &media.Track{ID: e.id, Kind: e.kind, Label: e.label, Timescale: clockRate}
	}
	return e.track
}

// restartAt returns a demuxer with the same program and tracks that continues at another position,
// at times from first on.
func (d *demuxer) restartAt(first int64) *demuxer {
	const slack = 3600 * clockRate
	n := newDemuxer()
	n.pmtPID, n.program = d.pmtPID, d.program
	// so that times unwrap to first or later, or slightly before
	n.clock = unwrapper{last: first - slack + 1<<32, set: true}
	for _, e := range d.streams {
		fresh := &demuxStream{pid: e.pid, typ: e.typ, kind: e.kind, label: e.label, id: e.id, track: e.track,
			undetermined: e.undetermined, ignored: e.ignored}
		if e.audio != nil {
			s := *e.audio
			s.Reset()
			fresh.audio = &s
		}
		if e.video != nil {
			p := *e.video
			p.unit = nil
			for i := range p.sets {
				p.sets[i] = slices.Clone(p.sets[i])
			}
			fresh.video = &p
		}
		n.streams = append(n.streams, fresh)
	}
	return n
}
