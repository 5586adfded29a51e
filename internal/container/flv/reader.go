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

// A Tag is one tag of an FLV file or stream: a message.
type Tag struct {
	Type      uint8
	Timestamp uint32 // ms
	Body      []byte
}

// A Reader reads the tags of an FLV file or stream from hostile hands. What players accept it accepts, and
// notes it in Oddities: tags of unknown types, which it skips, a PreviousTagSize that is wrong where a tag
// follows all the same, and zero bytes after the last tag.
type Reader struct {
	Anomalies Anomalies

	r          io.Reader
	maxBody    int
	headerRead bool
	inTag      atomic.Bool // the header of a tag has come since Next was called
	at         int64       // where the next tag begins, counted from the first byte that was read
	first      int64       // where the first tag begins
	stream     uint32      // StreamID of the last tag: 0 by the format, but some writers have another

	head    [tagHeaderSize]byte // of the next tag, where it had to be looked at
	ahead   int                 // bytes of it
	headErr error               // why it has no more
}

// Anomalies are what a Reader has accepted.
type Anomalies struct {
	UnknownTags uint64 // that were skipped
	WrongSizes  uint64 // PreviousTagSizes
	Padding     int64  // zero bytes after the last tag
}

// String describes o in a sentence for people, "" where there is nothing to say.
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

// maxFileHeader is how long the header of a file may be, in bytes.
const maxFileHeader = 64 << 10

// maxPadding is how many zero bytes are read where a tag belongs.
const maxPadding = 64 << 20

// NewReader returns a Reader of r that refuses tags whose body is larger than maxBody bytes.
func NewReader(r io.Reader, maxBody int) *Reader { return &Reader{r: r, maxBody: maxBody} }

// Next returns the next tag, whose Body is the caller's. The error is io.EOF at a clean end,
// io.ErrUnexpectedEOF within a tag, one of the source, or a sentence that says what is wrong with
// the stream.
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

// Receiving reports whether a tag has come in part, or is about to be returned. For any goroutine.
func (r *Reader) Receiving() bool { return r.inTag.Load() }

// tag reads a tag with its PreviousTagSize. One of an unknown type has no body.
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
		return Tag{}, false, fmt.Errorf("flv: tag of %d bytes is above the limit of %d", size, r.maxBody)
	}
	// The buffer grows as bytes arrive: the size is only a claim.
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

// peekHeader reads the header of the next tag, unless that is there. What remains of padding at the
// end of a file is the end.
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

// padding reads zero bytes, of which a whole header is there, up to the end of the file. Where a
// PreviousTagSize follows that header, it was a tag without content.
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
			return fmt.Errorf("flv: %d zero bytes where a tag belongs", total)
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
		return fmt.Errorf("flv: header of %d bytes", n)
	}
	// What is beyond the ninth byte means nothing. The last four bytes are the first PreviousTagSize.
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

// previousTagSize reads a PreviousTagSize. One that is not as it should be is accepted where a tag or the end
// of the file follows; else the length of the tag before it was a lie.
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

// isTagHeader reports whether b, the header of a tag, is of a type that writers use, not encrypted, and of that stream.
func isTagHeader(b []byte, stream uint32) bool {
	const dataAMF3 = 15 // which is skipped
	return (isTagType(b[0]) || b[0] == dataAMF3) && uint24(b[8:]) == stream
}

func isTagType(t uint8) bool { return t == TypeAudio || t == TypeVideo || t == TypeScriptData }

func isZero(b []byte) bool {
	for _, c := range b {
		if c != 0 {
			return false
		}
	}
	return true
}

// isEOF reports whether err is the end of what is read, wherever it is.
func isEOF(err error) bool { return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) }

// unexpectedEOF turns an end where none may be into io.ErrUnexpectedEOF.
func unexpectedEOF(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

func uint24(b []byte) uint32 { return uint32(b[0])<<16 | uint32(b[1])<<8 | uint32(b[2]) }
