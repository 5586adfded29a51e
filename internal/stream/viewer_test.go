package stream

import (
	"testing"
	"testing/synctest"
	"time"

	"livego/internal/live"
)

// TestGatherCountsViewers lets viewers of all sorts come and go: frames are gathered for as many as watch by one protocol.
func TestGatherCountsViewers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		viewers := -1
		h := NewHub(Options{Gather: func(_ string, n int) (_, _ time.Duration) { viewers = n; return 0, 0 }})
		defer h.Close()
		p := mustPublish(t, h, PublishOptions{})
		write(t, p, video(0, true), audio(0))
		at := time.Duration(0)
		gathered := func() int { // for how many the next frame is
			s := mustSubscribe(t, h, SubscribeOptions{GOPs: 1, Viewer: ViewerOptions{Proto: "rtmp", Internal: true}})
			defer s.Leave()
			drain(t, s) // from here on it waits
			at += 40 * ms
			write(t, p, audio(at))
			return viewers
		}
		for _, tt := range []struct {
			name    string
			options ViewerOptions
			counts  int
		}{
			{"viewer", ViewerOptions{Proto: "rtmp"}, 1},
			{"viewer by another protocol", ViewerOptions{Proto: "hls"}, 0},
			{"internal", ViewerOptions{Proto: "rtmp", Internal: true}, 0},
		} {
			v, err := h.Join(movie, tt.options)
			if err != nil {
				t.Fatal(err)
			}
			if got := gathered(); got != tt.counts {
				t.Errorf("%s: gathered for %d, want %d", tt.name, got, tt.counts)
			}
			in, _ := h.Info(movie)
			if counted := len(in.Viewers) == 1; counted == tt.options.Internal {
				t.Errorf("%s: %d viewers are counted", tt.name, len(in.Viewers))
			}
			v.Leave()
			if got := gathered(); got != 0 {
				t.Errorf("%s has gone: gathered for %d", tt.name, got)
			}
		}
	})
}

// TestPass lets as many viewers in by one pass as it says, in all streams together.
func TestPass(t *testing.T) {
	h := NewHub(Options{})
	defer h.Close()
	names := []live.Name{{App: "live", Room: "a"}, {App: "live", Room: "b"}}
	for _, name := range names {
		if _, err := h.Publish(t.Context(), name, PublishOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	pass := live.Pass{ID: [16]byte{1}, Max: 2}
	join := func(name live.Name, p live.Pass) (*Viewer, error) { return h.Join(name, ViewerOptions{Pass: p}) }
	first, err := join(names[0], pass)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := join(names[1], pass); err != nil {
		t.Fatal(err)
	}
	if _, err := join(names[0], pass); live.KindOf(err) != live.Limit {
		t.Errorf("the third of two: %v", err)
	}
	for _, other := range []live.Pass{{}, {ID: [16]byte{2}, Max: 1}} {
		if _, err := join(names[0], other); err != nil {
			t.Errorf("by pass %v: %v", other, err)
		}
	}
	first.Leave()
	first.Leave() // counts once
	if _, err := join(names[0], pass); err != nil {
		t.Errorf("when one has left: %v", err)
	}
	if _, err := join(names[0], pass); live.KindOf(err) != live.Limit {
		t.Errorf("the fourth of two: %v", err)
	}
}
