// Package bits reads and writes the bit fields of codec headers. A Reader never reads outside its
// slice: bits after the end are zero and set an overrun flag, so that a parser checks once at its
// end instead of after every field.
package bits

// A Reader reads a slice, most significant bit first. The zero Reader is empty.
type Reader struct {
	buf  []byte
	pos  int // in bits, at most 8*len(buf)
	over bool
}

// NewReader returns a Reader of b, which it neither copies nor modifies.
func NewReader(b []byte) *Reader { return &Reader{buf: b} }

// Left returns the number of unread bits.
func (r *Reader) Left() int { return 8*len(r.buf) - r.pos }

// Overrun reports whether the caller read beyond the end, or an Exp-Golomb code was too long. The
// values read are then meaningless.
func (r *Reader) Overrun() bool { return r.over }

// U reads n bits, 0 to 32, as an unsigned number: u(n) in the specifications. It returns 0 if
// fewer than n bits are left.
func (r *Reader) U(n int) uint32 {
	if n > r.Left() {
		r.fail()
		return 0
	}
	var v uint64
	for n > 0 {
		free := 8 - r.pos&7
		take := min(free, n)
		b := uint64(r.buf[r.pos>>3]) >> (free - take) & (1<<take - 1)
		v = v<<take | b
		r.pos += take
		n -= take
	}
	return uint32(v)
}

// Flag reads one bit.
func (r *Reader) Flag() bool { return r.U(1) == 1 }

// Skip skips n bits.
func (r *Reader) Skip(n int) {
	if n > r.Left() {
		r.fail()
		return
	}
	r.pos += n
}

// Align skips the unread bits of the current byte.
func (r *Reader) Align() { r.pos = (r.pos + 7) &^ 7 }

// UE reads an unsigned Exp-Golomb code: ue(v), ITU-T H.264 clause 9.1. Codes with 32 or more
// leading zeros do not fit into the 32 bits of a syntax element and count as an overrun.
func (r *Reader) UE() uint32 {
	zeros := 0
	for !r.Flag() {
		if zeros++; zeros > 31 || r.over {
			r.fail()
			return 0
		}
	}
	suffix := r.U(zeros)
	if r.over {
		return 0
	}
	return 1<<zeros - 1 + suffix
}

// SE reads a signed Exp-Golomb code: se(v), ITU-T H.264 clause 9.1.1.
func (r *Reader) SE() int32 {
	k := r.UE()
	if k&1 == 1 {
		return int32(k/2 + 1)
	}
	return -int32(k / 2)
}

func (r *Reader) fail() {
	r.over = true
	r.pos = 8 * len(r.buf)
}

// A Writer appends bit fields to a slice. The zero Writer is ready to use.
type Writer struct {
	buf  []byte
	used int // bits of the last byte in use, 0 if it is full
}

// U appends the low n bits of v, 0 to 32.
func (w *Writer) U(n int, v uint32) {
	for n > 0 {
		if w.used == 0 {
			w.buf = append(w.buf, 0)
		}
		take := min(8-w.used, n)
		field := byte(v>>(n-take)) & (1<<take - 1)
		w.buf[len(w.buf)-1] |= field << (8 - w.used - take)
		w.used = (w.used + take) & 7
		n -= take
	}
}

// Align fills the last byte with zero bits.
func (w *Writer) Align() { w.used = 0 }

// Bytes returns the bytes written. Valid until the next call.
func (w *Writer) Bytes() []byte { return w.buf }
