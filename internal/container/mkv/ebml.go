// Package mkv reads Matroska and WebM files (RFC 9559, over EBML, RFC 8794) as media.Frames. It
// reads from an io.ReaderAt only what it needs, so that a large file opens as fast as a small one,
// and no file makes it use more memory than one block and a few frames.
package mkv

import (
	"encoding/binary"
	"errors"
	"io"
	"math"
	"math/bits"
	"strings"
)

// Element IDs, with their length markers.
const (
	idEBML    = 0x1A45DFA3
	idDocType = 0x4282
	idSegment = 0x18538067

	idInfo           = 0x1549A966
	idTimestampScale = 0x2AD7B1
	idDuration       = 0x4489

	idTracks            = 0x1654AE6B
	idTrackEntry        = 0xAE
	idTrackNumber       = 0xD7
	idTrackType         = 0x83
	idCodecID           = 0x86
	idCodecPrivate      = 0x63A2
	idCodecDelay        = 0x56AA
	idDefaultDuration   = 0x23E383 // DefaultDuration
	idVideo             = 0xE0
	idWidth             = 0xB0
	idHeight            = 0xBA
	idAudio             = 0xE1
	idSamplingFrequency = 0xB5
	idChannels          = 0x9F
	idProjection        = 0x7670
	idPoseRoll          = 0x7675 // ProjectionPoseRoll
	idEncodings         = 0x6D80
	idEncoding          = 0x6240
	idCompression       = 0x5034
	idCompAlgo          = 0x4254
	idCompSettings      = 0x4255
	idEncryption        = 0x5035

	idCluster        = 0x1F43B675
	idTimestamp      = 0xE7
	idSimpleBlock    = 0xA3
	idBlockGroup     = 0xA0
	idBlock          = 0xA1
	idBlockDuration  = 0x9B
	idReferenceBlock = 0xFB // ReferenceBlock
)

// An element is the position of an element in the file. One of unknown size ends at the end of its
// parent.
type element struct {
	id       uint32
	off, end int64 // of its content
	unknown  bool  // its size is unknown
}

func (e element) size() int64 { return e.end - e.off }

// A file is the input of the element reader.
type file struct {
	r    io.ReaderAt
	size int64
}

var errTruncated = errors.New("mkv: element exceeds its parent or the end of the file")

// element reads the header of the element at off, in a parent that ends at end (RFC 8794 section
// 3).
func (f file) element(off, end int64) (element, error) {
	var b [12]byte
	n := int(min(int64(len(b)), end-off))
	if n < 2 {
		return element{}, errTruncated
	}
	if err := f.read(b[:n], off); err != nil {
		return element{}, err
	}
	h := b[:n]
	idSize := bits.LeadingZeros8(h[0]) + 1
	if idSize > 4 || idSize >= len(h) {
		return element{}, errors.New("mkv: invalid element ID")
	}
	e := element{}
	for _, c := range h[:idSize] {
		e.id = e.id<<8 | uint32(c)
	}
	size, used, err := varInt(h[idSize:])
	if err != nil {
		return element{}, err
	}
	e.off = off + int64(idSize+used)
	switch {
	case size == math.MaxUint64:
		e.end, e.unknown = end, true
	case size > uint64(end-e.off):
		e.end = end
		return e, errTruncated
	default:
		e.end = e.off + int64(size)
	}
	return e, nil
}

// varInt reads a variable-size integer. MaxUint64 means an unknown size (RFC 8794 section 4).
func varInt(b []byte) (v uint64, used int, err error) {
	if len(b) == 0 {
		return 0, 0, errTruncated
	}
	used = bits.LeadingZeros8(b[0]) + 1
	if used > 8 || used > len(b) {
		return 0, 0, errTruncated
	}
	v = uint64(b[0]) & (1<<(8-used) - 1)
	for _, c := range b[1:used] {
		v = v<<8 | uint64(c)
	}
	if v == 1<<(7*used)-1 {
		v = math.MaxUint64
	}
	return v, used, nil
}

// maxChildren is how many children of an element are read.
const maxChildren = 65536

// walk calls visit for each element from off to end.
func (f file) walk(off, end int64, visit func(element) error) error {
	for n := 0; off < end; n++ {
		if n == maxChildren {
			return errors.New("mkv: too many elements in a parent")
		}
		e, err := f.element(off, end)
		if err != nil {
			return err
		}
		if err := visit(e); err != nil {
			return err
		}
		off = e.end
	}
	return nil
}

// content returns the content of e, if it has at most limit bytes.
func (f file) content(e element, limit int64) ([]byte, error) {
	if e.size() > limit {
		return nil, errors.New("mkv: element is too large")
	}
	b := make([]byte, e.size())
	return b, f.read(b, e.off)
}

// number reads an unsigned integer element.
func (f file) number(e element) (uint64, error) {
	b, err := f.content(e, 8)
	var v uint64
	for _, c := range b {
		v = v<<8 | uint64(c)
	}
	return v, err
}

// float reads a float element.
func (f file) float(e element) (float64, error) {
	b, err := f.content(e, 8)
	switch len(b) {
	case 4:
		return float64(math.Float32frombits(binary.BigEndian.Uint32(b))), err
	case 8:
		return math.Float64frombits(binary.BigEndian.Uint64(b)), err
	}
	return 0, err
}

// text reads a string element.
func (f file) text(e element) (string, error) {
	b, err := f.content(e, 256)
	return strings.TrimRight(string(b), "\x00"), err
}

// read fills buf from off.
func (f file) read(buf []byte, off int64) error {
	n, err := f.r.ReadAt(buf, off)
	if n == len(buf) {
		return nil
	}
	if err == nil || errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}
