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

// fixedSize is the length of a record without its arrays.
const fixedSize = 23

// ParseConfig reads an hvcC record, which the result points into. Parameter sets that are cut off
// or empty are an error; that there are none is not. Version 0, which encoders wrote before the
// standard was final, is read as 1. NAL units are sorted by the type they have, not by their
// array's.
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
		return nil, errors.New("hvcC NAL length size 3 is not legal")
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

// ConfigFromAnnexB returns the hvcC record of the parameter sets in b, NAL units with start codes.
func ConfigFromAnnexB(b []byte) ([]byte, error) {
	var c Config
	for unit, rest := nal.NextAnnexB(b); unit != nil; unit, rest = nal.NextAnnexB(rest) {
		c.addParameterSet(unit)
	}
	return BuildConfig(c.VPS, c.SPS, c.PPS)
}

// addParameterSet files a NAL unit. SEI units, which some records hold, are of no use to us.
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

// maxSets is how many parameter sets of a type there can be: pps_pic_parameter_set_id ends at 63.
const maxSets = 64

// BuildConfig returns the hvcC record of a stream with these parameter sets, NAL units without
// start codes, for access units whose length fields have 4 bytes. What a server need not know
// (parallelism, spatial segmentation, average frame rate) is left unspecified, as the record
// allows. It is an error when there are none of a type, more than there can be, one that is not
// what it is said to be, or a first SPS that cannot be read.
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
		return nil, fmt.Errorf("hvcC of %d parameter sets of type %d", len(sets), kind)
	}
	const complete = 0x80 // array_completeness: none of this type in the stream that is not here
	dst = append(dst, complete|byte(kind), 0, byte(len(sets)))
	for _, set := range sets {
		if len(set) < 3 || len(set) > 1<<16-1 || Type(set) != kind {
			return nil, fmt.Errorf("%d bytes are no parameter set of type %d", len(set), kind)
		}
		dst = append(binary.BigEndian.AppendUint16(dst, uint16(len(set))), set...)
	}
	return dst, nil
}
