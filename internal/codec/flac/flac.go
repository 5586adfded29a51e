// Package flac parses what a server that passes FLAC through needs (RFC 9639): the STREAMINFO
// block, and the number of samples in a frame. It never decodes audio.
package flac

import (
	"encoding/binary"
	"errors"

	"livego/internal/codec/bits"
)

// A StreamInfo is the contents of a STREAMINFO block (section 8.2).
type StreamInfo struct {
	MinBlock, MaxBlock int // samples per channel of a frame, except the last; equal if all frames have the same size
	SampleRate         int // Hz
	Channels           int // 1 to 8
	BitDepth           int // of a sample, 4 to 32
}

const (
	marker          = "fLaC"
	blockHeaderSize = 4
	streamInfoSize  = 34 // bytes
	minBlockSize    = 16 // samples, of a block by section 8.2
)

var (
	errStreamInfo = errors.New("flac: malformed STREAMINFO")
	errFrame      = errors.New("flac: malformed frame header")
)

// ParseConfig parses a STREAMINFO block after "fLaC" and its block header (sections 6 and 8.1),
// the form in which encoders send it. It ignores what follows. A sampling rate of 0, which means
// that there is no audio, and block sizes below 16 are errors.
func ParseConfig(b []byte) (StreamInfo, error) {
	const isLast = 0x80 // before the block type, which is 0
	if len(b) < len(marker)+blockHeaderSize+streamInfoSize || string(b[:4]) != marker || b[4]&^isLast != 0 {
		return StreamInfo{}, errStreamInfo
	}
	r := bits.NewReader(b[len(marker)+blockHeaderSize:])
	i := StreamInfo{MinBlock: int(r.U(16)), MaxBlock: int(r.U(16))}
	r.Skip(24 + 24) // minimum and maximum frame size
	i.SampleRate, i.Channels, i.BitDepth = int(r.U(20)), int(r.U(3))+1, int(r.U(5))+1
	if i.SampleRate == 0 || i.MinBlock < minBlockSize || i.MaxBlock < i.MinBlock || i.BitDepth < 4 {
		return StreamInfo{}, errStreamInfo
	}
	return i, nil
}

// Samples returns the number of samples per channel in a frame, from its header (section 9.1).
// Reserved values are errors.
func Samples(frame []byte) (int, error) {
	const syncCode = 0xFFF8 // 15 bits; the next bit is the blocking strategy
	if len(frame) < 5 || binary.BigEndian.Uint16(frame)&^1 != syncCode {
		return 0, errFrame
	}
	switch size := frame[2] >> 4; {
	case size == 0:
		return 0, errFrame
	case size == 1:
		return 192, nil
	case size <= 5:
		return 144 << size, nil
	case size >= 8:
		return 1 << size, nil
	default: // 6 and 7: after the coded number, 8 or 16 bits
		return uncommonSize(frame[4:], int(size)-5)
	}
}

// uncommonSize parses a block size of n bytes after a coded number (section 9.1.5). The number is
// coded like UTF-8, with up to 7 bytes.
func uncommonSize(b []byte, n int) (int, error) {
	length := 1
	if ones := leadingOnes(b[0]); ones == 1 || ones > 7 {
		return 0, errFrame
	} else if ones > 1 {
		length = ones
	}
	if len(b) < length+n {
		return 0, errFrame
	}
	size := 0
	for _, c := range b[length : length+n] {
		size = size<<8 | int(c)
	}
	if size == 1<<16-1 {
		return 0, errFrame // 65536 samples are forbidden, since STREAMINFO cannot express them
	}
	return size + 1, nil
}

func leadingOnes(c byte) int {
	n := 0
	for ; c&0x80 != 0; c <<= 1 {
		n++
	}
	return n
}
