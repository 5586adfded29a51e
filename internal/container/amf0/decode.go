package amf0

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
)

// Errors that the errors of a Decoder wrap.
var (
	ErrMalformed   = errors.New("amf0: malformed")
	ErrLimit       = errors.New("amf0: limit exceeded")
	ErrUnsupported = errors.New("amf0: unsupported type")
)

// A Decoder decodes the values of one message one by one. The limits apply to all of them together.
type Decoder struct {
	data  []byte
	pos   int
	items int
}

// NewDecoder returns a Decoder of data, which must not change while it is in use. Decoded values do
// not refer to data.
func NewDecoder(data []byte) *Decoder { return &Decoder{data: data} }

// Next returns the next value. It returns io.EOF at the end, or an error that wraps ErrMalformed,
// ErrLimit or ErrUnsupported; after an error the Decoder must not be used.
func (d *Decoder) Next() (any, error) {
	if d.pos == len(d.data) {
		return nil, io.EOF
	}
	return d.value(0)
}

// Decode returns all values of data. Its errors are those of Decoder.Next, except io.EOF.
func Decode(data []byte) ([]any, error) {
	d := NewDecoder(data)
	var values []any
	for {
		v, err := d.Next()
		if err == io.EOF {
			return values, nil
		}
		if err != nil {
			return nil, err
		}
		values = append(values, v)
	}
}

// value decodes a value inside depth containers.
func (d *Decoder) value(depth int) (any, error) {
	if d.items++; d.items > MaxItems {
		return nil, d.errorf(ErrLimit, "more than %d values", MaxItems)
	}
	b, err := d.read(1)
	if err != nil {
		return nil, err
	}
	switch b[0] {
	case markNumber:
		return d.number()
	case markBoolean:
		b, err := d.read(1)
		if err != nil {
			return nil, err
		}
		return b[0] != 0, nil
	case markString:
		return d.shortString()
	case markLongString:
		return d.longString()
	case markNull:
		return nil, nil
	case markUndefined, markUnsupported:
		return Undefined{}, nil
	case markDate:
		return d.date()
	case markObject, markECMAArray, markStrictArray:
		return d.container(b[0], depth+1)
	case markMovieClip, markReference, markRecordSet, markXML, markTypedObject, markAVMPlus:
		return nil, d.errorf(ErrUnsupported, "marker 0x%02x", b[0])
	}
	return nil, d.errorf(ErrMalformed, "marker 0x%02x", b[0])
}

func (d *Decoder) container(mark byte, depth int) (any, error) {
	if depth > MaxDepth {
		return nil, d.errorf(ErrLimit, "nested deeper than %d", MaxDepth)
	}
	switch mark {
	case markObject:
		pairs, err := d.pairs(depth, false)
		return Object(pairs), err
	case markECMAArray:
		if _, err := d.read(4); err != nil {
			return nil, err
		}
		pairs, err := d.pairs(depth, true)
		return ECMAArray(pairs), err
	}
	return d.strictArray(depth)
}

// pairs decodes properties up to the end marker. If openEnd is set, the end of the message may
// replace the marker: some encoders omit it after onMetaData's array.
func (d *Decoder) pairs(depth int, openEnd bool) ([]Pair, error) {
	var pairs []Pair
	for {
		if openEnd && d.pos == len(d.data) {
			return pairs, nil
		}
		key, err := d.shortString()
		if err != nil {
			return nil, err
		}
		if key == "" {
			b, err := d.read(1)
			if err != nil {
				return nil, err
			}
			if b[0] != markObjectEnd {
				return nil, d.errorf(ErrMalformed, "empty key")
			}
			return pairs, nil
		}
		if len(key) > MaxKey {
			return nil, d.errorf(ErrLimit, "key of %d bytes", len(key))
		}
		v, err := d.value(depth)
		if err != nil {
			return nil, err
		}
		pairs = append(pairs, Pair{key, v})
	}
}

func (d *Decoder) strictArray(depth int) ([]any, error) {
	b, err := d.read(4)
	if err != nil {
		return nil, err
	}
	n := int64(binary.BigEndian.Uint32(b))
	if n > int64(len(d.data)-d.pos) { // each value has at least one byte
		return nil, d.errorf(ErrMalformed, "array of %d values in %d bytes", n, len(d.data)-d.pos)
	}
	if n > int64(MaxItems-d.items) {
		return nil, d.errorf(ErrLimit, "more than %d values", MaxItems)
	}
	values := make([]any, n)
	for i := range values {
		if values[i], err = d.value(depth); err != nil {
			return nil, err
		}
	}
	return values, nil
}

func (d *Decoder) number() (float64, error) {
	b, err := d.read(8)
	if err != nil {
		return 0, err
	}
	return math.Float64frombits(binary.BigEndian.Uint64(b)), nil
}

func (d *Decoder) date() (Date, error) {
	ms, err := d.number()
	if err != nil {
		return Date{}, err
	}
	zone, err := d.read(2)
	if err != nil {
		return Date{}, err
	}
	return Date{ms, int16(binary.BigEndian.Uint16(zone))}, nil
}

func (d *Decoder) shortString() (string, error) {
	b, err := d.read(2)
	if err != nil {
		return "", err
	}
	b, err = d.read(int64(binary.BigEndian.Uint16(b)))
	return string(b), err
}

func (d *Decoder) longString() (string, error) {
	b, err := d.read(4)
	if err != nil {
		return "", err
	}
	b, err = d.read(int64(binary.BigEndian.Uint32(b)))
	return string(b), err
}

// read returns the next n bytes. n is an int64 so that 32-bit lengths fit on every platform.
func (d *Decoder) read(n int64) ([]byte, error) {
	if n > int64(len(d.data)-d.pos) {
		return nil, d.errorf(ErrMalformed, "%d bytes needed, %d left", n, len(d.data)-d.pos)
	}
	b := d.data[d.pos : d.pos+int(n)]
	d.pos += int(n)
	return b, nil
}

func (d *Decoder) errorf(kind error, format string, args ...any) error {
	return fmt.Errorf("%w: %s, at byte %d", kind, fmt.Sprintf(format, args...), d.pos)
}
