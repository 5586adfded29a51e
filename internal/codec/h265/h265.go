// Package h265 reads what a server that passes HEVC through needs to know of it (ITU-T H.265, ISO/IEC 14496-15): where a
// decoder may start. It never decodes a picture.
package h265

import (
	"errors"
	"fmt"

	"livego/internal/codec/nal"
	"livego/internal/media"
)

// Types of NAL unit that begin an intra random access point, ITU-T H.265 table 7-1.
const (
	firstIRAP = 16
	lastIRAP  = 21 // 22 and 23 are reserved
)

// LengthSize checks an HEVCDecoderConfigurationRecord (ISO/IEC 14496-15 clause 8.3.3.1) and returns how many bytes its NAL
// units' length fields have: 1, 2 or 4.
func LengthSize(hvcC []byte) (int, error) {
	if len(hvcC) < 23 {
		return 0, fmt.Errorf("hvcC of %d bytes is too short", len(hvcC))
	}
	size := int(hvcC[21]&3) + 1
	if size == 3 {
		return 0, errors.New("hvcC NAL length size 3 is not legal")
	}
	b := hvcC[23:]
	for range hvcC[22] {
		if len(b) < 3 {
			return 0, errors.New("hvcC ends within its parameter sets")
		}
		units := int(b[1])<<8 | int(b[2])
		b = b[3:]
		for range units {
			var err error
			if _, b, err = nal.Next(b, 2); err != nil {
				return 0, fmt.Errorf("hvcC parameter set: %w", err)
			}
		}
	}
	return size, nil
}

// RandomAccess returns Key for an access unit with an IRAP picture. The access unit is NAL units with length fields of
// lengthSize bytes; it is an error when these do not add up or a unit has no content.
func RandomAccess(unit []byte, lengthSize int) (media.RandomAccess, error) {
	rap := media.NoAccess
	for len(unit) > 0 {
		n, rest, err := nal.Next(unit, lengthSize)
		if err != nil {
			return media.NoAccess, err
		}
		if len(n) < 2 || n[0]&0x80 != 0 {
			return media.NoAccess, errors.New("h265: NAL unit with a malformed header")
		}
		if t := n[0] >> 1 & 0x3F; firstIRAP <= t && t <= lastIRAP {
			rap = media.Key
		}
		unit = rest
	}
	return rap, nil
}
