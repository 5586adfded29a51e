package mediacompare

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"
)

// FLV tag types.
const (
	TagAudio  = 8
	TagVideo  = 9
	TagScript = 18
)

// An FLVTag is a tag as it is in the file.
type FLVTag struct {
	Type byte
	Time uint32 // ms
	Body []byte
}

// An FLVFile is an FLV file or an HTTP-FLV body.
type FLVFile struct {
	HasVideo, HasAudio bool // flags of the file header
	Tags               []FLVTag
}

// An FLVReader reads FLV tag by tag, as the data arrives.
type FLVReader struct {
	HasVideo, HasAudio bool // flags of the file header

	r io.Reader
	n int // tags read
}

// NewFLVReader reads the header of an FLV file.
func NewFLVReader(r io.Reader) (*FLVReader, error) {
	var head [13]byte // with the first PreviousTagSize
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return nil, fmt.Errorf("flv: header: %w", err)
	}
	if string(head[:4]) != "FLV\x01" || binary.BigEndian.Uint32(head[5:]) != 9 {
		return nil, fmt.Errorf("flv: bad header % x", head)
	}
	return &FLVReader{HasVideo: head[4]&1 != 0, HasAudio: head[4]&4 != 0, r: r}, nil
}

// Next returns the next tag. The error is io.EOF at the end. A file that ends inside a tag is
// another error: a stream that ends cleanly never does.
func (f *FLVReader) Next() (FLVTag, error) {
	var h [11]byte
	if _, err := io.ReadFull(f.r, h[:]); errors.Is(err, io.EOF) {
		return FLVTag{}, io.EOF
	} else if err != nil {
		return FLVTag{}, fmt.Errorf("flv: tag %d: %w", f.n, err)
	}
	t := FLVTag{
		Type: h[0],
		Time: uint32(h[7])<<24 | uint32(h[4])<<16 | uint32(h[5])<<8 | uint32(h[6]),
		Body: make([]byte, int(h[1])<<16|int(h[2])<<8|int(h[3])),
	}
	var size [4]byte
	for _, b := range [][]byte{t.Body, size[:]} {
		if _, err := io.ReadFull(f.r, b); err != nil {
			return t, fmt.Errorf("flv: tag %d: %w", f.n, unexpectedEOF(err))
		}
	}
	if got := int(binary.BigEndian.Uint32(size[:])); got != 11+len(t.Body) {
		return t, fmt.Errorf("flv: tag %d: previous tag size %d, want %d", f.n, got, 11+len(t.Body))
	}
	f.n++
	return t, nil
}

// unexpectedEOF returns err, with io.EOF replaced by io.ErrUnexpectedEOF.
func unexpectedEOF(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// ReadFLV reads an FLV file to its end.
func ReadFLV(r io.Reader) (*FLVFile, error) {
	in, err := NewFLVReader(r)
	if err != nil {
		return nil, err
	}
	f := &FLVFile{HasVideo: in.HasVideo, HasAudio: in.HasAudio}
	for {
		t, err := in.Next()
		if errors.Is(err, io.EOF) {
			return f, nil
		}
		if err != nil {
			return nil, err
		}
		f.Tags = append(f.Tags, t)
	}
}

// Write writes the file.
func (f *FLVFile) Write(w io.Writer) error {
	var flags byte
	if f.HasVideo {
		flags |= 1
	}
	if f.HasAudio {
		flags |= 4
	}
	buf := append([]byte("FLV\x01"), flags, 0, 0, 0, 9, 0, 0, 0, 0)
	for _, t := range f.Tags {
		n := len(t.Body)
		buf = append(buf, t.Type, byte(n>>16), byte(n>>8), byte(n), byte(t.Time>>16), byte(t.Time>>8), byte(t.Time),
			byte(t.Time>>24), 0, 0, 0)
		buf = append(buf, t.Body...)
		buf = binary.BigEndian.AppendUint32(buf, uint32(11+n))
	}
	_, err := w.Write(buf)
	return err
}

// FourCCs returns the FourCCs of the codecs in the file, in the order in which they appear.
func (f *FLVFile) FourCCs() (names []string) {
	for _, t := range f.Tags {
		if e, ok := t.parseEnhanced(); ok && !slices.Contains(names, e.fourCC) {
			names = append(names, e.fourCC)
		}
	}
	return names
}

// Headers returns the codec headers in the file, in order. Equal headers configure a decoder in the
// same way.
func (f *FLVFile) Headers() (headers []string) {
	for _, t := range f.Tags {
		if t.IsHeader() {
			headers = append(headers, fmt.Sprintf("%d %x", t.Type, t.Body))
		}
	}
	return headers
}

// IsHeader reports whether t is a codec header.
func (t FLVTag) IsHeader() bool {
	if len(t.Body) < 2 {
		return false
	}
	if e, ok := t.parseEnhanced(); ok {
		return e.packet == 0 && len(e.payload) > 0
	}
	return t.Type == TagVideo && (t.Body[0]&0xf == 7 || t.Body[0]&0xf == 12) && t.Body[1] == 0 || t.Type == TagAudio &&
		t.Body[0]>>4 == 10 && t.Body[1] == 0
}

// IsFrame reports whether t contains a picture or an audio frame.
func (t FLVTag) IsFrame() bool {
	if e, ok := t.parseEnhanced(); ok {
		return e.packet == 1 || e.packet == 3
	}
	switch {
	case len(t.Body) < 2 || t.Type == TagScript:
		return false
	case t.Type == TagVideo:
		return t.Body[1] == 1 // neither a sequence header nor an end of sequence
	}
	return !t.IsHeader()
}

// Multitrack reports whether t is a Multitrack packet of Enhanced RTMP, which numbers its track.
func (t FLVTag) Multitrack() bool {
	b := t.Body
	return len(b) > 0 && (t.Type == TagVideo && b[0]&0x80 != 0 && b[0]&0xf == multitrackVideo || t.Type == TagAudio &&
		b[0] == 9<<4|multitrackAudio)
}

// Packet types that contain packets of numbered tracks.
const (
	multitrackAudio = 5
	multitrackVideo = 6
)

// An enhancedTag is a tag body in the FourCC form of Enhanced RTMP. It has one track and no
// modifiers, as ffmpeg writes it.
type enhancedTag struct {
	kind    Kind
	packet  byte // packet type
	key     bool
	fourCC  string
	track   int
	cts     time.Duration
	payload []byte
}

// parseEnhanced reads a body in the FourCC form; ok is false for other bodies.
func (t FLVTag) parseEnhanced() (e enhancedTag, ok bool) {
	b := t.Body
	if len(b) < 5 || t.Type == TagVideo && b[0]&0x80 == 0 || t.Type == TagAudio && b[0]>>4 != 9 || t.Type == TagScript {
		return e, false
	}
	multitrack := byte(multitrackVideo)
	e = enhancedTag{kind: Video, packet: b[0] & 0xf, key: b[0]>>4&7 == 1}
	if t.Type == TagAudio {
		multitrack, e.kind, e.key = multitrackAudio, Audio, true
	}
	b = b[1:]
	if e.packet == multitrack { // AvMultitrackType 0: one track
		e.packet, e.track, b = b[0], int(b[5]), slices.Concat(b[1:5], b[6:])
	}
	e.fourCC, e.payload = string(b[:4]), b[4:]
	if e.packet == 1 && (e.fourCC == "hvc1" || e.fourCC == "avc1") {
		cts := int32(uint32(b[4])<<24|uint32(b[5])<<16|uint32(b[6])<<8) >> 8
		e.cts, e.payload = time.Duration(cts)*time.Millisecond, b[7:]
	}
	return e, true
}

// Packets returns the units as RTMP and FLV contain them, for comparison with FLV and framemd5.
func (f *FLVFile) Packets() (Stream, error) {
	return f.units(func(_ nalLayout, payload []byte) (int, string, error) { return len(payload), md5Hex(payload), nil })
}

// DecoderUnits returns the units as a decoder gets them, for comparison with MPEG-TS: the NAL units
// without delimiters, parameter sets and filler.
func (f *FLVFile) DecoderUnits() (Stream, error) {
	return f.units(func(l nalLayout, payload []byte) (int, string, error) {
		if l.lengthSize == 0 {
			return len(payload), md5Hex(payload), nil
		}
		var nals [][]byte
		for len(payload) > 0 {
			if len(payload) < l.lengthSize {
				return 0, "", errors.New("truncated NAL unit length")
			}
			n := 0
			for _, b := range payload[:l.lengthSize] {
				n = n<<8 | int(b)
			}
			if payload = payload[l.lengthSize:]; n > len(payload) {
				return 0, "", errors.New("truncated NAL unit")
			}
			nals = append(nals, payload[:n])
			payload = payload[n:]
		}
		size, digest := pictureSum(nals, l.hevc)
		return size, digest, nil
	})
}

// A nalLayout describes the NAL units of a picture: the size of their length fields in bytes. The
// zero value is for audio, and for video without NAL units.
type nalLayout struct {
	lengthSize int
	hevc       bool
}

// units returns a unit for each media tag; measure returns the size and the sum of its payload.
func (f *FLVFile) units(measure func(l nalLayout, payload []byte) (int, string, error)) (Stream, error) {
	var s Stream
	lengthSize, hevc := 0, nalLayout{}
	for i, t := range f.Tags {
		if len(t.Body) == 0 || t.Type == TagScript {
			continue
		}
		u := Unit{Kind: Audio, Key: true, DTS: time.Duration(t.Time) * time.Millisecond}
		var payload []byte
		var err error
		if e, ok := t.parseEnhanced(); ok {
			if e.fourCC == "hvc1" && e.packet == 0 && len(e.payload) > 21 {
				hevc = nalLayout{int(e.payload[21]&3) + 1, true} // hvcC, ISO/IEC 14496-15 8.3.3.1
			}
			if e.packet != 1 && e.packet != 3 {
				continue
			}
			u.Kind, u.Track, u.Key, u.PTS = e.kind, e.track, e.key, u.DTS+e.cts
			l := nalLayout{}
			if e.fourCC == "hvc1" {
				l = hevc
			}
			u.Size, u.Sum, err = measure(l, e.payload)
			if err != nil {
				return nil, fmt.Errorf("flv: tag %d: %w", i, err)
			}
			s = append(s, u)
			continue
		}
		switch codec := t.Body[0]; {
		case t.Type == TagVideo && (codec&0xf == 7 || codec&0xf == 12) &&
			len(t.Body) > 5: // 12 is HEVC before it had a FourCC
			if t.Body[1] == 0 && codec&0xf == 7 {
				lengthSize = int(t.Body[9]&3) + 1
			}
			if t.Body[1] != 1 {
				continue
			}
			cts := int32(uint32(t.Body[2])<<24|uint32(t.Body[3])<<16|uint32(t.Body[4])<<8) >> 8
			u.Kind, u.Key, u.PTS = Video, codec>>4 == 1, u.DTS+time.Duration(cts)*time.Millisecond
			payload = t.Body[5:]
			u.Size, u.Sum, err = measure(nalLayout{lengthSize: lengthSize}, payload)
		case t.Type == TagVideo && (codec&0xf == 7 || codec&0xf == 12): // end of sequence
			continue
		case t.Type == TagAudio && codec>>4 == 10:
			if len(t.Body) < 2 || t.Body[1] == 0 {
				continue
			}
			u.PTS = u.DTS
			u.Size, u.Sum, err = measure(nalLayout{}, t.Body[2:])
		case t.Type == TagAudio && (codec>>4 == 2 || codec>>4 == 14):
			u.PTS = u.DTS
			u.Size, u.Sum, err = measure(nalLayout{}, t.Body[1:])
		default:
			return nil, fmt.Errorf("flv: tag %d: unsupported type %d with codec byte %#x", i, t.Type, codec)
		}
		if err != nil {
			return nil, fmt.Errorf("flv: tag %d: %w", i, err)
		}
		s = append(s, u)
	}
	return s, nil
}

// pictureSum returns the size and the sum of a picture's NAL units, without those that each
// container frames in its own way.
func pictureSum(nals [][]byte, hevc bool) (size int, digest string) {
	var kept [][]byte
	for _, n := range nals {
		if len(n) == 0 || isFraming(nalType(n, hevc), hevc) {
			continue
		}
		kept = append(kept, []byte{0, 0, 1}, n)
		size += len(n)
	}
	return size, md5Hex(kept...)
}

// nalType returns the nal_unit_type of n, which must not be empty (ITU-T H.264 and H.265, 7.3.1).
func nalType(n []byte, hevc bool) byte {
	if hevc {
		return n[0] >> 1 & 0x3f
	}
	return n[0] & 0x1f
}

// isFraming reports whether NAL units of this type are parameter sets, delimiters, ends of sequence
// or filler.
func isFraming(typ byte, hevc bool) bool {
	if hevc {
		return typ >= 32 && typ <= 38 // VPS, SPS, PPS, delimiter, ends of sequence and bitstream, filler
	}
	switch typ {
	case 7, 8, 9, 12, 13: // SPS, PPS, delimiter, filler, SPS extension
		return true
	}
	return false
}
