package fmp4

import "encoding/binary"

const (
	boxHeader  = 8 // size and type
	fullHeader = 4 // version and flags
	fullBox    = boxHeader + fullHeader
)

// box returns a box of type name (four characters) around content (ISO/IEC 14496-12 clause 4.2).
func box(name string, content ...[]byte) []byte {
	size := boxHeader
	for _, c := range content {
		size += len(c)
	}
	b := appendBoxHeader(make([]byte, 0, size), name, size)
	for _, c := range content {
		b = append(b, c...)
	}
	return b
}

// full returns a FullBox: a box with version and flags.
func full(name string, version byte, flags uint32, content ...[]byte) []byte {
	return box(name, append([][]byte{u32(uint32(version)<<24 | flags)}, content...)...)
}

// appendBoxHeader appends the header of a box of size bytes, header included.
func appendBoxHeader(dst []byte, name string, size int) []byte {
	return append(binary.BigEndian.AppendUint32(dst, uint32(size)), name...)
}

// appendFullBoxHeader appends the header of a FullBox.
func appendFullBoxHeader(dst []byte, name string, size int, version byte, flags uint32) []byte {
	return binary.BigEndian.AppendUint32(appendBoxHeader(dst, name, size), uint32(version)<<24|flags)
}

func u16(values ...uint16) []byte {
	b := make([]byte, 0, 2*len(values))
	for _, v := range values {
		b = binary.BigEndian.AppendUint16(b, v)
	}
	return b
}

func u32(values ...uint32) []byte {
	b := make([]byte, 0, 4*len(values))
	for _, v := range values {
		b = binary.BigEndian.AppendUint32(b, v)
	}
	return b
}
