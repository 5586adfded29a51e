package bench

import (
	"encoding/binary"

	"livego/internal/codec/bits"
)

// The built-in video is H.264 that needs no encoder: macroblocks are either empty (predicted in a
// keyframe, skipped in other frames) or uncompressed (I_PCM, ITU-T H.264 clause 7.3.5), and the
// number of the latter sets the bitrate. A color bar moves over the picture. Every decoder plays
// it, and no server can mistake its bytes for padding.
const (
	pictureWidth  = 1280
	pictureHeight = 720
	columns       = pictureWidth / 16
	rows          = pictureHeight / 16
	macroblocks   = columns * rows

	lumaSize   = 256 // samples of a macroblock
	chromaSize = 64
	pcmSize    = lumaSize + 2*chromaSize + 2 // with its type, aligned

	keyBase  = macroblocks + 20 // bytes of a keyframe without I_PCM: a byte per macroblock
	keyShare = 8                // size of a keyframe in other frames, as with real encoders
)

// pictures returns the access units of one group of pictures at a frame rate, with length fields of
// four bytes and a total of about size bytes.
func pictures(frames, size int) [][]byte {
	share := size / (frames - 1 + keyShare)
	out := make([][]byte, frames)
	left := size
	for i := range out {
		want := left / (frames - i) // carries rounding errors over to the next frame
		blocks := want / pcmSize
		if i == 0 {
			want = max(share*keyShare, keyBase)
			blocks = (want - keyBase) / pcmSize
		}
		out[i] = picture(i, min(blocks, macroblocks))
		left -= len(out[i])
	}
	return out
}

// picture returns frame number i of its group, with that number of uncompressed macroblocks.
func picture(i, blocks int) []byte {
	w := &nalWriter{}
	w.ue(0) // first_mb_in_slice
	unit := byte(0x61)
	if i == 0 {
		unit = 0x65
		w.ue(7) // slice_type I, of all slices
	} else {
		w.ue(5) // P
	}
	w.ue(0)           // pic_parameter_set_id
	w.U(8, uint32(i)) // frame_num
	if i == 0 {
		w.ue(0)   // idr_pic_id
		w.U(2, 0) // dec_ref_pic_marking: output earlier frames, no long-term reference
	} else {
		w.U(3, 0) // the default number of references, their default order, sliding window
	}
	w.ue(0) // slice_qp_delta, a se(v)
	w.ue(1) // disable_deblocking_filter_idc
	bar := colorBar{start: i * blocks % macroblocks, blocks: blocks}
	if i == 0 {
		w.intra(bar)
	} else {
		w.inter(bar, i)
	}
	w.trail()
	return appendUnit(nil, unit, w.Bytes())
}

// A colorBar is the run of macroblocks, in raster order and wrapping around, that a frame paints.
type colorBar struct{ start, blocks int }

func (b colorBar) contains(mb int) bool { return (mb-b.start+macroblocks)%macroblocks < b.blocks }

// intra writes the macroblocks of a keyframe. One outside the bar is predicted from its neighbors
// and has no residual (I_16x16_2_0_0).
func (w *nalWriter) intra(b colorBar) {
	for mb := range macroblocks {
		if b.contains(mb) {
			w.ue(25) // mb_type I_PCM
			w.pcm(mb, 0)
			continue
		}
		w.ue(3) // mb_type
		w.ue(0) // intra_chroma_pred_mode
		w.ue(0) // mb_qp_delta
		// coeff_token of no coefficients depends on the neighbors (clause 9.2.1): I_PCM counts as
		// 16.
		left, above := mb%columns > 0 && b.contains(mb-1), mb >= columns && b.contains(mb-columns)
		if left || above {
			w.U(6, 3)
		} else {
			w.U(1, 1)
		}
	}
}

// inter writes the macroblocks of another frame: those outside the bar are skipped.
func (w *nalWriter) inter(b colorBar, frame int) {
	skipped := uint32(0)
	for mb := range macroblocks {
		if !b.contains(mb) {
			skipped++
			continue
		}
		w.ue(skipped) // mb_skip_run
		w.ue(5 + 25)  // mb_type I_PCM, of P slices
		w.pcm(mb, frame)
		skipped = 0
	}
	if skipped > 0 {
		w.ue(skipped)
	}
}

// pcm writes the samples of one macroblock: a gray gradient in one color. No sample is 0, so none
// needs emulation prevention.
func (w *nalWriter) pcm(mb, frame int) {
	w.Align()
	for i := range uint32(lumaSize) {
		w.U(8, 32+(i%16+i/16)*4+uint32(frame)%64)
	}
	blue, red := uint32(mb%columns), uint32(mb/columns+frame)%rows
	for range chromaSize {
		w.U(8, 64+blue*128/columns)
	}
	for range chromaSize {
		w.U(8, 64+red*128/rows)
	}
}

// avcC returns the decoder configuration at a frame rate (ISO/IEC 14496-15 clause 5.3.3.1).
func avcC(fps int) []byte {
	const baseline, constraints, level = 66, 0xC0, 40
	s := &nalWriter{}
	s.U(8, baseline)
	s.U(8, constraints)
	s.U(8, level)
	s.ue(0)           // seq_parameter_set_id
	s.ue(4)           // frame_num has 8 bits
	s.ue(2)           // pic_order_cnt_type: as decoded
	s.ue(1)           // max_num_ref_frames
	s.U(1, 0)         // no gaps in frame_num
	s.ue(columns - 1) //
	s.ue(rows - 1)    //
	s.U(1, 1)         // frame_mbs_only_flag
	s.U(1, 1)         // direct_8x8_inference_flag
	s.U(1, 0)         // no cropping
	s.U(1, 1)         // a VUI
	s.U(4, 0)         // without aspect ratio, overscan, signal type, chroma location
	s.U(1, 1)         // but with timing, whose tick is a field
	s.U(32, 1)
	s.U(32, uint32(2*fps))
	s.U(1, 1) // fixed_frame_rate_flag
	s.U(4, 0) // no HRD of either kind, no picture structure, no bitstream restriction
	s.trail()

	p := &nalWriter{}
	p.ue(0)   // pic_parameter_set_id
	p.ue(0)   // seq_parameter_set_id
	p.U(2, 0) // CAVLC, no bottom field order
	p.ue(0)   // one slice group
	p.ue(0)   // one reference in each list
	p.ue(0)   //
	p.U(3, 0) // no weighted prediction
	p.ue(0)   // QP 26, a se(v) as the next two
	p.ue(0)   //
	p.ue(0)   //
	p.U(3, 4) // deblocking control; no constrained intra prediction, no redundant pictures
	p.trail()

	c := []byte{1, baseline, constraints, level, 0xFC | 3, 0xE0 | 1}
	c = appendSet(c, 0x67, s.Bytes())
	return appendSet(append(c, 1), 0x68, p.Bytes())
}

// A nalWriter writes the content of a NAL unit bit by bit.
type nalWriter struct{ bits.Writer }

// ue appends an unsigned Exp-Golomb number (clause 9.1). A signed 0 is the same.
func (w *nalWriter) ue(v uint32) {
	n := 0
	for (v+1)>>n > 1 {
		n++
	}
	w.U(n, 0)
	w.U(n+1, v+1)
}

// trail appends rbsp_trailing_bits.
func (w *nalWriter) trail() {
	w.U(1, 1)
	w.Align()
}

// appendUnit appends a NAL unit after its length, with emulation prevention (clause 7.4.1).
func appendUnit(dst []byte, header byte, rbsp []byte) []byte {
	start := len(dst)
	dst = append(dst, 0, 0, 0, 0, header)
	zeros := 0
	for _, c := range rbsp {
		if zeros >= 2 && c <= 3 {
			dst = append(dst, 3)
			zeros = 0
		}
		if dst = append(dst, c); c == 0 {
			zeros++
		} else {
			zeros = 0
		}
	}
	binary.BigEndian.PutUint32(dst[start:], uint32(len(dst)-start-4))
	return dst
}

// appendSet appends a parameter set as in avcC, after a length of two bytes.
func appendSet(dst []byte, header byte, rbsp []byte) []byte {
	return append(dst, appendUnit(nil, header, rbsp)[2:]...)
}
