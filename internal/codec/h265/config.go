package h265

import (
	"encoding/binary"
	"errors"
	"fmt"

	"livego/internal/codec/bits"
	"livego/internal/codec/nal"
)

// A Config is an HEVCDecoderConfigurationRecord (ISO/IEC 14496-15 clause 8.3.3.1).
type Config struct {
	ProfileTierLevel

	LengthSize    int      // bytes of a NAL unit's length field: 1, 2 or 4
	VPS, SPS, PPS [][]byte // NAL units, slices of the record
}

// fixedSize is the size of a record without its arrays, in bytes.
const fixedSize = 23

// ParseConfig parses an hvcC record, which the result points into. Truncated parameter sets are
// an error; a record without any is not. It reads version 0, which encoders wrote before the
// standard was final, as version 1. It sorts NAL units by their own type, not by their array's.
func ParseConfig(hvcC []byte) (*Config, error) {
	if len(hvcC) < fixedSize {
		return nil, fmt.Errorf("hvcC of %d bytes is too short", len(hvcC))
	}
	if hvcC[0] > 1 {
		return nil, fmt.Errorf("hvcC version %d is unknown", hvcC[0])
	}
	c := &Config{
		ProfileTierLevel: readProfile(bits.NewReader(hvcC[1:])),
		LengthSize:       int(hvcC[21]&3) + 1,
	}
	if c.LengthSize == 3 {
		return nil, errors.New("hvcC NAL length size 3 is invalid")
	}
	b := hvcC[fixedSize:]
	for range hvcC[22] {
		if len(b) < 3 {
			return nil, errors.New("hvcC ends within its parameter sets")
		}
		units := int(b[1])<<8 | int(b[2])
		b = b[3:]
		for range units {
			var set []byte
			var err error
			if set, b, err = nal.Cut(b, 2); errors.Is(err, nal.ErrEmpty) {
				continue
			}
			if err != nil {
				return nil, fmt.Errorf("hvcC parameter set: %w", err)
			}
			c.addParameterSet(set)
		}
	}
	return c, nil
}

// ConfigFromAnnexB returns the hvcC record for the parameter sets in b, NAL units with start
// codes.
func ConfigFromAnnexB(b []byte) ([]byte, error) {
	var c Config
	for unit, rest := nal.NextAnnexB(b); unit != nil; unit, rest = nal.NextAnnexB(rest) {
		c.addParameterSet(unit)
	}
	return BuildConfig(c.VPS, c.SPS, c.PPS)
}

// addParameterSet adds a NAL unit to the set of its type. It ignores SEI units, which some
// records have.
func (c *Config) addParameterSet(unit []byte) {
	switch Type(unit) {
	case TypeVPS:
		c.VPS = append(c.VPS, unit)
	case TypeSPS:
		c.SPS = append(c.SPS, unit)
	case TypePPS:
		c.PPS = append(c.PPS, unit)
	}
}

// maxSets is the largest number of parameter sets of one type: pps_pic_parameter_set_id ends at
// 63.
const maxSets = 64

// BuildConfig returns the hvcC record for these parameter sets, NAL units without start codes,
// and access units with length fields of 4 bytes. Fields that a server does not know
// (parallelism, spatial segmentation, average frame rate) are left unspecified, as the record
// allows. It is an error if a type has no parameter set or too many, if one has the wrong type,
// or if the first SPS cannot be parsed.
func BuildConfig(vps, sps, pps [][]byte) ([]byte, error) {
	if len(sps) == 0 {
		return nil, errors.New("hvcC without SPS")
	}
	s, err := ParseSPS(sps[0])
	if err != nil {
		return nil, err
	}
	b := append(make([]byte, 0, 256), 1)
	b = s.appendTo(b)
	b = append(b,
		0xF0, 0, // min_spatial_segmentation_idc 0
		0xFC, // parallelismType 0
		0xFC|byte(s.ChromaFormat),
		0xF8|byte(s.BitDepth-8),
		0xF8|byte(s.ChromaDepth-8),
		0, 0, // avgFrameRate
		byte(s.temporalLayers<<3)|s.nested<<2|3, // constantFrameRate 0, lengthSizeMinusOne 3
		3,
	)
	for i, sets := range [][][]byte{vps, sps, pps} {
		if b, err = appendArray(b, TypeVPS+i, sets); err != nil {
			return nil, err
		}
	}
	return b, nil
}

func appendArray(dst []byte, kind int, sets [][]byte) ([]byte, error) {
	if len(sets) == 0 || len(sets) > maxSets {
		return nil, fmt.Errorf("hvcC with %d parameter sets of type %d", len(sets), kind)
	}
	const complete = 0x80 // array_completeness: the stream has no others of this type
	dst = append(dst, complete|byte(kind), 0, byte(len(sets)))
	for _, set := range sets {
		if len(set) < 3 || len(set) > 1<<16-1 || Type(set) != kind {
			return nil, fmt.Errorf("NAL unit of %d bytes is not a parameter set of type %d", len(set), kind)
		}
		dst = append(binary.BigEndian.AppendUint16(dst, uint16(len(set))), set...)
	}
	return dst, nil
}
