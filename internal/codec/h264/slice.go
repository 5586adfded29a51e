package h264

import (
	"livego/internal/codec/bits"
	"livego/internal/codec/nal"
)

// A Slice is what a slice header says of the slice's position: its picture, and its first
// macroblock in that picture.
type Slice struct {
	FirstMB uint32 // first_mb_in_slice
	picture picture
}

// SamePicture reports whether b can belong to the primary coded picture of a (ITU-T H.264 clause
// 7.4.1.2.4).
func (a Slice) SamePicture(b Slice) bool { return a.picture == b.picture }

// picture holds the fields in which the slices of two pictures differ. If the parameter sets are
// unknown, only the fields up to pps are set.
type picture struct {
	idr, reference bool // reference: nal_ref_idc is not 0
	pps            uint32
	complete       bool

	frameNum, idrPicID uint32
	field, bottom      bool
	pocLSB             uint32
	pocDelta           [2]int32 // delta_pic_order_cnt_bottom, or delta_pic_order_cnt
}

// ParameterSets holds the parameter sets that slice headers refer to. The zero ParameterSets is
// empty.
type ParameterSets struct {
	sps map[uint32]spsSliceInfo
	pps map[uint32]ppsSliceInfo
}

// spsSliceInfo holds the fields of an SPS that determine the syntax of slice headers.
type spsSliceInfo struct {
	separatePlanes bool // separate_colour_plane_flag
	frameNumBits   int
	pocType        uint32 // pic_order_cnt_type
	pocLSBBits     int
	noPOCDelta     bool // delta_pic_order_always_zero_flag
	framesOnly     bool
}

// ppsSliceInfo holds the fields of a PPS that determine the syntax of slice headers.
type ppsSliceInfo struct {
	sps         uint32
	hasPOCDelta bool // bottom_field_pic_order_in_frame_present_flag
}

const (
	maxSPSID = 31
	maxPPSID = 255
	maxPPS   = 64 // bytes read of a PPS: the fields in use are at its start
	// maxSliceHeader is how many bytes of a slice are read: ten codes of at most 63 bits.
	maxSliceHeader = 96
)

// Add stores the parameter set in a NAL unit. It ignores units that are neither SPS nor PPS, and
// sets that cannot be parsed.
func (s *ParameterSets) Add(unit []byte) {
	switch Type(unit) {
	case TypeSPS:
		s.addSPS(unit)
	case TypePPS:
		s.addPPS(unit)
	}
}

func (s *ParameterSets) addSPS(unit []byte) {
	b := nal.Unescape(unit[1:], maxSPS)
	if len(b) < 4 {
		return
	}
	r := bits.NewReader(b[3:])
	id := r.UE()
	var n spsSliceInfo
	if hasChromaFormat(b[0]) {
		n.separatePlanes = new(SPS).readChroma(r).separate
	}
	small := func() int { return int(min(r.UE(), 255)) }
	n.frameNumBits = 4 + small()
	switch n.pocType = r.UE(); n.pocType {
	case 0:
		n.pocLSBBits = 4 + small()
	case 1:
		n.noPOCDelta = r.Flag()
		r.SE()
		r.SE()
		for cycle := min(r.UE(), 255); cycle > 0 && !r.Overrun(); cycle-- {
			r.SE()
		}
	}
	r.UE()    // max_num_ref_frames
	r.Skip(1) // gaps_in_frame_num_value_allowed_flag
	r.UE()    // pic_width_in_mbs_minus1
	r.UE()    // pic_height_in_map_units_minus1
	n.framesOnly = r.Flag()
	if r.Overrun() || id > maxSPSID || n.frameNumBits > 16 || n.pocLSBBits > 16 {
		return
	}
	if s.sps == nil {
		s.sps = make(map[uint32]spsSliceInfo)
	}
	s.sps[id] = n
}

func (s *ParameterSets) addPPS(unit []byte) {
	r := bits.NewReader(nal.Unescape(unit[1:], maxPPS))
	id, p := r.UE(), ppsSliceInfo{sps: r.UE()}
	r.Skip(1) // entropy_coding_mode_flag
	p.hasPOCDelta = r.Flag()
	if r.Overrun() || id > maxPPSID {
		return
	}
	if s.pps == nil {
		s.pps = make(map[uint32]ppsSliceInfo)
	}
	s.pps[id] = p
}

// ParseSlice parses a slice header (ITU-T H.264 clause 7.3.3) up to the fields that identify the
// picture. unit is a NAL unit of type 1, 2 or 5.
func (s *ParameterSets) ParseSlice(unit []byte) Slice {
	r := bits.NewReader(nal.Unescape(unit[1:], maxSliceHeader))
	first := r.UE()
	r.UE() // slice_type
	p := picture{idr: Type(unit) == TypeIDR, reference: unit[0]&0x60 != 0, pps: r.UE()}
	pps, ok := s.pps[p.pps]
	n, known := s.sps[pps.sps]
	if !ok || !known {
		return Slice{first, p}
	}
	p.complete = true
	if n.separatePlanes {
		r.Skip(2) // colour_plane_id
	}
	p.frameNum = r.U(n.frameNumBits)
	if !n.framesOnly {
		if p.field = r.Flag(); p.field {
			p.bottom = r.Flag()
		}
	}
	if p.idr {
		p.idrPicID = r.UE()
	}
	switch {
	case n.pocType == 0:
		p.pocLSB = r.U(n.pocLSBBits)
		if pps.hasPOCDelta && !p.field {
			p.pocDelta[0] = r.SE()
		}
	case n.pocType == 1 && !n.noPOCDelta:
		p.pocDelta[0] = r.SE()
		if pps.hasPOCDelta && !p.field {
			p.pocDelta[1] = r.SE()
		}
	}
	return Slice{first, p}
}

// NAL unit types that matter for access unit boundaries.
const (
	typePartitionA = 2
	typePartitionB = 3
	typePartitionC = 4
	typeAuxiliary  = 19
	typeExtension  = 20
	typeDepth      = 21
)

// IsSlice reports whether a NAL unit is coded picture data. If header is true, ParseSlice can
// parse it; any other slice continues the picture before it.
func IsSlice(unit []byte) (slice, header bool) {
	switch Type(unit) {
	case 1, typePartitionA, TypeIDR:
		return true, true
	case typePartitionB, typePartitionC, typeAuxiliary, typeExtension, typeDepth:
		return true, false
	}
	return false, false
}

// StartsAccessUnit reports whether a NAL unit that is not a slice starts an access unit if it
// follows a slice (ITU-T H.264 clause 7.4.1.2.3). A prefix NAL unit, of type 14, does so only if
// the slice after it belongs to another picture, because each slice may have one.
func StartsAccessUnit(unit []byte) bool {
	t := Type(unit)
	return TypeSEI <= t && t <= TypeAUD || 15 <= t && t <= 18
}
