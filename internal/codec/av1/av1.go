// Package av1 parses what a server that passes AV1 through needs (AV1 Bitstream & Decoding
// Process Specification; AV1 Codec ISO Media File Format Binding): the OBUs of a temporal unit,
// the sequence header, and random access points. It never decodes a picture. No input makes it
// read past its slice or loop for longer than the input.
package av1

import (
	"errors"
	"fmt"

	"livego/internal/codec/bits"
	"livego/internal/media"
)

// OBU types, section 6.2.2.
const (
	TypeSequenceHeader    = 1
	TypeTemporalDelimiter = 2
	TypeFrameHeader       = 3
	TypeFrame             = 6
)

// ErrMalformed is returned for OBUs with a malformed header or a size beyond the end.
var ErrMalformed = errors.New("av1: OBU header is malformed or its size beyond the end")

// An OBU is an open bitstream unit.
type OBU struct {
	Type    int
	Payload []byte // without header and size
}

// Next returns the first OBU of b, in the low-overhead format (section 5.2), and the rest. An OBU
// without a size field extends to the end of b. Both results are slices of b.
func Next(b []byte) (o OBU, rest []byte, err error) {
	const forbidden, extension, hasSize = 0x80, 4, 2
	if len(b) == 0 || b[0]&forbidden != 0 {
		return OBU{}, nil, ErrMalformed
	}
	o.Type = int(b[0] >> 3 & 0xF)
	header := 1
	if b[0]&extension != 0 {
		header = 2
	}
	if len(b) < header {
		return OBU{}, nil, ErrMalformed
	}
	if b[0]&hasSize == 0 {
		o.Payload = b[header:]
		return o, nil, nil
	}
	size, rest, ok := leb128(b[header:])
	if !ok || size > uint64(len(rest)) {
		return OBU{}, nil, ErrMalformed
	}
	o.Payload = rest[:size]
	return o, rest[size:], nil
}

// leb128 parses a number of at most 8 bytes that fits into 32 bits (section 4.10.5).
func leb128(b []byte) (v uint64, rest []byte, ok bool) {
	for i := range min(len(b), 8) {
		v |= uint64(b[i]&0x7F) << (7 * i)
		if b[i]&0x80 == 0 {
			return v, b[i+1:], v < 1<<32
		}
	}
	return 0, nil, false
}

// RandomAccess returns Keyframe for a temporal unit that has a sequence header and whose first
// frame after it is a shown key frame: a random access point by section 7.6.1 that depends on
// nothing else. Malformed OBUs are an error, as is a unit without any.
func RandomAccess(unit []byte) (media.RandomAccess, error) {
	if len(unit) == 0 {
		return media.NoRandomAccess, ErrMalformed
	}
	var sequence, still, frame, key bool
	for len(unit) > 0 {
		o, rest, err := Next(unit)
		if err != nil {
			return media.NoRandomAccess, err
		}
		switch o.Type {
		case TypeSequenceHeader:
			sequence = true
			r := bits.NewReader(o.Payload)
			r.Skip(4) // seq_profile, still_picture
			still = r.Flag()
		case TypeFrame, TypeFrameHeader:
			if !frame {
				frame, key = true, sequence && (still || isKey(o.Payload))
			}
		}
		unit = rest
	}
	if key {
		return media.Keyframe, nil
	}
	return media.NoRandomAccess, nil
}

// isKey parses the start of uncompressed_header (section 5.9.2) in a sequence that is not a still
// picture.
func isKey(header []byte) bool {
	const keyFrame = 0
	r := bits.NewReader(header)
	existing, kind, shown := r.Flag(), r.U(2), r.Flag()
	return !r.Overrun() && !existing && kind == keyFrame && shown
}

// A Config is an AV1CodecConfigurationRecord (AV1 in ISOBMFF, section 2.3.3).
type Config struct {
	Profile, Level byte // seq_profile, seq_level_idx_0
	HighTier       bool
	BitDepth       int
	SequenceHeader []byte // payload of its sequence header OBU, a slice of the record; nil if it has none
}

// ParseConfig parses an av1C record. Malformed OBUs are an error; a record without any is not.
func ParseConfig(av1C []byte) (*Config, error) {
	const markerAndVersion = 0x81
	if len(av1C) < 4 {
		return nil, fmt.Errorf("av1C of %d bytes is too short", len(av1C))
	}
	if av1C[0] != markerAndVersion {
		return nil, fmt.Errorf("av1C starts with %#x instead of marker and version 1", av1C[0])
	}
	c := &Config{Profile: av1C[1] >> 5, Level: av1C[1] & 0x1F, HighTier: av1C[2]&0x80 != 0, BitDepth: 8}
	switch high, twelve := av1C[2]&0x40 != 0, av1C[2]&0x20 != 0; {
	case high && twelve:
		c.BitDepth = 12
	case high:
		c.BitDepth = 10
	}
	for b := av1C[4:]; len(b) > 0; {
		o, rest, err := Next(b)
		if err != nil {
			return nil, fmt.Errorf("av1C: %w", err)
		}
		if o.Type == TypeSequenceHeader && c.SequenceHeader == nil {
			c.SequenceHeader = o.Payload
		}
		b = rest
	}
	return c, nil
}

func flag(b bool) uint32 {
	if b {
		return 1
	}
	return 0
}
