package api

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"livego/internal/control/auth"
	"livego/internal/control/events"
	"livego/internal/control/store/storetest"
	"livego/internal/domain"
	"livego/internal/media"
	"livego/internal/stream"
)

// A fixture is the operator's HTTP with a hub, keys in memory and a log in memory.
type fixture struct {
	t       testing.TB
	hub     *stream.Hub
	keys    memKeys
	log     *bytes.Buffer
	options Options
	handler http.Handler
	endedMu sync.Mutex
	ended   []string // rooms, "app/room", whose sessions were ended
}

// allowAll authorizes every request.
type allowAll struct{}

func (allowAll) Authorize(*http.Request, auth.Access) error { return nil }
func (allowAll) Login(*http.Request, string) (auth.Session, error) {
	return auth.Session{}, domain.Errorf(domain.Denied, "no")
}
func (allowAll) Logout(*http.Request, string) error         { return nil }
func (allowAll) Rights(*http.Request) auth.Rights           { return auth.Admin }
func (allowAll) Session(*http.Request) (auth.Session, bool) { return auth.Session{}, false }

// newFixture returns a fixture. If change is not nil, it can modify the Options first.
func newFixture(t testing.TB, change func(*Options)) *fixture {
	t.Helper()
	hub := stream.NewHub(stream.Options{Hold: 20 * time.Second, RestartPause: time.Millisecond})
	s := &fixture{t: t, hub: hub, keys: newMemKeys(), log: &bytes.Buffer{}}
	t.Cleanup(s.hub.Close)
	s.options = Options{
		Hub: s.hub, Keys: s.keys, Auth: func() Auth { return allowAll{} }, Events: events.New(), Health: fakeHealth{},
		Quality: fakeQuality{},
		Log:     slog.New(slog.NewTextHandler(s.log, &slog.HandlerOptions{Level: slog.LevelDebug})),
		Relays:  &fakeRelays{}, Recordings: &fakeRecordings{},
		Apps: []App{{Name: "live", FLV: true, HLS: true, Relays: true}, {Name: "quiet"}},
		RTMP: "rtmp://[::]:1935", FLV: "http://0.0.0.0:7001", HLS: "http://:7002",
		Version: "1.2.3",
		EndSessions: func(app, room string) int {
			s.endedMu.Lock()
			defer s.endedMu.Unlock()
			s.ended = append(s.ended, app+"/"+room)
			return 3
		},
	}
	if change != nil {
		change(&s.options)
	}
	s.handler = New(s.options)
	return s
}

// do serves a request. headers are "Name: value"; "Host" and "Remote" set the host and the remote
// address.
func (s *fixture) do(method, target, body string, headers ...string) *httptest.ResponseRecorder {
	s.t.Helper()
	r := httptest.NewRequest(method, target, strings.NewReader(body))
	r.RemoteAddr, r.Host = "127.0.0.1:40000", "localhost:8090"
	for _, h := range headers {
		switch name, value, _ := strings.Cut(h, ": "); name {
		case "Host":
			r.Host = value
		case "Remote":
			r.RemoteAddr = value
		default:
			r.Header.Add(name, value)
		}
	}
	w := httptest.NewRecorder()
	s.handler.ServeHTTP(w, r)
	if w.Header().Get("Content-Type") == "application/json" {
		if !strings.HasSuffix(w.Body.String(), "}\n") {
			s.t.Errorf("%s %s: the response does not end with a line break: %q", method, target, w.Body)
		}
		w.Body.Truncate(max(0, w.Body.Len()-1))
	}
	return w
}

func (s *fixture) get(target string, headers ...string) *httptest.ResponseRecorder {
	s.t.Helper()
	return s.do("GET", target, "", headers...)
}

// publish publishes name with key and writes one video and one audio frame.
func (s *fixture) publish(name domain.Name, key domain.KeyRef) *stream.Publisher {
	s.t.Helper()
	p, err := s.hub.Publish(context.Background(), name, stream.PublishOptions{
		Proto: "rtmp", Remote: "192.0.2.7:5000", URL: "rtmp://localhost:1935/" + name.String(),
		Owner: domain.Grant{Name: name, Key: key}.Owner(),
	})
	if err != nil {
		s.t.Fatal(err)
	}
	meta := &media.Meta{Encoder: "OBS <b>30</b>", HasVideo: true, HasAudio: true}
	now := time.Now()
	for _, f := range []*media.Frame{
		{
			Track: &media.Track{Kind: media.Video, Codec: media.H264, Timescale: 90000, Width: 1920, Height: 1080,
				FrameRate: 30},
			RAP: media.Keyframe, Payload: make([]byte, 312_500),
		},
		{
			Track: &media.Track{Kind: media.Audio, Codec: media.AAC, Timescale: 44100, SampleRate: 44100, Channels: 2,
				FrameSamples: 1024},
			DTS:     40 * time.Millisecond,
			Payload: make([]byte, 16_000),
		},
	} {
		f.Meta, f.Arrived = meta, now
		if err := p.Write(f); err != nil {
			s.t.Fatal(err)
		}
	}
	return p
}

// watch adds a viewer that was sent that many bytes.
func (s *fixture) watch(name domain.Name, proto, url string, video, audio int) *stream.Viewer {
	s.t.Helper()
	v, err := s.hub.Join(name, stream.ViewerOptions{Proto: proto, Remote: "192.0.2.8:6000", URL: url})
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(v.Leave)
	v.ObserveBytes(video, audio)
	return v
}

// fakeRelays records the last call, and returns err.
type fakeRelays struct {
	more     []domain.RelayStatus // besides the first
	lastCall string
	err      error
}

func (f *fakeRelays) Start(_ context.Context, r domain.Relay) (string, error) {
	return f.call("start", r)
}
func (f *fakeRelays) Stop(r domain.Relay) (string, error) { return f.call("stop", r) }

func (f *fakeRelays) call(oper string, r domain.Relay) (string, error) {
	f.lastCall = oper + " " + r.Direction + " " + r.Name.String() + " " + r.URL
	return "rtmp://h/a/***", f.err
}

func (f *fakeRelays) Create(_ context.Context, r domain.Relay, persist bool) (domain.RelayStatus, bool, error) {
	_, err := f.call("create", r)
	f.lastCall += fmt.Sprint(" ", persist)
	created := r.Name.Room != "movie" // which exists
	return domain.RelayStatus{ID: "1", Direction: r.Direction, App: r.Name.App, Room: r.Name.Room, URL: "rtmp://h/a/***",
		State: "connecting", Persist: persist}, created, err
}

func (f *fakeRelays) List() []domain.RelayStatus {
	return append([]domain.RelayStatus{{ID: "1", Direction: domain.Push, App: "live", Room: "movie", URL: "rtmp://h/a/***",
		State: "running"}}, f.more...)
}

func (f *fakeRelays) Get(id string) (domain.RelayStatus, error) {
	for _, r := range f.List() {
		if r.ID == id {
			return r, nil
		}
	}
	return domain.RelayStatus{}, domain.Errorf(domain.NotFound, "there is no such relay")
}

func (f *fakeRelays) Delete(id string) error {
	f.lastCall = "delete " + id
	if _, err := f.Get(id); err != nil {
		return err
	}
	return f.err
}

// memKeys are keys in memory.
type memKeys struct {
	domain.KeyStore
	*storetest.Memory
}

func newMemKeys() memKeys {
	m := &storetest.Memory{}
	return memKeys{m.Keys(), m}
}

// all returns all keys.
func (m memKeys) all() []domain.Key {
	all, _ := m.Rooms(context.Background(), "", 0)
	return all
}
