package api

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"livego/internal/domain"
)

// fakeRecordings are recordings that all have the same file.
type fakeRecordings struct {
	list     []domain.Recording
	file     string
	err      error // of Delete
	lastCall string
}

func (f *fakeRecordings) List(_ context.Context, filter domain.RecordingFilter, cursor string, limit int) (
	[]domain.Recording, string, error) {
	f.lastCall = fmt.Sprintf("%+v %q %d", filter, cursor, limit)
	return f.list[:min(limit, len(f.list))], "more"[:4*min(len(f.list)/(limit+1), 1)], nil
}

func (f *fakeRecordings) Get(_ context.Context, id string) (domain.Recording, error) {
	for _, r := range f.list {
		if r.ID() == id && id != "" {
			return r, nil
		}
	}
	return domain.Recording{}, domain.Errorf(domain.NotFound, "there is no such recording")
}

func (f *fakeRecordings) Open(ctx context.Context, id string) (domain.Recording, *os.File, error) {
	r, err := f.Get(ctx, id)
	if err != nil {
		return r, nil, err
	}
	file, err := os.Open(f.file)
	return r, file, err
}

func (f *fakeRecordings) Delete(ctx context.Context, id string) error {
	if _, err := f.Get(ctx, id); err != nil {
		return err
	}
	f.lastCall = "delete " + id
	return f.err
}

func newRecordings(t *testing.T) (*fixture, *fakeRecordings) {
	t.Helper()
	rec := &fakeRecordings{file: filepath.Join(t.TempDir(), "file"), list: []domain.Recording{
		{Name: domain.Name{App: "live", Room: "full"}, Started: time.Unix(3, 0).UTC(), State: domain.RecordingWaiting,
			Error: "write: no space left on device"},
		{Name: domain.Name{App: "live", Room: "film"}, File: "live/film_2.flv", Started: time.Unix(2, 0).UTC(), Bytes: 5,
			State: domain.RecordingActive},
		{Name: domain.Name{App: "live", Room: "movie"}, File: "live/movie_1.flv", Started: time.Unix(1, 0).UTC(), Bytes: 7,
			Duration: 1500 * time.Millisecond, Gaps: 2, State: domain.RecordingFinished, Reason: domain.EndOfStream},
	}}
	if err := os.WriteFile(rec.file, []byte("FLV1234"), 0o600); err != nil {
		t.Fatal(err)
	}
	return newFixture(t, func(o *Options) { o.Recordings = rec }), rec
}

const movieRecording = `{"id":"live~movie_1","app":"live","room":"movie","file":"live/movie_1.flv",` +
	`"started":"1970-01-01T00:00:01Z","bytes":7,"duration":1.5,"gaps":2,"state":"finished","reason":"ended"}`

// TestListRecordings lists recordings by pages and with filters.
func TestListRecordings(t *testing.T) {
	if w := newFixture(t, nil).get("/api/v1/recordings"); w.Code != 200 || w.Body.String() != `{"recordings":[]}` {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	s, rec := newRecordings(t)
	const film = `{"id":"live~film_2","app":"live","room":"film","file":"live/film_2.flv",` +
		`"started":"1970-01-01T00:00:02Z","bytes":5,"duration":0,"gaps":0,"state":"recording"}`
	const full = `{"app":"live","room":"full","started":"1970-01-01T00:00:03Z","bytes":0,"duration":0,"gaps":0,` +
		`"state":"waiting","error":"write: no space left on device"}`
	for _, c := range []struct {
		query  string
		status int
		call   string
		want   string // "" if any
	}{
		{"", 200, `{App: Room: State: Since:0001-01-01 00:00:00 +0000 UTC Until:0001-01-01 00:00:00 +0000 UTC} "" 100`,
			`{"recordings":[` + full + `,` + film + `,` + movieRecording + `]}`},
		{"?limit=2&cursor=x&app=live&room=movie&state=finished&since=2030-01-31T12:00:00Z&until=2030-02-01T12:00:00Z", 200,
			`{App:live Room:movie State:finished Since:2030-01-31 12:00:00 +0000 UTC Until:2030-02-01 12:00:00 +0000 UTC} ` +
				`"x" 2`, `{"recordings":[` + full + `,` + film + `],"next":"more"}`},
		{"?limit=0", 400, "", ""},
		{"?limit=1001", 400, "", ""},
		{"?state=lost", 400, "", ""},
		{"?since=yesterday", 400, "", ""},
		{"?sort=size", 400, "", ""},
	} {
		rec.lastCall = ""
		w := s.get("/api/v1/recordings" + c.query)
		if w.Code != c.status || rec.lastCall != c.call || c.want != "" && w.Body.String() != c.want {
			t.Errorf("%s: %d %s, called with %s", c.query, w.Code, w.Body, rec.lastCall)
		}
	}
}

// TestGetAndDeleteRecording gets and deletes recordings.
func TestGetAndDeleteRecording(t *testing.T) {
	s, rec := newRecordings(t)
	if w := s.get("/api/v1/recordings/live~movie_1"); w.Code != 200 || w.Body.String() != movieRecording {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	for _, path := range []string{"/live~movie_2", "/live~movie_2/file", "/x", "/x/file", "/live%2Fmovie_1",
		"/..%2Fmovie_1/file"} {
		wantStatus(t, s.get("/api/v1/recordings"+path), 404)
		wantStatus(t, s.do("DELETE", "/api/v1/recordings/live~movie_2", ""), 404)
	}
	w := s.do("DELETE", "/api/v1/recordings/live~movie_1", "")
	if wantStatus(t, w, 204); rec.lastCall != "delete live~movie_1" || w.Body.Len() != 0 {
		t.Errorf("%s: %s", rec.lastCall, w.Body)
	}
	rec.err = domain.Errorf(domain.Conflict, "the recording is running")
	wantStatus(t, s.do("DELETE", "/api/v1/recordings/live~film_2", ""), 409)
	rec.err = domain.Errorf(domain.Unavailable, "the disk does not respond")
	wantStatus(t, s.do("DELETE", "/api/v1/recordings/live~movie_1", ""), 503)
}

// TestDownloadRecording downloads files and ranges of them.
func TestDownloadRecording(t *testing.T) {
	s, _ := newRecordings(t)
	srv := httptest.NewServer(s.handler)
	defer srv.Close()
	for _, c := range []struct {
		name, method, id, byteRange, ifRange string
		status                               int
		body, contentRange                   string
	}{
		{"whole", "GET", "movie_1", "", "", 200, "FLV1234", ""},
		{"range", "GET", "movie_1", "bytes=3-4", "", 206, "12", "bytes 3-4/7"},
		{"end", "GET", "movie_1", "bytes=-2", "", 206, "34", "bytes 5-6/7"},
		{"too many ranges", "GET", "movie_1", "bytes=0-0" + strings.Repeat(",2-2", 8), "", 200, "FLV1234", ""},
		{"outside", "GET", "movie_1", "bytes=7-", "", 416,
			`{"title":"Requested Range Not Satisfiable","status":416,"detail":"the range is outside of the file"}` + "\n",
			"bytes */7"},
		{"of another file", "GET", "movie_1", "bytes=3-4", "Thu, 01 Jan 1970 00:00:00 GMT", 200, "FLV1234", ""},
		{"HEAD", "HEAD", "movie_1", "", "", 200, "", ""},
		{"running", "GET", "film_2", "", "", 200, "FLV12", ""},
		{"range of a running one", "GET", "film_2", "bytes=1-", "", 206, "LV12", "bytes 1-4/5"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r, err := http.NewRequestWithContext(t.Context(), c.method, srv.URL+"/api/v1/recordings/live~"+c.id+"/file", nil)
			if err != nil {
				t.Fatal(err)
			}
			for name, value := range map[string]string{"Range": c.byteRange, "If-Range": c.ifRange} {
				if value != "" {
					r.Header.Set(name, value)
				}
			}
			resp, err := srv.Client().Do(r)
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			body, err := io.ReadAll(resp.Body)
			if err != nil || resp.StatusCode != c.status || string(body) != c.body ||
				resp.Header.Get("Content-Range") != c.contentRange {
				t.Errorf("%s %s %q, %v", resp.Status, body, resp.Header, err)
			}
			wantType := "video/x-flv"
			if c.status > 206 {
				wantType = "application/problem+json"
			}
			if h := resp.Header; h.Get("Content-Type") != wantType ||
				c.status < 300 && (h.Get("Content-Disposition") != "attachment; filename="+c.id+".flv" ||
					h.Get("X-Content-Type-Options") != "nosniff" || (h.Get("Last-Modified") != "") != (c.id == "movie_1")) {
				t.Errorf("header: %q", h)
			}
		})
	}
}
