package main

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// ctlServer answers each request with the next reply, and keeps the requests as
// "METHOD path?query body".
type ctlServer struct {
	*httptest.Server
	token    string
	requests []string
	replies  []string
}

func newCtlServer(t *testing.T, replies ...string) *ctlServer {
	t.Helper()
	s := &ctlServer{replies: replies}
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		s.token = strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")
		s.requests = append(s.requests, strings.TrimSpace(r.Method+" "+r.URL.RequestURI()+" "+string(body)))
		reply := "{}"
		if len(s.replies) > 0 {
			reply, s.replies = s.replies[0], s.replies[1:]
		}
		switch {
		case strings.HasPrefix(reply, "!"): // an error with its status
			w.Header().Set("Content-Type", "application/problem+json")
			w.WriteHeader(http.StatusNotFound)
			reply = reply[1:]
		case reply == "":
			w.WriteHeader(http.StatusNoContent)
		}
		_, _ = io.WriteString(w, reply)
	}))
	t.Cleanup(s.Close)
	return s
}

// ctl runs livego ctl with the address of s, without contexts of the user.
func (s *ctlServer) ctl(t *testing.T, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	return runCtl(t, []string{"LIVEGO_CTL_SERVER=" + s.URL}, args...)
}

func runCtl(t *testing.T, environ []string, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, errs strings.Builder
	code = run(append([]string{"ctl"}, args...),
		append([]string{"LIVEGO_CTL_CONTEXTS=" + filepath.Join(t.TempDir(), "none.json")}, environ...), &out, &errs)
	return code, out.String(), errs.String()
}

// ctlRequests has the request of each command.
func ctlRequests() []struct{ args, request string } {
	return []struct{ args, request string }{
		{"rooms list", "GET /api/v1/rooms"},
		{"rooms get movie", "GET /api/v1/rooms/movie"},
		{"rooms create movie", "PUT /api/v1/rooms/movie {}"},
		{"rooms update movie --description=x", `PATCH /api/v1/rooms/movie {"description":"x"}`},
		{"rooms delete movie", "DELETE /api/v1/rooms/movie"},
		{"streams list --app live --state held --sort=-bitrate", "GET /api/v1/streams?app=live&sort=-bitrate&state=held"},
		{"streams get movie", "GET /api/v1/streams/live/movie"},
		{"streams history live/movie", "GET /api/v1/streams/live/movie/history?seconds=600"},
		{"streams end live/movie --hold", "DELETE /api/v1/streams/live/movie?hold=true"},
		{"sessions list --remote 192.0.2.0/24 --limit 3", "GET /api/v1/sessions?limit=3&remote=192.0.2.0%2F24"},
		{"sessions get 7", "GET /api/v1/sessions/7"},
		{"sessions end 7", "DELETE /api/v1/sessions/7"},
		{"sessions end --room movie --app live", "DELETE /api/v1/sessions?app=live&room=movie"},
		{"events --type denied,stream", "GET /api/v1/events?type=denied%2Cstream"},
		{"keys list movie", "GET /api/v1/keys?room=movie"},
		{"keys create movie --label spare", `POST /api/v1/keys {"label":"spare","room":"movie"}`},
		{"keys rotate K1 --grace 1m", "POST /api/v1/keys/K1/rotate?grace=1m0s"},
		{"keys revoke K1", "DELETE /api/v1/keys/K1"},
		{"keys export", "GET /api/v1/keys/export"},
		{"tokens create play movie --viewers 3", `POST /api/v1/tokens {"action":"play","app":"live","for":"1h0m0s",` +
			`"once":false,"room":"movie","signed":false,"viewers":3}`},
		{"relays list", "GET /api/v1/relays"},
		{"relays get r1", "GET /api/v1/relays/r1"},
		{"relays create push movie rtmp://203.0.113.1/live/x --no-persist", `POST /api/v1/relays {"app":"live",` +
			`"direction":"push","persist":false,"room":"movie","url":"rtmp://203.0.113.1/live/x"}`},
		{"relays delete r1", "DELETE /api/v1/relays/r1"},
		{"recordings list --since 2030-01-31T12:00:00Z", "GET /api/v1/recordings?since=2030-01-31T12%3A00%3A00Z"},
		{"recordings get live~movie_1", "GET /api/v1/recordings/live~movie_1"},
		{"recordings delete live~movie_1", "DELETE /api/v1/recordings/live~movie_1"},
		{"settings list", "GET /api/v1/settings"},
		{"settings diff", "GET /api/v1/settings/diff"},
		{"settings validate gop_num=2", `POST /api/v1/settings/validate {"gop_num":"2"}`},
		{"settings set gop_num=2 level=debug", `PATCH /api/v1/settings {"gop_num":"2","level":"debug"}`},
		{"settings unset gop_num", "DELETE /api/v1/settings/gop_num"},
		{"status", "GET /api/v1/server"},
		{"reload", "POST /api/v1/config/reload"},
	}
}

func TestCtlRequests(t *testing.T) {
	for _, c := range ctlRequests() {
		t.Run(c.args, func(t *testing.T) {
			s := newCtlServer(t)
			code, _, stderr := s.ctl(t, strings.Fields(c.args)...)
			if code != 0 || len(s.requests) != 1 || s.requests[0] != c.request {
				t.Errorf("exit code %d, %s\n got %q\nwant %q", code, stderr, s.requests, c.request)
			}
		})
	}
}

// TestCtlMakesEveryCall compares the commands with the description of the API.
func TestCtlMakesEveryCall(t *testing.T) {
	data, err := os.ReadFile("../../docs/openapi.json")
	if err != nil {
		t.Fatal(err)
	}
	var api struct {
		Paths map[string]map[string]json.RawMessage
	}
	if err := json.Unmarshal(data, &api); err != nil || len(api.Paths) == 0 {
		t.Fatalf("%d paths, %v", len(api.Paths), err)
	}
	// see the tests below
	made := []string{"GET /api/v1/events/stream", "GET /api/v1/recordings/r/file", "POST /api/v1/keys/import"}
	for _, c := range ctlRequests() {
		request, _, _ := strings.Cut(c.request, "?")
		request, _, _ = strings.Cut(request, " {")
		made = append(made, request)
	}
	parameter := regexp.MustCompile(`\\{[^}]*\\}`)
	for path, operations := range api.Paths {
		for method := range operations {
			call := strings.ToUpper(method) + " " + path
			pattern := regexp.MustCompile("^" + parameter.ReplaceAllString(regexp.QuoteMeta(call), "[^/]+") + "$")
			if !slices.ContainsFunc(made, pattern.MatchString) {
				t.Errorf("no command makes the call %s", call)
			}
		}
	}
}

const oneSession = `{"id":"1","kind":"publisher","app":"live","room":"movie","proto":"rtmp","remote":"192.0.2.1:5",` +
	`"user_agent":"FMLE/3.0","since":"2020-01-31T12:00:00Z","bytes":1536,"bitrate":2500}`

// TestCtlTables checks what people see.
func TestCtlTables(t *testing.T) {
	for _, c := range []struct {
		name, args string
		replies    []string
		want       string
	}{
		{"list of two pages", "sessions list", []string{
			`{"sessions":[` + oneSession + `],"next":"abc"}`,
			`{"sessions":[{"id":"2","kind":"viewer","app":"live","room":"movie","proto":"flv","remote":"[2001:db8::1]:5",` +
				`"user_agent":"a\u001b[31mb\tc","since":"2020-01-31T12:00:00Z","bytes":5,"bitrate":0,"delay_ms":40,"skips":1}]}`},
			"ID KIND STREAM PROTO REMOTE USER AGENT SINCE BYTES BITRATE DELAY MS SKIPS\n" +
				"1 publisher live/movie rtmp 192.0.2.1:5 FMLE/3.0 2020-01-31T12:00:00Z 1.5 KiB 2500 kbit/s - -\n" +
				"2 viewer live/movie flv [2001:db8::1]:5 a\uFFFD[31mb\uFFFDc 2020-01-31T12:00:00Z 5 B 0 kbit/s 40 ms 1\n"},
		{"streams", "streams list", []string{`{"streams":[{"app":"live","room":"movie","state":"live","uptime":3723.4,` +
			`"tracks":[{"kind":"video","codec":"h264","width":1920,"height":1080,"measured_frame_rate":29.97},` +
			`{"kind":"audio","codec":"aac","sample_rate":48000}],"gop":2,"viewers":{"flv":3,"hls":2},"bytes_out":1048576,` +
			`"bitrate":2500,"skips":0,"health":[{"code":"keyframe_interval"},{"code":"silent_audio"}]}]}`},
			"STREAM STATE UPTIME TRACKS BITRATE GOP VIEWERS BYTES OUT SKIPS HEALTH\n" +
				"live/movie live 1h2m3s h264 1920x1080 30 fps, aac 48000 Hz 2500 kbit/s 2.0 s flv=3 hls=2 1.0 MiB 0 " +
				"keyframe_interval silent_audio\n"},
		{"one entry", "rooms get movie", []string{`{"app":"live","room":"movie","live":true,"since":null,` +
			`"keys":[{"id":"K1","role":"primary"},{"id":"K2","label":"spare"}],"urls":["a","b"]}`},
			"app    live\nroom   movie\nlive   true\nsince  -\nurls   a, b\n\nKEYS\nID  ROLE     LABEL\nK1  primary  -\n" +
				"K2  -        spare\n"},
		{"empty list", "relays list", []string{`{"relays":[]}`}, "ID DIRECTION STREAM URL STATE SINCE ATTEMPTS ERROR\n"},
		{"no content", "sessions end 7", []string{""}, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			code, stdout, stderr := newCtlServer(t, c.replies...).ctl(t, strings.Fields(c.args)...)
			if normalizeSpaces(stdout) != normalizeSpaces(c.want) || code != 0 {
				t.Errorf("exit code %d, %s\n got %s\nwant %s", code, stderr, stdout, c.want)
			}
		})
	}
}

// normalizeSpaces joins cells by one space: the width of columns does not matter.
func normalizeSpaces(s string) string {
	lines := strings.Split(s, "\n")
	for i, line := range lines {
		lines[i] = strings.Join(strings.Fields(line), " ")
	}
	return strings.Join(lines, "\n")
}

// TestCtlJSON checks that scripts get what the server sent, in its order, of all pages.
func TestCtlJSON(t *testing.T) {
	s := newCtlServer(t, `{"sessions":[`+oneSession+`],"next":"abc"}`,
		`{"sessions":[{"z":1.50,"a":[null,true,"\u003c"]}]}`)
	code, stdout, stderr := s.ctl(t, "--json", "sessions", "list")
	var compact strings.Builder
	if err := json.NewEncoder(&compact).Encode(json.RawMessage(stdout)); err != nil {
		t.Fatalf("exit code %d: %v: %s%s", code, err, stdout, stderr)
	}
	want := `[` + oneSession + `,{"z":1.50,"a":[null,true,"\u003c"]}]` + "\n"
	if compact.String() != want {
		t.Errorf("got  %swant %s", compact.String(), want)
	}
	if len(s.requests) != 2 || s.requests[1] != "GET /api/v1/sessions?cursor=abc" {
		t.Errorf("requests %q", s.requests)
	}
}

func TestCtlErrors(t *testing.T) {
	problem := `!{"title":"Not Found","status":404,"detail":"there is no such session"}`
	for _, c := range []struct {
		args, reply string
		code        int
		stderr      string // the end of it
	}{
		{"sessions get 7", problem, 1, "livego: server error: there is no such session\n"},
		{"settings set relay_max=-1 play_wayt=1m", `!{"title":"Bad Request","status":400,` +
			`"detail":"the settings are invalid","errors":[` +
			`{"message":"relay_max: must be at least 0"},{"message":"unknown","location":"body\u001b"}]}`, 1,
			"livego: server error: the settings are invalid\n  relay_max: must be at least 0\n  body\ufffd: unknown\n"},
		{"sessions get 7", "!", 1, "livego: the server returned HTTP 404\n"},
		{"sessions end", "", 2, "livego: name a session by its ID, or use --room\n"},
		{"sessions end 7 --watch", "", 2, "livego: --watch is for commands that only read\n"},
		{"settings set gop_num", "", 2, "livego: \"gop_num\": must be KEY=VALUE\n"},
		{"events --since yesterday", "", 2,
			"livego: --since must be a time such as 2030-01-31T12:00:00Z, or a duration such as 1h\n"},
		{"rooms list --context prod", "", 2, "livego: there is no context \"prod\": see livego ctl context list\n"},
		{"rooms list --server ftp://x", "", 2,
			"livego: the server must be a URL such as https://live.example.com or http://127.0.0.1:8090\n"},
		{"rooms list --server http://x --context y", "", 2,
			"livego: --server and --context can't be used together (see livego --help)\n"},
	} {
		t.Run(c.args, func(t *testing.T) {
			code, _, stderr := newCtlServer(t, c.reply).ctl(t, strings.Fields(c.args)...)
			if code != c.code || stderr != c.stderr {
				t.Errorf("exit code %d, want %d\n got %s\nwant %s", code, c.code, stderr, c.stderr)
			}
		})
	}
}

// TestCtlContexts checks which server and token a command uses.
func TestCtlContexts(t *testing.T) {
	s, other := newCtlServer(t), newCtlServer(t)
	dir := t.TempDir()
	file := filepath.Join(dir, "livego", "contexts.json")
	environ := []string{"LIVEGO_CTL_CONTEXTS=" + file}
	token := filepath.Join(dir, "token")
	if err := os.WriteFile(token, []byte("of-a\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	must := func(args ...string) string {
		t.Helper()
		code, stdout, stderr := runCtl(t, environ, args...)
		if code != 0 {
			t.Fatalf("%v: exit code %d: %s", args, code, stderr)
		}
		return stdout
	}
	must("context", "set", "a", "--server", s.URL+"/", "--token-file", token)
	must("context", "set", "b", "--server", other.URL)
	if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the file: %v, %v", info, err)
	}
	if list := must("context", "list"); strings.Contains(list, "of-a") || !strings.Contains(list, "* ") {
		t.Errorf("the list is\n%s", list)
	}
	for _, c := range []struct {
		env   []string
		args  string
		want  *ctlServer
		token string
	}{
		{nil, "", s, "of-a"}, // the first context is the current one
		{nil, "--context b", other, ""},
		{[]string{"LIVEGO_CTL_CONTEXT=b"}, "", other, ""},
		{[]string{"LIVEGO_CTL_TOKEN=env"}, "", s, "env"},
		{[]string{"LIVEGO_CTL_TOKEN=env"}, "--token flag", s, "flag"},
		{[]string{"LIVEGO_CTL_SERVER=" + other.URL}, "", other, ""}, // not the token of another server
		{nil, "--server " + other.URL, other, ""},
		{[]string{"LIVEGO_CTL_SERVER=" + other.URL}, "--context a", s, "of-a"},
	} {
		s.requests, other.requests = nil, nil
		code, _, stderr := runCtl(t, append(environ, c.env...), strings.Fields("reload "+c.args)...)
		if code != 0 || len(c.want.requests) != 1 || c.want.token != c.token {
			t.Errorf("%v %q: exit code %d, %d requests, token %q, want %q: %s", c.env, c.args, code, len(c.want.requests),
				c.want.token, c.token, stderr)
		}
	}
	must("context", "use", "b")
	must("context", "delete", "b")
	if list := must("context", "list"); strings.Contains(list, "*") || strings.Contains(list, other.URL) {
		t.Errorf("after the deletion, the list is\n%s", list)
	}
}

// TestCtlEvents prints events as they happen, until the server ends the stream.
func TestCtlEvents(t *testing.T) {
	stream := ": heartbeat\n\nid: 3\n" + `data: {"id":3,"at":"2020-01-31T12:00:00Z","type":"denied","app":"live",` +
		`"room":"movie","reason":"wrong key"}` + "\n\nevent: lost\ndata: {\"events\":5}\n\n"
	s := newCtlServer(t, stream, stream)
	code, stdout, stderr := s.ctl(t, "events", "--watch", "--room", "movie")
	if code != 1 || stdout != "2020-01-31T12:00:00Z  denied  live/movie  wrong key\n" || stderr != "livego: "+
		"5 events were lost: this client is too slow\nlivego: the server has ended the stream of events\n" {
		t.Errorf("exit code %d\n%s%s", code, stdout, stderr)
	}
	if s.requests[0] != "GET /api/v1/events/stream?room=movie" {
		t.Errorf("request %q", s.requests)
	}
	_, stdout, _ = s.ctl(t, "events", "--watch", "--json")
	if !strings.HasPrefix(stdout, `{"id":3,"at":`) {
		t.Errorf("as JSON: %s", stdout)
	}
}

// TestCtlDownload never overwrites a file, and trusts no name of the server that leads elsewhere.
func TestCtlDownload(t *testing.T) {
	t.Chdir(t.TempDir())
	name := "movie_1.flv"
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Disposition", `attachment; filename="`+name+`"`)
		_, _ = io.WriteString(w, "FLV")
	}))
	defer s.Close()
	download := func(args ...string) (int, string) {
		code, _, stderr := runCtl(t, []string{"LIVEGO_CTL_SERVER=" + s.URL}, append([]string{"recordings", "download", "r"},
			args...)...)
		return code, stderr
	}
	if code, stderr := download(); code != 0 || stderr != "livego: 3 B written to movie_1.flv\n" {
		t.Errorf("exit code %d: %s", code, stderr)
	}
	if data, err := os.ReadFile(name); err != nil || string(data) != "FLV" {
		t.Errorf("the file: %q, %v", data, err)
	}
	if code, _ := download(); code != 1 {
		t.Error("the file is overwritten")
	}
	for _, name = range []string{"../x.flv", "/tmp/x.flv", ".bashrc", ""} {
		if code, _ := download(); code != 1 {
			t.Errorf("the name %q is used", name)
		}
	}
	if code, _ := download("mine.flv"); code != 0 {
		t.Error("a name of the client is refused")
	}
}

func TestCtlImportsKeys(t *testing.T) {
	t.Chdir(t.TempDir())
	for name, text := range map[string]string{"keys.json": `{"keys":[{"room":"movie"}]}`, "bad.json": "keys:"} {
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	s := newCtlServer(t)
	if code, _, stderr := s.ctl(t, "keys", "import", "keys.json"); code != 0 || len(s.requests) != 1 ||
		s.requests[0] != `POST /api/v1/keys/import {"keys":[{"room":"movie"}]}` {
		t.Errorf("exit code %d, requests %q, %s", code, s.requests, stderr)
	}
	for _, name := range []string{"bad.json", "absent.json"} {
		if code, _, _ := s.ctl(t, "keys", "import", name); code != 1 || len(s.requests) != 1 {
			t.Errorf("%s: exit code %d, requests %q", name, code, s.requests)
		}
	}
}
