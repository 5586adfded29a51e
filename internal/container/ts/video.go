package ts

import (
	"bytes"
	"encoding/binary"

	"livego/internal/codec"
	"livego/internal/codec/bits"
	"livego/internal/codec/h264"
	"livego/internal/codec/h265"
	"livego/internal/codec/nal"
	"livego/internal/media"
)

// A videoAssembler turns access units in Annex B form into frames, and their parameter sets into
// tracks.
type videoAssembler struct {
	codec      media.Codec
	sets       [3][][]byte // current VPS (HEVC only), SPS and PPS, in order of arrival
	changed    bool
	lengthSize int

	// The access unit that may be incomplete: PES packets without timestamps continue it.
	unit         []byte
	pts, dts     int64
	pos          int64
	randomAccess bool
}

const (
	maxSets      = 32 // parameter sets of one kind
	maxSetsBytes = 16 << 10
)

// videoData adds the data of a PES packet: usually an access unit, a part of one if the packet has
// no timestamps, or several.
func (d *demuxer) videoData(e *demuxStream, data []byte, pts, dts int64, stamped bool) {
	p := e.video
	if !stamped {
		if p.unit != nil && len(p.unit)+len(data) <= maxPES {
			p.unit = append(p.unit, data...)
		}
		return
	}
	d.flushVideo(e)
	p.unit, p.pts, p.dts, p.pos, p.randomAccess = data, pts, dts, e.start, e.randomAccess
}

// flushVideo emits the pending access unit.
func (d *demuxer) flushVideo(e *demuxStream) {
	p := e.video
	if p.unit == nil {
		return
	}
	unit := p.unit
	p.unit = nil
	for n, part := range p.splitAccessUnits(unit) {
		payload := p.lengthPrefixed(part)
		if len(payload) == 0 {
			continue
		}
		if !p.configure(e) {
			d.Malformed++
			continue
		}
		// Access units after the first have no timestamp of their own: they follow at the frame
		// rate.
		shift := seconds(int64(n) * p.frameInterval(e))
		f := &media.Frame{Track: e.track, DTS: seconds(p.dts) + shift, PTS: seconds(p.pts) + shift, KeyFlag: p.randomAccess &&
			n == 0, Payload: payload}
		var err error
		if f.RAP, f.Leading, err = codec.RandomAccess(e.track, p.lengthSize, f.KeyFlag, payload); err != nil {
			d.Malformed++
			continue
		}
		d.emit(f, p.pos)
	}
}

// frameInterval returns the duration of a frame in 90 kHz.
func (p *videoAssembler) frameInterval(e *demuxStream) int64 {
	rate := 25.0
	if e.track != nil && e.track.FrameRate > 0 {
		rate = e.track.FrameRate
	}
	return int64(clockRate / rate)
}

// splitAccessUnits splits data at the access unit delimiters, which ISO/IEC 13818-1 clause 2.14.1
// requires at the start of each.
func (p *videoAssembler) splitAccessUnits(data []byte) [][]byte {
	var parts [][]byte
	from := 0
	for rest := data; ; {
		unit, after := nal.NextAnnexB(rest)
		if unit == nil {
			return append(parts, data[from:])
		}
		if at := len(data) - len(rest); p.isDelimiter(unit) && at > from {
			parts = append(parts, data[from:at])
			from = at
		}
		rest = after
	}
}

func (p *videoAssembler) isDelimiter(unit []byte) bool {
	if p.codec == media.H264 {
		return h264.Type(unit) == h264.TypeAUD
	}
	return h265.Type(unit) == h265.TypeAUD
}

// lengthPrefixed returns the access unit with length fields instead of start codes, and stores its
// parameter sets. Delimiters and filler data are dropped: each container writes its own.
func (p *videoAssembler) lengthPrefixed(data []byte) []byte {
	out := make([]byte, 0, len(data)+16)
	for {
		var unit []byte
		if unit, data = nal.NextAnnexB(data); unit == nil {
			return out
		}
		set, skip := p.classify(unit)
		if set >= 0 {
			p.storeParameterSet(set, unit)
		}
		if set < 0 && !skip {
			out = append(binary.BigEndian.AppendUint32(out, uint32(len(unit))), unit...)
		}
	}
}

// classify returns the index of a parameter set, or -1 and whether the NAL unit is to be dropped.
func (p *videoAssembler) classify(unit []byte) (set int, skip bool) {
	if p.codec == media.H264 {
		switch h264.Type(unit) {
		case h264.TypeSPS:
			return 1, false
		case h264.TypePPS:
			return 2, false
		case h264.TypeAUD, h264.TypeFiller:
			return -1, true
		}
		return -1, false
	}
	switch t := h265.Type(unit); t {
	case h265.TypeVPS, h265.TypeSPS, h265.TypePPS:
		return t - h265.TypeVPS, false
	case h265.TypeAUD, h265.TypeFiller:
		return -1, true
	}
	return -1, false
}

// storeParameterSet stores a parameter set in place of the one with the same ID.
func (p *videoAssembler) storeParameterSet(kind int, unit []byte) {
	if len(unit) > maxSetsBytes {
		return
	}
	id := p.parameterSetID(kind, unit)
	for i, old := range p.sets[kind] {
		if bytes.Equal(old, unit) {
			return
		}
		if p.parameterSetID(kind, old) == id {
			p.sets[kind][i], p.changed = bytes.Clone(unit), true
			return
		}
	}
	if len(p.sets[kind]) < maxSets {
		p.sets[kind], p.changed = append(p.sets[kind], bytes.Clone(unit)), true
	}
}

// parameterSetID returns the ID of a parameter set. HEVC's SPS has it behind many other fields: 0
// is assumed, since usually one is in use.
func (p *videoAssembler) parameterSetID(kind int, unit []byte) uint32 {
	const head = 64
	b := nal.Unescape(unit, head)
	skip := map[media.Codec][3]int{media.H264: {0, 4, 1}, media.HEVC: {0, 0, 2}}[p.codec][kind]
	if skip == 0 || len(b) <= skip {
		return 0
	}
	return bits.NewReader(b[skip:]).UE()
}

// configure updates e.track from the parameter sets. It reports false while there are none, or only
// invalid ones.
func (p *videoAssembler) configure(e *demuxStream) bool {
	if !p.changed {
		return e.track != nil
	}
	var config []byte
	var err error
	if p.codec == media.H264 {
		config, err = h264.BuildConfig(p.sets[1], p.sets[2])
	} else {
		config, err = h265.BuildConfig(p.sets[0], p.sets[1], p.sets[2])
	}
	t := &media.Track{ID: e.id, Kind: media.Video, Codec: p.codec, Config: config, Timescale: clockRate}
	if err == nil && len(p.sets[1]) > 0 && len(p.sets[2]) > 0 {
		var size int
		if size, err = codec.Describe(t); err == nil {
			p.changed, p.lengthSize, e.track = false, size, t
		}
	}
	return e.track != nil
}
