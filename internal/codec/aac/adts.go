package aac

import (
	"errors"
	"fmt"

	"livego/internal/codec/bits"
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

// AppendADTS appends one raw frame with its ADTS header to dst. A channel layout of its own, for
// which ADTS has no field, goes into the frame as a program_config_element. On an error, of
// CheckADTS or ErrTooLarge, dst is returned as it was.
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

// An ADTS is the header of a frame in ADTS (ISO/IEC 14496-3 clauses 1.A.3.2 and 1.A.3.3).
type ADTS struct {
	ObjectType int // 1 to 4: 2 for AAC-LC, and for HE-AAC too
	SampleRate int // Hz of the core
	Channels   int // of the core; 0 where the frame says it by a program_config_element

	HeaderLength int // bytes before the raw frame: 7, with a check sum 9 and more
	Length       int // bytes with the header
	// raw_data_blocks of 1024 samples in the frame, 1 to 4; where there are several nothing tells
	// where each begins
	Blocks int

	rateIndex, channelConfig int
}

var errADTS = errors.New("aac: no ADTS header")

// ParseADTS reads the header at the start of b. Reserved rates and a length that has no room for
// the header are errors; that b ends before the frame is not.
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
		h.HeaderLength += 2 * h.Blocks // positions of the blocks behind the first, and the check sum
	}
	if h.rateIndex >= len(rates) || h.Length < h.HeaderLength {
		return ADTS{}, errADTS
	}
	h.SampleRate, h.Channels = rates[h.rateIndex], channels[h.channelConfig]
	return h, nil
}

// Config returns the AudioSpecificConfig of a stream with headers like h. frame is the raw frame
// behind the header; it is looked at only where h.Channels is 0, and then has to begin with a
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
			return nil, errors.New("aac: ADTS without channels")
		}
	}
	return w.Bytes(), nil
}

// maxFramesPerMessage is how many frames CutADTS takes for those of one message.
const maxFramesPerMessage = 64

// CutADTS cuts the first frame off b, with its header, where b is several raw frames behind headers
// of ADTS and nothing else.
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

// ParseSingleADTS reports whether b is one raw frame behind the header of ADTS, and returns that. A raw frame alone
// never begins like it: an ID_END without anything before.
func ParseSingleADTS(b []byte) (ADTS, bool) {
	h, err := ParseADTS(b)
	return h, err == nil && h.Length == len(b) && h.Blocks == 1
}
