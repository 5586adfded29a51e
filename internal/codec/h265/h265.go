// Package h265 reads what a server that passes HEVC through needs to know of it (ITU-T H.265,
// ISO/IEC 14496-15): picture size and rate, parameter sets, and where a decoder may start. It never
// decodes a picture, and no input makes it read past its slice, loop for longer than the input is
// long, or take memory that the input did not pay for.
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

	firstRADL = 6 // RADL_N and RADL_R, pictures that lead an IRAP picture and need only it
	firstRASL = 8 // RASL_N and RASL_R, that lead one and need what was before it
	lastRASL  = 9
	firstIRAP = 16
	lastIRAP  = 21 // 22 and 23 are reserved
)

// Type returns the type of a NAL unit, which must not be empty.
func Type(unit []byte) int { return int(unit[0] >> 1 & 0x3F) }

// IsParameterSet reports whether a NAL unit belongs into a Config.
func IsParameterSet(unit []byte) bool { return TypeVPS <= Type(unit) && Type(unit) <= TypePPS }

// An AccessUnit is what the types of its NAL units say.
type AccessUnit struct {
	RAP media.RandomAccess // Key for an IRAP picture

	// RASL marks a picture that is shown before the IRAP picture it follows and refers to what was
	// before that. Who started at that picture cannot decode it and drops it (ITU-T H.265 clause
	// 8.1.3). RADL marks one that is shown before but can be decoded.
	RASL, RADL bool

	ParameterSets bool // brings a VPS, an SPS and a PPS
}

// Classify reads the NAL units of an access unit, whose length fields have lengthSize bytes. What decoders
// ignore is passed over; it is an error when the lengths do not add up, or when there is no unit that a
// decoder reads.
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

// IsValidUnit reports whether unit can be a NAL unit at all. Decoders skip what cannot: one with
// forbidden_zero_bit set, without a temporal ID, and a header of two bytes alone, but for the types that have
// no content. Those of unspecified and reserved types are units; decoders ignore them (ITU-T H.265 clause
// 7.4.2.2).
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

// AffectsPicture reports whether pictures may lack something without unit, which is not IsValidUnit: a header of a
// delimiter, filler or SEI alone says nothing.
func AffectsPicture(unit []byte) bool {
	switch Type(unit) {
	case TypeAUD, TypeFiller, TypePrefixSEI, TypeSuffixSEI:
		return unit[0]&0x80 != 0
	}
	return true
}

// isSpecified reports whether H.265 gives NAL units of type t a meaning: 10 to 15, 22 to 31 and 41 to 47 are
// reserved, those above unspecified.
func isSpecified(t int) bool {
	return t <= lastRASL || firstIRAP <= t && t <= lastIRAP || TypeVPS <= t && t <= TypeSuffixSEI
}
