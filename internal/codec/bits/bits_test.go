package bits

import "testing"

func TestReader(t *testing.T) {
	r := NewReader([]byte{0b1010_0110, 0xFF, 0x00, 0x12, 0x34, 0x56})
	if v := r.U(3); v != 0b101 {
		t.Errorf("U(3) = %b", v)
	}
	if v := r.U(13); v != 0b00110_11111111 {
		t.Errorf("U(13) = %b", v)
	}
	if v := r.U(32); v != 0x00123456 {
		t.Errorf("U(32) = %x", v)
	}
	if r.Left() != 0 || r.Overrun() {
		t.Errorf("left %d, overrun %v at the end", r.Left(), r.Overrun())
	}
	if v := r.U(0); v != 0 || r.Overrun() {
		t.Errorf("U(0) at the end = %d, overrun %v", v, r.Overrun())
	}
	if v := r.U(1); v != 0 || !r.Overrun() {
		t.Errorf("U(1) after the end = %d, overrun %v", v, r.Overrun())
	}
}

func TestExpGolomb(t *testing.T) {
	// 1 010 011 00100 00101: 0 1 2 3 4 unsigned, 0 1 -1 2 -2 signed.
	b := []byte{0b1010_0110, 0b0100_0010, 0b1000_0000}
	u, s := NewReader(b), NewReader(b)
	for i, want := range []int32{0, 1, -1, 2, -2} {
		if v := u.UE(); v != uint32(i) {
			t.Errorf("UE %d = %d", i, v)
		}
		if v := s.SE(); v != want {
			t.Errorf("SE %d = %d, want %d", i, v, want)
		}
	}
	longest := []byte{0, 0, 0, 1, 0xFF, 0xFF, 0xFF, 0xFE} // 31 zeros
	if r := NewReader(longest); r.UE() != 1<<32-2 || r.Overrun() {
		t.Error("rejected a code of 31 leading zeros, which is legal")
	}
	for name, b := range map[string][]byte{
		"empty": nil, "only zeros": make([]byte, 100), "truncated": {0, 1},
		"32 zeros": {0, 0, 0, 0, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF},
	} {
		if r := NewReader(b); r.UE() != 0 || !r.Overrun() {
			t.Errorf("%s: no overrun", name)
		}
	}
}

func TestWriterReaderRoundTrip(t *testing.T) {
	fields := []struct {
		n int
		v uint32
	}{{3, 5}, {1, 1}, {0, 0}, {32, 0xDEADBEEF}, {7, 0x55}, {8, 0xFF}, {13, 0x1234 & 0x1FFF}}
	var w Writer
	for _, f := range fields {
		w.U(f.n, f.v)
	}
	w.Align()
	w.U(8, 0xA5)
	r := NewReader(w.Bytes())
	for _, f := range fields {
		if v := r.U(f.n); v != f.v {
			t.Errorf("%d bits: %x, want %x", f.n, v, f.v)
		}
	}
	r.Align()
	if v := r.U(8); v != 0xA5 || r.Left() != 0 {
		t.Errorf("after Align: %x, %d bits left", v, r.Left())
	}
}
