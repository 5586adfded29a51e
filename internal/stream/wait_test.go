package stream

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"livego/internal/domain"
	"livego/internal/media"
)

// TestWaiterStartsAtTheBeginning checks that a viewer that waited gets all of the stream, though
// there are newer keyframes when it wakes.
func TestWaiterStartsAtTheBeginning(t *testing.T) {
	h := NewHub(Options{KeepTime: time.Minute, RingTime: time.Minute, RingBytes: 1 << 20})
	defer h.Close()
	name := domain.Name{App: "live", Room: "waited"}
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
	for waits := false; !waits; { // it is about to wait; the test must not depend on when it wakes
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
	h.mu.Lock() // so that it wakes after the last frame
	for i := range 3 {
		at := time.Duration(i) * time.Second
		write(t, p, &media.Frame{Track: track, Meta: meta, DTS: at, PTS: at, RAP: media.Keyframe, Payload: []byte{byte(i)},
			Arrived: time.Now()})
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
	p.End(Clean)
}

// TestStartWaitsForTheFirstTrack has a track with a higher ID come shortly before track 0: viewers
// do not start with it. They do if it comes twice and no lower one comes.
func TestStartWaitsForTheFirstTrack(t *testing.T) {
	v, a := numbered(media.Video, 0, 1), numbered(media.Audio, 0, 1)
	for name, rounds := range map[string][]*media.Frame{
		"track 0 comes": {trackFrame(v[1], 0, true), trackFrame(a[1], 0, false), trackFrame(v[0], 0, true),
			trackFrame(a[0], 0, false)},
		"track 0 does not come": {trackFrame(v[1], 0, true), trackFrame(a[1], 0, false), trackFrame(v[1], 40*ms, false),
			trackFrame(a[1], 40*ms, false)},
	} {
		t.Run(name, func(t *testing.T) {
			h := NewHub(Options{})
			defer h.Close()
			p := mustPublish(t, h, PublishOptions{})
			for i, f := range rounds {
				if h.Ready(movie) {
					t.Errorf("before frame %d viewers may start", i)
				}
				write(t, p, f)
			}
			if !h.Ready(movie) {
				t.Error("viewers may not start")
			}
		})
	}
}

// TestFirstTrackGoesOnAsAnother has a track be the first until one with a lower ID comes: a viewer
// of all tracks gets it without a new keyframe.
func TestFirstTrackGoesOnAsAnother(t *testing.T) {
	h := NewHub(Options{})
	defer h.Close()
	p := mustPublish(t, h, PublishOptions{})
	v, a := numbered(media.Video, 0, 1), numbered(media.Audio, 0)
	write(t, p, trackFrame(v[1], 0, true), trackFrame(a[0], 0, false), trackFrame(v[1], 40*ms, false))
	all := mustSubscribe(t, h, SubscribeOptions{GOPs: 1, AllTracks: true})
	readAll(t, all)
	write(t, p, trackFrame(v[0], 80*ms, true), trackFrame(v[1], 80*ms, false))
	if got := ids(media.Video, readAll(t, all)); len(got) != 2 || got[1] != 1 {
		t.Errorf("tracks %v, want 0 and 1", got)
	}
}

func TestViewerWaitsForPublisher(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := NewHub(Options{})
		if _, err := h.Subscribe(t.Context(), movie, SubscribeOptions{}); domain.KindOf(err) != domain.NotFound {
			t.Errorf("no wait: %v, want not found", err)
		}
		start := time.Now()
		if _, err := h.Subscribe(t.Context(), movie,
			SubscribeOptions{Wait: 30 * time.Second}); domain.KindOf(err) != domain.NotFound {
			t.Errorf("wait without a publisher: %v, want not found", err)
		}
		if d := time.Since(start); d != 30*time.Second {
			t.Errorf("waited %v, want 30s", d)
		}
		if len(h.streams) != 0 {
			t.Errorf("%d stream entries left by a waiter that gave up", len(h.streams))
		}

		got := make(chan *Subscriber)
		go func() {
			s, err := h.Subscribe(t.Context(), movie, SubscribeOptions{Wait: -1, GOPs: 1})
			if err != nil {
				t.Errorf("Subscribe: %v", err)
			}
			got <- s
		}()
		synctest.Wait()
		p := mustPublish(t, h, PublishOptions{})
		write(t, p, video(0, true))
		synctest.Wait()
		select {
		case <-got:
			t.Fatal("the viewer started before the announced audio")
		default:
		}
		write(t, p, audio(0))
		if frames := readAll(t, <-got); len(frames) != 2 {
			t.Errorf("got %d frames, want both", len(frames))
		}
	})
}

func TestStartWaitsForTracksNoLongerThanTrackWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := NewHub(Options{TrackWait: 2 * time.Second})
		p := mustPublish(t, h, PublishOptions{})
		go func() {
			for i := range 45 {
				p.Write(video(time.Duration(i)*50*ms, i == 0))
				time.Sleep(50 * ms)
			}
		}()
		start := time.Now()
		mustSubscribe(t, h, SubscribeOptions{GOPs: 1})
		if d := time.Since(start); d < 1900*ms || d > 2100*ms {
			t.Errorf("started after %v, want 2s", d)
		}
		time.Sleep(time.Second) // the writer ends
	})
}

func TestWaitForKeyframeTimesOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := NewHub(Options{})
		p := mustPublish(t, h, PublishOptions{})
		write(t, p, video(0, false)) // and never a keyframe
		start := time.Now()
		_, err := h.Subscribe(t.Context(), movie, SubscribeOptions{})
		if domain.KindOf(err) != domain.Unavailable || time.Since(start) != 12*time.Second {
			t.Errorf("after %v: %v, want it to be unavailable after 12 s", time.Since(start), err)
		}
	})
}
