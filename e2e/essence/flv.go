package essence

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"time"
)

// FLV tag types.
const (
	TagAudio  = 8
	TagVideo  = 9
	TagScript = 18
)

// An FLVTag is one tag as it stands in the file.
type FLVTag struct {
	Type byte
	Time uint32 // ms
	Body []byte
}

// An FLVFile is a whole FLV file or HTTP-FLV body.
type FLVFile struct {
	HasVideo, HasAudio bool // as its header says
	Tags               []FLVTag
}

// ReadFLV reads an FLV file to its end. A file that ends inside a tag is an error, since a proper end of a stream never does.
func ReadFLV(r io.Reader) (*FLVFile, error) {
	var head [13]byte // with the first PreviousTagSize
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return nil, fmt.Errorf("flv: header: %w", err)
	}
	if string(head[:4]) != "FLV\x01" || binary.BigEndian.Uint32(head[5:]) != 9 {
		return nil, fmt.Errorf("flv: bad header % x", head)
	}
	f := &FLVFile{HasVideo: head[4]&1 != 0, HasAudio: head[4]&4 != 0}
	for {
		var h [11]byte
		if _, err := io.ReadFull(r, h[:]); errors.Is(err, io.EOF) {
			return f, nil
		} else if err != nil {
			return nil, fmt.Errorf("flv: tag %d: %w", len(f.Tags), err)
		}
		t := FLVTag{
			Type: h[0],
			Time: uint32(h[7])<<24 | uint32(h[4])<<16 | uint32(h[5])<<8 | uint32(h[6]),
			Body: make([]byte, int(h[1])<<16|int(h[2])<<8|int(h[3])),
		}
		var size [4]byte
		if _, err := io.ReadFull(r, t.Body); err != nil {
			return nil, fmt.Errorf("flv: tag %d: %w", len(f.Tags), err)
		}
		if _, err := io.ReadFull(r, size[:]); err != nil {
			return nil, fmt.Errorf("flv: tag %d: %w", len(f.Tags), err)
		}
		if got := int(binary.BigEndian.Uint32(size[:])); got != 11+len(t.Body) {
			return nil, fmt.Errorf("flv: tag %d: previous tag size %d, want %d", len(f.Tags), got, 11+len(t.Body))
		}
		f.Tags = append(f.Tags, t)
	}
}

// Write writes the file back.
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
		buf = append(buf, t.Type, byte(n>>16), byte(n>>8), byte(n), byte(t.Time>>16), byte(t.Time>>8), byte(t.Time), byte(t.Time>>24), 0, 0, 0)
		buf = append(buf, t.Body...)
		buf = binary.BigEndian.AppendUint32(buf, uint32(11+n))
	}
	_, err := w.Write(buf)
	return err
}

// Headers returns the codec headers of the file in order: equal headers set a decoder up in the same way.
func (f *FLVFile) Headers() (headers []string) {
	for _, t := range f.Tags {
		if t.IsHeader() {
			headers = append(headers, fmt.Sprintf("%d %x", t.Type, t.Body))
		}
	}
	return headers
}

// IsHeader reports whether t configures a decoder.
func (t FLVTag) IsHeader() bool {
	if len(t.Body) < 2 {
		return false
	}
	return t.Type == TagVideo && t.Body[0]&0xf == 7 && t.Body[1] == 0 || t.Type == TagAudio && t.Body[0]>>4 == 10 && t.Body[1] == 0
}

// Packets returns the units as RTMP and FLV carry them, for comparison with FLV and framemd5.
func (f *FLVFile) Packets() (Stream, error) {
	return f.units(func(_ int, payload []byte) (int, string, error) { return len(payload), sum(payload), nil })
}

// Essence returns the units as a decoder gets them, for comparison with MPEG-TS: NAL units without delimiters, parameter sets
// and filler.
func (f *FLVFile) Essence() (Stream, error) {
	return f.units(func(lengthSize int, payload []byte) (int, string, error) {
		if lengthSize == 0 {
			return len(payload), sum(payload), nil
		}
		var nals [][]byte
		for len(payload) > 0 {
			if len(payload) < lengthSize {
				return 0, "", errors.New("cut NAL unit length")
			}
			n := 0
			for _, b := range payload[:lengthSize] {
				n = n<<8 | int(b)
			}
			if payload = payload[lengthSize:]; n > len(payload) {
				return 0, "", errors.New("cut NAL unit")
			}
			nals = append(nals, payload[:n])
			payload = payload[n:]
		}
		size, digest := pictureSum(nals)
		return size, digest, nil
	})
}

// units calls measure for the payload of each media tag; lengthSize is that of the avcC, 0 for audio.
func (f *FLVFile) units(measure func(lengthSize int, payload []byte) (int, string, error)) (Stream, error) {
	var s Stream
	lengthSize := 0
	for i, t := range f.Tags {
		if len(t.Body) == 0 || t.Type == TagScript {
			continue
		}
		u := Unit{Kind: Audio, Key: true, DTS: time.Duration(t.Time) * time.Millisecond}
		var payload []byte
		var err error
		switch codec := t.Body[0]; {
		case t.Type == TagVideo && codec&0xf == 7 && len(t.Body) > 5:
			if t.Body[1] == 0 {
				lengthSize = int(t.Body[9]&3) + 1
			}
			if t.Body[1] != 1 {
				continue
			}
			cts := int32(uint32(t.Body[2])<<24|uint32(t.Body[3])<<16|uint32(t.Body[4])<<8) >> 8
			u.Kind, u.Key, u.PTS = Video, codec>>4 == 1, u.DTS+time.Duration(cts)*time.Millisecond
			payload = t.Body[5:]
			u.Size, u.Sum, err = measure(lengthSize, payload)
		case t.Type == TagVideo && codec&0xf == 7: // end of sequence
			continue
		case t.Type == TagAudio && codec>>4 == 10:
			if len(t.Body) < 2 || t.Body[1] == 0 {
				continue
			}
			u.PTS = u.DTS
			u.Size, u.Sum, err = measure(0, t.Body[2:])
		case t.Type == TagAudio && (codec>>4 == 2 || codec>>4 == 14):
			u.PTS = u.DTS
			u.Size, u.Sum, err = measure(0, t.Body[1:])
		default:
			return nil, fmt.Errorf("flv: tag %d: type %d with codec byte %#x is not known here", i, t.Type, codec)
		}
		if err != nil {
			return nil, fmt.Errorf("flv: tag %d: %w", i, err)
		}
		s = append(s, u)
	}
	return s, nil
}

// pictureSum measures what is left of a picture's NAL units when those that each container treats in its own way are gone.
func pictureSum(nals [][]byte) (size int, digest string) {
	var kept [][]byte
	for _, n := range nals {
		if len(n) == 0 {
			continue
		}
		switch n[0] & 0x1f {
		case 7, 8, 9, 12, 13: // SPS, PPS, delimiter, filler, SPS extension
			continue
		}
		kept = append(kept, []byte{0, 0, 1}, n)
		size += len(n)
	}
	return size, sum(kept...)
}
