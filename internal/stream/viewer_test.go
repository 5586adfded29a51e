package stream

import (
	"testing"
	"testing/synctest"
	"time"
)

// TestGatherCountsViewers lets viewers of all sorts come and go: frames are gathered for as many as watch by one protocol.
func TestGatherCountsViewers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		viewers := -1
		h := NewHub(Options{Gather: func(_ string, n int) time.Duration { viewers = n; return 0 }})
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
