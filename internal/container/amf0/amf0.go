// Package amf0 reads and writes AMF0, the values that RTMP commands and FLV script tags are made of
// (Adobe "Action Message Format -- AMF 0", 2007). It knows nothing of what the values mean. Reading
// is for hostile input: depth, number and key length are limited, memory grows with the bytes that
// are there, never with what they announce.
//
// AMF0 values and their Go types:
//
//	number                  float64 (Append takes int too)
//	boolean                 bool; on reading any byte but 0 is true
//	string, long string     string, any bytes
//	null                    nil
//	undefined, unsupported  Undefined
//	object                  Object
//	ECMA array              ECMAArray
//	strict array            []any
//	date                    Date
//
// References, typed objects, XML, record sets, movie clips and AMF3 are refused: no encoder sends them, and a reference
// makes cycles.
package amf0

// Limits of reading, per message.
const (
	MaxDepth = 32   // objects and arrays within each other
	MaxItems = 4096 // values in all, containers included
	MaxKey   = 256  // bytes of a property's name
)

// Undefined is the value undefined.
type Undefined struct{}

// Date is a moment in milliseconds since 1970 UTC. Zone is reserved (AMF0 §2.13): it is kept and never applied.
type Date struct {
	Milliseconds float64
	Zone         int16
}

// A Pair is one property.
type Pair struct {
	Key   string
	Value any
}

// Object is an anonymous object: properties in the order of the wire. Keys may repeat; Get tells which counts.
type Object []Pair

// Get returns the value of key, or nil when there is none. Of several the last wins.
func (o Object) Get(key string) any { return get(o, key) }

// ECMAArray is an associative array. Its count on the wire is a hint (real encoders send 0), so it
// is written right and not read.
type ECMAArray []Pair

// Get returns the value of key, or nil when there is none. Of several the last wins.
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
