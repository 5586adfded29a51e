// Package mp4 reads MP4 and QuickTime files (ISO/IEC 14496-12, 14496-14, 14496-15; Apple's
// QuickTime File Format), plain or fragmented, as media.Frames. It reads from an io.ReaderAt only
// what it needs, in bounded pieces, so that a large file opens as fast as a small one, and no file
// makes it use more memory than a few windows and one frame.
package mp4

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// Limits of what a file may contain.
const (
	maxTracks   = 16
	maxChildren = 4096     // boxes in a parent that is read
	maxTopLevel = 200_000  // boxes of a file: a fragment per second for a day has 172,800
	maxEntry    = 1 << 20  // bytes of sample descriptions
	maxFragment = 8 << 20  // bytes of a moof
	maxFrame    = 16 << 20 // bytes of a frame
	maxEdits    = 1024     // entries of an edit list
)

// A fourCC names a box, a brand, a handler or a codec.
type fourCC [4]byte

func (f fourCC) String() string { return fmt.Sprintf("%.4q", f[:]) }

// A box is the position of a box in the file: its type and the range of its content.
type box struct {
	typ      fourCC
	head     int64 // offset of its header
	off, end int64 // of its content
}

func (b box) size() int64 { return b.end - b.off }

func (b box) is(typ string) bool { return string(b.typ[:]) == typ }

// A file is the input of the box reader.
type file struct {
	r    io.ReaderAt
	size int64
}

var errBoxTruncated = errors.New("mp4: box exceeds its parent or the end of the file")

// boxAt reads the header of the box at off, in a parent that ends at end (ISO/IEC 14496-12 clause
// 4.2).
func (f file) boxAt(off, end int64) (box, error) {
	var h [16]byte
	if end-off < 8 {
		return box{}, errBoxTruncated
	}
	if err := f.read(h[:8], off); err != nil {
		return box{}, err
	}
	b := box{typ: fourCC(h[4:8]), head: off, off: off + 8}
	size := int64(binary.BigEndian.Uint32(h[:]))
	switch size {
	case 0: // extends to the end
		b.end = end
		return b, nil
	case 1:
		if end-off < 16 {
			return box{}, errBoxTruncated
		}
		if err := f.read(h[8:], off+8); err != nil {
			return box{}, err
		}
		size, b.off = int64(binary.BigEndian.Uint64(h[8:])), off+16
	}
	if size < b.off-off || size > end-off {
		return b, errBoxTruncated
	}
	b.end = off + size
	return b, nil
}

// walk calls visit for each box from off to end. A remainder that is too short for a box is
// padding: QuickTime ends lists with four zero bytes.
func (f file) walk(off, end int64, visit func(box) error) error {
	for n := 0; end-off >= 8; n++ {
		if n == maxChildren {
			return fmt.Errorf("mp4: more than %d boxes in a parent", maxChildren)
		}
		b, err := f.boxAt(off, end)
		if err != nil {
			return err
		}
		if err := visit(b); err != nil {
			return err
		}
		off = b.end
	}
	return nil
}

// find returns the first box of a type from off to end; ok is false if there is none.
func (f file) find(typ string, off, end int64) (found box, ok bool) {
	_ = f.walk(off, end, func(b box) error { // a truncated list has the boxes before its end
		if !ok && b.is(typ) {
			found, ok = b, true
		}
		return nil
	})
	return found, ok
}

// content returns the content of b, if it has at most limit bytes.
func (f file) content(b box, limit int64) ([]byte, error) {
	if b.size() > limit {
		return nil, fmt.Errorf("mp4: box %v of %d bytes exceeds the limit of %d", b.typ, b.size(), limit)
	}
	buf := make([]byte, b.size())
	return buf, f.read(buf, b.off)
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

// A fullBox reads the content of a box with version and flags. Fields beyond its end are 0 and set
// short.
type fullBox struct {
	version byte
	flags   uint32
	b       []byte
	short   bool
}

func newFullBox(b []byte) *fullBox {
	f := &fullBox{b: b}
	head := f.u32()
	f.version, f.flags = byte(head>>24), head&0xFFFFFF
	return f
}

func (f *fullBox) next(n int) []byte {
	if n > len(f.b) {
		f.short, f.b = true, nil
		return make([]byte, n)
	}
	b := f.b[:n]
	f.b = f.b[n:]
	return b
}

func (f *fullBox) u32() uint32 { return binary.BigEndian.Uint32(f.next(4)) }
func (f *fullBox) u64() uint64 { return binary.BigEndian.Uint64(f.next(8)) }

// u32or64 reads 64 bits in version 1, else 32.
func (f *fullBox) u32or64() uint64 {
	if f.version == 1 {
		return f.u64()
	}
	return uint64(f.u32())
}

// i32or64 reads a signed number of 64 bits in version 1, else 32.
func (f *fullBox) i32or64() int64 {
	if f.version == 1 {
		return int64(f.u64())
	}
	return int64(int32(f.u32()))
}
