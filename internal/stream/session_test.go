package stream

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"livego/internal/domain"
	"livego/internal/media"
)

// TestViewerExpires checks that a viewer ends when its session does, and that a viewer which leaves
// before leaves no timer behind.
func TestViewerExpires(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := NewHub(Options{})
		defer h.Close()
		p := mustPublish(t, h, owned(nil, domain.Primary))
		defer p.End(Clean)
		gop(t, p, 0, 1)
		for _, tt := range []struct {
			name    string
			expires time.Duration // from now
			after   time.Duration // of the check
			want    domain.Code
		}{
			{"before it expires", time.Minute, 59 * time.Second, ""},
			{"after it expired", time.Minute, 61 * time.Second, domain.SessionExpired},
			{"already expired", -time.Second, 0, domain.SessionExpired},
		} {
			s, err := h.Subscribe(t.Context(), movie,
				SubscribeOptions{Viewer: ViewerOptions{Proto: "test", Expires: time.Now().Add(tt.expires)}, GOPs: 1})
			if err != nil {
				t.Fatal(err)
			}
			time.Sleep(tt.after)
			synctest.Wait()
			_, err = s.Next(t.Context(), make([]*media.Frame, 1))
			if domain.CodeOf(err) != tt.want || (err != nil) != (tt.want != "") {
				t.Errorf("%s: %v", tt.name, err)
			}
			s.Leave()
		}
	})
}

// TestEndViewers disconnects the viewers of a room and those that wait for it, and no others. The
// stream continues.
func TestEndViewers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := NewHub(Options{})
		defer h.Close()
		p := mustPublish(t, h, owned(nil, domain.Primary))
		defer p.End(Clean)
		gop(t, p, 0, 1)
		reason := domain.CodeErrorf(domain.Denied, domain.SessionEnded, "enough")
		watch := mustSubscribe(t, h, SubscribeOptions{Viewer: ViewerOptions{Proto: "test"}})
		inside := mustSubscribe(t, h, SubscribeOptions{Viewer: ViewerOptions{Proto: "test", Internal: true}, GOPs: 1})
		waits := make(chan error, 3)
		for _, name := range []domain.Name{{App: "live", Room: "later"}, {App: "vod", Room: "later"},
			{App: "live", Room: "another"}} {
			go func() {
				_, err := h.Subscribe(t.Context(), name, SubscribeOptions{Wait: time.Hour})
				waits <- err
			}()
		}
		synctest.Wait()
		if n := h.EndViewers("vod", "movie", reason); n != 0 {
			t.Errorf("%d in another app", n)
		}
		if n := h.EndViewers("live", "movie", reason); n != 1 {
			t.Errorf("%d watched, want 1", n)
		}
		if _, err := watch.Next(t.Context(), make([]*media.Frame, 1)); !errors.Is(err, reason) {
			t.Errorf("the viewer: %v", err)
		}
		if n, err := inside.Poll(make([]*media.Frame, 1)); n != 1 || err != nil {
			t.Errorf("a part of the server: %d frames, %v", n, err)
		}
		if n := h.EndViewers("", "later", reason); n != 2 {
			t.Errorf("%d waited, want 2", n)
		}
		for range 2 {
			if err := <-waits; !errors.Is(err, reason) {
				t.Errorf("a waiter: %v", err)
			}
		}
		synctest.Wait()
		if h.mu.Lock(); len(h.streams) != 2 {
			t.Errorf("%d stream entries, want those of the movie and of the room with a waiter", len(h.streams))
		}
		h.mu.Unlock()
		watch.Leave()
		inside.Leave()
		h.Close()
		<-waits
	})
}
