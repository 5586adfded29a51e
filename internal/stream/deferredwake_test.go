package stream

import (
	"context"
	"errors"
	"io"
	"testing"
	"testing/synctest"
	"time"

	"livego/internal/media"
)

// TestWaitUntil writes frames one by one while a reader waits, and checks which frame wakes it.
func TestWaitUntil(t *testing.T) {
	const rest = 3 * time.Second // with a KeepTime of 6 s, the ring keeps no more for certain
	frames := func(from, to time.Duration) (fs []*media.Frame) {
		for at := from; at < to; at += 40 * ms {
			fs = append(fs, video(at, false), audio(at))
		}
		return fs
	}
	other := *aac
	for _, tt := range []struct {
		name   string
		frames []*media.Frame // after a keyframe and audio at 0
		at     time.Duration
		want   int // how many of frames are read
	}{
		{"the requested time", frames(40*ms, rest), time.Second, 49},
		{"a keyframe", append(frames(40*ms, 400*ms), video(400*ms, true), audio(400*ms)), time.Second, 19},
		{"a new track", append(frames(40*ms, 400*ms),
			func() *media.Frame { f := audio(400 * ms); f.Track = &other; return f }()), time.Second, 19},
		{"a discontinuity", append(frames(40*ms, 400*ms), audio(time.Hour)), time.Second, 19},
		{"what the ring keeps", frames(40*ms, 2*rest), time.Hour, 151},
		{"large frames", append(frames(40*ms, 400*ms),
			func() *media.Frame { f := video(400*ms, false); f.Payload = make([]byte, 300<<10); return f }()), time.Second, 19},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := NewHub(Options{KeepTime: 6 * time.Second, RingBytes: 1 << 20})
				p := mustPublish(t, h, PublishOptions{})
				write(t, p, video(0, true), audio(0))
				s := mustSubscribe(t, h, SubscribeOptions{GOPs: 1, Viewer: ViewerOptions{Internal: true}})
				if got := readAll(t, s); len(got) != 2 {
					t.Fatalf("%d frames at the start", len(got))
				}
				var got []*media.Frame
				done := make(chan error)
				go func() {
					buf := make([]*media.Frame, 1000)
					n, err := s.WaitUntil(t.Context(), buf, tt.at)
					got = buf[:n]
					done <- err
				}()
				var err error
				woken := false
				for _, f := range tt.frames {
					synctest.Wait()
					select {
					case err = <-done:
						woken = true
					default:
					}
					if woken {
						break
					}
					f.Arrived = time.Now() // they were created outside the bubble
					write(t, p, f)
				}
				if !woken {
					err = <-done
				}
				if err != nil || len(got) != tt.want {
					t.Fatalf("%d frames, %v; want %d", len(got), err, tt.want)
				}
				for i, f := range got {
					if f.Seq != uint64(i+2) {
						t.Fatalf("frame %d has number %d", i, f.Seq)
					}
				}
			})
		})
	}
}

// TestWaitUntilReturnsErrors checks what ends WaitUntil besides frames.
func TestWaitUntilReturnsErrors(t *testing.T) {
	enough := errors.New("enough")
	for _, tt := range []struct {
		name string
		do   func(h *Hub, p *Publisher, s *Subscriber, cancel func())
		want error
	}{
		{"the end", func(_ *Hub, p *Publisher, _ *Subscriber, _ func()) { p.End(Clean) }, io.EOF},
		{"a kick", func(h *Hub, _ *Publisher, s *Subscriber, _ func()) { h.Kick(s.ID(), enough) }, enough},
		{"its context", func(_ *Hub, _ *Publisher, _ *Subscriber, cancel func()) { cancel() }, context.Canceled},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := NewHub(Options{})
				p := mustPublish(t, h, PublishOptions{})
				gop(t, p, 0, 1)
				s := mustSubscribe(t, h, SubscribeOptions{GOPs: 1})
				readAll(t, s)
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				done := make(chan error)
				go func() {
					_, err := s.WaitUntil(ctx, make([]*media.Frame, 10), time.Hour)
					done <- err
				}()
				synctest.Wait()
				tt.do(h, p, s, cancel)
				if err := <-done; !errors.Is(err, tt.want) {
					t.Errorf("%v, want %v", err, tt.want)
				}
			})
		})
	}
}

// TestWaitUntilIgnoresOtherTracks writes frames of a track that the reader does not get.
func TestWaitUntilIgnoresOtherTracks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := NewHub(Options{})
		p := mustPublish(t, h, PublishOptions{})
		gop(t, p, 0, 1)
		other := numbered(media.Video, 1)[0]
		write(t, p, trackFrame(other, time.Second, true))
		s := mustSubscribe(t, h, SubscribeOptions{GOPs: 1})
		readAll(t, s)
		done := make(chan *media.Frame)
		go func() {
			buf := make([]*media.Frame, 1)
			if n, err := s.WaitUntil(t.Context(), buf, 1200*ms); n != 1 || err != nil {
				t.Errorf("%d frames, %v", n, err)
			}
			done <- buf[0]
		}()
		for at := time.Second; at < 1400*ms; at += 40 * ms {
			synctest.Wait()
			write(t, p, trackFrame(other, at, at == time.Second))
		}
		synctest.Wait()
		write(t, p, audio(1400*ms))
		if f := <-done; f.Track != aac || f.DTS != 1400*ms {
			t.Errorf("got %v at %v", f.Track.Kind, f.DTS)
		}
	})
}

// TestFlush flushes a reader that waits, one that is about to wait, and one that has no frames yet.
func TestFlush(t *testing.T) {
	for _, tt := range []struct {
		name          string
		before, after int // frames before and after Flush, besides the first
		asleep        bool
	}{
		{"waiting, with frames to read", 3, 0, true},
		{"waiting, without frames", 0, 1, true},
		{"about to wait, with frames to read", 3, 0, false},
		{"about to wait, without frames", 0, 1, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := NewHub(Options{})
				p := mustPublish(t, h, PublishOptions{})
				write(t, p, video(0, true), audio(0))
				s := mustSubscribe(t, h, SubscribeOptions{GOPs: 1, Viewer: ViewerOptions{Internal: true}})
				readAll(t, s)
				at := time.Duration(0)
				more := func(n int) {
					for range n {
						at += 40 * ms
						write(t, p, video(at, false))
					}
				}
				taken := make(chan int, 1)
				sleep := func() {
					n, err := s.WaitUntil(t.Context(), make([]*media.Frame, 10), time.Hour)
					if err != nil {
						t.Error(err)
					}
					taken <- n
				}
				if tt.asleep {
					go sleep()
					synctest.Wait()
				}
				more(tt.before)
				synctest.Wait()
				s.Flush()
				if !tt.asleep {
					go sleep()
				}
				synctest.Wait()
				more(tt.after)
				begin := time.Now()
				if n := <-taken; n != tt.before+tt.after || time.Since(begin) != 0 {
					t.Errorf("%d frames after %v", n, time.Since(begin))
				}

				ctx, cancel := context.WithTimeout(t.Context(), time.Second)
				defer cancel()
				more(1)
				if n, err := s.WaitUntil(ctx, make([]*media.Frame, 10), time.Hour); n != 0 ||
					!errors.Is(err, context.DeadlineExceeded) {
					t.Errorf("the next time it returned at once: %d, %v", n, err)
				}
			})
		})
	}
}

// BenchmarkWaitUntil measures a frame of a stream that is read a few times a second.
func BenchmarkWaitUntil(b *testing.B) {
	h := NewHub(Options{})
	p, err := h.Publish(context.Background(), movie, PublishOptions{})
	if err != nil {
		b.Fatal(err)
	}
	p.Write(video(0, true))
	p.Write(audio(0))
	s, err := h.Subscribe(context.Background(), movie, SubscribeOptions{GOPs: 1, Viewer: ViewerOptions{Internal: true}})
	if err != nil {
		b.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		buf := make([]*media.Frame, 256)
		var at time.Duration
		for {
			n, err := s.WaitUntil(context.Background(), buf, at)
			if err != nil {
				return
			}
			at = buf[n-1].DTS + 200*ms
		}
	}()
	b.ReportAllocs()
	at := time.Duration(0)
	for b.Loop() {
		at += 13 * ms
		p.Write(audio(at))
	}
	p.End(Clean)
	<-done
}
