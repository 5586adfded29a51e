package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"livego/internal/control/store/storetest"
	"livego/internal/domain"
	"livego/internal/stream"
)

// dataOf returns the data of an envelope. It checks that the envelope has the status of w.
func dataOf(t testing.TB, w *httptest.ResponseRecorder) string {
	t.Helper()
	var e struct {
		Status int
		Data   string
	}
	if err := json.Unmarshal(w.Body.Bytes(), &e); err != nil {
		t.Fatalf("%v in %q", err, w.Body)
	}
	if e.Status != w.Code || w.Header().Get("Content-Type") != "application/json" {
		t.Errorf("HTTP status %d, envelope status %d, type %q", w.Code, e.Status, w.Header().Get("Content-Type"))
	}
	return e.Data
}

func TestControlKeys(t *testing.T) {
	s := newFixture(t, nil)
	key := func(target string) string {
		t.Helper()
		w := s.get(target)
		wantStatus(t, w, 200)
		data := dataOf(t, w)
		if want := fmt.Sprintf(`{"status":200,"data":"%s"}`, data); !domain.LooksLikeKey(data) || w.Body.String() != want {
			t.Errorf("%s: %s", target, w.Body)
		}
		return data
	}
	first := key("/control/get?room=movie")
	if key("/control/get?room=movie") != first {
		t.Error("the second get returned another key")
	}
	if key("/control/get?room=Movie") == first {
		t.Error("Movie and movie are one room")
	}
	bound := key("/control/get?room=movie&app=live")
	if bound == first {
		t.Error("the key of one app is the key of all")
	}
	second := key("/control/reset?room=movie")
	if second == first || key("/control/get?room=movie") != second || key("/control/get?room=movie&app=live") != bound {
		t.Error("reset did not change this key, or not this key alone")
	}
	key("/control/reset?room=movie&all=1")
	if key("/control/get?room=movie&app=live") == bound {
		t.Error("reset with all=1 left a key")
	}
	key("/control/reset?room=fresh")

	w := s.get("/control/delete?room=movie")
	if got := w.Body.String(); got != `{"status":200,"data":"Ok"}` {
		t.Errorf("delete: %s", got)
	}
	w = s.get("/control/delete?room=movie")
	if got := w.Body.String(); w.Code != 404 || got != `{"status":404,"data":"room not found"}` {
		t.Errorf("delete of an unknown room: %d %s", w.Code, got)
	}
	if key("/control/get?room=movie") == second {
		t.Error("the key outlived its room")
	}
}

// TestArgumentsInQueryAndForm sends the arguments in the query and in a form, by every method.
func TestArgumentsInQueryAndForm(t *testing.T) {
	s := newFixture(t, nil)
	const form = "Content-Type: application/x-www-form-urlencoded; charset=UTF-8"
	want := dataOf(t, s.get("/control/get?room=movie&unknown=1"))
	for _, method := range []string{"GET", "POST", "DELETE"} {
		if got := dataOf(t, s.do(method, "/control/get?room=movie", "")); got != want {
			t.Errorf("%s with a query: %s", method, got)
		}
		if got := dataOf(t, s.do(method, "/control/get", "room=movie", form)); got != want {
			t.Errorf("%s with a form: %s", method, got)
		}
	}
}

const formType = "application/x-www-form-urlencoded"

// badArguments are invalid requests to /control/get, which must create no key.
var badArguments = []struct {
	name, query, body, mediaType string
	want                         int
}{
	{"no room", "", "", "", 400},
	{"empty", "room=", "", "", 400},
	{"empty in body", "", "room=", formType, 400},
	{"twice", "room=a&room=b", "", "", 400},
	{"twice the same", "room=a&room=a", "", "", 400},
	{"query and body", "room=a", "room=b", formType, 400},
	{"brackets", "room[]=a", "", "", 400},
	{"app empty", "room=a&app=", "", "", 400},
	{"app twice", "room=a&app=live&app=quiet", "", "", 400},
	{"app unknown", "room=a&app=nowhere", "", "", 404},
	{"app reserved", "room=a&app=control", "", "", 400},
	{"not UTF-8", "room=%ff%fe", "", "", 400},
	{"NUL", "room=a%00", "", "", 400},
	{"JSON", "", `{"room":"a"}`, "application/json", 400},
	{"deep JSON", "room=a", strings.Repeat("[", 10_000), "application/json", 400},
	{"large JSON", "", `{"room":"` + strings.Repeat("a", 100_000) + `"}`, "application/json", 413},
	{"large value", "", "room=" + strings.Repeat("a", 1<<20), formType, 413},
	{"body of no type", "room=a", "b=1", "", 400},
	{"bad escape", "room=%zz", "", "", 400},
	{"bad escape in body", "", "room=%zz", formType, 400},
	{"semicolon", "room=a;app=live", "", "", 400},
	{"parent", "room=..", "", "", 400},
	{"path", "room=..%2f..%2fvictim", "", "", 400},
	{"inner path", "room=a%2f..%2f..%2fb", "", "", 400},
	{"dots", "room=....%2f%2f", "", "", 400},
	{"dot", "room=.", "", "", 400},
	{"hidden", "room=.hidden", "", "", 400},
	{"encoded twice", "room=%252e%252e%252f", "", "", 400},
	{"backslash", "room=..%5cx", "", "", 400},
	{"drive", "room=C:%5c", "", "", 400},
	{"absolute", "room=/etc", "", "", 400},
	{"line break", "room=x%0d%0a%23EXTINF", "", "", 400},
	{"escape", "room=%1b[2J", "", "", 400},
	{"delete", "room=a%7f", "", "", 400},
	{"129 bytes", "room=" + strings.Repeat("a", 129), "", "", 400},
	{"long in body", "", "room=" + strings.Repeat("a", 60_000), formType, 400},
	{"markup", "room=%3Cimg+src%3Dx+onerror%3Dalert(1)%3E", "", "", 400},
	{"quotes", "room='%22%3E%3Cscript%3E", "", "", 400},
	{"template", "room={{.}}", "", "", 400},
	{"format", "room=%25n%25s", "", "", 400},
	{"device", "room=CON", "", "", 400},
	{"device with extension", "room=aux.x", "", "", 400},
	{"trailing dot", "room=a.", "", "", 400},
	{"trailing space", "room=a+", "", "", 400},
	{"colon", "room=a:b", "", "", 400},
	{"format name", "room=x.flv", "", "", 400},
	{"key-shaped", "room=" + strings.Repeat("aB3", 16), "", "", 400},
}

func TestBadArguments(t *testing.T) {
	s := newFixture(t, nil)
	for _, c := range badArguments {
		t.Run(c.name, func(t *testing.T) {
			for _, route := range []string{"/control/get", "/control/reset"} {
				w := s.do("POST", route+"?"+c.query, c.body, "Content-Type: "+c.mediaType)
				wantStatus(t, w, c.want)
				if dataOf(t, w) == "" {
					t.Error("the response has no reason")
				}
			}
			if n := len(s.keys.all()); n != 0 {
				t.Errorf("%d keys were made", n)
			}
		})
	}
	wantStatus(t, s.get("/control/reset?room=a&all=perhaps"), 400)
	wantStatus(t, s.do("POST", "/control/get?room=a", "", "Content-Encoding: gzip"), 415)
	if strings.ContainsAny(s.log.String(), "\x00\x1b\x7f") {
		t.Errorf("raw control characters in the log: %q", s.log)
	}
}

// TestUsageWithoutRoom checks that a request without a room gets the documented usage text.
func TestUsageWithoutRoom(t *testing.T) {
	s := newFixture(t, nil)
	for _, route := range []string{"/control/get", "/control/reset", "/control/delete"} {
		if got, want := dataOf(t, s.get(route)), "url: "+route+"?room="; !strings.HasPrefix(got, want) {
			t.Errorf("%s: %q, want %q and more", route, got, want)
		}
	}
}

func FuzzArguments(f *testing.F) {
	for _, c := range badArguments {
		f.Add(c.query, c.body, c.mediaType)
	}
	f.Add("room=movie&app=live&all=1", "x=y", formType)
	s := newFixture(f, nil)
	f.Fuzz(func(t *testing.T, query, body, mediaType string) {
		r := httptest.NewRequest(http.MethodPost, "/control/reset", strings.NewReader(body))
		r.URL.RawQuery = query
		r.Header.Set("Content-Type", mediaType)
		*s.keys.Memory = storetest.Memory{}
		s.log.Reset()
		w := httptest.NewRecorder()
		s.handler.ServeHTTP(w, r)
		data := dataOf(t, w)
		made := len(s.keys.all())
		if w.Code == 200 && (made != 1 || !domain.LooksLikeKey(data)) || w.Code != 200 && made != 0 {
			t.Errorf("status %d, %d keys", w.Code, made)
		}
		if w.Code >= 500 {
			t.Errorf("status %d: %s", w.Code, data)
		}
		for _, k := range s.keys.all() {
			if _, err := domain.ParseName("live", k.Room); err != nil {
				t.Error(err)
			}
		}
	})
}

// TestResetAndDeleteDisconnectPublisher checks that the publisher with the old key is disconnected
// before the response is sent. A reset holds the stream, a delete ends it.
func TestResetAndDeleteDisconnectPublisher(t *testing.T) {
	name := domain.Name{App: "live", Room: "movie"}
	for _, c := range []struct {
		target string
		held   bool
	}{
		{"/control/reset?room=movie", true},
		{"/control/reset?room=movie&all=1", true},
		{"/control/delete?room=movie", false},
	} {
		t.Run(c.target, func(t *testing.T) {
			s := newFixture(t, nil)
			s.get("/control/get?room=movie")
			key := s.keys.all()[0].Ref()
			p := s.publish(name, key)
			other := s.publish(domain.Name{App: "live", Room: "other"}, domain.KeyRef{ID: "another", Generation: 1})

			// The operation must finish although the client has disconnected.
			request := s.hub.NewPublishRequest() // of an encoder whose key is being checked
			ctx, cancel := context.WithCancel(t.Context())
			cancel()
			r := httptest.NewRequest(http.MethodGet, c.target, nil).WithContext(ctx)
			w := httptest.NewRecorder()
			s.handler.ServeHTTP(w, r)
			wantStatus(t, w, 200)

			select {
			case <-p.Done():
			default:
				t.Error("the publisher is still connected")
			}
			if domain.KindOf(p.Err()) != domain.Denied {
				t.Errorf("the publisher's error is %v", p.Err())
			}
			if other.Err() != nil {
				t.Errorf("another publisher was disconnected: %v", other.Err())
			}
			in, ok := s.hub.Info(name)
			if ok != c.held || in.Held != c.held {
				t.Errorf("stream exists: %v, held: %v; want %v", ok, in.Held, c.held)
			}
			_, err := request.Publish(t.Context(), name, stream.PublishOptions{Owner: domain.Grant{Key: key}.Owner()})
			if domain.KindOf(err) != domain.Denied {
				t.Errorf("the old key: %v", err)
			}
		})
	}
}

// TestDeleteEndsStreamWithoutKey deletes a room whose stream was published without a key
// (rtmp_noauth).
func TestDeleteEndsStreamWithoutKey(t *testing.T) {
	for _, withKey := range []bool{false, true} {
		s := newFixture(t, nil)
		name := domain.Name{App: "live", Room: "movie"}
		if withKey {
			s.get("/control/get?room=movie")
		}
		p := s.publish(name, domain.KeyRef{})
		other := s.publish(domain.Name{App: "live", Room: "other"}, domain.KeyRef{})
		if w := s.get("/control/delete?room=movie&app=quiet"); w.Code != 404 || p.Err() != nil {
			t.Errorf("delete in another app: %d, %v", w.Code, p.Err())
		}
		if w := s.get("/control/delete?room=movie"); w.Body.String() != `{"status":200,"data":"Ok"}` {
			t.Errorf("delete: %d %s", w.Code, w.Body)
		}
		if _, ok := s.hub.Info(name); ok || p.Err() == nil || other.Err() != nil {
			t.Errorf("stream exists: %v; publishers: %v, %v", ok, p.Err(), other.Err())
		}
		if w := s.get("/control/delete?room=movie"); w.Code != 404 {
			t.Errorf("delete again: %d", w.Code)
		}
	}
}

// TestStoreErrors checks that store errors are never reported as success, and that their text stays
// internal.
func TestStoreErrors(t *testing.T) {
	s := newFixture(t, nil)
	for _, c := range []struct {
		name string
		err  error
		want string
	}{
		{"unavailable", domain.Errorf(domain.Unavailable, "dial 10.0.0.1: refused"),
			`{"status":503,"data":"key store unavailable"}`},
		{"internal", errors.New("/secret/path: input/output error"), `{"status":500,"data":"internal error"}`},
	} {
		s.keys.Fail(c.err)
		for _, route := range []string{"get", "reset", "delete"} {
			w := s.get("/control/" + route + "?room=movie")
			if got := w.Body.String(); got != c.want || w.Code == 200 {
				t.Errorf("%s, %s: %d %s", c.name, route, w.Code, got)
			}
		}
		if !strings.Contains(s.log.String(), c.err.Error()) {
			t.Errorf("%s: not in the log", c.name)
		}
	}
}

// TestControlLog checks that each control action is logged in one line, without keys and queries.
func TestControlLog(t *testing.T) {
	s := newFixture(t, nil)
	first := dataOf(t, s.get("/control/get?room=movie&jwt=canary"))
	second := dataOf(t, s.get("/control/reset?room=movie&app=live", "User-Agent: canary\r\nlevel=ERROR"))
	s.get("/control/delete?room=movie")
	text := s.log.String()
	for _, secret := range []string{first, second, "canary", "jwt"} {
		if strings.Contains(text, secret) {
			t.Errorf("the log has %q:\n%s", secret, text)
		}
	}
	lines := strings.Split(strings.TrimSpace(text), "\n")
	for i, want := range []string{
		`msg=control action=get app="" room=movie remote=127.0.0.1:40000`,
		`msg=control action=reset app=live room=movie remote=127.0.0.1:40000`,
		`msg=control action=delete app="" room=movie remote=127.0.0.1:40000`,
	} {
		if len(lines) != 3 || !strings.HasSuffix(lines[i], want) {
			t.Fatalf("log:\n%s\nwant line %d to end in %s", text, i+1, want)
		}
	}
}

// TestConcurrentControl changes one room from many goroutines.
func TestConcurrentControl(t *testing.T) {
	s := newFixture(t, func(o *Options) { o.Log = discard() })
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for range 50 {
				w := s.get("/control/" + []string{"get", "reset", "delete"}[i%3] + "?room=movie")
				if w.Code != 200 && (w.Code != 404 || i%3 != 2) {
					t.Errorf("status %d: %s", w.Code, w.Body)
				}
			}
		})
	}
	wg.Wait()
}
