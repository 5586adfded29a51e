// Package h265 parses what a server that passes HEVC through needs (ITU-T H.265, ISO/IEC
// 14496-15): picture size and rate, parameter sets, and random access points. It never decodes a
// picture. No input makes it read past its slice, loop for longer than the input, or allocate
// more memory than the input justifies.
package h265

import (
	"livego/internal/codec/nal"
	"livego/internal/media"
)

// Types of NAL unit, ITU-T H.265 table 7-1.
const (
	TypeVPS         = 32
	TypeSPS         = 33
	TypePPS         = 34
	TypeAUD         = 35
	TypeEndSequence = 36
	TypeEndStream   = 37
	TypeFiller      = 38
	TypePrefixSEI   = 39
	TypeSuffixSEI   = 40

	firstRADL = 6 // RADL_N and RADL_R: leading pictures that need only their IRAP picture
	firstRASL = 8 // RASL_N and RASL_R: leading pictures that need pictures before the IRAP picture
	lastRASL  = 9
	firstIRAP = 16
	lastIRAP  = 21 // 22 and 23 are reserved
)

// Type returns the type of a NAL unit, which must not be empty.
func Type(unit []byte) int { return int(unit[0] >> 1 & 0x3F) }

// IsParameterSet reports whether a NAL unit belongs in a Config.
func IsParameterSet(unit []byte) bool { return TypeVPS <= Type(unit) && Type(unit) <= TypePPS }

// An AccessUnit is what the NAL unit types of an access unit say.
type AccessUnit struct {
	RAP media.RandomAccess // Keyframe for an IRAP picture

	// RASL marks a picture that is output before its IRAP picture and refers to pictures before
	// it. A decoder that starts at the IRAP picture cannot decode it and drops it (ITU-T H.265
	// clause 8.1.3). RADL marks one that is output before the IRAP picture but can be decoded.
	RASL, RADL bool

	ParameterSets bool // has a VPS, an SPS and a PPS
}

// Classify reads the NAL unit types of an access unit with length fields of lengthSize bytes. It
// skips what decoders ignore. It is an error if the lengths do not add up, or if there is no unit
// that a decoder reads.
func Classify(unit []byte, lengthSize int) (AccessUnit, error) {
	var a AccessUnit
	var sets [3]bool
	for read := false; ; {
		n, rest, err := nal.Next(unit, lengthSize)
		switch {
		case err != nil:
			return AccessUnit{}, err
		case n == nil && !read:
			return AccessUnit{}, nal.ErrNoUnit
		case n == nil:
			a.ParameterSets = sets == [3]bool{true, true, true}
			return a, nil
		}
		unit = rest
		if !IsValidUnit(n) {
			continue
		}
		t := Type(n)
		read = read || isSpecified(t)
		switch {
		case firstIRAP <= t && t <= lastIRAP:
			a.RAP = media.Keyframe
		case firstRASL <= t && t <= lastRASL:
			a.RASL = true
		case firstRADL <= t && t < firstRASL:
			a.RADL = true
		case TypeVPS <= t && t <= TypePPS:
			sets[t-TypeVPS] = true
		}
	}
}

// IsValidUnit reports whether unit is a well-formed NAL unit. Decoders skip others: those with
// forbidden_zero_bit set, without a temporal ID, or with a two-byte header and no body, except in
// types without content. Units of unspecified and reserved types are valid: decoders ignore them
// (ITU-T H.265 clause 7.4.2.2).
func IsValidUnit(unit []byte) bool {
	if len(unit) < 2 || unit[0]&0x80 != 0 || unit[1]&7 == 0 {
		return false
	}
	switch Type(unit) {
	case TypeEndSequence, TypeEndStream:
		return true
	}
	return len(unit) > 2
}

// AffectsPicture reports whether removing unit, for which IsValidUnit is false, may damage a
// picture. A delimiter, filler or SEI that is only a header carries nothing.
func AffectsPicture(unit []byte) bool {
	switch Type(unit) {
	case TypeAUD, TypeFiller, TypePrefixSEI, TypeSuffixSEI:
		return unit[0]&0x80 != 0
	}
	return true
}

// isSpecified reports whether H.265 defines NAL unit type t: 10 to 15, 22 to 31 and 41 to 47 are
// reserved, those above unspecified.
func isSpecified(t int) bool {
	return t <= lastRASL || firstIRAP <= t && t <= lastIRAP || TypeVPS <= t && t <= TypeSuffixSEI
}
