package amf0

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math"
	"reflect"
	"strings"
	"testing"
)

// A decodeCase is one input of the shared table: the values that it decodes to, or the error.
type decodeCase struct {
	name string
	in   []byte
	want []any
	err  error
}

func num(f float64) []byte { return Append(nil, f) }

func join(parts ...any) []byte {
	var b []byte
	for _, p := range parts {
		switch p := p.(type) {
		case int:
			b = append(b, byte(p))
		case string:
			b = append(b, p...)
		case []byte:
			b = append(b, p...)
		}
	}
	return b
}

func decodeCases() []decodeCase {
	nested := func(open, shut []byte, n int) []byte {
		return join(bytes.Repeat(open, n), 5, bytes.Repeat(shut, n))
	}
	objectOpen, objectEnd := []byte("\x03\x00\x01k"), []byte("\x00\x00\x09")
	ecmaOpen := []byte("\x08\x00\x00\x00\x01\x00\x01k")
	strictOpen := []byte("\x0a\x00\x00\x00\x01")
	manyKeys := []byte{markObject}
	for i := range 10000 {
		manyKeys = join(manyKeys, fmt.Sprintf("\x00\x05%05d\x05", i))
	}
	deep := any([]any{nil})
	for range MaxDepth - 1 {
		deep = []any{deep}
	}
	return []decodeCase{
		{name: "number", in: join(0, "\x3f\xf0\x00\x00\x00\x00\x00\x00"), want: []any{1.0}},
		{name: "negative infinity", in: num(math.Inf(-1)), want: []any{math.Inf(-1)}},
		{name: "boolean 0", in: join(1, 0), want: []any{false}},
		{name: "boolean 2", in: join(1, 2), want: []any{true}},
		{name: "boolean 255", in: join(1, 255), want: []any{true}},
		{name: "string of any bytes", in: join("\x02\x00\x04a\x00\xff\x1b"), want: []any{"a\x00\xff\x1b"}},
		{name: "long string of 64 KiB", in: join("\x0c\x00\x01\x00\x00", strings.Repeat("x", 1<<16)),
			want: []any{strings.Repeat("x", 1<<16)}},
		{name: "object", in: join(3, "\x00\x01a", 5, "\x00\x01b", "\x01\x01", objectEnd),
			want: []any{Object{{"a", nil}, {"b", true}}}},
		{name: "empty object", in: join(3, objectEnd), want: []any{Object(nil)}},
		{name: "duplicate key", in: join(3, "\x00\x01a", 5, "\x00\x01a", "\x01\x01", objectEnd),
			want: []any{Object{{"a", nil}, {"a", true}}}},
		{name: "ECMA array with count 0", in: join(8, "\x00\x00\x00\x00", "\x00\x01a", 5, "\x00\x01b", 6, objectEnd),
			want: []any{ECMAArray{{"a", nil}, {"b", Undefined{}}}}},
		{name: "ECMA array with the largest count",
			in:   join(8, "\xff\xff\xff\xff", "\x00\x01a", 5, "\x00\x01b", 6, objectEnd),
			want: []any{ECMAArray{{"a", nil}, {"b", Undefined{}}}}},
		{name: "ECMA array without end marker", in: join(8, "\x00\x00\x00\x01", "\x00\x01a", 5),
			want: []any{ECMAArray{{"a", nil}}}},
		{name: "ECMA array without end marker in an object", in: join(3, "\x00\x01a", 8, "\x00\x00\x00\x01", "\x00\x01a", 5),
			err: ErrMalformed},
		{name: "strict array", in: join(10, "\x00\x00\x00\x02", 5, "\x01\x01"), want: []any{[]any{nil, true}}},
		{name: "date", in: join(11, num(1)[1:], "\xff\xc4"), want: []any{Date{1, -60}}},
		{name: "undefined", in: join(6), want: []any{Undefined{}}},
		{name: "unsupported", in: join(13), want: []any{Undefined{}}},
		{name: "command", in: Append(nil, "connect", 1, Object{{"app", "live"}}),
			want: []any{"connect", 1.0, Object{{"app", "live"}}}},

		{name: "unknown marker 0x12", in: join(0x12), err: ErrMalformed},
		{name: "unknown marker 0xff", in: join(0xff), err: ErrMalformed},
		{name: "only an end marker", in: join(9), err: ErrMalformed},
		{name: "string longer than the message", in: join("\x02\xff\xffx"), err: ErrMalformed},
		{name: "long string longer than the message", in: join("\x0c\xff\xff\xff\xffx"), err: ErrMalformed},
		{name: "object without end marker", in: join(3, "\x00\x01a", 5), err: ErrMalformed},
		{name: "empty key without end marker", in: join(3, "\x00\x00", 5), err: ErrMalformed},
		{name: "arrays nested 32 deep", in: nested(strictOpen, nil, MaxDepth), want: []any{deep}},
		{name: "objects nested too deep", in: nested(objectOpen, objectEnd, MaxDepth+1), err: ErrLimit},
		{name: "arrays nested too deep", in: nested(strictOpen, nil, MaxDepth+1), err: ErrLimit},
		{name: "ECMA arrays nested too deep", in: nested(ecmaOpen, objectEnd, MaxDepth+1), err: ErrLimit},
		{name: "mixed containers nested too deep", in: nested(join(objectOpen, ecmaOpen, strictOpen), nil, 11),
			err: ErrLimit},
		{name: "64 KiB of nested objects", in: bytes.Repeat(objectOpen, 1<<14), err: ErrLimit},
		{name: "reference", in: join("\x07\x00\x00"), err: ErrUnsupported},
		{name: "reference to its own object", in: join(objectOpen, "\x07\x00\x00", objectEnd), err: ErrUnsupported},
		{name: "typed object", in: join(16, "\x00\x01T", objectEnd), err: ErrUnsupported},
		{name: "XML document", in: join(15, "\x00\x00\x00\x01x"), err: ErrUnsupported},
		{name: "record set", in: join(14), err: ErrUnsupported},
		{name: "movie clip", in: join(4), err: ErrUnsupported},
		{name: "AMF3 (AVM+)", in: join(17, 1), err: ErrUnsupported},
		{name: "object of 10000 keys", in: manyKeys, err: ErrLimit},
		{name: "key of 257 bytes", in: join("\x03\x01\x01", strings.Repeat("k", 257), 5, objectEnd), err: ErrLimit},
		{name: "10000 values", in: bytes.Repeat([]byte{5}, 10000), err: ErrLimit},
		{name: "strict array with count 2^32-1", in: join("\x0a\xff\xff\xff\xff", 5), err: ErrMalformed},
		{name: "strict array of 10000 values", in: join("\x0a\x00\x00\x27\x10", bytes.Repeat([]byte{5}, 10000)),
			err: ErrLimit},
	}
}

func TestDecode(t *testing.T) {
	for _, r := range decodeCases() {
		t.Run(r.name, func(t *testing.T) {
			got, err := Decode(r.in)
			if !errors.Is(err, r.err) {
				t.Fatalf("error %v, want %v", err, r.err)
			}
			if !reflect.DeepEqual(got, r.want) {
				t.Errorf("got %v, want %v", got, r.want)
			}
		})
	}
}

// TestDecodeTruncatedValues checks that no value is complete before its last byte.
func TestDecodeTruncatedValues(t *testing.T) {
	values := []any{1.0, true, "abc", strings.Repeat("x", 1<<16), Date{1, 2}, []any{1.0, "x"},
		Object{{"a", 1.0}, {"b", Object{{"c", "d"}}}}, []any{ECMAArray{{"a", true}}, nil}}
	for _, v := range values {
		whole := Append(nil, v)
		step := 1 + len(whole)/512
		for n := 1; n < len(whole); n += step {
			if got, err := Decode(whole[:n]); !errors.Is(err, ErrMalformed) {
				t.Fatalf("%T truncated at byte %d of %d: got %v, %v", v, n, len(whole), got, err)
			}
		}
	}
}

func TestGet(t *testing.T) {
	o := Object{{"app", "first"}, {"x", 1.0}, {"app", "last"}}
	if got := o.Get("app"); got != "last" {
		t.Errorf("app: %v", got)
	}
	if got := ECMAArray(o).Get("none"); got != nil {
		t.Errorf("none: %v", got)
	}
}

// TestNextIgnoresTrailingGarbage checks that bytes after a command do not affect the values before
// them.
func TestNextIgnoresTrailingGarbage(t *testing.T) {
	d := NewDecoder(append(Append(nil, "play", 0), 0xff, 0xff))
	for _, want := range []any{"play", 0.0} {
		if got, err := d.Next(); err != nil || got != want {
			t.Fatalf("got %v, %v, want %v", got, err, want)
		}
	}
	if _, err := d.Next(); !errors.Is(err, ErrMalformed) {
		t.Error(err)
	}
	if _, err := NewDecoder(nil).Next(); err != io.EOF {
		t.Error(err)
	}
}

func TestAppendPanics(t *testing.T) {
	for _, v := range []any{uint8(1), Object{{strings.Repeat("k", 1<<16), nil}}} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%T: no panic", v)
				}
			}()
			Append(nil, v)
		}()
	}
}

// FuzzDecode checks that decoded values can be encoded and decoded again.
func FuzzDecode(f *testing.F) {
	for _, r := range decodeCases() {
		f.Add(r.in)
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		values, err := Decode(in)
		if err != nil {
			return
		}
		out := Append(nil, values...)
		again, err := Decode(out)
		if err != nil {
			t.Fatalf("encoded values: %v", err)
		}
		if got := Append(nil, again...); !bytes.Equal(got, out) {
			t.Fatalf("%x became %x", out, got)
		}
	})
}
