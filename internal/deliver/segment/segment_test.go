package segment

import (
	"bytes"
	"slices"
	"sync"
	"testing"
	"time"
)

func TestSegmentData(t *testing.T) {
	frames := modify(interleave(video(0, 2*time.Second, 40*ms, 2*time.Second), audio(0, 2*time.Second)), setTypicalSize)
	all := writeAll(t, New(0, Options{Part: 200 * ms}), frames)
	s := all[0]
	for f := range formats {
		if b := s.rendered[f].cached(); b != nil {
			t.Errorf("%d bytes were rendered before the first request", len(b))
		}
	}
	b := s.data(TS)
	if len(b) == 0 || len(b)%188 != 0 || b[0] != 0x47 {
		t.Fatalf("%d bytes are no transport stream", len(b))
	}
	if e := s.estimate(TS); e < len(b)*95/100 || e > len(b)*105/100 {
		t.Errorf("estimated %d bytes of MPEG-TS, there are %d", e, len(b))
	}
	early := slices.Clone(s.parts[3].data()) // before the whole segment
	whole := s.data(FMP4)
	var joined []byte
	for _, p := range s.parts {
		joined = append(joined, p.data()...)
	}
	if !bytes.Equal(whole, joined) || !bytes.Equal(early, s.parts[3].data()) {
		t.Error("the segment is not the concatenation of its parts")
	}
	if &s.parts[0].data()[0] != &whole[0] {
		t.Error("parts and segment use separate memory")
	}
	if e := s.estimate(FMP4); e < len(whole)*95/100 || e > len(whole)*105/100 {
		t.Errorf("estimated %d bytes of fragmented MP4, there are %d", e, len(whole))
	}
	s.dropRendered()
	if again := s.data(FMP4); !bytes.Equal(again, whole) {
		t.Error("rendered again, the segment differs")
	}
	if v, a := s.totals.split(1000); v+a != 1000 || v < 900 || a < 20 {
		t.Errorf("1000 bytes are %d of video and %d of audio", v, a)
	}
	if v, a := new(byteTotals).split(9); v+a != 9 {
		t.Errorf("9 bytes of a segment without payload are %d and %d", v, a)
	}
}

// TestFilesAreRenderedOnce requests the same file from many goroutines: all get the same memory.
func TestFilesAreRenderedOnce(t *testing.T) {
	s := New(0, Options{Part: 200 * ms})
	writeAll(t, s, interleave(video(0, 2*time.Second, 40*ms, 2*time.Second), audio(0, 2*time.Second)))
	l := s.List()
	for _, name := range []string{"0-0.0.m4s", "0-0.ts", "0-0.m4s"} {
		got := make([][]byte, 16)
		var wg sync.WaitGroup
		for i := range got {
			wg.Go(func() {
				f := l.File(name)
				got[i] = f.Data()
			})
		}
		wg.Wait()
		for _, b := range got {
			if len(b) == 0 || &b[0] != &got[0][0] {
				t.Fatalf("%s was rendered more than once", name)
			}
		}
	}
}
