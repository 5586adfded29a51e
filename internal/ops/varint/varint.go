// Package varint reads and writes the values of binary records: integers of variable length
// (encoding/binary), byte strings and times. A Reader checks each length and count against a limit
// before memory is allocated for it. The package knows no record.
package varint

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"time"
)

// Errors of a Reader.
var (
	ErrTruncated = errors.New("record is truncated")
	ErrOverlong  = errors.New("record has bytes after its end")
)

// A Reader reads the values of one record. After the first error every value is zero, and Err
// returns that error.
type Reader struct {
	b   []byte
	err error
}

// NewReader returns a Reader of b. Byte strings that it returns are slices of b.
func NewReader(b []byte) *Reader { return &Reader{b: b} }

// Err returns the first error.
func (r *Reader) Err() error { return r.err }

// End returns the first error, or ErrOverlong if bytes are left.
func (r *Reader) End() error {
	if r.err == nil && len(r.b) > 0 {
		r.err = ErrOverlong
	}
	return r.err
}

// Fail records an error of the caller, unless there is one.
func (r *Reader) Fail(err error) {
	if r.err == nil {
		r.err, r.b = err, nil
	}
}

// Uint reads an integer without a sign.
func (r *Reader) Uint() uint64 {
	v, n := binary.Uvarint(r.b)
	return skip(r, v, n)
}

// Int reads an integer with a sign.
func (r *Reader) Int() int64 {
	v, n := binary.Varint(r.b)
	return skip(r, v, n)
}

// skip removes n bytes with the value v; n is not positive if they have none.
func skip[T any](r *Reader, v T, n int) T {
	if n <= 0 {
		r.Fail(ErrTruncated)
		var zero T
		return zero
	}
	r.b = r.b[n:]
	return v
}

// UintMax reads an integer of at most limit. what names it in the error.
func (r *Reader) UintMax(limit uint64, what string) uint64 {
	v := r.Uint()
	if v > limit {
		r.Fail(fmt.Errorf("%s %d exceeds the limit %d", what, v, limit))
		return 0
	}
	return v
}

// Count reads the number of values that follow, of at least one byte each.
func (r *Reader) Count(limit int, what string) int {
	n := int(r.UintMax(uint64(limit), what))
	if n > len(r.b) {
		r.Fail(ErrTruncated)
		return 0
	}
	return n
}

// Bytes reads a byte string of at most limit bytes: a slice of the record.
func (r *Reader) Bytes(limit int, what string) []byte {
	n := r.Count(limit, what)
	b := r.b[:n:n]
	r.b = r.b[n:]
	return b
}

// String reads a byte string of at most limit bytes as a string.
func (r *Reader) String(limit int, what string) string { return string(r.Bytes(limit, what)) }

// Byte reads one byte.
func (r *Reader) Byte() byte {
	if len(r.b) == 0 {
		r.Fail(ErrTruncated)
		return 0
	}
	b := r.b[0]
	r.b = r.b[1:]
	return b
}

// Bool reads a byte that is 0 or 1.
func (r *Reader) Bool() bool {
	switch r.Byte() {
	case 0:
		return false
	case 1:
		return true
	}
	r.Fail(errors.New("a truth value is neither 0 nor 1"))
	return false
}

// Duration reads a duration whose absolute value is at most limit.
func (r *Reader) Duration(limit time.Duration, what string) time.Duration {
	d := time.Duration(r.Int())
	if d > limit || d < -limit {
		r.Fail(fmt.Errorf("%s %v exceeds the limit %v", what, d, limit))
		return 0
	}
	return d
}

// Time reads a time.
func (r *Reader) Time() time.Time {
	if r.Byte() == 0 {
		return time.Time{}
	}
	return time.Unix(0, r.Int())
}

// Float reads a number.
func (r *Reader) Float() float64 { return math.Float64frombits(r.Uint()) }

// AppendUint appends v.
func AppendUint[T ~uint | ~uint8 | ~uint16 | ~uint32 | ~uint64](b []byte, v T) []byte {
	return binary.AppendUvarint(b, uint64(v))
}

// AppendInt appends v.
func AppendInt[T ~int | ~int32 | ~int64](b []byte, v T) []byte {
	return binary.AppendVarint(b, int64(v))
}

// AppendCount appends the number of values that follow, or another number that is not negative.
func AppendCount(b []byte, n int) []byte { return binary.AppendUvarint(b, uint64(n)) }

// AppendBytes appends a byte string.
func AppendBytes[T ~string | ~[]byte](b []byte, v T) []byte {
	return append(AppendCount(b, len(v)), v...)
}

// AppendBool appends a truth value.
func AppendBool(b []byte, v bool) []byte {
	if v {
		return append(b, 1)
	}
	return append(b, 0)
}

// AppendTime appends t, in nanoseconds of the wall clock.
func AppendTime(b []byte, t time.Time) []byte {
	if t.IsZero() {
		return append(b, 0)
	}
	return AppendInt(append(b, 1), t.UnixNano())
}

// AppendFloat appends v.
func AppendFloat(b []byte, v float64) []byte { return binary.AppendUvarint(b, math.Float64bits(v)) }
