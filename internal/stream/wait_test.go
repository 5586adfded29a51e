package stream

import (
	"context"
	"testing"
	"time"

	"livego/internal/live"
	"livego/internal/media"
)

// TestWaiterStartsAtTheBeginning: a viewer that waited gets all of the stream, though there are newer keyframes when it is woken.
func TestWaiterStartsAtTheBeginning(t *testing.T) {
	h := NewHub(Options{MaxLatency: time.Minute, RingTime: time.Minute, RingBytes: 1 << 20})
	defer h.Close()
	name := live.Name{App: "live", Room: "waited"}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	joined := make(chan *Subscriber)
	go func() {
		sub, err := h.Subscribe(ctx, name, SubscribeOptions{Wait: -1, GOPs: 1})
		if err != nil {
			t.Error(err)
		}
		joined <- sub
	}()
	for waits := false; !waits; { // it is about to wait, and the rest of this test must not depend on when it is woken
		h.mu.Lock()
		s := h.streams[name]
		waits = s != nil && s.waiting > 0
		h.mu.Unlock()
	}
	p, err := h.Publish(ctx, name, PublishOptions{})
	if err != nil {
		t.Fatal(err)
	}
	track, meta := &media.Track{Kind: media.Video, Codec: media.H264}, &media.Meta{HasVideo: true}
	h.mu.Lock() // so that it is woken when all is there
	s := h.streams[name]
	for i := range 3 {
		at := time.Duration(i) * time.Second
		s.mu.Lock()
		s.put(&media.Frame{Track: track, Meta: meta, DTS: at, PTS: at, RAP: media.Key, Payload: []byte{byte(i)}, Arrived: time.Now()})
		s.mu.Unlock()
	}
	h.mu.Unlock()
	sub := <-joined
	if sub == nil {
		t.FailNow()
	}
	defer sub.Leave()
	var frames [8]*media.Frame
	n, err := sub.Next(ctx, frames[:])
	if err != nil || n != 3 {
		t.Errorf("%d frames, %v: want all three", n, err)
	}
	p.End(Goodbye)
}
