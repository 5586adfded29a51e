package nal

import "livego/internal/codec/bits"

// SkipVUIHead skips the fields with which the VUI of H.264 and HEVC begins: up to the location of
// chroma samples (ITU-T H.264 clause E.1.1, H.265 clause E.2.1).
func SkipVUIHead(r *bits.Reader) {
	const extendedSAR = 255
	if r.Flag() && r.U(8) == extendedSAR { // aspect_ratio_info_present_flag
		r.Skip(32)
	}
	if r.Flag() { // overscan_info_present_flag
		r.Skip(1)
	}
	if r.Flag() { // video_signal_type_present_flag
		r.Skip(4)
		if r.Flag() { // colour_description_present_flag
			r.Skip(24)
		}
	}
	if r.Flag() { // chroma_loc_info_present_flag
		r.UE()
		r.UE()
	}
}
