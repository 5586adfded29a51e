package flv

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// A Tag is one tag of an FLV file or stream: a message.
type Tag struct {
	Type      uint8
	Timestamp uint32 // ms
	Body      []byte
}

// A Reader reads the tags of an FLV file or stream from hostile hands.
type Reader struct {
	r       io.Reader
	maxBody int
	begun   bool
	buf     [tagHeaderSize]byte
}

// NewReader returns a Reader of r that refuses tags whose body is larger than maxBody bytes.
func NewReader(r io.Reader, maxBody int) *Reader { return &Reader{r: r, maxBody: maxBody} }

// Next returns the next tag, whose Body is the caller's. The error is io.EOF at a clean end, io.ErrUnexpectedEOF within a tag,
// one of the source, or a sentence that says what is wrong with the stream.
func (r *Reader) Next() (Tag, error) {
	if !r.begun {
		if err := r.header(); err != nil {
			return Tag{}, err
		}
		r.begun = true
	}
	b := r.buf[:tagHeaderSize]
	if _, err := io.ReadFull(r.r, b); err != nil {
		return Tag{}, err
	}
	t := Tag{Type: b[0], Timestamp: uint24(b[4:]) | uint32(b[7])<<24}
	switch {
	case t.Type&0x20 != 0:
		return Tag{}, errors.New("flv: encrypted tag")
	case t.Type != TypeAudio && t.Type != TypeVideo && t.Type != TypeScript:
		return Tag{}, fmt.Errorf("flv: tag of unknown type %d", t.Type)
	}
	size := int(uint24(b[1:]))
	if size > r.maxBody {
		return Tag{}, fmt.Errorf("flv: tag of %d bytes is above the limit of %d", size, r.maxBody)
	}
	// The buffer grows as bytes arrive: the size is only a claim.
	var body bytes.Buffer
	if _, err := io.CopyN(&body, r.r, int64(size)); err != nil {
		return Tag{}, cut(err)
	}
	t.Body = body.Bytes()
	return t, r.previousTagSize(uint32(tagHeaderSize + size))
}

// header reads the file header and the first PreviousTagSize.
func (r *Reader) header() error {
	b := r.buf[:fileHeaderSize]
	if _, err := io.ReadFull(r.r, b); err != nil {
		return cut(err)
	}
	if string(b[:3]) != "FLV" || b[3] != 1 {
		return errors.New("flv: no FLV signature")
	}
	if n := binary.BigEndian.Uint32(b[5:]); n != fileHeaderSize {
		return fmt.Errorf("flv: header of %d bytes", n)
	}
	return r.previousTagSize(0)
}

func (r *Reader) previousTagSize(want uint32) error {
	b := r.buf[:4]
	if _, err := io.ReadFull(r.r, b); err != nil {
		return cut(err)
	}
	if got := binary.BigEndian.Uint32(b); got != want {
		return fmt.Errorf("flv: PreviousTagSize is %d after a tag of %d bytes", got, want)
	}
	return nil
}

// cut turns an end where none may be into io.ErrUnexpectedEOF.
func cut(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

func uint24(b []byte) uint32 { return uint32(b[0])<<16 | uint32(b[1])<<8 | uint32(b[2]) }
