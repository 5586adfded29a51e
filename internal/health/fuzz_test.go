package health

import (
	"testing"
	"time"

	"livego/internal/media"
)

// FuzzAnalyzer examines frames with any times, sizes and tracks. Four bytes are a frame or the end of a
// second. Each finding has a sentence, and the samples have no impossible values.
func FuzzAnalyzer(f *testing.F) {
	f.Add([]byte("\x00\x28\x10\x00\x01\x14\x10\x00\xff\x00\x00\x00"))
	f.Add([]byte("\x02\xff\xff\xff\x05\x80\x00\x01\xff\x00\x00\x01\x80\x00\x00\x00\xff\x00\x00\x02"))
	f.Fuzz(func(t *testing.T, in []byte) {
		var a Analyzer
		now, clock := time.Unix(1_900_000_000, 0), time.Duration(0)
		tracks := [2]*media.Track{}
		discontinuity := uint32(0)
		payload := make([]byte, 1<<14)
		for ; len(in) >= 4; in = in[4:] {
			kind, step, size, flags := in[0], int8(in[1]), int(in[2]), in[3]
			if kind == 0xff {
				now = now.Add(time.Duration(flags) * 100 * time.Millisecond)
				appeared, cleared := a.Tick(now, Facts{Held: flags&1 != 0, Viewers: size, Behind: size / 2,
					Damaged: uint64(step & 7), ArrivalTimestamps: flags&2 != 0})
				for _, f := range append(append(appeared, cleared...), a.Findings()...) {
					if f.Code == "" || f.Text == "" || f.Since.IsZero() {
						t.Errorf("finding %+v", f)
					}
				}
				continue
			}
			i := kind & 1
			if tracks[i] == nil || kind&2 != 0 {
				tracks[i] = &media.Track{Kind: media.Kind(i + 1), Codec: media.Codec(kind >> 2 & 15), Width: size,
					Height: size, SampleRate: size * 1000, FrameSamples: size}
			}
			if kind&0x40 != 0 {
				discontinuity++
			}
			scale := []time.Duration{time.Millisecond, time.Second, time.Hour, 1 << 40}[flags>>6]
			clock += time.Duration(step) * scale
			now = now.Add(time.Duration(flags&15) * 10 * time.Millisecond)
			a.Observe(&media.Frame{Track: tracks[i], Program: media.NewProgram(tracks[i]).WithDiscontinuity(discontinuity),
				DTS: clock, PTS: clock + time.Duration(size)*time.Millisecond, RAP: media.RandomAccess(flags >> 4 & 3),
				Payload: payload[:size*64]}, clock, now)
		}
		for _, s := range a.History() {
			if s.VideoKbps < 0 || s.AudioKbps < 0 || s.FrameRate < 0 || s.irregular < 0 || s.irregular > 1 || s.JitterMS < 0 {
				t.Errorf("sample %+v", s)
			}
		}
	})
}
