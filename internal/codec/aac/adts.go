package aac

import (
	"errors"
	"fmt"

	"livego/internal/codec/bits"
)

// maxADTS is the largest aac_frame_length, a field of 13 bits.
const maxADTS = 1<<13 - 1

// ErrTooLarge is returned for a frame that exceeds the length field of ADTS.
var ErrTooLarge = errors.New("aac: frame above 8191 bytes with its ADTS header")

// CheckADTS returns an error if ADTS cannot carry frames of this configuration.
func (c *Config) CheckADTS() error {
	switch {
	case c.ObjectType > typeLTP:
		return fmt.Errorf("aac: ADTS cannot express object type %d", c.ObjectType)
	case c.rateIndex == explicitRate:
		return fmt.Errorf("aac: ADTS cannot express %d Hz", c.SampleRate)
	case c.channelConfig > 7:
		return fmt.Errorf("aac: ADTS cannot express channel configuration %d", c.channelConfig)
	case c.FrameSamples != 1024:
		return fmt.Errorf("aac: ADTS cannot express frames of %d samples", c.FrameSamples)
	}
	return nil
}

// AppendADTS appends one raw frame with its ADTS header to dst. A custom channel layout, for
// which ADTS has no field, goes into the frame as a program_config_element. On an error, of
// CheckADTS or ErrTooLarge, it returns dst unchanged.
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

// An ADTS is an ADTS frame header (ISO/IEC 14496-3 clauses 1.A.3.2 and 1.A.3.3).
type ADTS struct {
	ObjectType int // 1 to 4: 2 for AAC-LC, and for HE-AAC too
	SampleRate int // Hz of the core
	Channels   int // of the core; 0 if a program_config_element in the frame has it

	HeaderLength int // bytes before the raw frame: 7, with a checksum 9 or more
	Length       int // bytes, header included
	// raw_data_blocks of 1024 samples, 1 to 4. The header does not say where the second and later
	// start.
	Blocks int

	rateIndex, channelConfig int
}

var errADTS = errors.New("aac: malformed ADTS header")

// ParseADTS parses the header at the start of b. Reserved rates and a length smaller than the
// header are errors. b may end before the frame does.
func ParseADTS(b []byte) (ADTS, error) {
	if len(b) < 7 || b[0] != 0xFF || b[1]&0xF6 != 0xF0 { // syncword, either version of MPEG, layer 0
		return ADTS{}, errADTS
	}
	r := bits.NewReader(b[1:7])
	r.Skip(7)
	checked := !r.Flag() // protection_absent
	h := ADTS{ObjectType: int(r.U(2)) + 1, rateIndex: int(r.U(4))}
	r.Skip(1) // private_bit
	h.channelConfig = int(r.U(3))
	r.Skip(4) // original, home and copyright bits
	h.Length = int(r.U(13))
	r.Skip(11) // adts_buffer_fullness
	h.Blocks = int(r.U(2)) + 1
	if h.HeaderLength = 7; checked {
		h.HeaderLength += 2 * h.Blocks // positions of the later blocks, and the checksum
	}
	if h.rateIndex >= len(rates) || h.Length < h.HeaderLength {
		return ADTS{}, errADTS
	}
	h.SampleRate, h.Channels = rates[h.rateIndex], channels[h.channelConfig]
	return h, nil
}

// Config returns the AudioSpecificConfig for a stream with headers like h. frame is the raw frame
// after the header. It is read only if h.Channels is 0, and must then start with a
// program_config_element.
func (h ADTS) Config(frame []byte) ([]byte, error) {
	var w bits.Writer
	w.U(5, uint32(h.ObjectType))
	w.U(4, uint32(h.rateIndex))
	w.U(4, uint32(h.channelConfig))
	w.U(3, 0) // 1024 samples, no core coder, no extension
	if h.Channels == 0 {
		r := bits.NewReader(frame)
		if r.U(3) != idPCE || copyPCE(&w, r) == 0 || r.Overrun() {
			return nil, errors.New("aac: ADTS without a channel layout")
		}
	}
	return w.Bytes(), nil
}

// maxFramesPerMessage is the largest number of frames that CutADTS accepts in one message.
const maxFramesPerMessage = 64

// CutADTS returns the first frame of b, with its header, and the rest, if b is several raw frames
// with ADTS headers and nothing else.
func CutADTS(b []byte) (h ADTS, frame, rest []byte, ok bool) {
	for n, left := 0, b; len(left) > 0; n++ {
		next, err := ParseADTS(left)
		if err != nil || next.Blocks != 1 || next.Length > len(left) || n == maxFramesPerMessage {
			return ADTS{}, nil, nil, false
		}
		if n == 0 {
			h = next
		}
		left = left[next.Length:]
	}
	if h.Length == len(b) {
		return ADTS{}, nil, nil, false
	}
	return h, b[:h.Length:h.Length], b[h.Length:], true
}

// ParseSingleADTS returns the ADTS header of b and whether b is exactly one raw frame with such a
// header. A raw frame never starts like one: that would be an ID_END without anything before it.
func ParseSingleADTS(b []byte) (ADTS, bool) {
	h, err := ParseADTS(b)
	return h, err == nil && h.Length == len(b) && h.Blocks == 1
}
