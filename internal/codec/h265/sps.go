package h265

import (
	"errors"

	"livego/internal/codec/bits"
	"livego/internal/codec/nal"
)

// An SPS is what a sequence parameter set says of the picture.
type SPS struct {
	ProfileTierLevel

	ChromaFormat int // chroma_format_idc: 0 monochrome, 1 4:2:0, 2 4:2:2, 3 4:4:4
	BitDepth     int // of luma samples, 8 to 16
	ChromaDepth  int // of chroma samples

	// Size in pixels after cropping to the conformance window; of one field if the stream codes
	// fields.
	Width, Height int
	FrameRate     float64 // coded pictures per second by the VUI, 0 if unknown

	temporalLayers int  // 1 to 7
	nested         byte // sps_temporal_id_nesting_flag
}

const (
	maxSPS  = 8192  // bytes read of a parameter set: 64 reference picture sets and scaling lists need less than 4 KiB
	maxSide = 16384 // pixels; level 6.2 ends at 16888 luma samples, and no encoder reaches it
	maxRate = 1000  // frames a second

	maxSubLayers = 7  // sps_max_sub_layers_minus1 is 6 at most
	maxDepth     = 16 // bit_depth_luma_minus8 is 8 at most
	maxRefSets   = 64 // num_short_term_ref_pic_sets
	maxRefs      = 16 // pictures in one of them
	maxLongRefs  = 32 // num_long_term_ref_pics_sps
)

var errSPS = errors.New("h265: malformed SPS")

// ParseSPS parses a sequence parameter set NAL unit (ITU-T H.265 clause 7.3.2.2.1) of the base
// layer. It is an error if a size is 0 or above 16384, the cropping exceeds the picture, a chroma
// format or bit depth is reserved, or the set is truncated before its bit depth. If a later field
// is malformed, the frame rate is unknown.
func ParseSPS(unit []byte) (SPS, error) {
	if len(unit) < 3 || Type(unit) != TypeSPS {
		return SPS{}, errSPS
	}
	r := bits.NewReader(nal.Unescape(unit[2:], maxSPS))
	r.Skip(4) // sps_video_parameter_set_id
	var s SPS
	s.temporalLayers = int(r.U(3)) + 1
	s.nested = byte(r.U(1))
	if s.temporalLayers > maxSubLayers {
		return SPS{}, errSPS
	}
	s.ProfileTierLevel = readProfile(r)
	skipSubLayers(r, s.temporalLayers)
	r.UE() // sps_seq_parameter_set_id
	if err := s.readSize(r); err != nil {
		return SPS{}, err
	}
	s.FrameRate = s.readFrameRate(r)
	return s, nil
}

// skipSubLayers skips the profiles and levels of the lower temporal layers in profile_tier_level.
func skipSubLayers(r *bits.Reader, layers int) {
	if layers == 1 {
		return
	}
	present := r.U(16) // a flag for the profile and one for the level of each of 8, the unused reserved
	for i := range layers - 1 {
		flags := present >> (14 - 2*i)
		if flags&2 != 0 {
			r.Skip(88)
		}
		if flags&1 != 0 {
			r.Skip(8)
		}
	}
}

func (s *SPS) readSize(r *bits.Reader) error {
	small := func() int { return int(min(r.UE(), 255)) } // so that an out-of-range value stays so in any int
	s.ChromaFormat = small()
	separate := s.ChromaFormat == 3 && r.Flag()
	w, h := r.UE(), r.UE()
	if r.Overrun() || s.ChromaFormat > 3 || w == 0 || h == 0 || w > maxSide || h > maxSide {
		return errSPS
	}
	s.Width, s.Height = int(w), int(h)
	if r.Flag() { // conformance_window_flag
		left, right, top, bottom := r.UE(), r.UE(), r.UE(), r.UE()
		if max(left, right, top, bottom) > maxSide {
			return errSPS
		}
		unitX, unitY := 1, 1
		if !separate && (s.ChromaFormat == 1 || s.ChromaFormat == 2) {
			unitX = 2
		}
		if s.ChromaFormat == 1 {
			unitY = 2
		}
		s.Width -= int(left+right) * unitX
		s.Height -= int(top+bottom) * unitY
	}
	s.BitDepth, s.ChromaDepth = 8+small(), 8+small()
	if r.Overrun() || s.Width <= 0 || s.Height <= 0 || s.BitDepth > maxDepth || s.ChromaDepth > maxDepth {
		return errSPS
	}
	return nil
}

// readFrameRate parses the SPS from after the bit depth up to the timing in the VUI. It returns 0
// if there is none.
func (s *SPS) readFrameRate(r *bits.Reader) float64 {
	orderBits := r.UE() + 4 // log2_max_pic_order_cnt_lsb_minus4
	if orderBits > 16 {
		return 0
	}
	skipOrdering(r, s.temporalLayers)
	for range 6 { // sizes of coding and transform blocks
		r.UE()
	}
	if r.Flag() { // scaling_list_enabled_flag
		skipScalingLists(r)
	}
	r.Skip(2)     // amp_enabled_flag, sample_adaptive_offset_enabled_flag
	if r.Flag() { // pcm_enabled_flag
		r.Skip(8)
		r.UE()
		r.UE()
		r.Skip(1)
	}
	if !skipRefSets(r) {
		return 0
	}
	if r.Flag() { // long_term_ref_pics_present_flag
		n := r.UE()
		if n > maxLongRefs {
			return 0
		}
		r.Skip(int(n * (orderBits + 1)))
	}
	r.Skip(2)      // sps_temporal_mvp_enabled_flag, strong_intra_smoothing_enabled_flag
	if !r.Flag() { // vui_parameters_present_flag
		return 0
	}
	return readVUI(r)
}

// skipOrdering skips the sizes of the decoded picture buffer, of the last sub-layer or of each.
func skipOrdering(r *bits.Reader, layers int) {
	n := 1
	if r.Flag() { // sub_layer_ordering_info_present_flag
		n = layers
	}
	for range 3 * n {
		r.UE()
	}
}

// skipScalingLists skips scaling_list_data (ITU-T H.265 clause 7.3.4), if present: at most 24
// lists of at most 65 codes.
func skipScalingLists(r *bits.Reader) {
	if !r.Flag() { // sps_scaling_list_data_present_flag
		return
	}
	for size := range 4 {
		lists := 6
		if size == 3 {
			lists = 2
		}
		for range lists {
			if !r.Flag() { // scaling_list_pred_mode_flag
				r.UE()
				continue
			}
			if size > 1 {
				r.SE() // scaling_list_dc_coef_minus8
			}
			for range min(64, 1<<(4+2*size)) {
				r.SE()
			}
		}
	}
}

// skipRefSets skips the short-term reference picture sets (ITU-T H.265 clause 7.3.7). It returns
// false if they are malformed.
func skipRefSets(r *bits.Reader) bool {
	sets := r.UE()
	if sets > maxRefSets {
		return false
	}
	refs := 0 // pictures of the set before
	for i := range sets {
		if i > 0 && r.Flag() { // inter_ref_pic_set_prediction_flag; it is always from the set before
			refs = skipPredictedSet(r, refs)
		} else {
			negative, positive := r.UE(), r.UE()
			if negative > maxRefs || positive > maxRefs {
				return false
			}
			refs = int(negative + positive)
			for range refs {
				r.UE()    // delta_poc_minus1
				r.Skip(1) // used_by_curr_pic_flag
			}
		}
		if refs > maxRefs || r.Overrun() {
			return false
		}
	}
	return true
}

// skipPredictedSet returns the number of pictures in a set that is coded as the difference to a
// set of refs pictures.
func skipPredictedSet(r *bits.Reader, refs int) int {
	r.Skip(1) // delta_rps_sign
	r.UE()    // abs_delta_rps_minus1
	n := 0
	for range refs + 1 {
		if used := r.Flag(); used || r.Flag() { // used_by_curr_pic_flag, use_delta_flag
			n++
		}
	}
	return n
}

// readVUI parses the VUI up to its timing (ITU-T H.265 clause E.2.1).
func readVUI(r *bits.Reader) float64 {
	nal.SkipVUIHead(r)
	r.Skip(3)     // neutral_chroma_indication_flag, field_seq_flag, frame_field_info_present_flag
	if r.Flag() { // default_display_window_flag
		for range 4 {
			r.UE()
		}
	}
	return readTiming(r)
}

// readTiming parses the timing that VUI and VPS share: a tick is a picture.
func readTiming(r *bits.Reader) float64 {
	if !r.Flag() {
		return 0
	}
	unitsInTick, scale := r.U(32), r.U(32)
	if r.Overrun() || unitsInTick == 0 {
		return 0
	}
	rate := float64(scale) / float64(unitsInTick)
	if rate > maxRate {
		return 0
	}
	return rate
}

// VPSFrameRate returns the pictures per second in a video parameter set NAL unit (ITU-T H.265
// clause 7.3.2.1), 0 if it has none or is malformed. It is for streams whose SPS has no timing.
func VPSFrameRate(unit []byte) float64 {
	const maxLayerSets = 1023 // vps_num_layer_sets_minus1
	if len(unit) < 3 || Type(unit) != TypeVPS {
		return 0
	}
	r := bits.NewReader(nal.Unescape(unit[2:], maxSPS))
	r.Skip(4 + 2 + 6) // vps_video_parameter_set_id, base layer flags, vps_max_layers_minus1
	layers := int(r.U(3)) + 1
	r.Skip(1 + 16) // vps_temporal_id_nesting_flag, vps_reserved_0xffff_16bits
	if layers > maxSubLayers {
		return 0
	}
	readProfile(r)
	skipSubLayers(r, layers)
	skipOrdering(r, layers)
	ids := int(r.U(6)) + 1 // vps_max_layer_id
	sets := r.UE()         // vps_num_layer_sets_minus1
	if sets > maxLayerSets {
		return 0
	}
	r.Skip(int(sets) * ids)
	return readTiming(r)
}
