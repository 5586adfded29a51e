package api

import (
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"livego/internal/domain"
)

func TestRooms(t *testing.T) {
	s := newFixture(t, nil)
	if w := s.get("/api/v1/rooms"); w.Body.String() != `{"rooms":[]}` {
		t.Errorf("no rooms: %d %s", w.Code, w.Body)
	}
	const asJSON = "Content-Type: application/json"
	made := decode[room](t, s.do("PUT", "/api/v1/rooms/movie", `{"description":"Camera 1"}`, asJSON), 201)
	if made.Room != "movie" || made.Description != "Camera 1" || !domain.LooksLikeKey(made.Key) || len(made.Keys) != 1 ||
		len(made.Apps) != 2 || made.Apps[0].State != "idle" ||
		strings.Join(made.Apps[0].URLs, " ") != "rtmp://localhost:1935/live/movie http://localhost:7001/live/movie.flv "+
			"http://localhost:7002/live/movie.m3u8" {
		t.Errorf("created %+v", made)
	}
	if w := s.get("/control/get?room=movie"); !strings.Contains(w.Body.String(), made.Key) {
		t.Errorf("/control/get returns another key: %s", w.Body)
	}
	again := decode[room](t, s.do("PUT", "/api/v1/rooms/movie", ""), 200)
	if again.Key != made.Key || again.Description != "Camera 1" {
		t.Errorf("created again: %+v", again)
	}
	s.publish(domain.Name{App: "live", Room: "movie"}, domain.KeyRef{})
	w := s.get("/api/v1/rooms/movie")
	got := decode[room](t, w, 200)
	if got.Apps[0].State != stateLive || got.Apps[0].Since == nil || strings.Contains(w.Body.String(), made.Key) {
		t.Errorf("got %s", w.Body)
	}
	changed := decode[room](t, s.do("PATCH", "/api/v1/rooms/movie", `{"description":""}`, asJSON), 200)
	if changed.Description != "" || changed.Key != "" {
		t.Errorf("changed %+v", changed)
	}
	for _, c := range []struct {
		method, path, body string
		status             int
	}{
		{"GET", "/nobody", "", 404}, {"GET", "/..x", "", 400}, {"PUT", "/.x", "", 400}, {"DELETE", "/nobody", "", 404},
		{"DELETE", "/movie?app=..", "", 400}, {"PATCH", "/nobody", `{"description":"x"}`, 404},
		{"PATCH", "/movie", `{}`, 400},
		{"PATCH", "/movie", `{"description":"a\u0000b"}`, 400}, {"PUT", "/movie", `{"x":1}`, 400},
		{"POST", "/movie", "", 405},
		{"PUT", "/movie", `{"description":"` + strings.Repeat("x", 257) + `"}`, 400}, {"PUT", "", "", 405},
		{"DELETE", "/movie?app=quiet", "", 404}, // it has no key of its own there
		{"DELETE", "/movie", "", 204}, {"DELETE", "/movie", "", 404}, {"GET", "/movie", "", 404},
	} {
		if w := s.do(c.method, "/api/v1/rooms"+c.path, c.body, asJSON); w.Code != c.status {
			t.Errorf("%s %s %.40s: %d %s, want %d", c.method, c.path, c.body, w.Code, w.Body, c.status)
		}
	}
	if in, live := s.hub.Info(domain.Name{App: "live", Room: "movie"}); live {
		t.Errorf("the stream of the deleted room is %+v", in)
	}
	if strings.Join(s.ended, " ") != "/movie" {
		t.Errorf("ended the sessions of %q", s.ended)
	}
}

func TestListRooms(t *testing.T) {
	s := newFixture(t, nil)
	for i := range 5 {
		s.do("PUT", fmt.Sprintf("/api/v1/rooms/r%d", i), "")
	}
	for _, body := range []string{
		`{"room":"r1","label":"b","app":"quiet"}`, `{"room":"only","app":"quiet"}`,
	} {
		if w := s.do("POST", "/api/v1/keys", body, "Content-Type: application/json"); w.Code != 201 {
			t.Fatalf("%s: %d %s", body, w.Code, w.Body)
		}
	}
	s.publish(domain.Name{App: "live", Room: "r3"}, domain.KeyRef{})
	for query, want := range map[string]string{
		"":                    "only r0 r1 r2 r3 r4",
		"?limit=2":            "only r0, r1 r2, r3 r4",
		"?limit=4&sort=-room": "r4 r3 r2 r1, r0 only",
		"?prefix=r&limit=3":   "r0 r1 r2, r3 r4",
		"?app=live":           "r0 r1 r2 r3 r4",
		"?app=none":           "r0 r1 r2 r3 r4", // their keys are valid in every app
		"?live=true":          "r3",
		"?sort=-keys,room":    "r1 only r0 r2 r3 r4",
	} {
		var pages []string
		for cursor := ""; ; {
			path := "/api/v1/rooms?cursor=" + cursor + strings.Replace(query, "?", "&", 1)
			page := decode[struct {
				Rooms []room
				Next  string
			}](t, s.get(path), 200)
			var names []string
			for _, r := range page.Rooms {
				names = append(names, r.Room)
			}
			pages = append(pages, strings.Join(names, " "))
			if cursor = page.Next; cursor == "" {
				break
			}
		}
		if got := strings.Join(pages, ", "); got != want {
			t.Errorf("%s: %s, want %s", query, got, want)
		}
	}
}

// TestParallelRooms creates and deletes one room a thousand times at once. It was created once more
// than deleted if it exists in the end.
func TestParallelRooms(t *testing.T) {
	s := newFixture(t, nil)
	var created, deleted atomic.Int64
	var wg sync.WaitGroup
	for i := range 1000 {
		wg.Go(func() {
			method := "PUT"
			if i%2 == 1 {
				method = "DELETE"
			}
			switch w := s.do(method, "/api/v1/rooms/movie", ""); {
			case w.Code == 201:
				created.Add(1)
			case w.Code == 204:
				deleted.Add(1)
			case w.Code != 200 && w.Code != 404 || w.Code == 404 && method == "PUT":
				t.Errorf("%s: %d %s", method, w.Code, w.Body)
			}
		})
	}
	wg.Wait()
	exists := int64(0)
	if s.get("/api/v1/rooms/movie").Code == 200 {
		exists = 1
	}
	if created.Load() != deleted.Load()+exists || created.Load() == 0 {
		t.Errorf("created %d times, deleted %d times, %d left", created.Load(), deleted.Load(), exists)
	}
}
