// Package flac reads what a server that passes FLAC through needs to know of it (RFC 9639): the
// STREAMINFO block, and how many samples a frame has. It never decodes sound.
package flac

import (
	"encoding/binary"
	"errors"

	"livego/internal/codec/bits"
)

// An StreamInfo is what a STREAMINFO block says (section 8.2).
type StreamInfo struct {
	MinBlock, MaxBlock int // samples of a frame, per channel, but for the last; equal where all are alike
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
	errFrame      = errors.New("flac: no frame header")
)

// ParseConfig reads a STREAMINFO block behind "fLaC" and its block header (sections 6 and 8.1), the
// form in which encoders send it. What follows it is ignored. A sampling rate of 0, which means
// that there is no sound, and block sizes below 16 are errors.
func ParseConfig(b []byte) (StreamInfo, error) {
	const isLast = 0x80 // before the type of the block, which is 0
	if len(b) < len(marker)+blockHeaderSize+streamInfoSize || string(b[:4]) != marker || b[4]&^isLast != 0 {
		return StreamInfo{}, errStreamInfo
	}
	r := bits.NewReader(b[len(marker)+blockHeaderSize:])
	i := StreamInfo{MinBlock: int(r.U(16)), MaxBlock: int(r.U(16))}
	r.Skip(24 + 24) // smallest and largest frame
	i.SampleRate, i.Channels, i.BitDepth = int(r.U(20)), int(r.U(3))+1, int(r.U(5))+1
	if i.SampleRate == 0 || i.MinBlock < minBlockSize || i.MaxBlock < i.MinBlock || i.BitDepth < 4 {
		return StreamInfo{}, errStreamInfo
	}
	return i, nil
}

// BuildConfig returns the form that ParseConfig reads from the 34 bytes of a STREAMINFO block.
func BuildConfig(info []byte) ([]byte, error) {
	if len(info) != streamInfoSize {
		return nil, errStreamInfo
	}
	b := append(make([]byte, 0, len(marker)+blockHeaderSize+streamInfoSize), marker...)
	b = append(b, 0x80, 0, 0, streamInfoSize)
	return append(b, info...), nil
}

// Samples returns how many samples a frame has, per channel, by its header (section 9.1). Reserved values are errors.
func Samples(frame []byte) (int, error) {
	const syncCode = 0xFFF8 // 15 bits, before the one that tells a variable block size
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
	default: // 6 and 7: behind the coded number, 8 or 16 bits
		return uncommonSize(frame[4:], int(size)-5)
	}
}

// uncommonSize reads a block size of n bytes behind a coded number (section 9.1.5), which is
// written as UTF-8 writes, with up to 7 bytes.
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
		return 0, errFrame // 65536 samples: forbidden, since STREAMINFO cannot say it
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
