package amf0

import (
	"encoding/binary"
	"fmt"
	"math"
)

// Append appends the AMF0 encoding of values to dst and returns the extended slice. It panics on a
// Go type that is not in the package's table and on a key of 64 KiB or more: both are mistakes of
// the caller that no input causes.
func Append(dst []byte, values ...any) []byte {
	for _, v := range values {
		dst = appendValue(dst, v)
	}
	return dst
}

func appendValue(dst []byte, v any) []byte {
	switch v := v.(type) {
	case nil:
		return append(dst, markNull)
	case Undefined:
		return append(dst, markUndefined)
	case bool:
		if v {
			return append(dst, markBoolean, 1)
		}
		return append(dst, markBoolean, 0)
	case int:
		return appendNumber(append(dst, markNumber), float64(v))
	case float64:
		return appendNumber(append(dst, markNumber), v)
	case string:
		if len(v) > math.MaxUint16 {
			dst = binary.BigEndian.AppendUint32(append(dst, markLongString), uint32(len(v)))
			return append(dst, v...)
		}
		return appendShort(append(dst, markString), v)
	case Date:
		dst = appendNumber(append(dst, markDate), v.Milliseconds)
		return binary.BigEndian.AppendUint16(dst, uint16(v.Zone))
	case Object:
		return appendPairs(append(dst, markObject), v)
	case ECMAArray:
		dst = binary.BigEndian.AppendUint32(append(dst, markECMAArray), uint32(len(v)))
		return appendPairs(dst, v)
	case []any:
		dst = binary.BigEndian.AppendUint32(append(dst, markStrictArray), uint32(len(v)))
		return Append(dst, v...)
	}
	panic(fmt.Sprintf("amf0: cannot encode %T", v))
}

func appendPairs(dst []byte, pairs []Pair) []byte {
	for _, p := range pairs {
		dst = appendValue(appendShort(dst, p.Key), p.Value)
	}
	return append(dst, 0, 0, markObjectEnd)
}

func appendShort(dst []byte, s string) []byte {
	if len(s) > math.MaxUint16 {
		panic("amf0: key too long")
	}
	return append(binary.BigEndian.AppendUint16(dst, uint16(len(s))), s...)
}

func appendNumber(dst []byte, f float64) []byte {
	return binary.BigEndian.AppendUint64(dst, math.Float64bits(f))
}
