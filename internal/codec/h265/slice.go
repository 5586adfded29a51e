package h265

// IsSlice reports whether a NAL unit is coded picture data, and whether it is the first of its
// picture: first_slice_segment_in_pic_flag (ITU-T H.265 clause 7.3.6.1). first is false for
// slices of a layer above the base: they belong to the same access unit.
func IsSlice(unit []byte) (slice, first bool) {
	const firstNonVCL = 32
	if len(unit) < 2 || Type(unit) >= firstNonVCL {
		return false, false
	}
	return true, len(unit) > 2 && unit[2]&0x80 != 0 && layer(unit) == 0
}

// StartsAccessUnit reports whether a NAL unit that is not a slice starts an access unit if it
// follows a slice (ITU-T H.265 clause 7.4.2.4.4).
func StartsAccessUnit(unit []byte) bool {
	if len(unit) < 2 || layer(unit) != 0 {
		return false
	}
	t := Type(unit)
	return TypeVPS <= t && t <= TypeAUD || t == TypePrefixSEI || 41 <= t && t <= 44 || 48 <= t && t <= 55
}

// layer returns nuh_layer_id.
func layer(unit []byte) int { return int(unit[0]&1)<<5 | int(unit[1]>>3) }
