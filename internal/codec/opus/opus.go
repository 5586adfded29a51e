// Package opus parses what a server that passes Opus through needs: identification headers (RFC
// 7845 section 5.1) and the duration of packets (RFC 6716 section 3.1). It never decodes audio.
package opus

import (
	"encoding/binary"
	"errors"
)

// SampleRate is the rate of all decoded Opus, in Hz, whatever the rate of the input.
const SampleRate = 48000

// A Head is an identification header.
type Head struct {
	Channels  int   // 1 to 255
	PreSkip   int   // samples at 48 kHz to drop at the start
	InputRate int   // Hz of the encoder's input, for information; 0 is unknown
	Gain      int16 // to apply to the output, in 1/256 dB
	Family    byte  // channel mapping family: 0 mono or stereo, 1 Vorbis order of up to 8, 255 no order

	Streams, Coupled int // of a packet; one with family 0, coupled if there are two channels
	// The decoded channel of each output channel, 255 for silence; nil with family 0. A slice of
	// the header.
	Mapping []byte
}

const (
	magic    = "OpusHead"
	headSize = 19
	silence  = 255

	maxVorbis = 8 // channels of family 1
)

var errHead = errors.New("opus: malformed OpusHead")

// ParseHead parses an identification header, which the result points into. Channel mappings that
// are truncated or name a channel that is not decoded are errors.
func ParseHead(b []byte) (*Head, error) {
	// section 5.1: only a new major version is incompatible
	if len(b) < headSize || string(b[:8]) != magic || b[8]&0xF0 != 0 {
		return nil, errHead
	}
	h := &Head{
		Channels:  int(b[9]),
		PreSkip:   int(binary.LittleEndian.Uint16(b[10:])),
		InputRate: int(binary.LittleEndian.Uint32(b[12:])),
		Gain:      int16(binary.LittleEndian.Uint16(b[16:])),
		Family:    b[18],
		Streams:   1,
	}
	if h.Channels == 0 {
		return nil, errHead
	}
	if h.Family == 0 {
		h.Coupled = h.Channels - 1
		if h.Channels > 2 {
			return nil, errHead
		}
		return h, nil
	}
	if err := h.readMapping(b[headSize:]); err != nil {
		return nil, err
	}
	return h, nil
}

// readMapping parses a channel mapping table (section 5.1.1).
func (h *Head) readMapping(b []byte) error {
	if len(b) < 2+h.Channels || h.Family == 1 && h.Channels > maxVorbis {
		return errHead
	}
	h.Streams, h.Coupled = int(b[0]), int(b[1])
	h.Mapping = b[2 : 2+h.Channels]
	decoded := h.Streams + h.Coupled
	if h.Streams == 0 || h.Coupled > h.Streams || decoded > 255 {
		return errHead
	}
	for _, c := range h.Mapping {
		if c != silence && int(c) >= decoded {
			return errHead
		}
	}
	return nil
}

// maxSamples is 120 ms, the longest allowed packet (RFC 6716 section 3.4, R5).
const maxSamples = SampleRate * 120 / 1000

var errPacket = errors.New("opus: malformed packet")

// Samples returns the duration of a packet in samples at 48 kHz, at most 5760, from its first
// bytes. All streams of a packet have the same duration. It is an error if the packet is empty,
// has no frames, or is longer than 120 ms.
func Samples(packet []byte) (int, error) {
	if len(packet) == 0 {
		return 0, errPacket
	}
	n := frameCount(packet) * frameSamples(packet[0]>>3)
	if n == 0 || n > maxSamples {
		return 0, errPacket
	}
	return n, nil
}

// frameCount returns the number of frames in a packet by the code of its TOC byte (RFC 6716
// section 3.2).
func frameCount(packet []byte) int {
	switch packet[0] & 3 {
	case 0:
		return 1
	case 1, 2:
		return 2
	}
	if len(packet) < 2 {
		return 0
	}
	return int(packet[1] & 0x3F)
}

// frameSamples returns the samples of a frame by its configuration, 0 to 31 (RFC 6716 table 2).
func frameSamples(config byte) int {
	switch {
	case config < 12: // SILK: 10, 20, 40, 60 ms
		return [4]int{480, 960, 1920, 2880}[config&3]
	case config < 16: // hybrid: 10, 20 ms
		return 480 << (config & 1)
	}
	return 120 << (config & 3) // CELT: 2.5, 5, 10, 20 ms
}
