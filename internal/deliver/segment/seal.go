package segment

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"slices"
	"time"

	"livego/internal/media"
)

// A Seal identifies a complete segment and what is in it. Two Segmenters that made the same segment
// have the same Seal of it.
type Seal struct {
	Name        string
	Sequence    uint64 // media sequence number
	First, Last uint64 // Seq of the first and the last frame
	Duration    time.Duration
	Parts       []time.Duration
	Digest      uint64 // of the frames
}

// A Sealed is a complete segment, whose Seal is made when it is needed.
type Sealed struct{ s *segment }

// OnSealed sets a function that is called by the goroutine that writes, with each segment that is
// complete.
func (s *Segmenter) OnSealed(sealed func(Sealed)) { s.sealed = sealed }

// Newest returns the newest complete segment; nil if there is none, or another server made it. It is for
// the goroutine that writes.
func (s *Segmenter) Newest() *Sealed {
	if newest := s.List().newest(); newest != nil && !newest.remote {
		return &Sealed{newest}
	}
	return nil
}

// Seal returns the Seal of the segment. It reads all of its frames.
func (d Sealed) Seal() Seal {
	s := d.s
	seal := Seal{Name: s.name, Sequence: s.sequence, Duration: s.duration}
	for _, p := range s.parts {
		seal.Parts = append(seal.Parts, p.duration)
	}
	if n := len(s.frames); n > 0 {
		seal.First, seal.Last = s.frames[0].Seq, s.frames[n-1].Seq
	}
	for _, f := range s.frames {
		seal.Digest = digestFrame(seal.Digest, f)
	}
	return seal
}

// digestFrame adds what files contain of f to a digest: two checksums, for which processors have
// instructions. It finds mistakes, not forgeries: nodes trust each other.
func digestFrame(digest uint64, f *media.Frame) uint64 {
	var head [6 * 8]byte
	for i, v := range []uint64{f.Seq, uint64(f.DTS), uint64(f.PTS), uint64(f.Duration), uint64(f.Ticks),
		uint64(len(f.Payload))<<8 | uint64(f.RAP)} {
		binary.BigEndian.PutUint64(head[8*i:], v)
	}
	castagnoli, high, low := crc32.MakeTable(crc32.Castagnoli), uint32(digest>>32), uint32(digest)
	for _, b := range [...][]byte{head[:], f.Payload} {
		high, low = crc32.Update(high, castagnoli, b), crc32.Update(low, crc32.IEEETable, b)
	}
	return uint64(high)<<32 | uint64(low)
}

// Verify checks that s made the segment of seal with the same frames and parts, or was restored after
// it was complete. It is for the goroutine that writes.
func (s *Segmenter) Verify(seal Seal) error {
	for _, made := range slices.Backward(s.List().segments) {
		if made.sequence != seal.Sequence {
			continue
		}
		if made.remote {
			return nil
		}
		if got := (Sealed{made}).Seal(); !got.equal(seal) {
			return fmt.Errorf("segment: %s has the seal %v, not %v", made.name, got, seal)
		}
		return nil
	}
	if newest := s.List().newest(); newest == nil || seal.Sequence > newest.sequence {
		return fmt.Errorf("segment: %s was not made", seal.Name)
	}
	return nil
}

func (s Seal) equal(o Seal) bool {
	return s.Name == o.Name && s.First == o.First && s.Last == o.Last && s.Duration == o.Duration &&
		s.Digest == o.Digest && slices.Equal(s.Parts, o.Parts)
}

func (s Seal) String() string {
	return fmt.Sprintf("%s (number %d, frames %d to %d, %v, %d parts, %x)", s.Name, s.Sequence, s.First, s.Last,
		s.Duration, len(s.Parts), s.Digest)
}
