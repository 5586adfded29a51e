package api

import (
	"testing"
	"time"

	"livego/internal/domain"
)

// TestRecordings lists recordings; the list is empty if nothing is recorded.
func TestRecordings(t *testing.T) {
	if w := newFixture(t, nil).get("/api/v1/recordings"); w.Code != 200 || w.Body.String() != `{"recordings":[]}` {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	s := newFixture(t, func(o *Options) {
		o.Recordings = func() []domain.Recording {
			return []domain.Recording{
				{Name: domain.Name{App: "live", Room: "full"}, Started: time.Unix(2, 0).UTC(), State: domain.RecordingWaiting,
					Error: "write: no space left on device"},
				{Name: domain.Name{App: "live", Room: "movie"}, File: "live/movie_1.flv", Started: time.Unix(1, 0).UTC(), Bytes: 7,
					Duration: 1500 * time.Millisecond, Gaps: 2, State: domain.RecordingFinished, Reason: domain.EndOfStream},
			}
		}
	})
	const want = `{"recordings":[` +
		`{"app":"live","room":"full","started":"1970-01-01T00:00:02Z","bytes":0,"duration":0,"gaps":0,` +
		`"state":"waiting","error":"write: no space left on device"},` +
		`{"app":"live","room":"movie","file":"live/movie_1.flv","started":"1970-01-01T00:00:01Z",` +
		`"bytes":7,"duration":1.5,"gaps":2,"state":"finished","reason":"ended"}]}`
	if w := s.get("/api/v1/recordings"); w.Code != 200 || w.Body.String() != want {
		t.Errorf("%d %s", w.Code, w.Body)
	}
}
