package opus

import (
	"bytes"
	"encoding/binary"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// heads is the table of identification headers. It seeds the fuzz target.
var heads = []struct {
	name string
	b    string
	want *Head // nil: an error
}{
	{"stereo", "OpusHead\x01\x02\x38\x01\x80\xBB\x00\x00\x00\x00\x00",
		&Head{Channels: 2, PreSkip: 312, InputRate: 48000, Streams: 1, Coupled: 1}},
	{"mono, gain -1", "OpusHead\x01\x01\x00\x0F\x44\xAC\x00\x00\xFF\xFF\x00",
		&Head{Channels: 1, PreSkip: 3840, InputRate: 44100, Gain: -1, Streams: 1}},
	{"5.1", "OpusHead\x01\x06\x38\x01\x80\xBB\x00\x00\x00\x00\x01\x04\x02\x00\x04\x01\x02\x03\x05",
		&Head{Channels: 6, PreSkip: 312, InputRate: 48000, Family: 1, Streams: 4, Coupled: 2,
			Mapping: []byte{0, 4, 1, 2, 3, 5}}},
	{"family 255 with a silent channel", "OpusHead\x01\x02\x38\x01\x80\xBB\x00\x00\x00\x00\xFF\x01\x00\x00\xFF",
		&Head{Channels: 2, PreSkip: 312, InputRate: 48000, Family: 255, Streams: 1, Mapping: []byte{0, 255}}},
	{"version 2 of 16", "OpusHead\x10\x02\x38\x01\x80\xBB\x00\x00\x00\x00\x00", nil},
	{"truncated", "OpusHead\x01\x02\x38\x01\x80\xBB\x00\x00\x00\x00", nil},
	{"no channels", "OpusHead\x01\x00\x38\x01\x80\xBB\x00\x00\x00\x00\x00", nil},
	{"255 channels in family 0", "OpusHead\x01\xFF\x38\x01\x80\xBB\x00\x00\x00\x00\x00", nil},
	{"mapping truncated", "OpusHead\x01\x06\x38\x01\x80\xBB\x00\x00\x00\x00\x01\x04\x02\x00\x04\x01", nil},
	{"mapping beyond the streams", "OpusHead\x01\x02\x38\x01\x80\xBB\x00\x00\x00\x00\x01\x01\x01\x00\x02", nil},
	{"more coupled than streams", "OpusHead\x01\x02\x38\x01\x80\xBB\x00\x00\x00\x00\x01\x01\x02\x00\x01", nil},
	{"no streams", "OpusHead\x01\x02\x38\x01\x80\xBB\x00\x00\x00\x00\x01\x00\x00\x00\x01", nil},
	{"nine channels in family 1",
		"OpusHead\x01\x09\x38\x01\x80\xBB\x00\x00\x00\x00\x01\x09\x00\x00\x01\x02\x03\x04\x05\x06\x07\x08", nil},
	{"256 decoded channels", "OpusHead\x01\x01\x38\x01\x80\xBB\x00\x00\x00\x00\xFF\x80\x80\x00", nil},
	{"tags", "OpusTags\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00", nil},
	{"empty", "", nil},
}

func TestParseHead(t *testing.T) {
	for _, tt := range heads {
		h, err := ParseHead([]byte(tt.b))
		if diff := cmp.Diff(tt.want, h); diff != "" || (err != nil) != (tt.want == nil) {
			t.Errorf("%s: %v\n%s", tt.name, err, diff)
			continue
		}
		if h != nil && string(h.Append(nil)) != tt.b {
			t.Errorf("%s: became %x", tt.name, h.Append(nil))
		}
	}
}

func FuzzParseHead(f *testing.F) {
	for _, tt := range heads {
		f.Add([]byte(tt.b))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		h, err := ParseHead(b)
		if err != nil {
			return
		}
		again, err := ParseHead(h.Append(nil))
		if diff := cmp.Diff(h, again); err != nil || diff != "" {
			t.Errorf("%v\n%s", err, diff)
		}
	})
}

// packets is the table of the first bytes of packets. It seeds the fuzz target.
var packets = []struct {
	name string
	b    string
	want int // 0: an error
}{
	{"SILK 60 ms", "\x18", 2880},
	{"SILK 10 ms twice", "\x01", 960},
	{"SILK 60 ms twice", "\x19", 5760},
	{"hybrid 10 ms", "\x60", 480},
	{"hybrid 20 ms, two sizes", "\x6A", 1920},
	{"CELT 2.5 ms", "\x80", 120},
	{"CELT 20 ms", "\xF8", 960},
	{"48 of 2.5 ms", "\x83\x30", 5760},
	{"5 of 20 ms, variable, padded", "\xFB\xC5", 4800},
	{"49 of 2.5 ms", "\x83\x31", 0},
	{"three of 60 ms", "\x1B\x03", 0},
	{"no frames", "\xFB\x00", 0},
	{"count truncated", "\xFB", 0},
	{"empty", "", 0},
}

func TestSamples(t *testing.T) {
	for _, tt := range packets {
		if n, err := Samples([]byte(tt.b)); n != tt.want || (err != nil) != (tt.want == 0) {
			t.Errorf("%s: %d, %v, want %d", tt.name, n, err, tt.want)
		}
	}
}

func FuzzSamples(f *testing.F) {
	for _, tt := range packets {
		f.Add([]byte(tt.b))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		before := bytes.Clone(b)
		if n, err := Samples(b); n < 0 || n > maxSamples || n%120 != 0 || (err != nil) != (n == 0) ||
			!bytes.Equal(b, before) {
			t.Errorf("%x: %d, %v", b, n, err)
		}
	})
}

// Append appends h as an identification header of version 1.
func (h *Head) Append(dst []byte) []byte {
	dst = append(append(dst, magic...), 1, byte(h.Channels))
	dst = binary.LittleEndian.AppendUint16(dst, uint16(h.PreSkip))
	dst = binary.LittleEndian.AppendUint32(dst, uint32(h.InputRate))
	dst = binary.LittleEndian.AppendUint16(dst, uint16(h.Gain))
	dst = append(dst, h.Family)
	if h.Family == 0 {
		return dst
	}
	return append(append(dst, byte(h.Streams), byte(h.Coupled)), h.Mapping...)
}
