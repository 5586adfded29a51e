// Package mp3 parses the frame headers of MPEG audio, layers I to III (ISO/IEC 11172-3, ISO/IEC
// 13818-3 and the MPEG-2.5 extension). It never decodes audio.
package mp3

import "errors"

// A Header is the contents of the first four bytes of a frame.
type Header struct {
	SampleRate int // Hz
	Channels   int // 1 or 2
	Layer      int // 1, 2 or 3
	Samples    int // of the frame, per channel
	Length     int // bytes of the frame with its header; 0 for free format, which has no length
}

var errHeader = errors.New("mp3: malformed frame header")

// kbit/s by layer and bitrate_index, MPEG-1 and MPEG-2/2.5; 0 is free format.
var (
	bitrates1 = [4][15]int{
		1: {0, 32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448},
		2: {0, 32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384},
		3: {0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320},
	}
	bitrates2 = [4][15]int{
		1: {0, 32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256},
		2: {0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160},
		3: {0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160},
	}
	rates1 = [3]int{44100, 48000, 32000}
)

// ParseHeader parses the header at the start of b. Reserved values are errors.
func ParseHeader(b []byte) (Header, error) {
	if len(b) < 4 || b[0] != 0xFF || b[1]&0xE0 != 0xE0 {
		return Header{}, errHeader
	}
	version := b[1] >> 3 & 3 // 0 MPEG-2.5, 1 reserved, 2 MPEG-2, 3 MPEG-1
	layer := 4 - int(b[1]>>1&3)
	bitrate, rate, padding := b[2]>>4, b[2]>>2&3, int(b[2]>>1&1)
	if version == 1 || layer == 4 || bitrate == 15 || rate == 3 {
		return Header{}, errHeader
	}
	h := Header{SampleRate: rates1[rate], Channels: 2, Layer: layer}
	if b[3]>>6 == 3 {
		h.Channels = 1
	}
	kbits := bitrates1[layer][bitrate]
	if version != 3 {
		kbits = bitrates2[layer][bitrate]
		h.SampleRate /= 2
	}
	if version == 0 {
		h.SampleRate /= 2
	}
	switch {
	case layer == 1:
		h.Samples = 384
	case layer == 3 && version != 3:
		h.Samples = 576
	default:
		h.Samples = 1152
	}
	switch {
	case kbits == 0:
	case layer == 1:
		h.Length = (12*kbits*1000/h.SampleRate + padding) * 4
	default:
		h.Length = h.Samples/8*kbits*1000/h.SampleRate + padding
	}
	return h, nil
}

// CountFrames returns the number of whole frames in b, at least one: some encoders put several
// into one packet.
func CountFrames(b []byte) int {
	n := 0
	for {
		h, err := ParseHeader(b)
		if err != nil || h.Length == 0 || h.Length > len(b) {
			return max(n, 1)
		}
		b = b[h.Length:]
		n++
	}
}
