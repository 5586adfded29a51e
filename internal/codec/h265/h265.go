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

	firstRASL = 8 // RASL_N and RASL_R: leading pictures that need pictures before the IRAP picture
	lastRASL  = 9
	firstIRAP = 16
	lastIRAP  = 21 // 22 and 23 are reserved
)

// Type returns the type of a NAL unit, which must not be empty.
func Type(unit []byte) int { return int(unit[0] >> 1 & 0x3F) }

// IsParameterSet reports whether a NAL unit belongs in a Config.
func IsParameterSet(unit []byte) bool { return TypeVPS <= Type(unit) && Type(unit) <= TypePPS }

// RandomAccess reports whether a decoder can start at an access unit with length fields of
// lengthSize bytes: Keyframe for an IRAP picture. It reads the NAL unit types and skips what
// decoders ignore. It is an error if the lengths do not add up, or if there is no unit that a
// decoder reads.
//
// rasl marks a picture that is output before its IRAP picture and refers to pictures before it. A
// decoder that starts at the IRAP picture cannot decode it and drops it (ITU-T H.265 clause 8.1.3).
func RandomAccess(unit []byte, lengthSize int) (rap media.RandomAccess, rasl bool, err error) {
	for read := false; ; {
		n, rest, err := nal.Next(unit, lengthSize)
		switch {
		case err != nil:
			return media.NoRandomAccess, false, err
		case n == nil && !read:
			return media.NoRandomAccess, false, nal.ErrNoUnit
		case n == nil:
			return rap, rasl, nil
		}
		unit = rest
		if !IsValidUnit(n) {
			continue
		}
		t := Type(n)
		read = read || isSpecified(t)
		switch {
		case firstIRAP <= t && t <= lastIRAP:
			rap = media.Keyframe
		case firstRASL <= t && t <= lastRASL:
			rasl = true
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
