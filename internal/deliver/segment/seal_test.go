package segment

import (
	"slices"
	"strings"
	"testing"
	"time"

	"livego/internal/media"
)

// numberedFrames gives frames their Seq and Program.
func numberedFrames(frames []*media.Frame) []*media.Frame {
	programs := programmer{trackWait: 2 * time.Second}
	for i, f := range frames {
		f.Seq = uint64(i)
		programs.set(f)
	}
	return frames
}

// TestSeals compares the segments of two Segmenters: those with the same frames have the same seals.
func TestSeals(t *testing.T) {
	frames := numberedFrames(interleave(video(0, 9*time.Second, 40*ms, 2*time.Second), audio(0, 9*time.Second)))
	changed := *frames[300]
	changed.Payload = slices.Concat(changed.Payload, []byte{1})
	for _, tt := range []struct {
		name   string
		frames []*media.Frame
		want   string // error of Verify; "" for none
	}{
		{"same frames", frames, ""},
		{"another byte", slices.Concat(frames[:300], []*media.Frame{&changed}, frames[301:]), "has the seal"},
		{"frame is missing", slices.Concat(frames[:300], frames[301:]), "has the seal"},
		{"segment is missing", frames[:200], "was not made"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var seals []Seal
			owner, other := New(7, Options{Part: 200 * ms}), New(7, Options{Part: 200 * ms})
			owner.OnSealed(func(d Sealed) { seals = append(seals, d.Seal()) })
			for _, f := range frames {
				owner.WriteStream(f)
			}
			for _, f := range tt.frames {
				other.WriteStream(f)
			}
			if len(seals) < 4 || seals[0].Name != "7-0" || seals[0].Sequence != 7 || seals[0].First != 0 ||
				seals[1].First != seals[0].Last+1 || len(seals[1].Parts) == 0 {
				t.Fatalf("seals %v", seals)
			}
			var failed []string
			for _, seal := range seals {
				if err := other.Verify(seal); err != nil {
					failed = append(failed, err.Error())
				}
			}
			if got := strings.Join(failed, "\n"); (tt.want == "") != (got == "") || !strings.Contains(got, tt.want) {
				t.Errorf("errors %q, want %q", got, tt.want)
			}
		})
	}
}

// TestSegmentsHaveNoGap leaves frames out: the open segment ends before them, what follows is marked as
// discontinuous, and pictures without a random access point are in no segment.
func TestSegmentsHaveNoGap(t *testing.T) {
	frames := numberedFrames(video(0, 10*time.Second, 40*ms, 2*time.Second))
	s := New(7, Options{})
	for _, f := range slices.Concat(frames[:60], frames[80:]) {
		s.WriteStream(f)
	}
	s.End()
	if got, want := formatDurations(s.List().current()), "2 0.4 |2 2 2"; got != want {
		t.Errorf("segments %s, want %s", got, want)
	}
	for _, seg := range s.List().current() {
		for i, f := range seg.frames {
			if i > 0 && f.Seq != seg.frames[i-1].Seq+1 {
				t.Errorf("segment %s continues with frame %d after %d", seg.name, f.Seq, seg.frames[i-1].Seq)
			}
		}
	}
}

// TestAbandon ends a playlist without the open segment, which another server may make.
func TestAbandon(t *testing.T) {
	s := New(7, Options{Part: 200 * ms})
	for _, f := range numberedFrames(video(0, 5*time.Second, 40*ms, 2*time.Second)) {
		s.WriteStream(f)
		s.Flush()
	}
	s.Abandon()
	l := s.List()
	if body := playlistText(t, l, FMP4); !l.Ended || strings.Contains(body, "7-4000") ||
		!strings.Contains(body, "7-2000.m4s") || !strings.HasSuffix(body, "#EXT-X-ENDLIST\n") {
		t.Errorf("playlist\n%s", body)
	}
}
