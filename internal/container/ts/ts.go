// Package ts encodes media.Frames as MPEG transport streams (ISO/IEC 13818-1) for the segments of
// HLS, and reads transport stream files. A segment is self-contained and depends on its frames
// only, so every server encodes the same bytes. The package knows neither playlists nor HTTP.
package ts

import (
	"slices"
	"time"

	"livego/internal/codec/aac"
	"livego/internal/codec/h264"
	"livego/internal/codec/h265"
	"livego/internal/codec/nal"
	"livego/internal/media"
)

const (
	packetSize = 188

	pidPAT   = 0
	pidPMT   = 0x1000
	pidVideo = 0x100
	pidAudio = 0x101
)

// Stream types (ISO/IEC 13818-1 table 2-34; ATSC A/52 annexes A and G for AC-3 and E-AC-3).
const (
	streamMPEG1Audio = 0x03
	streamMPEG2Audio = 0x04
	streamADTS       = 0x0F
	streamH264       = 0x1B
	streamHEVC       = 0x24
	streamAC3        = 0x81
	streamEAC3       = 0x87
)

const (
	clockRate = 90000

	// timeBase is added to every timestamp: streams start at 0, composition times reach 10 s below,
	// and the clock runs ahead.
	timeBase = 12 * clockRate

	// pcrLead is how much earlier than its decoding time the bytes of a frame arrive by the program
	// clock. It covers what a decoder buffers when an encoder interleaves audio and video unevenly.
	pcrLead = clockRate / 2
)

// Carries reports whether frames of t can be put into a transport stream: H.264, HEVC, MP3, AC-3,
// E-AC-3, and AAC that ADTS can describe.
func Carries(t *media.Track) bool { return streamType(t) != 0 }

// streamType returns the stream_type of t, 0 if it has none.
func streamType(t *media.Track) byte {
	switch t.Codec {
	case media.H264:
		if _, err := h264.ParseConfig(t.Config); err == nil {
			return streamH264
		}
	case media.HEVC:
		if _, err := h265.ParseConfig(t.Config); err == nil {
			return streamHEVC
		}
	case media.AAC:
		if c, err := aac.ParseConfig(t.Config); err == nil && c.CheckADTS() == nil {
			return streamADTS
		}
	case media.AC3:
		return streamAC3
	case media.EAC3:
		return streamEAC3
	case media.MP3:
		if t.SampleRate < 32000 {
			return streamMPEG2Audio
		}
		return streamMPEG1Audio
	}
	return 0
}

// AppendSegment appends one segment to dst: PAT and PMT, then frames in their order. video and
// audio are announced in the PMT; either may be nil, and both must satisfy Carries. Frames of other
// tracks are omitted, except after a change of configuration within a codec. left is the number of
// frames that were omitted because they cannot be encoded: AAC above 8184 bytes, malformed NAL
// units.
func AppendSegment(dst []byte, video, audio *media.Track, frames []*media.Frame) (segment []byte, left int) {
	m := muxer{
		packets:  packets{buf: grow(dst, frames)},
		video:    muxStream{announced: video, pid: pidVideo},
		audio:    muxStream{announced: audio, pid: pidAudio},
		dtsShift: dtsShift(frames),
	}
	m.writeTables()
	for _, f := range frames {
		if !m.writeFrame(f) {
			left++
		}
	}
	return m.packets.buf, left
}

// grow makes room for frames: packet and PES headers add 2 % to large frames and about two packets
// to small ones.
func grow(dst []byte, frames []*media.Frame) []byte {
	n := len(dst) + 2*packetSize
	for _, f := range frames {
		n += len(f.Payload)*51/50 + 2*packetSize
	}
	if n <= cap(dst) {
		return dst
	}
	return append(make([]byte, 0, n), dst...)
}

// dtsShift returns by how much all decoding times must be shifted back so that no frame is decoded
// after its presentation, which negative composition times of some encoders imply. One value for
// all frames keeps their distances.
func dtsShift(frames []*media.Frame) int64 {
	var d int64
	for _, f := range frames {
		if f.Track.Kind == media.Video {
			d = max(d, ticks(f.DTS)-ticks(f.PTS))
		}
	}
	return d
}

// A muxStream is an elementary stream of the program.
type muxStream struct {
	announced *media.Track // nil: not in the program
	pid       uint16

	track *media.Track   // of the last frame
	sets  *parameterSets // of track, nil if it has none or its configuration is malformed
	aac   *aac.Config    // likewise
}

// accepts reports whether f belongs to e, and follows a change of its track.
func (e *muxStream) accepts(f *media.Frame) bool {
	t := f.Track
	if e.announced == nil || t.Kind != e.announced.Kind || t.Codec != e.announced.Codec || t.ID != e.announced.ID {
		return false
	}
	if t == e.track {
		return true
	}
	e.track, e.sets, e.aac = t, nil, nil
	switch t.Codec {
	case media.H264, media.HEVC:
		e.sets = parameterSetsOf(t)
	case media.AAC:
		e.aac, _ = aac.ParseConfig(t.Config)
	}
	return true
}

type muxer struct {
	packets      packets
	video, audio muxStream
	dtsShift     int64  // 90 kHz
	es           []byte // of the current frame
}

// writeFrame writes f, and reports false if it cannot be encoded. A frame of a track outside the
// program is ignored.
func (m *muxer) writeFrame(f *media.Frame) bool {
	switch {
	case m.video.accepts(f):
		return m.videoFrame(f)
	case m.audio.accepts(f):
		return m.audioFrame(f)
	}
	return true
}

func (m *muxer) videoFrame(f *media.Frame) bool {
	if m.video.sets == nil {
		return false
	}
	var ok bool
	if m.es, ok = m.video.sets.appendAnnexB(m.es[:0], f); !ok {
		return false
	}
	dts := ticks(f.DTS) + timeBase - m.dtsShift
	p := pes{
		pid: m.video.pid, streamID: 0xE0, unbounded: true,
		pts: ticks(f.PTS) + timeBase, dts: dts,
		hasPCR: true, randomAccess: f.RAP != media.NoRandomAccess,
	}
	m.packets.writePES(p, m.es)
	return true
}

func (m *muxer) audioFrame(f *media.Frame) bool {
	es := f.Payload
	if f.Track.Codec == media.AAC {
		var ok bool
		if es, ok = m.adts(f); !ok {
			return false
		}
	}
	if len(es) > maxAudioPES {
		return false
	}
	pts := rescale(f.Ticks, f.Track.Timescale) + timeBase
	id := byte(0xC0)
	if c := f.Track.Codec; c == media.AC3 || c == media.EAC3 {
		id = 0xBD // private_stream_1
	}
	m.packets.writePES(pes{
		pid: m.audio.pid, streamID: id, pts: pts, dts: pts,
		hasPCR: m.video.announced == nil, randomAccess: true,
	}, es)
	return true
}

// adts returns f with its ADTS header. Valid until the next frame.
func (m *muxer) adts(f *media.Frame) ([]byte, bool) {
	if m.audio.aac == nil {
		return nil, false
	}
	var err error
	m.es, err = m.audio.aac.AppendADTS(m.es[:0], f.Payload)
	return m.es, err == nil
}

// parameterSets are the parameter sets of a video track, and what is needed of its codec to write
// it.
type parameterSets struct {
	lengthSize int
	units      [][]byte
	delimiter  []byte // an access unit delimiter for any picture type
	kind       func(unit []byte) int
	kinds      []int // NAL unit types of the parameter sets
}

// parameterSetsOf returns those of t, nil if its configuration is malformed.
func parameterSetsOf(t *media.Track) *parameterSets {
	if t.Codec == media.HEVC {
		c, err := h265.ParseConfig(t.Config)
		if err != nil {
			return nil
		}
		return &parameterSets{
			c.LengthSize, slices.Concat(c.VPS, c.SPS, c.PPS), []byte{h265.TypeAUD << 1, 1, 0x50},
			h265.Type, []int{h265.TypeVPS, h265.TypeSPS, h265.TypePPS},
		}
	}
	c, err := h264.ParseConfig(t.Config)
	if err != nil {
		return nil
	}
	return &parameterSets{
		c.LengthSize, slices.Concat(c.SPS, c.PPS), []byte{h264.TypeAUD, 0xF0},
		h264.Type, []int{h264.TypeSPS, h264.TypePPS},
	}
}

// appendAnnexB appends f as an access unit in Annex B form: first a delimiter, which HLS requires,
// and before a random access point the parameter sets of its track, unless the frame has its own.
// It reports false for a malformed frame.
func (s *parameterSets) appendAnnexB(dst []byte, f *media.Frame) ([]byte, bool) {
	dst = h264.AppendAnnexB(dst, s.delimiter)
	if f.RAP != media.NoRandomAccess && !s.hasAll(f.Payload) {
		for _, set := range s.units {
			dst = h264.AppendAnnexB(dst, set)
		}
	}
	delimiter := s.kind(s.delimiter)
	for rest := f.Payload; ; {
		var unit []byte
		var err error
		if unit, rest, err = nal.Next(rest, s.lengthSize); unit == nil || err != nil {
			return dst, err == nil
		}
		if s.kind(unit) != delimiter {
			dst = h264.AppendAnnexB(dst, unit)
		}
	}
}

// hasAll reports whether an access unit has a parameter set of each kind.
func (s *parameterSets) hasAll(unit []byte) bool {
	found := 0
	for {
		n, rest, err := nal.Next(unit, s.lengthSize)
		if n == nil || err != nil {
			return err == nil && found == 1<<len(s.kinds)-1
		}
		if i := slices.Index(s.kinds, s.kind(n)); i >= 0 {
			found |= 1 << i
		}
		unit = rest
	}
}

// ticks converts to 90 kHz, rounded to the nearest.
func ticks(d time.Duration) int64 { return rescale(int64(d), 1e9) }

// rescale converts t, in 1/rate s, to 90 kHz: rounded to the nearest, and without overflow.
func rescale(t int64, rate uint32) int64 {
	if rate == 0 {
		return 0
	}
	r := int64(rate)
	s, rest := t/r, t%r
	if rest < 0 {
		s, rest = s-1, rest+r
	}
	return s*clockRate + (rest*clockRate+r/2)/r
}
