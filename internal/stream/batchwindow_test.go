package stream

import (
	"testing"
	"testing/synctest"
	"time"

	"livego/internal/media"
)

// countWakes reads s to its end, and counts wake-ups and frames.
func countWakes(t *testing.T, s *Subscriber, wakes, frames *int) {
	buf := make([]*media.Frame, 64)
	for {
		n, err := s.Next(t.Context(), buf)
		if err != nil {
			return
		}
		*wakes++
		*frames += n
	}
}

func TestBatchWindowWakesOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := NewHub(Options{})
		p := mustPublish(t, h, PublishOptions{})
		write(t, p, video(0, true), audio(0))
		s := mustSubscribe(t, h, SubscribeOptions{GOPs: 1})
		s.SetWindow(50*ms, 0)
		readAll(t, s)
		var wakes, frames int
		done := make(chan struct{})
		go func() {
			defer close(done)
			countWakes(t, s, &wakes, &frames)
		}()
		for i := range 100 {
			time.Sleep(10 * ms)
			write(t, p, video(time.Duration(i+1)*10*ms, false))
		}
		time.Sleep(100 * ms)
		h.Close()
		<-done
		if frames != 100 || wakes > 21 {
			t.Errorf("%d frames in %d wakes, want 100 in about 17", frames, wakes)
		}
	})
}

// TestBatchWindowClosesWithPicture checks that a window does not stay open for a picture that comes
// after it.
func TestBatchWindowClosesWithPicture(t *testing.T) {
	for _, tt := range []struct {
		every, window time.Duration
		late          []time.Duration // delay of the pictures, in turn
	}{
		{33 * ms, 45 * ms, []time.Duration{33 * ms, 0}},
		{40 * ms, 45 * ms, []time.Duration{40 * ms, 0}},
		{20 * ms, 45 * ms, []time.Duration{40 * ms, 20 * ms, 0}},
		{50 * ms, 45 * ms, []time.Duration{0}},
		{40 * ms, 5 * ms, []time.Duration{0}},
		{40 * ms, 0, []time.Duration{0}},
	} {
		synctest.Test(t, func(t *testing.T) {
			h := NewHub(Options{})
			defer h.Close()
			p := mustPublish(t, h, PublishOptions{})
			write(t, p, video(0, true), audio(0))
			s := mustSubscribe(t, h, SubscribeOptions{GOPs: 1})
			s.SetWindow(tt.window, 90*ms)
			readAll(t, s)
			var late []time.Duration
			go func() {
				buf := make([]*media.Frame, 16)
				for {
					n, err := s.Next(t.Context(), buf)
					if err != nil {
						return
					}
					for _, f := range buf[:n] {
						late = append(late, time.Since(f.Arrived))
					}
				}
			}()
			const pictures = 30
			for i := range pictures {
				time.Sleep(tt.every)
				write(t, p, video(time.Duration(i+1)*tt.every, false))
			}
			time.Sleep(time.Second)
			synctest.Wait()
			if len(late) != pictures {
				t.Fatalf("%d pictures", len(late))
			}
			for i, got := range late {
				if want := tt.late[i%len(tt.late)]; got != want {
					t.Fatalf("a picture each %v, batched for %v: %v late, want %v in turn", tt.every, tt.window, late, tt.late)
				}
			}
		})
	}
}

// TestAudioWaitsForPicture checks that audio between two pictures causes no wake-up, if the next
// picture comes in time.
func TestAudioWaitsForPicture(t *testing.T) {
	for _, tt := range []struct {
		name   string
		window time.Duration
		wakes  int // in a second with 25 pictures and 50 audio frames, and one without pictures
	}{
		{"each picture wakes at once", 0, 25 + 13},
		{"no two pictures in a window", 30 * ms, 25 + 13},
		{"two pictures in a window", 50 * ms, 13 + 13},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := NewHub(Options{})
				defer h.Close()
				p := mustPublish(t, h, PublishOptions{})
				write(t, p, video(0, true), audio(0))
				s := mustSubscribe(t, h, SubscribeOptions{GOPs: 1})
				s.SetWindow(tt.window, 80*ms)
				readAll(t, s)
				var wakes, frames int
				go countWakes(t, s, &wakes, &frames)
				for i := range 100 {
					at := time.Duration(i+1) * 20 * ms
					if time.Sleep(20 * ms); i < 50 && i%2 == 0 {
						write(t, p, video(at, false))
					}
					write(t, p, audio(at))
				}
				time.Sleep(100 * ms)
				synctest.Wait()
				if frames != 125 || wakes < tt.wakes-5 || wakes > tt.wakes+5 {
					t.Errorf("%d frames in %d wakes, want 125 in about %d", frames, wakes, tt.wakes)
				}
			})
		})
	}
}
