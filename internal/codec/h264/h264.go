// Package h264 reads what a server needs to know of H.264 (ITU-T H.264, ISO/IEC 14496-15): picture
// size and rate, parameter sets, and where a decoder may start. It never decodes a picture, and no
// input makes it read past its slice, loop for longer than the input is long, or take memory that
// the input did not pay for.
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

// IsParameterSet reports whether a NAL unit belongs into a Config.
func IsParameterSet(unit []byte) bool { return Type(unit) == TypeSPS || Type(unit) == TypePPS }

// A Config is an AVCDecoderConfigurationRecord (ISO/IEC 14496-15 clause 5.3.3.1).
type Config struct {
	Profile, Compatibility, Level byte

	LengthSize int      // bytes of a NAL unit's length field: 1, 2 or 4
	SPS, PPS   [][]byte // NAL units, slices of the record
}

// ParseConfig reads an avcC record, which the result points into. Parameter sets that are cut off are an
// error; that there are none is not, and sets that are empty or of another type are passed over, as decoders
// do.
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
		return nil, errors.New("avcC NAL length size 3 is not legal")
	}
	var err error
	rest := avcC[6:]
	if c.SPS, rest, err = parameterSets(rest, int(avcC[5]&0x1F), TypeSPS); err != nil {
		return nil, err
	}
	if len(rest) == 0 {
		return c, nil // without a PPS
	}
	// What follows the PPS, chroma format and SPS extensions, repeats what the SPS says.
	if c.PPS, _, err = parameterSets(rest[1:], int(rest[0]), TypePPS); err != nil {
		return nil, err
	}
	return c, nil
}

// parameterSets cuts n sets with 16-bit lengths off b.
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

// ConfigFromAnnexB returns the avcC record of the parameter sets in b, NAL units with start codes.
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

// BuildConfig returns the avcC record of a stream with these parameter sets, NAL units without
// start codes, for access units whose length fields have 4 bytes. It is an error when there are
// none, more than the record can count, one that is not what it is said to be, or a first SPS that
// cannot be read.
func BuildConfig(sps, pps [][]byte) ([]byte, error) {
	if len(sps) == 0 || len(sps) > 31 || len(pps) == 0 || len(pps) > 255 {
		return nil, fmt.Errorf("avcC of %d SPS and %d PPS", len(sps), len(pps))
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
			return nil, fmt.Errorf("%d bytes are no parameter set of type %d", len(set), want)
		}
		dst = append(binary.BigEndian.AppendUint16(dst, uint16(len(set))), set...)
	}
	return dst, nil
}

// RFC6381 returns the codecs parameter, such as "avc1.64001f" (RFC 6381 section 3.3).
func (c *Config) RFC6381() string {
	return fmt.Sprintf("avc1.%02x%02x%02x", c.Profile, c.Compatibility, c.Level)
}

// RandomAccess tells whether a decoder may start at an access unit: Key for an IDR picture, Recovery for a
// recovery point SEI with recovery_frame_cnt 0. The access unit is NAL units with length fields of lengthSize
// bytes. What decoders ignore is passed over; it is an error when the lengths do not add up, or when there is
// no unit that a decoder reads.
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

// IsValidUnit reports whether unit can be a NAL unit at all. Decoders skip what cannot: one with
// forbidden_zero_bit set, and a header alone, but for the types that have no content. Those of unspecified
// and reserved types are units; decoders ignore them (ITU-T H.264 clause 7.4.1), and applications may use
// them.
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

// AffectsPicture reports whether pictures may lack something without unit, which is not IsValidUnit: a header of a
// delimiter, filler or SEI alone says nothing.
func AffectsPicture(unit []byte) bool {
	switch Type(unit) {
	case TypeAUD, TypeFiller, TypeSEI:
		return unit[0]&0x80 != 0
	}
	return true
}

// isSpecified reports whether H.264 gives NAL units of type t a meaning: 0 and 24 to 31 are unspecified, 17,
// 18, 22 and 23 reserved.
func isSpecified(t int) bool {
	return 1 <= t && t <= 16 || 19 <= t && t <= 21
}

// seiLimit is how much of an SEI NAL unit is searched for a recovery point: encoders put it among
// the first messages, after x264's version text of about 700 bytes at most.
const seiLimit = 4096

// isRecoveryPoint looks through the messages of an SEI NAL unit (ITU-T H.264 clauses 7.3.2.3.1 and D.1.8).
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

// seiNumber reads a payload type or size: a run of 0xFF bytes and one more, added up.
func seiNumber(b []byte) (n int, rest []byte) {
	for i, c := range b {
		n += int(c)
		if c != 0xFF {
			return n, b[i+1:]
		}
	}
	return n, nil
}

// AppendAnnexB appends unit with a start code of four bytes in front (ITU-T H.264 annex B).
func AppendAnnexB(dst, unit []byte) []byte {
	return append(binary.BigEndian.AppendUint32(dst, 1), unit...)
}
