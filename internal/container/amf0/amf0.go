// Package amf0 encodes and decodes AMF0, the values of RTMP commands and FLV script tags (Adobe
// "Action Message Format -- AMF 0", 2007). It does not interpret the values. Decoding is safe for
// untrusted input: depth, number of values and key length are limited, and memory use depends on
// the bytes that are there, not on the counts that they declare.
//
// AMF0 values and their Go types:
//
//	number                  float64 (Append takes int too)
//	boolean                 bool; when decoding, any byte but 0 is true
//	string, long string     string, any bytes
//	null                    nil
//	undefined, unsupported  Undefined
//	object                  Object
//	ECMA array              ECMAArray
//	strict array            []any
//	date                    Date
//
// References, typed objects, XML, record sets, movie clips and AMF3 are rejected: no encoder sends
// them, and references can form cycles.
package amf0

// Limits of decoding, per message.
const (
	MaxDepth = 32   // nested objects and arrays
	MaxItems = 4096 // values in total, containers included
	MaxKey   = 256  // bytes of a property name
)

// Undefined is the value undefined.
type Undefined struct{}

// Date is a time in milliseconds since 1970 UTC. Zone is reserved (AMF0 §2.13): it is kept but not
// applied.
type Date struct {
	Milliseconds float64
	Zone         int16
}

// A Pair is one property.
type Pair struct {
	Key   string
	Value any
}

// Object is an anonymous object: properties in wire order. Keys may repeat; Get returns the value
// that counts.
type Object []Pair

// Get returns the last value of key, nil if there is none.
func (o Object) Get(key string) any { return get(o, key) }

// ECMAArray is an associative array. Its count on the wire is a hint (some encoders send 0): it is
// encoded correctly and ignored when decoding.
type ECMAArray []Pair

// Get returns the last value of key, nil if there is none.
func (a ECMAArray) Get(key string) any { return get(a, key) }

func get(pairs []Pair, key string) any {
	for i := len(pairs) - 1; i >= 0; i-- {
		if pairs[i].Key == key {
			return pairs[i].Value
		}
	}
	return nil
}

// Type markers, AMF0 §2.1.
const (
	markNumber      = 0x00
	markBoolean     = 0x01
	markString      = 0x02
	markObject      = 0x03
	markMovieClip   = 0x04
	markNull        = 0x05
	markUndefined   = 0x06
	markReference   = 0x07
	markECMAArray   = 0x08
	markObjectEnd   = 0x09
	markStrictArray = 0x0a
	markDate        = 0x0b
	markLongString  = 0x0c
	markUnsupported = 0x0d
	markRecordSet   = 0x0e
	markXML         = 0x0f
	markTypedObject = 0x10
	markAVMPlus     = 0x11
)
