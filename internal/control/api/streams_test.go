package api

import (
	"strings"
	"testing"

	"livego/internal/domain"
	"livego/internal/stream"
)

func TestStreams(t *testing.T) {
	s := newFixture(t, nil)
	if w := s.get("/api/v1/streams"); w.Body.String() != `{"streams":[]}` {
		t.Errorf("no streams: %d %s", w.Code, w.Body)
	}
	p, _ := s.watchAll()
	got := decode[streamInfo](t, s.get("/api/v1/streams/live/movie"), 200)
	if got.App != "live" || got.Room != "movie" || got.State != stateLive || len(got.Publishers) != 1 ||
		!got.Publishers[0].Active || got.Viewers["flv"] != 2 || got.Viewers["push"] != 0 || got.BytesIn != 328_500 ||
		got.BytesOut != 10_000 || got.Bitrate == 0 {
		t.Errorf("the stream is %+v", got)
	}
	if len(got.Tracks) != 2 || got.Tracks[0].Codec != "h264" || got.Tracks[0].Width != 1920 ||
		got.Tracks[0].FrameRate != 30 || !got.Tracks[0].Default || got.Tracks[1].SampleRate != 44100 {
		t.Errorf("its tracks are %+v", got.Tracks)
	}
	p.End(stream.Lost)
	for query, want := range map[string]string{
		"": "live/movie quiet/other", "?sort=-name": "quiet/other live/movie", "?state=held": "live/movie",
		"?state=live": "quiet/other", "?app=live": "live/movie", "?room=other": "quiet/other", "?room=x": "",
		"?sort=-viewers": "live/movie quiet/other", "?sort=bytes_in": "live/movie quiet/other", "?limit=1": "live/movie next",
	} {
		list := decode[struct {
			Streams []streamInfo
			Next    string
		}](t, s.get("/api/v1/streams"+query), 200)
		var names []string
		for _, d := range list.Streams {
			names = append(names, d.App+"/"+d.Room)
			if len(d.Tracks) != 2 {
				t.Errorf("%s: tracks %+v", query, d.Tracks)
			}
		}
		if list.Next != "" {
			names = append(names, "next")
		}
		if strings.Join(names, " ") != want {
			t.Errorf("%s: %q, want %q", query, names, want)
		}
	}
	for _, path := range []string{"/live/nobody", "/x/movie", "/live/" + strings.Repeat("x", 128)} {
		if w := s.get("/api/v1/streams" + path); w.Code != 404 {
			t.Errorf("%s: %d %s", path, w.Code, w.Body)
		}
	}
}

// TestEndStream ends a stream, and lets another be held.
func TestEndStream(t *testing.T) {
	s := newFixture(t, nil)
	movie := domain.Name{App: "live", Room: "movie"}
	for _, c := range []struct {
		query string
		held  bool
	}{{"?hold=true", true}, {"?hold=true", true}, {"?hold=false", false}, {"", false}} {
		var p *stream.Publisher
		if in, live := s.hub.Info(movie); !live || !in.Held || c.query == "" {
			p = s.publish(movie, domain.KeyRef{})
		}
		if w := s.do("DELETE", "/api/v1/streams/live/movie"+c.query, ""); w.Code != 204 {
			t.Fatalf("%s: %d %s", c.query, w.Code, w.Body)
		}
		if in, live := s.hub.Info(movie); live != c.held || in.Held != c.held {
			t.Errorf("%s: live %v, held %v", c.query, live, in.Held)
		}
		if p != nil && domain.CodeOf(p.Err()) != domain.SessionEnded {
			t.Errorf("%s: the publisher got %v", c.query, p.Err())
		}
	}
	if w := s.do("DELETE", "/api/v1/streams/live/movie", ""); w.Code != 404 {
		t.Errorf("a stream that has ended: %d", w.Code)
	}
}
