// Package mediacompare compares what viewers get with what was pushed, by content: the bytes that
// reach a decoder and when they are due, whatever the container around them. It knows formats only
// as far as the tests need them, and nothing of the server.
package mediacompare

import (
	"crypto/md5"
	"encoding/hex"
	"fmt"
	"slices"
	"time"
)

// Kind tells video from audio.
type Kind string

// Kinds.
const (
	Video Kind = "video"
	Audio Kind = "audio"
)

// A Unit is one access unit: a picture, or a frame of audio.
type Unit struct {
	Kind     Kind
	Track    int  // among those of a kind, where a container numbers them
	Key      bool // a picture where decoding may start; always true for audio
	DTS, PTS time.Duration
	Size     int
	Sum      string // MD5 of its bytes in hex, as ffmpeg's framemd5 prints it
}

func (u Unit) String() string {
	return fmt.Sprintf("%s dts=%v pts=%v %d bytes %.8s", u.Kind, u.DTS, u.PTS, u.Size, u.Sum)
}

// A Stream is what was sent or received, in the order of the container.
type Stream []Unit

// Of returns the units of one kind.
func (s Stream) Of(k Kind) Stream {
	return slices.DeleteFunc(slices.Clone(s), func(u Unit) bool { return u.Kind != k })
}

// Track returns the units of the tracks of that number, of both kinds.
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
