package stream

import (
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"livego/internal/domain"
)

// TestViewerEventsLeaveRoomForStreamEvents has many viewers join and leave before the events are
// read: those of the stream are all there.
func TestViewerEventsLeaveRoomForStreamEvents(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := NewHub(Options{Hold: 20 * time.Second})
		all, lost, stop := h.Observe(16, true)
		defer stop()
		streams, lostStreams, stopStreams := h.Observe(4, false)
		defer stopStreams()
		p := mustPublish(t, h, PublishOptions{})
		gop(t, p, 0, 1)
		for range 100 {
			mustSubscribe(t, h, SubscribeOptions{GOPs: 1}).Leave()
		}
		p.End(Lost)
		time.Sleep(time.Minute)
		var got []EventType
		for len(all) > 0 {
			if e := <-all; !e.ofViewer() {
				got = append(got, e.Type)
			}
		}
		var only []EventType
		for len(streams) > 0 {
			only = append(only, (<-streams).Type)
		}
		want := []EventType{Started, Held, Ended}
		if !slices.Equal(got, want) || !slices.Equal(only, want) || lost() == 0 || lostStreams() != 0 {
			t.Errorf("got %v (%d lost) and %v (%d lost), want %v", got, lost(), only, lostStreams(), want)
		}
	})
}

// TestEventsAreInOrder has encoders start, lose and end one stream at once: its events arrive in an
// order that is possible.
func TestEventsAreInOrder(t *testing.T) {
	const rounds = 500
	h := NewHub(Options{Hold: time.Hour, HoldClean: 0})
	events, lost, stop := h.Observe(4*4*rounds, false)
	defer stop()
	var encoders sync.WaitGroup
	for range 4 {
		encoders.Go(func() {
			for round := range rounds {
				p, err := h.Publish(t.Context(), movie, PublishOptions{Takeover: domain.TakeoverAlways})
				if err != nil {
					t.Error(err)
					return
				}
				_ = p.Write(video(0, true)) // fails if another has taken over
				p.End(EndReason(round % 2))
			}
		})
	}
	encoders.Wait()
	h.Close()
	follows := map[EventType][]EventType{
		Started: {Ended}, Held: {Started, Resumed}, Resumed: {Started, Held, Resumed}, Ended: {Started, Held, Resumed},
	}
	last := Ended
	for n := 1; len(events) > 0; n++ {
		e := <-events
		if !slices.Contains(follows[e.Type], last) {
			t.Fatalf("event %d: %s after %s", n, e.Type, last)
		}
		last = e.Type
	}
	if last != Ended || lost() > 0 {
		t.Errorf("the last event is %s, and %d were lost", last, lost())
	}
}
