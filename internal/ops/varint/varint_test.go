package varint

import (
	"bytes"
	"errors"
	"math"
	"testing"
	"time"
)

func TestValues(t *testing.T) {
	at := time.Unix(1767323045, 123456789)
	b := AppendUint(nil, uint64(math.MaxUint64))
	b = AppendInt(b, int64(math.MinInt64))
	b = AppendBytes(b, "text")
	b = AppendBool(b, true)
	b = AppendTime(b, at)
	b = AppendTime(b, time.Time{})
	b = AppendFloat(b, 29.97)
	b = AppendInt(b, -3*time.Second)
	b = AppendCount(b, 2)
	b = append(b, 7, 8)
	r := NewReader(b)
	if v := r.Uint(); v != math.MaxUint64 {
		t.Errorf("Uint %d", v)
	}
	if v := r.Int(); v != math.MinInt64 {
		t.Errorf("Int %d", v)
	}
	if v := r.String(4, "text"); v != "text" {
		t.Errorf("String %q", v)
	}
	if !r.Bool() {
		t.Error("Bool is false")
	}
	if v := r.Time(); !v.Equal(at) {
		t.Errorf("Time %v, want %v", v, at)
	}
	if v := r.Time(); !v.IsZero() {
		t.Errorf("Time %v, want the zero time", v)
	}
	if v := r.Float(); v != 29.97 {
		t.Errorf("Float %v", v)
	}
	if v := r.Duration(time.Minute, "time"); v != -3*time.Second {
		t.Errorf("Duration %v", v)
	}
	if n := r.Count(2, "bytes"); n != 2 || len(r.b) != 2 {
		t.Errorf("Count %d, %d bytes left", n, len(r.b))
	}
	if b := []byte{r.Byte(), r.Byte()}; !bytes.Equal(b, []byte{7, 8}) {
		t.Errorf("bytes %v", b)
	}
	if err := r.End(); err != nil {
		t.Error(err)
	}
}

func TestInvalidValues(t *testing.T) {
	for _, tt := range []struct {
		name string
		b    []byte
		read func(r *Reader)
		want string
	}{
		{"no bytes", nil, func(r *Reader) { r.Uint() }, ErrTruncated.Error()},
		{"integer without its last byte", []byte{0x80}, func(r *Reader) { r.Uint() }, ErrTruncated.Error()},
		{"integer of more than 64 bits", bytes.Repeat([]byte{0xff}, 11), func(r *Reader) { r.Uint() },
			ErrTruncated.Error()},
		{"byte string longer than the record", []byte{9, 1}, func(r *Reader) { r.Bytes(100, "text") },
			ErrTruncated.Error()},
		{"byte string longer than its limit", []byte{9, 1}, func(r *Reader) { r.Bytes(8, "text") },
			"text 9 exceeds the limit 8"},
		{"count beyond the record", []byte{9, 1}, func(r *Reader) { r.Count(100, "frames") }, ErrTruncated.Error()},
		{"count beyond its limit", []byte{9, 1}, func(r *Reader) { r.Count(8, "frames") },
			"frames 9 exceeds the limit 8"},
		{"truth value of 2", []byte{2}, func(r *Reader) { r.Bool() }, "a truth value is neither 0 nor 1"},
		{"duration beyond its limit", AppendInt(nil, -time.Hour), func(r *Reader) { r.Duration(time.Minute, "length") },
			"length -1h0m0s exceeds the limit 1m0s"},
		{"bytes after the end", []byte{1, 2}, func(r *Reader) { r.Byte() }, ErrOverlong.Error()},
		{"the first error stays", []byte{2, 1}, func(r *Reader) { r.Bool(); r.Fail(errors.New("second")) },
			"a truth value is neither 0 nor 1"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := NewReader(tt.b)
			tt.read(r)
			if err := r.End(); err == nil || err.Error() != tt.want {
				t.Errorf("error %v, want %s", err, tt.want)
			}
		})
	}
}
