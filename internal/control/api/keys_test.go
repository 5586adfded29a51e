package api

import (
	"encoding/json"
	"fmt"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"livego/internal/control/keyexport"
	"livego/internal/domain"
)

const jsonContent = "Content-Type: application/json"

func decode[T any](t *testing.T, w *httptest.ResponseRecorder, status int) (v T) {
	t.Helper()
	if w.Code != status {
		t.Fatalf("status %d, want %d: %.300s", w.Code, status, w.Body)
	}
	if err := json.Unmarshal(w.Body.Bytes(), &v); err != nil {
		t.Fatalf("%v: %s", err, w.Body)
	}
	return v
}

type keysPage struct {
	Keys []keyexport.Key
	Next string
}

func TestKeysV1(t *testing.T) {
	s := newFixture(t, nil)
	s.get("/control/get?room=movie")
	made := decode[keyexport.Key](t,
		s.do("POST", "/api/v1/keys", `{"room":"movie","label":"cam2","role":"backup","expires":"2999-01-01T00:00:00Z"}`,
			jsonContent), 201)
	if !domain.LooksLikeKey(made.Secret) || made.Role != "backup" || made.ID == "" {
		t.Errorf("made %+v", made)
	}
	if w := s.do("POST", "/api/v1/keys", `{"room":"movie","label":"cam2"}`, jsonContent); w.Code != 409 {
		t.Errorf("the same label: %d %s", w.Code, w.Body)
	}
	w := s.get("/api/v1/keys?room=movie")
	list := decode[keysPage](t, w, 200)
	if len(list.Keys) != 2 || list.Keys[1].Label != "cam2" || list.Next != "" ||
		strings.Contains(w.Body.String(), made.Secret) {
		t.Errorf("the list is %s", w.Body)
	}

	p := s.publish(domain.Name{App: "live", Room: "movie"}, domain.KeyRef{ID: made.ID, Generation: 1})
	rotated := decode[keyexport.Key](t, s.do("POST", "/api/v1/keys/"+made.ID+"/rotate", ""), 200)
	if !domain.LooksLikeKey(rotated.Secret) || rotated.Secret == made.Secret || rotated.ID != made.ID ||
		rotated.Label != "cam2" {
		t.Errorf("rotated %+v", rotated)
	}
	for target, want := range map[string]int{"x/rotate": 404, made.ID + "/rotate?grace=25h": 400,
		made.ID + "/rotate?grace=1m": 400} {
		if w := s.do("POST", "/api/v1/keys/"+target, ""); w.Code != want {
			t.Errorf("%s: %d %s", target, w.Code, w.Body)
		}
	}
	select {
	case <-p.Done():
	case <-time.After(10 * time.Second):
		t.Error("the publisher with a replaced key stays connected")
	}
	if w := s.do("DELETE", "/api/v1/keys/"+made.ID, ""); w.Code != 204 {
		t.Errorf("revoke: %d %s", w.Code, w.Body)
	}
	if w := s.do("DELETE", "/api/v1/keys/"+made.ID, ""); w.Code != 404 {
		t.Errorf("revoke again: %d", w.Code)
	}

	exported := s.get("/api/v1/keys/export").Body.String()
	keys, err := keyexport.Decode(strings.NewReader(exported))
	if err != nil || len(keys) != 1 || keys[0].Secret == "" {
		t.Fatalf("export: %v, %v", keys, err)
	}
	other := newFixture(t, nil)
	body, _ := json.Marshal(map[string]any{"keys": []keyexport.Key{keyexport.FromDomain(keys[0])}})
	for _, want := range []keyexport.Report{{Added: 1}, {Same: 1}} {
		if got := decode[keyexport.Report](t, other.do("POST", "/api/v1/keys/import", string(body), jsonContent),
			200); got.Added != want.Added || got.Same != want.Same {
			t.Errorf("import: %+v, want %+v", got, want)
		}
	}
	if got := other.get("/control/get?room=movie").Body.String(); !strings.Contains(got, keys[0].Secret) {
		t.Errorf("get after the import: %s", got)
	}
	if strings.Contains(s.log.String()+other.log.String(), keys[0].Secret) {
		t.Error("the log has the key")
	}
}

func TestKeysV1Pages(t *testing.T) {
	s := newFixture(t, nil)
	for i := range 7 {
		s.get(fmt.Sprintf("/control/get?room=r%d", i))
	}
	var rooms []string
	for after, more := "", true; more; {
		page := decode[keysPage](t, s.get("/api/v1/keys?limit=3&after="+after), 200)
		for _, k := range page.Keys {
			rooms = append(rooms, k.Room)
		}
		after, more = page.Next, page.Next != ""
	}
	if strings.Join(rooms, " ") != "r0 r1 r2 r3 r4 r5 r6" {
		t.Errorf("the pages have %v", rooms)
	}
}

// TestV1InvalidRequests sends invalid requests. They must change nothing, and no response repeats
// the input.
func TestV1InvalidRequests(t *testing.T) {
	s := newFixture(t, nil)
	const canary = "c4n4ryc4n4ryc4n4ryc4n4ryc4n4ryc4n4ryc4n4ryc4n4ry"
	for _, c := range []struct {
		name, method, path, body string
		headers                  []string
		status                   int
	}{
		{"GET on a change", "GET", "/api/v1/keys/import", "", nil, 405},
		{"PUT", "PUT", "/api/v1/keys", "{}", []string{jsonContent}, 405},
		{"PATCH", "PATCH", "/api/v1/keys/x", "{}", []string{jsonContent}, 405},
		{"TRACE", "TRACE", "/api/v1/keys", "", nil, 405},
		{"override", "GET", "/api/v1/keys", "", []string{"X-HTTP-Method-Override: DELETE"}, 200},
		{"no route", "GET", "/api/v1/nothing", "", nil, 404},
		{"twice", "GET", "/api/v1/keys?room=a&room=b", "", nil, 400},
		{"unknown argument", "GET", "/api/v1/keys?" + canary + "=1", "", nil, 400},
		{"array", "GET", "/api/v1/keys?room[]=a", "", nil, 400},
		{"no room", "POST", "/api/v1/keys", `{}`, []string{jsonContent}, 400},
		{"empty room", "POST", "/api/v1/keys", `{"room":""}`, []string{jsonContent}, 400},
		{"bad room", "POST", "/api/v1/keys", `{"room":"../x"}`, []string{jsonContent}, 400},
		{"NUL", "POST", "/api/v1/keys", `{"room":"a\u0000"}`, []string{jsonContent}, 400},
		{"no UTF-8", "POST", "/api/v1/keys", "{\"room\":\"\xff\"}", []string{jsonContent}, 400},
		{"depth", "POST", "/api/v1/keys", strings.Repeat(`[`, 10000), []string{jsonContent}, 400},
		{"depth, whole", "POST", "/api/v1/keys", strings.Repeat(`[`, 10000) + strings.Repeat(`]`, 10000),
			[]string{jsonContent}, 400},
		{"duplicate member", "POST", "/api/v1/keys", `{"room":"a","room":"b"}`, []string{jsonContent}, 400},
		{"duplicate member in other case", "POST", "/api/v1/keys", `{"room":"a","ROOM":"b"}`, []string{jsonContent}, 400},
		{"duplicate member with a Kelvin sign", "POST", "/api/v1/keys/import", `{"keys":[],"\u212aeys":[]}`,
			[]string{jsonContent}, 400},
		{"1e400", "POST", "/api/v1/keys/import", `{"keys":[{"room":"a","generation":1e400}]}`, []string{jsonContent},
			400},
		{"trailing data", "POST", "/api/v1/keys", `{"room":"a"}{}`, []string{jsonContent}, 400},
		{"BOM", "POST", "/api/v1/keys", "\ufeff" + `{"room":"a"}`, []string{jsonContent}, 400},
		{"unknown field", "POST", "/api/v1/keys", `{"room":"a","` + canary + `":"` + canary + `"}`, []string{jsonContent},
			400},
		{"wrong type", "POST", "/api/v1/keys", `{"room":["` + canary + `"]}`, []string{jsonContent}, 400},
		{"null", "POST", "/api/v1/keys", `null`, []string{jsonContent}, 400},
		{"no body", "POST", "/api/v1/keys", ``, []string{jsonContent}, 400},
		{"NaN", "POST", "/api/v1/keys/import", `{"keys":[{"room":"a","generation":NaN}]}`, []string{jsonContent}, 400},
		{"100 KB", "POST", "/api/v1/keys", `{"room":"` + strings.Repeat("a", 100<<10) + `"}`, []string{jsonContent}, 413},
		{"a form", "POST", "/api/v1/keys", `room=a`, []string{"Content-Type: application/x-www-form-urlencoded"}, 415},
		{"bad role", "POST", "/api/v1/keys", `{"room":"a","role":"` + canary + `"}`, []string{jsonContent}, 400},
		{"reserved label", "POST", "/api/v1/keys", `{"room":"a","label":"~"}`, []string{jsonContent}, 400},
		{"default key that expires", "POST", "/api/v1/keys", `{"room":"a","expires":"2999-01-01T00:00:00Z"}`,
			[]string{jsonContent}, 400},
		{"past", "POST", "/api/v1/keys", `{"room":"a","label":"x","expires":"2000-01-01T00:00:00Z"}`, []string{jsonContent},
			400},
		{"unknown app", "POST", "/api/v1/keys", `{"room":"a","app":"nope"}`, []string{jsonContent}, 404},
		{"import of a short key", "POST", "/api/v1/keys/import", `{"keys":[{"room":"a","key":"` + canary[1:] + `"}]}`,
			[]string{jsonContent}, 400},
		{"import of a bad room", "POST", "/api/v1/keys/import", `{"keys":[{"room":"` + canary + `","key":"` + canary + `"}]}`,
			[]string{jsonContent}, 400},
		{"import of too many", "POST", "/api/v1/keys/import",
			`{"keys":[` + strings.Repeat(`{"room":"a"},`, 200) + `{"room":"a"}]}`, []string{jsonContent}, 400},
		{"limit", "GET", "/api/v1/keys?limit=-1", "", nil, 400},
		{"limit", "GET", "/api/v1/keys?limit=1000000000", "", nil, 400},
		{"limit", "GET", "/api/v1/keys?limit=abc", "", nil, 400},
		{"cursor", "GET", "/api/v1/keys?after=../x", "", nil, 400},
		{"id", "DELETE", "/api/v1/keys/..%2Fx", "", nil, 404},
		{"long id", "DELETE", "/api/v1/keys/" + strings.Repeat("x", 65), "", nil, 400},
		{"a key in the place of an id", "DELETE", "/api/v1/keys/" + canary, "", nil, 404},
		{"grace", "GET", "/control/reset?room=a&grace=soon", "", nil, 400},
		{"grace", "GET", "/control/reset?room=a&grace=-1s", "", nil, 400},
		{"grace", "GET", "/control/reset?room=a&grace=25h", "", nil, 400},
		{"grace and all", "GET", "/control/reset?room=a&grace=1s&all=1", "", nil, 400},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := s.do(c.method, c.path, c.body, c.headers...)
			wantStatus(t, w, c.status)
			if strings.Contains(w.Body.String(), canary) || strings.Contains(s.log.String(), canary) {
				t.Errorf("the response or the log repeats the input: %s", w.Body)
			}
			if c.status >= 400 && strings.HasPrefix(c.path, "/api/") &&
				w.Header().Get("Content-Type") != "application/problem+json" {
				t.Errorf("the error response is %s: %s", w.Header().Get("Content-Type"), w.Body)
			}
		})
	}
	if keys, err := s.options.Keys.Dump(t.Context()); err != nil || len(keys) != 0 {
		t.Errorf("refused requests left %v, %v", keys, err)
	}
}

// TestV1Unauthorized checks when a request gets 401 and when 403.
func TestV1Unauthorized(t *testing.T) {
	s, token := newAuthFixture(t)
	const outside = "Remote: 198.51.100.9:4000"
	for _, headers := range [][]string{{outside}, {outside, "Authorization: Bearer x"}, {"Host: attacker.tld"}} {
		for _, path := range []string{"/api/v1/keys", "/api/v1/keys/export", "/api/v1/nothing", "/api/v1/openapi.json"} {
			if w := s.get(path, headers...); w.Code != 401 || w.Header().Get("WWW-Authenticate") != "Bearer" {
				t.Errorf("%s %v: %d", path, headers, w.Code)
			}
		}
	}
	if w := s.get("/api/v1/openapi.json", outside, "Authorization: Bearer "+token); w.Code != 200 ||
		!strings.Contains(w.Body.String(), `"openapi":"3.1`) {
		t.Errorf("the description: %d %.100s", w.Code, w.Body)
	}
}

// TestRefusedPathIsNotLogged checks that unknown paths of refused requests are not logged: such a
// path may contain a key.
func TestRefusedPathIsNotLogged(t *testing.T) {
	const canary = "c4n4ryc4n4ryc4n4ryc4n4ryc4n4ryc4n4ryc4n4ryc4n4ry"
	for _, path := range []string{"/" + canary, "/api/v1/" + canary, "/api/v1/keys/" + canary, "/control/" + canary,
		"/statics/" + canary, "/control/get/" + canary} {
		s, _ := newAuthFixture(t) // one for each path: the log has one line a second
		if w := s.get(path, "Remote: 198.51.100.9:4000"); w.Code != 401 && w.Code != 403 {
			t.Errorf("%s: %d", path, w.Code)
		}
		if log := s.log.String(); strings.Contains(log, canary) || !strings.Contains(log, "request refused") {
			t.Errorf("%s: log %s", path, log)
		}
	}
}

// TestDeniedEvents lists refused requests, without the credentials that they showed.
func TestDeniedEvents(t *testing.T) {
	s, token := newAuthFixture(t)
	const outside = "Remote: 198.51.100.9:4000"
	s.get("/control/get?room=movie&jwt=c4n4ry", outside)
	s.get("/c4n4ry", outside)
	w := s.get("/api/v1/events?type=denied", outside, "Authorization: Bearer "+token)
	list := decode[struct{ Events []domain.Event }](t, w, 200)
	if len(list.Events) != 2 || list.Events[1].Path != "/control/get" || list.Events[1].Remote != "198.51.100.9:4000" ||
		strings.Contains(w.Body.String(), "c4n4ry") {
		t.Errorf("denied: %s", w.Body)
	}
	if w := s.get("/api/v1/events?type=all", outside, "Authorization: Bearer "+token); w.Code != 400 {
		t.Errorf("an unknown type: %d", w.Code)
	}
}

func TestResetWithGrace(t *testing.T) {
	s := newFixture(t, nil)
	old := s.get("/control/get?room=movie")
	key, err := s.options.Keys.Get(t.Context(), "", "movie")
	if err != nil {
		t.Fatal(err)
	}
	p := s.publish(domain.Name{App: "live", Room: "movie"}, key.Ref())
	if w := s.get("/control/reset?room=movie&grace=2s"); w.Code != 200 || w.Body.String() == old.Body.String() {
		t.Fatalf("reset: %d", w.Code)
	}
	if p.Err() != nil {
		t.Error("disconnected at once")
	}
	if _, err := s.options.Keys.Resolve(t.Context(), "live", key.Secret); err != nil {
		t.Errorf("the old key within the grace: %v", err)
	}
	select {
	case <-p.Done():
	case <-time.After(20 * time.Second):
		t.Error("the grace does not end")
	}
	if _, err := s.options.Keys.Resolve(t.Context(), "live", key.Secret); domain.KindOf(err) != domain.Denied {
		t.Errorf("the old key after the grace: %v", err)
	}
}

func FuzzCheckDuplicateMembers(f *testing.F) {
	for _, s := range []string{`{}`, `{"a":1,"a":2}`, `{"a":{"a":1}}`, `[{"a":1},{"a":1}]`, `{"a":[{"b":"a"}],"b":1}`,
		`[[[[`, `{"a"`, ``, `1`, `"a"`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		var v any
		if checkDuplicateMembers(b) != nil || json.Unmarshal(b, &v) != nil {
			return
		}
		normalized, err := json.Marshal(v) // a duplicate member is there once
		if err != nil {
			t.Fatal(err)
		}
		if n, kept := members(b), members(normalized); n != kept {
			t.Errorf("%q: %d members, and %d remain", b, n, kept)
		}
	})
}

// members counts the colons of a JSON text outside of strings.
func members(b []byte) (n int) {
	inside := false
	for i := 0; i < len(b); i++ {
		switch {
		case inside && b[i] == '\\':
			i++
		case b[i] == '"':
			inside = !inside
		case b[i] == ':' && !inside:
			n++
		}
	}
	return n
}
