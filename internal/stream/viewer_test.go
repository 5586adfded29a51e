package stream

import (
	"errors"
	"maps"
	"strings"
	"testing"
	"testing/synctest"
	"time"
	"unicode/utf8"

	"livego/internal/domain"
	"livego/internal/media"
)

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
	const most = 1 << 10 // bytes of a text
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
			if len(s) > most || !utf8.ValidString(s) || !strings.HasPrefix(long, s) {
				t.Errorf("statistics keep %d bytes: %q", len(s), s)
			}
		}
	}
}

// TestProtoStats counts viewers by protocol, also those that have left, but no part of the server. A
// part of the server that reads for viewers has their batching window.
func TestProtoStats(t *testing.T) {
	h := NewHub(Options{})
	defer h.Close()
	p := mustPublish(t, h, PublishOptions{})
	join := func(proto string, internal bool) *Viewer {
		v, err := h.Join(movie, ViewerOptions{Proto: proto, Internal: internal})
		if err != nil {
			t.Fatal(err)
		}
		v.ObserveBytes(100, 10)
		v.Skip()
		return v
	}
	check := func(want map[string]ProtoStats) {
		t.Helper()
		if in, _ := h.Info(movie); !maps.Equal(in.Viewers, want) {
			t.Errorf("%v, want %v", in.Viewers, want)
		}
	}
	check(nil)
	join("flv", true)
	check(nil)
	first, second := join("flv", false), join("flv", false)
	join("hls", false)
	check(map[string]ProtoStats{"flv": {2, 220, 2, 0}, "hls": {1, 110, 1, 0}})
	write(t, p, video(0, true), audio(0))
	for i, proto := range []string{"flv", "flv", "relay"} {
		feed := mustSubscribe(t, h, SubscribeOptions{Viewer: ViewerOptions{Proto: proto, Internal: true}})
		feed.SetWindow(time.Duration(20-i)*ms, 0)
	}
	check(map[string]ProtoStats{"flv": {2, 220, 2, 20 * ms}, "hls": {1, 110, 1, 0}})
	first.Leave()
	first.Leave() // must count once
	second.Leave()
	check(map[string]ProtoStats{"flv": {0, 220, 2, 0}, "hls": {1, 110, 1, 0}})
}

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

// TestFirstMedia checks that a viewer reports once that it was sent media, that it left before, or that
// it could not join.
func TestFirstMedia(t *testing.T) {
	h := NewHub(Options{})
	defer h.Close()
	mustPublish(t, h, PublishOptions{})
	full := errors.New("full")
	for _, c := range []struct {
		name    string
		reserve error
		use     func(*Viewer)
		want    bool
	}{
		{"media", nil, func(v *Viewer) {
			v.ObserveBytes(0, 0)
			v.ObserveBytes(1, 0)
			v.ObserveProgress(1, 1, 0, time.Now())
			v.Leave()
		}, true},
		{"left", nil, func(v *Viewer) {
			v.Leave()
			v.ObserveBytes(1, 0)
		}, false},
		{"refused", full, func(*Viewer) {}, false},
	} {
		var reports []bool
		v, err := h.Join(movie, ViewerOptions{Proto: "test", Reserve: func() (func(), error) { return func() {}, c.reserve },
			FirstMedia: func(sent bool) { reports = append(reports, sent) }})
		if !errors.Is(err, c.reserve) {
			t.Fatal(err)
		}
		if c.use(v); len(reports) != 1 || reports[0] != c.want {
			t.Errorf("%s: reports %v, want one of %v", c.name, reports, c.want)
		}
	}
}
