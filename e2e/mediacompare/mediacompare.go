// Package mediacompare compares what viewers receive with what was pushed: the bytes that reach a
// decoder and their timestamps, whatever the container. It implements formats only as far as the
// tests need them, and shares no code with the server.
package mediacompare

import (
	"crypto/md5"
	"encoding/hex"
	"fmt"
	"slices"
	"time"
)

// A Kind is the kind of a track: video or audio.
type Kind string

// Kinds.
const (
	Video Kind = "video"
	Audio Kind = "audio"
)

// A Unit is an access unit: a picture, or an audio frame.
type Unit struct {
	Kind     Kind
	Track    int  // number among the tracks of its kind, if the container numbers them
	Key      bool // a keyframe, at which decoding can start; always true for audio
	DTS, PTS time.Duration
	Size     int
	Sum      string // MD5 of its bytes in hexadecimal, as ffmpeg's framemd5 prints it
}

func (u Unit) String() string {
	return fmt.Sprintf("%s dts=%v pts=%v %d bytes %.8s", u.Kind, u.DTS, u.PTS, u.Size, u.Sum)
}

// A Stream is a sequence of units, in the order of the container.
type Stream []Unit

// Of returns the units of one kind.
func (s Stream) Of(k Kind) Stream {
	return slices.DeleteFunc(slices.Clone(s), func(u Unit) bool { return u.Kind != k })
}

// Track returns the units of the tracks with this number, of both kinds.
func (s Stream) Track(n int) Stream {
	return slices.DeleteFunc(slices.Clone(s), func(u Unit) bool { return u.Track != n })
}

func md5Hex(parts ...[]byte) string {
	h := md5.New()
	for _, p := range parts {
		h.Write(p)
	}
	return hex.EncodeToString(h.Sum(nil))
}
