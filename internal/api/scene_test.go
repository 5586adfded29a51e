package api

import (
	"bytes"
	"context"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"livego/internal/live"
	"livego/internal/media"
	"livego/internal/stream"
)

// A scene is the operator's HTTP with a hub, keys in memory and a log to read.
type scene struct {
	t       testing.TB
	hub     *stream.Hub
	keys    *memKeys
	log     *bytes.Buffer
	options Options
	handler http.Handler
}

// openDoor lets everybody in.
type openDoor struct{}

func (openDoor) Check(*http.Request) error { return nil }

// newScene returns a scene; change may alter its Options first.
func newScene(t testing.TB, change func(*Options)) *scene {
	t.Helper()
	s := &scene{t: t, hub: stream.NewHub(stream.Options{Hold: 20 * time.Second}), keys: &memKeys{}, log: &bytes.Buffer{}}
	t.Cleanup(s.hub.Close)
	s.options = Options{
		Hub: s.hub, Keys: s.keys, Door: openDoor{},
		Log:  slog.New(slog.NewTextHandler(s.log, &slog.HandlerOptions{Level: slog.LevelDebug})),
		Apps: []App{{Name: "live", FLV: true, HLS: true}, {Name: "quiet"}},
		RTMP: "rtmp://[::]:1935", FLV: "http://0.0.0.0:7001", HLS: "http://:7002",
		Version: "1.2.3",
	}
	if change != nil {
		change(&s.options)
	}
	s.handler = New(s.options)
	return s
}

// do serves a request; headers are "Name: value", of which "Host" and "Remote" are what they say.
func (s *scene) do(method, target, body string, headers ...string) *httptest.ResponseRecorder {
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
			s.t.Errorf("%s %s: the answer does not end its line: %q", method, target, w.Body)
		}
		w.Body.Truncate(max(0, w.Body.Len()-1))
	}
	return w
}

func (s *scene) get(target string, headers ...string) *httptest.ResponseRecorder {
	s.t.Helper()
	return s.do("GET", target, "", headers...)
}

// publish makes name live by key and writes one frame of video and one of audio.
func (s *scene) publish(name live.Name, key live.KeyRef) *stream.Publisher {
	s.t.Helper()
	p, err := s.hub.Publish(context.Background(), name, stream.PublishOptions{
		Proto: "rtmp", Remote: "192.0.2.7:5000", URL: "rtmp://localhost:1935/" + name.String(), Grant: live.Grant{Name: name, Key: key},
	})
	if err != nil {
		s.t.Fatal(err)
	}
	meta := &media.Meta{Encoder: "OBS <b>30</b>", HasVideo: true, HasAudio: true}
	now := time.Now()
	for _, f := range []*media.Frame{
		{
			Track: &media.Track{Kind: media.Video, Codec: media.H264, Timescale: 90000, Width: 1920, Height: 1080, FrameRate: 30},
			RAP:   media.Key, Payload: make([]byte, 312_500),
		},
		{
			Track:   &media.Track{Kind: media.Audio, Codec: media.AAC, Timescale: 44100, SampleRate: 44100, Channels: 2, FrameSamples: 1024},
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

// watch adds a viewer who was given that many bytes.
func (s *scene) watch(name live.Name, proto, url string, video, audio int) *stream.Viewer {
	s.t.Helper()
	v, err := s.hub.Join(name, stream.ViewerOptions{Proto: proto, Remote: "192.0.2.8:6000", URL: url})
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(v.Leave)
	v.Count(video, audio)
	return v
}

// memKeys are keys in memory. With fail set every call fails with it.
type memKeys struct {
	live.Keys // what is not here is never called

	mu   sync.Mutex
	keys map[[2]string]live.Key // by app and room
	fail error
}

var _ live.Keys = (*memKeys)(nil)

func (m *memKeys) Get(_ context.Context, app, room string) (live.Key, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if k, ok := m.keys[[2]string{app, room}]; ok || m.fail != nil {
		return k, m.fail
	}
	return m.put(app, room, 1), nil
}

func (m *memKeys) put(app, room string, generation uint64) live.Key {
	if m.keys == nil {
		m.keys = map[[2]string]live.Key{}
	}
	k := live.Key{ID: app + "/" + room, App: app, Room: room, Generation: generation, Secret: live.NewSecret()}
	m.keys[[2]string{app, room}] = k
	return k
}

func (m *memKeys) Rotate(ctx context.Context, app, room string, o live.Rotation) (live.Key, []live.KeyRef, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.fail != nil {
		return live.Key{}, nil, m.fail
	}
	var revoked []live.KeyRef
	var generation uint64
	for id, k := range m.keys {
		if id[1] == room && (o.All || id[0] == app) {
			revoked = append(revoked, k.Ref())
			delete(m.keys, id)
			generation = max(generation, k.Generation)
		}
	}
	return m.put(app, room, generation+1), revoked, ctx.Err()
}

func (m *memKeys) Delete(ctx context.Context, app, room string) ([]live.KeyRef, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.fail != nil {
		return nil, m.fail
	}
	var revoked []live.KeyRef
	for id, k := range m.keys {
		if id[1] == room && (app == "" || id[0] == app) {
			revoked = append(revoked, k.Ref())
			delete(m.keys, id)
		}
	}
	if len(revoked) == 0 {
		return nil, live.Errorf(live.NotFound, "this text is the store's")
	}
	return revoked, ctx.Err()
}

func (m *memKeys) count() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.keys)
}
