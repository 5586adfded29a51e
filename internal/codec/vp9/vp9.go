// Package vp9 parses what a server that passes VP9 through needs (VP9 Bitstream & Decoding
// Process Specification; VP Codec ISO Media File Format Binding): the start of frame headers,
// superframes, and random access points. It never decodes a picture.
package vp9

import (
	"errors"

	"livego/internal/codec/bits"
	"livego/internal/media"
)

// A Header is the start of a frame's uncompressed header. The fields after ShowExisting are those
// of a key frame, and zero for other frames.
type Header struct {
	Profile  byte // 0 to 3
	KeyFrame bool
	Shown    bool // the frame is shown, or with ShowExisting the one that it names

	ShowExisting bool // no frame of its own: shows one that was decoded before

	Width, Height              int  // pixels, without render_size, which is for display
	BitDepth                   int  // 8, 10 or 12
	ColorSpace                 byte // color_space, table of section 7.2.2
	FullRange                  bool
	SubsamplingX, SubsamplingY bool
}

// Colour spaces, section 7.2.2.
const (
	csUnknown = 0
	csBT601   = 1
	csBT709   = 2
	cs170M    = 3
	cs240M    = 4
	csBT2020  = 5
	csRGB     = 7
)

var (
	errHeader     = errors.New("vp9: malformed frame header")
	errSuperframe = errors.New("vp9: superframe index beyond the frame")
)

// maxFrames is how many frames a superframe can have.
const maxFrames = 8

// splitSuperframe splits a superframe into its frames (annex B). Anything else is one frame. The
// frames are slices of b.
func splitSuperframe(b []byte) (frames [maxFrames][]byte, n int, err error) {
	if len(b) == 0 {
		return frames, 0, errHeader
	}
	marker := b[len(b)-1]
	n, width := int(marker&7)+1, int(marker>>3&3)+1
	size := 2 + n*width
	if marker&0xE0 != 0xC0 || len(b) < size || b[len(b)-size] != marker {
		frames[0] = b
		return frames, 1, nil
	}
	index, b := b[len(b)-size+1:], b[:len(b)-size]
	for i := range n {
		var length uint64
		for j := range width {
			length |= uint64(index[i*width+j]) << (8 * j)
		}
		if length == 0 || length > uint64(len(b)) {
			return frames, 0, errSuperframe
		}
		frames[i], b = b[:length], b[length:]
	}
	return frames, n, nil
}

// ParseHeader parses the header of the first frame in b, an access unit (section 6.2). A
// superframe index that exceeds the frame, reserved values, and a key frame header that is
// truncated before the size are errors.
func ParseHeader(b []byte) (Header, error) {
	frames, _, err := splitSuperframe(b)
	if err != nil {
		return Header{}, err
	}
	const frameMarker = 2
	r := bits.NewReader(frames[0])
	marker := r.U(2)
	h := Header{Profile: byte(r.U(1) | r.U(1)<<1)}
	if marker != frameMarker || h.Profile == 3 && r.Flag() { // reserved_zero
		return Header{}, errHeader
	}
	if h.ShowExisting = r.Flag(); h.ShowExisting {
		h.Shown = true
		return h, nil
	}
	h.KeyFrame = !r.Flag() // frame_type
	h.Shown = r.Flag()
	r.Skip(1) // error_resilient_mode
	if h.KeyFrame {
		if err := h.readKeyFrame(r); err != nil {
			return Header{}, err
		}
	}
	if r.Overrun() {
		return Header{}, errHeader
	}
	return h, nil
}

func (h *Header) readKeyFrame(r *bits.Reader) error {
	const syncCode = 0x498342
	if r.U(24) != syncCode {
		return errHeader
	}
	h.BitDepth = 8
	if h.Profile >= 2 {
		h.BitDepth = 10 + 2*int(r.U(1))
	}
	h.ColorSpace = byte(r.U(3))
	odd := h.Profile&1 == 1 // profiles 1 and 3 are for what is not 4:2:0
	if h.ColorSpace == csRGB {
		h.FullRange = true
		if !odd {
			return errHeader
		}
	} else {
		h.FullRange = r.Flag()
		h.SubsamplingX, h.SubsamplingY = true, true
		if odd {
			h.SubsamplingX, h.SubsamplingY = r.Flag(), r.Flag()
		}
	}
	if odd && r.Flag() { // reserved_zero
		return errHeader
	}
	h.Width, h.Height = int(r.U(16))+1, int(r.U(16))+1
	return nil
}

// RandomAccess returns Keyframe for an access unit that starts with a key frame. Its errors are
// those of ParseHeader.
func RandomAccess(b []byte) (media.RandomAccess, error) {
	h, err := ParseHeader(b)
	if err != nil || !h.KeyFrame {
		return media.NoRandomAccess, err
	}
	return media.Keyframe, nil
}
