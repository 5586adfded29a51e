package stream

import (
	"fmt"
	"testing"
	"time"

	"livego/internal/media"
)

func TestRingBounds(t *testing.T) {
	l := limits{gops: 1, minTime: 5 * time.Second, time: 30 * time.Second, bytes: 1 << 20}
	for _, tt := range []struct {
		name       string
		gop        int // frames
		size       int // bytes a frame
		min, max   time.Duration
		raps, most int // random access points held, at least and at most
	}{
		{"short GOP: what slow viewers need", 25, 100, 5 * time.Second, 5200 * ms, 5, 6},
		{"long GOP: the newest GOP", 500, 100, 0, 25 * time.Second, 1, 2},
		{"endless GOP: limited by time", 1 << 30, 100, 29 * time.Second, 30 * time.Second, 0, 1},
		{"large frames: limited by bytes", 1 << 30, 1 << 14, 0, 63 * 40 * ms, 0, 1},
		{"only keyframes", 1, 100, 5 * time.Second, 5200 * ms, 125, 127},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var r ring
			program := media.NewProgram(h264)
			for i := range 3000 {
				f := &media.Frame{Track: h264, Program: program, DTS: time.Duration(i) * 40 * ms, Payload: make([]byte, tt.size)}
				if i%tt.gop == 0 {
					f.RAP = media.Keyframe
				}
				r.push(f, l)
				if f.Seq != uint64(i) {
					t.Fatalf("Seq %d, want %d", f.Seq, i)
				}
				held := 0
				for seq := r.tail; seq < r.head; seq++ {
					held += len(r.at(seq).Payload) + frameOverhead
				}
				if held != r.bytes || r.bytes > l.bytes {
					t.Fatalf("frame %d: %d bytes held, %d counted, %d allowed", i, held, r.bytes, l.bytes)
				}
			}
			span := r.newest().DTS - r.at(r.tail).DTS
			if span < tt.min || span > tt.max {
				t.Errorf("holds %v, want %v to %v", span, tt.min, tt.max)
			}
			if n := len(r.raps); n < tt.raps || n > tt.most {
				t.Errorf("%d random access points, want %d to %d", n, tt.raps, tt.most)
			}
		})
	}
}

func TestWriteAllocates(t *testing.T) {
	h := NewHub(Options{})
	p := mustPublish(t, h, PublishOptions{})
	gop(t, p, 0, 20)
	subs := make([]*Subscriber, 50)
	for i := range subs {
		subs[i] = mustSubscribe(t, h, SubscribeOptions{})
	}
	buf := make([]*media.Frame, 16)
	at := 20 * time.Second
	frames := make([]*media.Frame, 0, 300)
	for i := range 300 {
		frames = append(frames, video(at+time.Duration(i)*40*ms, i%25 == 0))
	}
	i := 0
	got := testing.AllocsPerRun(200, func() {
		for _, s := range subs {
			s.Poll(buf)
		}
		p.Write(frames[i])
		i++
	})
	if got > 0 {
		t.Errorf("%v allocations a frame, want none for any number of subscribers", got)
	}
}

func BenchmarkWrite(b *testing.B) {
	for _, viewers := range []int{10, 5000} {
		b.Run(fmt.Sprintf("viewers=%d", viewers), func(b *testing.B) {
			h := NewHub(Options{})
			p, err := h.Publish(b.Context(), movie, PublishOptions{})
			if err != nil {
				b.Fatal(err)
			}
			p.Write(video(0, true))
			p.Write(audio(0))
			for range viewers {
				sub, err := h.Subscribe(b.Context(), movie, SubscribeOptions{})
				if err != nil {
					b.Fatal(err)
				}
				sub.SetWindow(50*ms, 0)
			}
			b.ReportAllocs()
			now := time.Now()
			for i := 0; b.Loop(); i++ {
				at := time.Duration(i+1) * 13 * ms
				f := &media.Frame{Track: h264, Meta: both, DTS: at, PTS: at, Arrived: now}
				if i%150 == 0 {
					f.RAP = media.Keyframe
				}
				p.Write(f)
			}
		})
	}
}

// TestRingOfTinyFrames has an encoder whose clock stands still, so that time limits nothing: the
// number of frames is limited.
func TestRingOfTinyFrames(t *testing.T) {
	var r ring
	l := limits{gops: 1, minTime: 5 * time.Second, time: 30 * time.Second, bytes: 1 << 20}
	for range 10000 {
		r.push(&media.Frame{Track: aac, Payload: make([]byte, 1)}, l)
	}
	if n := r.head - r.tail; n > 1<<20/frameOverhead {
		t.Errorf("a ring of 1 MiB holds %d frames of one byte", n)
	}
}
