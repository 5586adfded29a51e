package flv

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync/atomic"
)

// A Tag is one tag of an FLV file or stream.
type Tag struct {
	Type      uint8
	Timestamp uint32 // ms
	Body      []byte
}

// A Reader reads the tags of an untrusted FLV file or stream. It accepts what players accept, and
// counts it in Anomalies: tags of unknown types, which it skips, a wrong PreviousTagSize if a tag
// follows anyway, and zero bytes after the last tag.
type Reader struct {
	Anomalies Anomalies

	r          io.Reader
	maxBody    int
	headerRead bool
	inTag      atomic.Bool // the header of a tag arrived since Next was called
	at         int64       // offset of the next tag
	first      int64       // offset of the first tag
	stream     uint32      // StreamID of the last tag: 0 by the format, but not by all writers

	head    [tagHeaderSize]byte // of the next tag, if it was read ahead
	ahead   int                 // bytes of head that are filled
	headErr error               // why head is incomplete
}

// Anomalies are the deviations from the format that a Reader accepted.
type Anomalies struct {
	UnknownTags uint64 // skipped
	WrongSizes  uint64 // wrong PreviousTagSize fields
	Padding     int64  // zero bytes after the last tag
}

// String describes o for people, "" if there is nothing to say.
func (o Anomalies) String() string {
	var parts []string
	if o.UnknownTags > 0 {
		parts = append(parts, fmt.Sprintf("%d tags of unknown types were skipped", o.UnknownTags))
	}
	if o.WrongSizes > 0 {
		parts = append(parts, fmt.Sprintf("PreviousTagSize is wrong %d times", o.WrongSizes))
	}
	if o.Padding > 0 {
		parts = append(parts, fmt.Sprintf("%d zero bytes follow the last tag", o.Padding))
	}
	return strings.Join(parts, "; ")
}

// maxFileHeader is the longest file header that is accepted, in bytes.
const maxFileHeader = 64 << 10

// maxPadding is how many zero bytes are accepted in place of a tag.
const maxPadding = 64 << 20

// NewReader returns a Reader of r that rejects tags with a body of more than maxBody bytes.
func NewReader(r io.Reader, maxBody int) *Reader { return &Reader{r: r, maxBody: maxBody} }

// Next returns the next tag; the caller owns its Body. The error is io.EOF at the end,
// io.ErrUnexpectedEOF within a tag, an error of r, or a sentence that says what is invalid.
func (r *Reader) Next() (Tag, error) {
	r.inTag.Store(r.ahead > 0)
	if !r.headerRead {
		if err := r.header(); err != nil {
			return Tag{}, err
		}
		r.headerRead = true
	}
	for {
		t, known, err := r.tag()
		if err != nil || known {
			return t, err
		}
		r.Anomalies.UnknownTags++
	}
}

// Receiving reports whether a tag has arrived in part, or is about to be returned. Safe for
// concurrent use.
func (r *Reader) Receiving() bool { return r.inTag.Load() }

// tag reads a tag with its PreviousTagSize. A tag of an unknown type is returned without a body.
func (r *Reader) tag() (t Tag, known bool, err error) {
	if err := r.peekHeader(); err != nil {
		return Tag{}, false, err
	}
	b := r.head[:]
	if isZero(b) {
		return Tag{}, false, r.padding()
	}
	r.ahead = 0
	r.inTag.Store(true)
	if b[0]&0x20 != 0 {
		return Tag{}, false, errors.New("flv: encrypted tag")
	}
	t = Tag{Type: b[0], Timestamp: timestampOf(b)}
	r.stream = uint24(b[8:])
	size := int(uint24(b[1:]))
	if size > r.maxBody {
		return Tag{}, false, fmt.Errorf("flv: tag of %d bytes exceeds the limit of %d", size, r.maxBody)
	}
	// The buffer grows as bytes arrive: the size is not trusted.
	var body bytes.Buffer
	var to io.Writer = &body
	if known = isTagType(t.Type); !known {
		to = io.Discard
	}
	if _, err := io.CopyN(to, r.r, int64(size)); err != nil {
		return Tag{}, false, unexpectedEOF(err)
	}
	t.Body = body.Bytes()
	if err := r.previousTagSize(uint32(tagHeaderSize + size)); err != nil {
		return Tag{}, false, err
	}
	r.at += int64(tagHeaderSize + size + 4)
	return t, known, nil
}

// peekHeader reads the header of the next tag, unless it was read already. Padding shorter than a
// header is the end of the file.
func (r *Reader) peekHeader() error {
	if r.ahead < tagHeaderSize && r.headErr == nil {
		var n int
		n, r.headErr = io.ReadFull(r.r, r.head[r.ahead:])
		r.ahead += n
	}
	switch {
	case r.ahead == tagHeaderSize:
		return nil
	case r.ahead > 0 && isEOF(r.headErr) && isZero(r.head[:r.ahead]):
		r.Anomalies.Padding += int64(r.ahead)
		r.ahead = 0
		return io.EOF
	case r.ahead > 0:
		return unexpectedEOF(r.headErr)
	}
	return r.headErr
}

// padding reads zero bytes, of which a whole tag header was read already, up to the end of the
// file. If a matching PreviousTagSize follows that header, it was an empty tag.
func (r *Reader) padding() error {
	var b [512]byte
	n, err := io.ReadFull(r.r, b[:4])
	if err == nil && binary.BigEndian.Uint32(b[:]) == tagHeaderSize {
		r.ahead, r.at = 0, r.at+tagHeaderSize+4
		return nil
	}
	total := int64(tagHeaderSize)
	for {
		if !isZero(b[:n]) || total > maxPadding {
			return fmt.Errorf("flv: %d zero bytes in place of a tag", total)
		}
		total += int64(n)
		if err != nil {
			break
		}
		n, err = io.ReadFull(r.r, b[:])
	}
	if !isEOF(err) {
		return err
	}
	r.ahead, r.headErr = 0, io.EOF
	r.Anomalies.Padding += total
	return io.EOF
}

// header reads the file header and the first PreviousTagSize.
func (r *Reader) header() error {
	var b [fileHeaderSize + 4]byte
	if _, err := io.ReadFull(r.r, b[:]); err != nil {
		return unexpectedEOF(err)
	}
	if string(b[:3]) != "FLV" || b[3] != 1 {
		return errors.New("flv: no FLV signature")
	}
	n := binary.BigEndian.Uint32(b[5:])
	if n < fileHeaderSize || n > maxFileHeader {
		return fmt.Errorf("flv: invalid file header size %d", n)
	}
	// Bytes beyond the ninth have no meaning. The last four bytes are the first PreviousTagSize.
	var size [4]byte
	rest := io.MultiReader(bytes.NewReader(b[fileHeaderSize:]), r.r)
	if _, err := io.CopyN(io.Discard, rest, int64(n)-fileHeaderSize); err != nil {
		return unexpectedEOF(err)
	}
	if _, err := io.ReadFull(rest, size[:]); err != nil {
		return unexpectedEOF(err)
	}
	if binary.BigEndian.Uint32(size[:]) != 0 {
		r.Anomalies.WrongSizes++
	}
	r.first = int64(n) + int64(len(size))
	r.at = r.first
	return nil
}

// previousTagSize reads a PreviousTagSize. A wrong one is accepted if a tag or the end of the file
// follows; otherwise the length of the tag was wrong.
func (r *Reader) previousTagSize(want uint32) error {
	var b [4]byte
	if _, err := io.ReadFull(r.r, b[:]); err != nil {
		return unexpectedEOF(err)
	}
	got := binary.BigEndian.Uint32(b[:])
	if got == want {
		return nil
	}
	err := r.peekHeader()
	whole := err == nil && (isZero(r.head[:]) || isTagHeader(r.head[:], r.stream))
	if !whole && r.ahead > 0 {
		return fmt.Errorf("flv: PreviousTagSize is %d after a tag of %d bytes", got, want)
	}
	r.Anomalies.WrongSizes++
	return nil
}

// isTagHeader reports whether the tag header b has a type that writers use, is not encrypted and
// has that StreamID.
func isTagHeader(b []byte, stream uint32) bool {
	const dataAMF3 = 15 // skipped
	return (isTagType(b[0]) || b[0] == dataAMF3) && uint24(b[8:]) == stream
}

func isTagType(t uint8) bool { return t == TypeAudio || t == TypeVideo || t == TypeScriptData }

func isZero(b []byte) bool { return len(bytes.TrimLeft(b, "\x00")) == 0 }

// isEOF reports whether err is an end of input at any position.
func isEOF(err error) bool { return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) }

// unexpectedEOF turns io.EOF into io.ErrUnexpectedEOF.
func unexpectedEOF(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

func uint24(b []byte) uint32 { return uint32(b[0])<<16 | uint32(b[1])<<8 | uint32(b[2]) }
