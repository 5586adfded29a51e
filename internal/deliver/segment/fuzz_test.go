package segment

import (
	"bytes"
	"encoding/binary"
	"testing"
	"time"

	"livego/internal/media"
)

// The fuzzer's encoding of a frame: flags, the step from the DTS of the previous frame in ms, the
// duration in units of 4 ms.
const (
	isAudio = 1 << iota
	isKey
	isDiscontinuity // the timeline has a discontinuity here
	isOtherTrack    // of the other track of its kind
	isBig           // 1 MiB
	isPaused        // there is a pause before it
	frameLen        = 4
)

func encodeFrames(fs []*media.Frame) []byte {
	var b []byte
	var last *media.Frame
	for _, f := range fs {
		var flags byte
		var step time.Duration
		if f.Track.Kind == media.Audio {
			flags |= isAudio
		}
		if f.RAP != media.NoRandomAccess {
			flags |= isKey
		}
		if f.Track == h264b {
			flags |= isOtherTrack
		}
		if len(f.Payload) >= 1<<20 {
			flags |= isBig
		}
		if last != nil {
			step = f.DTS - last.DTS
			if f.Program.Discontinuity != last.Program.Discontinuity {
				flags |= isDiscontinuity
			}
		}
		b = append(b, flags)
		b = binary.BigEndian.AppendUint16(b, uint16(int16(step.Milliseconds())))
		b = append(b, byte(f.Duration/(4*ms)))
		last = f
	}
	return b
}

// decodeFrames returns frames that satisfy what the timeline of a stream guarantees: no track goes
// back, and no time is negative. pauses are the frames that follow a pause.
func decodeFrames(b []byte) (fs, pauses []*media.Frame) {
	other := *aac
	tracks := map[byte]*media.Track{0: h264, isOtherTrack: h264b, isAudio: aac, isAudio | isOtherTrack: &other}
	payloads := map[byte][]byte{0: make([]byte, 100), isBig: make([]byte, 1<<20)}
	last := map[media.Kind]time.Duration{}
	var at time.Duration
	var disc uint32
	for ; len(b) >= frameLen; b = b[frameLen:] {
		t := tracks[b[0]&(isAudio|isOtherTrack)]
		at += time.Duration(int16(binary.BigEndian.Uint16(b[1:]))) * ms
		at = max(at, last[t.Kind])
		last[t.Kind] = at
		if b[0]&isDiscontinuity != 0 {
			disc++
		}
		f := frame(t, at, time.Duration(b[3])*4*ms, b[0]&isKey != 0)
		setDiscontinuity(f, disc)
		f.Payload = payloads[b[0]&isBig]
		fs = append(fs, f)
		if b[0]&isPaused != 0 {
			pauses = append(pauses, f)
		}
	}
	return fs, pauses
}

func FuzzSegmenter(f *testing.F) {
	for _, tt := range segmentationCases {
		f.Add(encodeFrames(tt.frames), uint16(2000))
	}
	f.Add(encodeFrames(segmentationCases[0].frames), uint16(500))
	paused := encodeFrames(segmentationCases[0].frames)
	paused[60*frameLen] |= isPaused
	f.Add(paused, uint16(2000))
	// As many segments as frames.
	f.Add(bytes.Repeat([]byte{isKey | isPaused, 0, 40, 10}, 1000), uint16(2000))
	f.Fuzz(func(t *testing.T, b []byte, segment uint16) {
		frames, pauses := decodeFrames(b[:min(len(b), 1000*frameLen)])
		s := New(5, Options{Segment: max(500*ms, time.Duration(segment)*ms), Part: 200 * ms, Bytes: 64 << 20})
		checkSegments(t, writeAll(t, s, frames, pauses...), frames)
		if len(frames) > 0 && !s.List().Ended {
			t.Error("the list has not ended")
		}
		old := len(s.List().segments)
		next := s.Successor(5 + uint64(len(frames)))
		checkSegments(t, writeAll(t, next, frames)[old:], frames)
	})
}
