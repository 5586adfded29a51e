package stream

import (
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"
	"unicode/utf8"

	"livego/internal/domain"
)

// TestBatchWindowCountsViewers has several kinds of viewers join and leave: the batching window
// depends on the viewers by one protocol.
func TestBatchWindowCountsViewers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		viewers := -1
		h := NewHub(Options{BatchWindow: func(_ string, n int) (_, _ time.Duration) { viewers = n; return 0, 0 }})
		defer h.Close()
		p := mustPublish(t, h, PublishOptions{})
		write(t, p, video(0, true), audio(0))
		at := time.Duration(0)
		counted := func() int { // viewers that the window of the next frame depends on
			s := mustSubscribe(t, h, SubscribeOptions{GOPs: 1, Viewer: ViewerOptions{Proto: "rtmp", Internal: true}})
			defer s.Leave()
			readAll(t, s) // now it waits
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
			if got := counted(); got != tt.counts {
				t.Errorf("%s: a window for %d viewers, want %d", tt.name, got, tt.counts)
			}
			n := h.Viewers(movie, 0, make([]ConnInfo, 2))
			if listed := n == 1; listed == tt.options.Internal {
				t.Errorf("%s: %d viewers are listed", tt.name, n)
			}
			v.Leave()
			if got := counted(); got != 0 {
				t.Errorf("%s has left: a window for %d viewers", tt.name, got)
			}
		}
	})
}

// TestReservation has viewers join who need a reservation: it is released once, when they have left.
func TestReservation(t *testing.T) {
	h := NewHub(Options{})
	defer h.Close()
	mustPublish(t, h, PublishOptions{})
	reserved, full := 0, errors.New("full")
	reserve := func() (func(), error) {
		if reserved == 2 {
			return nil, full
		}
		reserved++
		return func() { reserved-- }, nil
	}
	join := func(name domain.Name, want error) *Viewer {
		t.Helper()
		v, err := h.Join(name, ViewerOptions{Proto: "test", Reserve: reserve})
		if err != want && domain.KindOf(err) != domain.NotFound {
			t.Fatalf("%v, want %v", err, want)
		}
		return v
	}
	join(domain.Name{App: "live", Room: "nobody"}, nil)
	if reserved != 0 {
		t.Error("a viewer of no stream has a reservation")
	}
	first := join(movie, nil)
	join(movie, nil)
	join(movie, full)
	if n := h.Viewers(movie, 0, make([]ConnInfo, 3)); n != 2 {
		t.Errorf("%d viewers, want 2", n)
	}
	first.Leave()
	first.Leave() // must release once
	join(movie, nil)
	join(movie, full)
}

// TestTextsAreTruncated joins and publishes with very long texts: statistics keep a bounded start
// of each, in valid UTF-8.
func TestTextsAreTruncated(t *testing.T) {
	h := NewHub(Options{})
	defer h.Close()
	long := strings.Repeat("x", maxText-1) + "é" + strings.Repeat("y", 15<<10)
	p, err := h.Publish(t.Context(), movie, PublishOptions{Proto: "test", Remote: long, URL: long})
	if err != nil {
		t.Fatal(err)
	}
	defer p.End(Clean)
	v, err := h.Join(movie, ViewerOptions{Proto: "test", Remote: long, URL: long})
	if err != nil {
		t.Fatal(err)
	}
	defer v.Leave()
	in, _ := h.Info(movie)
	viewers := make([]ConnInfo, 1)
	h.Viewers(movie, 0, viewers)
	for _, c := range append(in.Publishers, viewers...) {
		for _, s := range []string{c.Remote, c.URL} {
			if len(s) > maxText || !utf8.ValidString(s) || !strings.HasPrefix(long, s) {
				t.Errorf("statistics keep %d bytes: %q", len(s), s)
			}
		}
	}
}
