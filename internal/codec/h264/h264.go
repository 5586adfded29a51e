// Package h264 parses what a server needs of H.264 (ITU-T H.264, ISO/IEC 14496-15): picture size
// and rate, parameter sets, and random access points. It never decodes a picture. No input makes
// it read past its slice, loop for longer than the input, or allocate more memory than the input
// justifies.
package h264

import (
	"encoding/binary"
	"errors"
	"fmt"

	"livego/internal/codec/bits"
	"livego/internal/codec/nal"
	"livego/internal/media"
)

// Types of NAL unit, ITU-T H.264 table 7-1.
const (
	TypeIDR         = 5
	TypeSEI         = 6
	TypeSPS         = 7
	TypePPS         = 8
	TypeAUD         = 9
	TypeEndSequence = 10
	TypeEndStream   = 11
	TypeFiller      = 12
)

// Type returns the type of a NAL unit, which must not be empty.
func Type(unit []byte) int { return int(unit[0] & 0x1F) }

// IsParameterSet reports whether a NAL unit belongs in a Config.
func IsParameterSet(unit []byte) bool { return Type(unit) == TypeSPS || Type(unit) == TypePPS }

// A Config is an AVCDecoderConfigurationRecord (ISO/IEC 14496-15 clause 5.3.3.1).
type Config struct {
	Profile, Compatibility, Level byte

	LengthSize int      // bytes of a NAL unit's length field: 1, 2 or 4
	SPS, PPS   [][]byte // NAL units, slices of the record
}

// ParseConfig parses an avcC record, which the result points into. Truncated parameter sets are
// an error; a record without any is not. Like decoders, it skips sets that are empty or of
// another type.
func ParseConfig(avcC []byte) (*Config, error) {
	if len(avcC) < 7 {
		return nil, fmt.Errorf("avcC of %d bytes is too short", len(avcC))
	}
	if avcC[0] != 1 {
		return nil, fmt.Errorf("avcC version %d is unknown", avcC[0])
	}
	c := &Config{
		Profile: avcC[1], Compatibility: avcC[2], Level: avcC[3],
		LengthSize: int(avcC[4]&3) + 1,
	}
	if c.LengthSize == 3 {
		return nil, errors.New("avcC NAL length size 3 is invalid")
	}
	var err error
	rest := avcC[6:]
	if c.SPS, rest, err = parameterSets(rest, int(avcC[5]&0x1F), TypeSPS); err != nil {
		return nil, err
	}
	if len(rest) == 0 {
		return c, nil // without a PPS
	}
	// The fields after the PPS, chroma format and SPS extensions, repeat what the SPS says.
	if c.PPS, _, err = parameterSets(rest[1:], int(rest[0]), TypePPS); err != nil {
		return nil, err
	}
	return c, nil
}

// parameterSets parses n parameter sets with 16-bit lengths at the start of b.
func parameterSets(b []byte, n, want int) (sets [][]byte, rest []byte, err error) {
	for range n {
		var set []byte
		if set, b, err = nal.Cut(b, 2); err != nil && !errors.Is(err, nal.ErrEmpty) {
			return nil, nil, fmt.Errorf("avcC parameter set: %w", err)
		}
		if err == nil && Type(set) == want {
			sets = append(sets, set)
		}
	}
	return sets, b, nil
}

// ConfigFromAnnexB returns the avcC record for the parameter sets in b, NAL units with start
// codes.
func ConfigFromAnnexB(b []byte) ([]byte, error) {
	var sps, pps [][]byte
	for unit, rest := nal.NextAnnexB(b); unit != nil; unit, rest = nal.NextAnnexB(rest) {
		switch Type(unit) {
		case TypeSPS:
			sps = append(sps, unit)
		case TypePPS:
			pps = append(pps, unit)
		}
	}
	return BuildConfig(sps, pps)
}

// BuildConfig returns the avcC record for these parameter sets, NAL units without start codes,
// and access units with length fields of 4 bytes. It is an error if there is no SPS or PPS, if
// there are more than the record can count, if one has the wrong type, or if the first SPS cannot
// be parsed.
func BuildConfig(sps, pps [][]byte) ([]byte, error) {
	if len(sps) == 0 || len(sps) > 31 || len(pps) == 0 || len(pps) > 255 {
		return nil, fmt.Errorf("avcC with %d SPS and %d PPS", len(sps), len(pps))
	}
	s, err := ParseSPS(sps[0])
	if err != nil {
		return nil, err
	}
	b := []byte{1, s.Profile, s.Constraints, s.Level, 0xFF, 0xE0 | byte(len(sps))}
	if b, err = appendSets(b, sps, TypeSPS); err != nil {
		return nil, err
	}
	if b, err = appendSets(append(b, byte(len(pps))), pps, TypePPS); err != nil {
		return nil, err
	}
	switch s.Profile {
	case 66, 77, 88:
		return b, nil
	}
	return append(b, 0xFC|byte(s.ChromaFormat), 0xF8|byte(s.BitDepth-8), 0xF8|byte(s.ChromaDepth-8), 0), nil
}

// appendSets is the inverse of parameterSets.
func appendSets(dst []byte, sets [][]byte, want int) ([]byte, error) {
	for _, set := range sets {
		if len(set) < 2 || len(set) > 1<<16-1 || Type(set) != want {
			return nil, fmt.Errorf("NAL unit of %d bytes is not a parameter set of type %d", len(set), want)
		}
		dst = append(binary.BigEndian.AppendUint16(dst, uint16(len(set))), set...)
	}
	return dst, nil
}

// RFC6381 returns the codecs parameter, such as "avc1.64001f" (RFC 6381 section 3.3).
func (c *Config) RFC6381() string {
	return fmt.Sprintf("avc1.%02x%02x%02x", c.Profile, c.Compatibility, c.Level)
}

// RandomAccess reports whether a decoder can start at an access unit: Keyframe for an IDR
// picture, RecoveryPoint for a recovery point SEI with recovery_frame_cnt 0. The access unit has
// length fields of lengthSize bytes. It skips what decoders ignore. It is an error if the lengths
// do not add up, or if there is no unit that a decoder reads.
func RandomAccess(unit []byte, lengthSize int) (media.RandomAccess, error) {
	rap, read := media.NoRandomAccess, false
	for {
		n, rest, err := nal.Next(unit, lengthSize)
		switch {
		case err != nil:
			return media.NoRandomAccess, err
		case n == nil && !read:
			return media.NoRandomAccess, nal.ErrNoUnit
		case n == nil:
			return rap, nil
		}
		unit = rest
		if !IsValidUnit(n) {
			continue
		}
		t := Type(n)
		read = read || isSpecified(t)
		switch t {
		case TypeIDR:
			rap = media.Keyframe
		case TypeSEI:
			if rap == media.NoRandomAccess && isRecoveryPoint(n) {
				rap = media.RecoveryPoint
			}
		}
	}
}

// IsValidUnit reports whether unit is a well-formed NAL unit. Decoders skip others: those with
// forbidden_zero_bit set, and a header without a body, except in types without content. Units of
// unspecified and reserved types are valid: decoders ignore them (ITU-T H.264 clause 7.4.1), and
// applications may use them.
func IsValidUnit(unit []byte) bool {
	if unit[0]&0x80 != 0 {
		return false
	}
	switch Type(unit) {
	case TypeEndSequence, TypeEndStream:
		return true
	}
	return len(unit) > 1
}

// AffectsPicture reports whether removing unit, for which IsValidUnit is false, may damage a
// picture. A delimiter, filler or SEI that is only a header carries nothing.
func AffectsPicture(unit []byte) bool {
	switch Type(unit) {
	case TypeAUD, TypeFiller, TypeSEI:
		return unit[0]&0x80 != 0
	}
	return true
}

// isSpecified reports whether H.264 defines NAL unit type t: 0 and 24 to 31 are unspecified; 17,
// 18, 22 and 23 are reserved.
func isSpecified(t int) bool {
	return 1 <= t && t <= 16 || 19 <= t && t <= 21
}

// seiLimit is how many bytes of an SEI NAL unit are searched for a recovery point. Encoders put
// it among the first messages, at most after x264's version text of about 700 bytes.
const seiLimit = 4096

// isRecoveryPoint searches the messages of an SEI NAL unit for a recovery point (ITU-T H.264
// clauses 7.3.2.3.1 and D.1.8).
func isRecoveryPoint(sei []byte) bool {
	const recoveryPoint = 6
	b := nal.Unescape(sei[1:], seiLimit)
	for len(b) > 2 { // the last byte is rbsp_trailing_bits
		var kind, size int
		if kind, b = seiNumber(b); kind == recoveryPoint {
			size, b = seiNumber(b)
			r := bits.NewReader(b[:min(size, len(b))])
			return r.UE() == 0 && !r.Overrun()
		}
		size, b = seiNumber(b)
		b = b[min(size, len(b)):]
	}
	return false
}

// seiNumber parses a payload type or size: the sum of a run of 0xFF bytes and one more byte.
func seiNumber(b []byte) (n int, rest []byte) {
	for i, c := range b {
		n += int(c)
		if c != 0xFF {
			return n, b[i+1:]
		}
	}
	return n, nil
}

// AppendAnnexB appends unit after a start code of four bytes (ITU-T H.264 annex B).
func AppendAnnexB(dst, unit []byte) []byte {
	return append(binary.BigEndian.AppendUint32(dst, 1), unit...)
}
