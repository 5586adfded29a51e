package api

import (
	"math"
	"reflect"
	"testing"
	"time"

	"livego/internal/domain"
	"livego/internal/quality"
)

// fakeQuality has figures of the room movie.
type fakeQuality struct{}

func (fakeQuality) Figures(name domain.Name) quality.Figures {
	if name.Room != "movie" {
		return quality.Figures{}
	}
	return quality.Figures{
		Players: 100, Share: 0.5, Stalled: 7, Slow: 2, StallRatio: 0.0123, DroppedRatio: math.NaN(),
		Start: quality.Spread{Median: 800 * time.Millisecond, P95: 2 * time.Second},
		Groups: []quality.Group{
			{Proto: "hls", Browser: "safari", Players: 60, Stalled: 6},
			{Proto: "ws", Browser: "chrome", Players: 40, Stalled: 1},
		},
	}
}

// TestQuality checks what a stream says of its players, and that one without reports says nothing.
func TestQuality(t *testing.T) {
	s := newFixture(t, nil)
	s.publish(domain.Name{App: "live", Room: "movie"}, domain.KeyRef{})
	s.publish(domain.Name{App: "live", Room: "other"}, domain.KeyRef{})
	ratio := 0.012
	want := &playQuality{
		Players: 100, Share: 0.5, Stalled: 7, Slow: 2, Failed: map[string]int{}, StallRatio: &ratio,
		Start:  &spread{0.8, 2},
		Groups: []playGroup{{"hls", "safari", 60, 6}, {"ws", "chrome", 40, 1}},
	}
	if got := decode[streamInfo](t, s.get("/api/v1/streams/live/movie"), 200).Quality; !reflect.DeepEqual(got, want) {
		t.Errorf("%+v, want %+v", got, want)
	}
	if got := decode[streamInfo](t, s.get("/api/v1/streams/live/other"), 200).Quality; got != nil {
		t.Errorf("%+v", got)
	}
}
