package stream

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"livego/internal/domain"
	"livego/internal/media"
)

func TestOneOfRacingPublishersWins(t *testing.T) {
	h := NewHub(Options{})
	var won atomic.Int32
	var wg sync.WaitGroup
	for range 100 {
		wg.Go(func() {
			switch _, err := h.Publish(context.Background(), movie, PublishOptions{}); {
			case err == nil:
				won.Add(1)
			case domain.KindOf(err) != domain.Conflict:
				t.Errorf("another publisher got %v, want a conflict", err)
			}
		})
	}
	wg.Wait()
	if won.Load() != 1 {
		t.Errorf("%d publishers, want 1", won.Load())
	}
}

func TestTakeover(t *testing.T) {
	for _, tt := range []struct {
		name   string
		policy domain.Takeover
		idle   time.Duration
		wins   bool
	}{
		{"active publisher stays", domain.TakeoverIdle, 1900 * ms, false},
		{"idle publisher is replaced", domain.TakeoverIdle, 2 * time.Second, true},
		{"always", domain.TakeoverAlways, 0, true},
		{"never", domain.TakeoverNever, time.Minute, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := NewHub(Options{})
				first := mustPublish(t, h, PublishOptions{})
				gop(t, first, 0, 1)
				s := mustSubscribe(t, h, SubscribeOptions{GOPs: 1})
				readAll(t, s)
				time.Sleep(tt.idle)
				second, err := h.Publish(t.Context(), movie, PublishOptions{Takeover: tt.policy})
				if (err == nil) != tt.wins {
					t.Fatalf("the new publisher: %v", err)
				}
				if !tt.wins {
					write(t, first, video(time.Second, true))
					return
				}
				<-first.Done()
				if domain.KindOf(first.Err()) != domain.Conflict {
					t.Errorf("the first publisher got %v", first.Err())
				}
				if first.Write(video(time.Second, true)) == nil {
					t.Error("the first publisher still writes")
				}
				gop(t, second, 0, 1)
				if got := readAll(t, s); len(got) != 50 {
					t.Errorf("the viewer got %d frames of the second publisher, want 50", len(got))
				}
				first.End(Lost) // late: must not end the second's stream
				if in, _ := h.Info(movie); in.Held || len(in.Publishers) != 1 {
					t.Errorf("after the first's end: %+v", in)
				}
			})
		})
	}
}

func TestKeyFlagIsUsedWithoutKeyframes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := NewHub(Options{RAPWait: 10 * time.Second})
		p := mustPublish(t, h, PublishOptions{})
		var s *Subscriber
		for i := range 12 * 25 {
			f := video(time.Duration(i)*40*ms, false)
			f.KeyFlag = i%25 == 0 // set in the container, but not in the bitstream
			write(t, p, f, audio(time.Duration(i)*40*ms))
			if i == 75 {
				s = mustSubscribe(t, h, SubscribeOptions{GOPs: 1})
			}
			time.Sleep(40 * ms)
		}
		var firstVideo *media.Frame
		for _, f := range readAll(t, s) {
			if f.Track == h264 && firstVideo == nil {
				firstVideo = f
			}
		}
		if firstVideo == nil || !firstVideo.KeyFlag || firstVideo.DTS < 9*time.Second {
			t.Errorf("first video %+v, want a flagged frame after 10 s", firstVideo)
		}
	})
}

// TestEpoch checks that a session keeps its number during a hold, and that the next has another.
func TestEpoch(t *testing.T) {
	var epoch uint64
	h := NewHub(Options{Hold: time.Hour, Epoch: func(context.Context) (uint64, error) { epoch++; return epoch, nil }})
	for _, tt := range []struct {
		end  EndReason
		want uint64
	}{{Lost, 1}, {Clean, 1}, {Lost, 2}} {
		p := mustPublish(t, h, PublishOptions{})
		gop(t, p, 0, 1)
		if in, _ := h.Info(movie); in.Epoch != tt.want {
			t.Errorf("epoch %d, want %d", in.Epoch, tt.want)
		}
		p.End(tt.end)
	}
}

// TestSessionEndsDuringPublish has a session end after a new publisher found it and before it
// attaches: the publisher's own session needs a number of its own.
func TestSessionEndsDuringPublish(t *testing.T) {
	epoch := uint64(0)
	h := NewHub(Options{Epoch: func(context.Context) (uint64, error) { epoch++; return epoch, nil }})
	old := mustPublish(t, h, PublishOptions{})
	number, err := h.reserveEpoch(context.Background(), movie)
	if number != nil || err != nil {
		t.Fatalf("reserveEpoch with a session: %v, %v", number, err)
	}
	old.End(Clean)
	p := &Publisher{done: make(chan struct{})}
	if err := h.NewPublishRequest().attach(p, movie, number); !errors.Is(err, errNoSession) {
		t.Errorf("attach: %v", err)
	}
	mustPublish(t, h, PublishOptions{})
	if in, _ := h.Info(movie); in.Epoch != 2 {
		t.Errorf("epoch %d, want 2", in.Epoch)
	}
}
