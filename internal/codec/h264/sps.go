package h264

import (
	"errors"

	"livego/internal/codec/bits"
	"livego/internal/codec/nal"
)

// An SPS is what a sequence parameter set says of the picture.
type SPS struct {
	Profile, Constraints, Level byte

	ChromaFormat int // chroma_format_idc: 0 monochrome, 1 4:2:0, 2 4:2:2, 3 4:4:4
	BitDepth     int // of luma samples, 8 to 14
	ChromaDepth  int // of chroma samples

	Width, Height int     // pixels after cropping, of a frame: of both fields if it is interlaced
	FrameRate     float64 // frames per second by the VUI, 0 if unknown
}

const (
	maxSPS  = 4096  // bytes read of an SPS: scaling lists and VUI at their longest need less than 1 KiB
	maxSide = 16384 // pixels; level 6.2 ends at 16880 luma samples, and no encoder reaches it

	maxDepth = 14 // bit_depth_luma_minus8 is 6 at most
)

var errSPS = errors.New("h264: malformed SPS")

// ParseSPS parses a sequence parameter set NAL unit (ITU-T H.264 clause 7.3.2.1.1). It is an
// error if a size is 0 or above 16384, the cropping exceeds the picture, a chroma format or bit
// depth is reserved, or the set is truncated before the VUI. If the VUI is malformed, the frame
// rate is unknown.
func ParseSPS(unit []byte) (SPS, error) {
	if len(unit) < 4 || Type(unit) != TypeSPS {
		return SPS{}, errSPS
	}
	b := nal.Unescape(unit[1:], maxSPS)
	if len(b) < 3 {
		return SPS{}, errSPS
	}
	s := SPS{Profile: b[0], Constraints: b[1], Level: b[2], ChromaFormat: 1, BitDepth: 8, ChromaDepth: 8}
	r := bits.NewReader(b[3:])
	r.UE() // seq_parameter_set_id

	chroma := chromaFormat{idc: 1}
	if hasChromaFormat(s.Profile) {
		chroma = s.readChroma(r)
		if s.ChromaFormat > 3 || s.BitDepth > maxDepth || s.ChromaDepth > maxDepth {
			return SPS{}, errSPS
		}
	}
	r.UE() // log2_max_frame_num_minus4
	skipPicOrderCount(r)
	r.UE()    // max_num_ref_frames
	r.Skip(1) // gaps_in_frame_num_value_allowed_flag
	if err := s.readSize(r, chroma); err != nil {
		return SPS{}, err
	}
	if r.Flag() {
		s.FrameRate = readFrameRate(r)
	}
	return s, nil
}

// hasChromaFormat reports whether an SPS of this profile has the fields of the high profiles.
func hasChromaFormat(profile byte) bool {
	switch profile {
	case 100, 110, 122, 244, 44, 83, 86, 118, 128, 138, 139, 134, 135:
		return true
	}
	return false
}

type chromaFormat struct {
	idc      int  // 0 monochrome, 1 4:2:0, 2 4:2:2, 3 4:4:4
	separate bool // three colour planes, each coded as monochrome
}

// cropUnits returns the number of luma samples in one unit of cropping (ITU-T H.264 clause
// 7.4.2.1.1).
func (c chromaFormat) cropUnits() (x, y int) {
	x, y = 1, 1
	if c.separate {
		return x, y
	}
	if c.idc == 1 || c.idc == 2 {
		x = 2
	}
	if c.idc == 1 {
		y = 2
	}
	return x, y
}

func (s *SPS) readChroma(r *bits.Reader) chromaFormat {
	small := func() int { return int(min(r.UE(), 255)) } // so that an out-of-range value stays so in any int
	s.ChromaFormat = small()
	c := chromaFormat{idc: s.ChromaFormat}
	if c.idc == 3 {
		c.separate = r.Flag()
	}
	s.BitDepth, s.ChromaDepth = 8+small(), 8+small()
	r.Skip(1) // qpprime_y_zero_transform_bypass_flag
	if r.Flag() {
		skipScalingLists(r, c)
	}
	return c
}

// skipScalingLists skips at most 12 lists of at most 64 deltas (ITU-T H.264 clause 7.3.2.1.1.1).
func skipScalingLists(r *bits.Reader, c chromaFormat) {
	lists := 8
	if c.idc == 3 {
		lists = 12
	}
	for i := range lists {
		if !r.Flag() {
			continue
		}
		size := 16
		if i >= 6 {
			size = 64
		}
		last, next := int32(8), int32(8)
		for j := 0; j < size && next != 0; j++ {
			next = (last + r.SE()%256 + 256) % 256
			if next != 0 {
				last = next
			}
		}
	}
}

func skipPicOrderCount(r *bits.Reader) {
	switch r.UE() {
	case 0:
		r.UE() // log2_max_pic_order_cnt_lsb_minus4
	case 1:
		r.Skip(1) // delta_pic_order_always_zero_flag
		r.SE()    // offset_for_non_ref_pic
		r.SE()    // offset_for_top_to_bottom_field
		// num_ref_frames_in_pic_order_cnt_cycle is at most 255; an overrun ends the loop for
		// larger values.
		for n := r.UE(); n > 0 && !r.Overrun(); n-- {
			r.SE()
		}
	}
}

func (s *SPS) readSize(r *bits.Reader, chroma chromaFormat) error {
	columns, rows := r.UE(), r.UE() // both minus 1
	frames := r.Flag()              // frame_mbs_only_flag
	if !frames {
		r.Skip(1) // mb_adaptive_frame_field_flag
	}
	r.Skip(1) // direct_8x8_inference_flag
	if r.Overrun() || columns >= maxSide/16 || rows >= maxSide/16 {
		return errSPS
	}
	w, h := (int(columns)+1)*16, (int(rows)+1)*16
	unitX, unitY := chroma.cropUnits()
	if !frames {
		h *= 2
		unitY *= 2
	}
	if r.Flag() {
		left, right, top, bottom := r.UE(), r.UE(), r.UE(), r.UE()
		if max(left, right, top, bottom) > maxSide {
			return errSPS
		}
		w -= int(left+right) * unitX
		h -= int(top+bottom) * unitY
	}
	if r.Overrun() || w <= 0 || h <= 0 || h > maxSide {
		return errSPS
	}
	s.Width, s.Height = w, h
	return nil
}

// readFrameRate parses the VUI up to its timing (ITU-T H.264 clause E.1.1).
func readFrameRate(r *bits.Reader) float64 {
	nal.SkipVUIHead(r)
	if !r.Flag() { // timing_info_present_flag
		return 0
	}
	unitsInTick, scale := r.U(32), r.U(32)
	if r.Overrun() || unitsInTick == 0 {
		return 0
	}
	// A tick is a field, and a frame has two (clause E.2.1).
	rate := float64(scale) / (2 * float64(unitsInTick))
	if rate > 1000 {
		return 0
	}
	return rate
}

// ProfileName returns the name of the profile in ITU-T H.264 annex A, "" if it is unknown.
func (s SPS) ProfileName() string {
	const set1, set3 = 0x40, 0x10 // constraint_set1_flag, constraint_set3_flag
	intra := s.Constraints&set3 != 0
	switch {
	case s.Profile == 66 && s.Constraints&set1 != 0:
		return "Constrained Baseline"
	case s.Profile == 110 && intra:
		return "High 10 Intra"
	case s.Profile == 122 && intra:
		return "High 4:2:2 Intra"
	case s.Profile == 244 && intra:
		return "High 4:4:4 Intra"
	}
	return profileNames[s.Profile]
}

var profileNames = map[byte]string{
	44: "CAVLC 4:4:4", 66: "Baseline", 77: "Main", 83: "Scalable Baseline", 86: "Scalable High", 88: "Extended",
	100: "High",
	110: "High 10", 118: "Multiview High", 122: "High 4:2:2", 128: "Stereo High", 244: "High 4:4:4 Predictive",
}
