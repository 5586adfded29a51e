package aac

import (
	"errors"
	"fmt"
)

// maxADTS is the largest aac_frame_length, a field of 13 bits.
const maxADTS = 1<<13 - 1

// ErrTooLarge is returned for a frame that ADTS has no length for.
var ErrTooLarge = errors.New("aac: frame above 8191 bytes with its ADTS header")

// CheckADTS returns why frames of this configuration cannot travel in ADTS, nil if they can.
func (c *Config) CheckADTS() error {
	switch {
	case c.ObjectType > typeLTP:
		return fmt.Errorf("aac: ADTS has no word for object type %d", c.ObjectType)
	case c.rateIndex == explicitRate:
		return fmt.Errorf("aac: ADTS has no word for %d Hz", c.SampleRate)
	case c.channelConfig > 7:
		return fmt.Errorf("aac: ADTS has no word for channel configuration %d", c.channelConfig)
	case c.FrameSamples != 1024:
		return fmt.Errorf("aac: ADTS has no word for frames of %d samples", c.FrameSamples)
	}
	return nil
}

// AppendADTS appends one raw frame with its ADTS header to dst. A channel layout of its own, for which ADTS has no field, goes
// into the frame as a program_config_element. On an error, of CheckADTS or ErrTooLarge, dst is returned as it was.
func (c *Config) AppendADTS(dst, frame []byte) ([]byte, error) {
	if err := c.CheckADTS(); err != nil {
		return dst, err
	}
	const header = 7
	size := header + len(c.pce) + len(frame)
	if size > maxADTS {
		return dst, ErrTooLarge
	}
	dst = append(dst,
		0xFF, 0xF1, // syncword, MPEG-4, layer 0, no CRC
		byte((c.ObjectType-1)<<6|c.rateIndex<<2|c.channelConfig>>2),
		byte(c.channelConfig<<6|size>>11),
		byte(size>>3),
		byte(size<<5|0x1F), // adts_buffer_fullness 0x7FF: variable rate
		0xFC,               // and one raw_data_block
	)
	dst = append(dst, c.pce...)
	return append(dst, frame...), nil
}
