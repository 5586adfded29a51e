package stream

import (
	"context"
	"errors"
	"io"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"livego/internal/domain"
	"livego/internal/media"
)

func TestCleanEndEndsStreamAndLossHoldsIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := NewHub(Options{Hold: 20 * time.Second})
		events, _, stop := h.Observe(64, true)
		defer stop()
		p := mustPublish(t, h, PublishOptions{})
		gop(t, p, 0, 1)
		s := mustSubscribe(t, h, SubscribeOptions{GOPs: 1})
		first := readAll(t, s)

		p.End(Lost)
		time.Sleep(19 * time.Second)
		if in, ok := h.Info(movie); !ok || !in.Held {
			t.Fatalf("not held after loss: %+v", in)
		}
		p = mustPublish(t, h, PublishOptions{})
		gop(t, p, 7*time.Hour, 1)
		second := readAll(t, s)
		checkMonotonic(t, append(first, second...))
		if gap := second[0].DTS - first[len(first)-1].DTS; gap <= 0 || gap > 40*ms {
			t.Errorf("the picture continues after %v, want one frame", gap)
		}
		if second[0].Program.Discontinuity != 1 {
			t.Errorf("discontinuity %d, want 1", second[0].Program.Discontinuity)
		}

		p.End(Lost)
		time.Sleep(21 * time.Second)
		if _, err := s.Poll(make([]*media.Frame, 1)); !errors.Is(err, io.EOF) {
			t.Errorf("after the hold: %v, want EOF", err)
		}

		p = mustPublish(t, h, PublishOptions{})
		gop(t, p, 0, 1)
		s = mustSubscribe(t, h, SubscribeOptions{GOPs: 1})
		p.End(Clean)
		readAll(t, s)
		if _, err := s.Poll(make([]*media.Frame, 1)); !errors.Is(err, io.EOF) {
			t.Errorf("after a clean end: %v, want EOF", err)
		}
		var got []EventType
		for len(events) > 0 {
			if e := <-events; e.Type != Joined {
				got = append(got, e.Type)
			}
		}
		want := []EventType{Started, Held, Resumed, Held, Ended, Started, Ended}
		if len(got) != len(want) {
			t.Fatalf("events %v, want %v", got, want)
		}
		for i := range want {
			if got[i] != want[i] {
				t.Fatalf("events %v, want %v", got, want)
			}
		}
	})
}

func TestLossBeforeFirstFrameIsNotHeld(t *testing.T) {
	h := NewHub(Options{Hold: time.Hour})
	p := mustPublish(t, h, PublishOptions{})
	p.End(Lost)
	if _, ok := h.Info(movie); ok {
		t.Error("a stream that never had a frame is held")
	}
}

// TestEndOwners ends the publishers of an owner, and no others. Requests from before are refused if
// they turn out to be of that owner, however late they publish; later ones are not.
func TestEndOwners(t *testing.T) {
	reason := domain.Errorf(domain.Denied, "enough")
	other := domain.Name{App: "live", Room: "other"}
	for _, end := range []bool{false, true} {
		h := NewHub(Options{Hold: time.Hour})
		before := h.NewPublishRequest()
		p := mustPublish(t, h, owned("a", domain.Primary))
		gop(t, p, 0, 1)
		neighbor, err := h.Publish(t.Context(), other, owned("b", domain.Primary))
		if err != nil {
			t.Fatal(err)
		}
		if n := h.EndOwners([]any{"nobody", "a"}, end, reason); n != 1 {
			t.Errorf("end %v: %d streams, want 1", end, n)
		}
		<-p.Done()
		if p.Err() != reason {
			t.Errorf("the publisher got %v", p.Err())
		}
		if neighbor.Err() != nil {
			t.Errorf("another owner's publisher got %v", neighbor.Err())
		}
		if _, ok := h.Info(movie); ok == end {
			t.Errorf("end %v: the stream exists: %v", end, ok)
		}
		between := h.NewPublishRequest()
		h.EndOwners([]any{"c"}, end, reason)
		for _, tt := range []struct {
			request *PublishRequest
			owner   string
			want    error
		}{{before, "a", reason}, {before, "c", reason}, {between, "c", reason}, {between, "a", nil}} {
			p, err := tt.request.Publish(t.Context(), movie, owned(tt.owner, domain.Primary))
			if err != tt.want {
				t.Errorf("a request of %s: %v, want %v", tt.owner, err, tt.want)
			}
			if err == nil {
				p.End(Clean)
			}
		}
		mustPublish(t, h, owned("a", domain.Primary)) // a later request
		h.Close()
	}
}

// TestEndOwnersOfHeldStream ends a held stream only if its publisher's stream is to end.
func TestEndOwnersOfHeldStream(t *testing.T) {
	h := NewHub(Options{Hold: time.Hour})
	defer h.Close()
	p := mustPublish(t, h, owned("a", domain.Primary))
	gop(t, p, 0, 1)
	p.End(Lost)
	if n := h.EndOwners([]any{"a"}, false, errEnded); n != 0 {
		t.Errorf("%d streams lost a publisher", n)
	}
	if n := h.EndOwners([]any{"b"}, true, errEnded); n != 0 {
		t.Errorf("%d streams of another owner ended", n)
	}
	if in, ok := h.Info(movie); !ok || !in.Held {
		t.Error("the held stream has ended")
	}
	if n := h.EndOwners([]any{"a"}, true, errEnded); n != 1 {
		t.Errorf("%d streams ended, want 1", n)
	}
	if _, ok := h.Info(movie); ok {
		t.Error("the held stream remains")
	}
}

// TestEndOwnersKeepsOtherRole ends the owner of a backup: the primary continues.
func TestEndOwnersKeepsOtherRole(t *testing.T) {
	h := NewHub(Options{Hold: time.Hour})
	defer h.Close()
	primary := mustPublish(t, h, owned("a", domain.Primary))
	backup := mustPublish(t, h, owned("b", domain.Backup))
	gop(t, primary, 0, 1)
	h.EndOwners([]any{"b"}, true, errEnded)
	<-backup.Done()
	if in, ok := h.Info(movie); !ok || in.Held || primary.Err() != nil {
		t.Errorf("exists: %v, held: %v, the primary got %v", ok, in.Held, primary.Err())
	}
}

func TestKick(t *testing.T) {
	h := NewHub(Options{Hold: time.Hour})
	p := mustPublish(t, h, PublishOptions{})
	gop(t, p, 0, 1)
	s := mustSubscribe(t, h, SubscribeOptions{})
	why := domain.Errorf(domain.Denied, "because")
	if err := h.Kick(s.ID(), why); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Next(t.Context(), make([]*media.Frame, 1)); !errors.Is(err, why) {
		t.Errorf("the viewer got %v", err)
	}
	if err := h.Kick(p.ID(), why); err != nil {
		t.Fatal(err)
	}
	if <-p.Done(); p.Err() != why {
		t.Errorf("the publisher got %v", p.Err())
	}
	if err := h.Kick(12345, why); domain.KindOf(err) != domain.NotFound {
		t.Errorf("unknown id: %v", err)
	}
}

func TestCloseEndsAll(t *testing.T) {
	h := NewHub(Options{Hold: time.Hour})
	p := mustPublish(t, h, PublishOptions{})
	gop(t, p, 0, 1)
	s := mustSubscribe(t, h, SubscribeOptions{})
	h.Close()
	<-p.Done()
	if _, err := s.Next(t.Context(), make([]*media.Frame, 1)); !errors.Is(err, io.EOF) {
		t.Errorf("viewer: %v, want EOF", err)
	}
	if _, err := h.Publish(t.Context(), movie, PublishOptions{}); domain.KindOf(err) != domain.Unavailable {
		t.Errorf("publish after close: %v", err)
	}
	if _, err := h.Subscribe(t.Context(), movie, SubscribeOptions{Wait: -1}); domain.KindOf(err) != domain.Unavailable {
		t.Errorf("subscribe after close: %v", err)
	}
}

// TestConcurrentUse runs all operations at once, for the race detector.
func TestConcurrentUse(t *testing.T) {
	h := NewHub(Options{Hold: time.Millisecond})
	var publishers, viewers sync.WaitGroup
	ctx, cancel := context.WithCancel(context.Background())
	for range 8 {
		viewers.Go(func() {
			for ctx.Err() == nil {
				s, err := h.Subscribe(ctx, movie, SubscribeOptions{Wait: -1, GOPs: 1})
				if err != nil {
					return
				}
				s.SetWindow(time.Millisecond, 0)
				buf := make([]*media.Frame, 8)
				for range 20 {
					n, err := s.Next(ctx, buf)
					if err != nil {
						break
					}
					s.ObserveWritten(buf[:n])
				}
				s.Leave()
				h.Snapshot()
				h.Viewers(movie, 0, make([]ConnInfo, 3))
			}
		})
	}
	for i := range 4 {
		publishers.Go(func() {
			for round := range 50 {
				p, err := h.Publish(ctx, movie, owned(i*100+round, domain.Role(i%2)))
				if err != nil {
					continue
				}
				for f := range 40 {
					if p.Write(video(time.Duration(f)*ms, f%10 == 0)) != nil {
						break
					}
					p.Write(audio(time.Duration(f) * ms))
				}
				if round%5 == 0 {
					h.EndOwners([]any{i*100 + round}, round%2 == 0, errEnded)
				}
				p.End(EndReason(round % 2))
			}
		})
	}
	publishers.Wait()
	cancel()
	viewers.Wait()
}

// TestNewOptionsHoldForLiveStreams changes options while a stream is live: its hold and its ring are the
// new ones.
func TestNewOptionsHoldForLiveStreams(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := NewHub(Options{Hold: 20 * time.Second, GOPs: 1, KeepTime: time.Second})
		p := mustPublish(t, h, PublishOptions{})
		gop(t, p, 0, 10)
		h.SetOptions(Options{Hold: time.Second, GOPs: 3, KeepTime: time.Second})
		gop(t, p, 10*time.Second, 10)
		s := mustSubscribe(t, h, SubscribeOptions{GOPs: 3})
		defer s.Leave()
		keys := 0
		for _, f := range readAll(t, s) {
			if f.Track == h264 && f.RAP == media.Keyframe {
				keys++
			}
		}
		if keys != 3 {
			t.Errorf("a viewer starts %d keyframes back, want 3", keys)
		}
		p.End(Lost)
		time.Sleep(2 * time.Second)
		if h.Has(movie) {
			t.Error("held for longer than the new options say")
		}
	})
}
