package api

import (
	"bytes"
	"cmp"
	"context"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"livego/internal/control/auth"
	"livego/internal/domain"
	"livego/internal/media"
	"livego/internal/stream"
)

// A fixture is the operator's HTTP with a hub, keys in memory and a log in memory.
type fixture struct {
	t       testing.TB
	hub     *stream.Hub
	keys    *memKeys
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
func (allowAll) Session(*http.Request) (auth.Session, bool) { return auth.Session{}, false }

// newFixture returns a fixture. If change is not nil, it can modify the Options first.
func newFixture(t testing.TB, change func(*Options)) *fixture {
	t.Helper()
	s := &fixture{t: t, hub: stream.NewHub(stream.Options{Hold: 20 * time.Second}), keys: &memKeys{}, log: &bytes.Buffer{}}
	t.Cleanup(s.hub.Close)
	s.options = Options{
		Hub: s.hub, Keys: s.keys, Auth: allowAll{}, Audit: new(auth.Audit),
		Log:    slog.New(slog.NewTextHandler(s.log, &slog.HandlerOptions{Level: slog.LevelDebug})),
		Relays: &fakeRelays{}, Apps: []App{{Name: "live", FLV: true, HLS: true, Relays: true}, {Name: "quiet"}},
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
		Grant: domain.Grant{Name: name, Key: key},
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

func (f *fakeRelays) List() []domain.RelayStatus {
	return []domain.RelayStatus{{Direction: domain.Push, App: "live", Room: "movie", URL: "rtmp://h/a/***",
		State: "running"}}
}

// memKeys is a key store in memory. If err is set, every call returns it.
type memKeys struct {
	mu   sync.Mutex
	keys []domain.Key
	err  error
}

var _ domain.KeyStore = (*memKeys)(nil)

// lookup calls fn with the index of a key, -1 for none. If m.err is set, it returns that instead.
func (m *memKeys) lookup(app, room, label string, fn func(i int) error) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.err != nil {
		return m.err
	}
	return fn(slices.IndexFunc(m.keys,
		func(k domain.Key) bool { return k.App == app && k.Room == room && k.Label == label }))
}

// remove removes the keys that match. The caller holds m.mu.
func (m *memKeys) remove(match func(domain.Key) bool) (refs []domain.KeyRef) {
	m.keys = slices.DeleteFunc(m.keys, func(k domain.Key) bool {
		if match(k) {
			refs = append(refs, k.Ref())
			return true
		}
		return false
	})
	return refs
}

func (m *memKeys) Get(_ context.Context, app, room string) (k domain.Key, err error) {
	err = m.lookup(app, room, "", func(i int) error {
		if i < 0 {
			m.keys = append(m.keys, domain.Key{App: app, Room: room}.Complete())
			i = len(m.keys) - 1
		}
		k = m.keys[i]
		return nil
	})
	return k, err
}

func (m *memKeys) Rotate(ctx context.Context, app, room string, o domain.Rotation) (k domain.Key, refs []domain.KeyRef,
	err error) {
	err = m.lookup(app, room, "", func(i int) error {
		k = domain.Key{App: app, Room: room}.Complete()
		if i >= 0 {
			k.ID, k.Generation = m.keys[i].ID, m.keys[i].Generation+1
			if o.Grace > 0 {
				m.keys = append(m.keys, m.keys[i].Former(o.Grace))
			}
		}
		refs = m.remove(func(old domain.Key) bool {
			return old.Room == room && (o.RevokeOthers || old.App == app && old.Label == "")
		})
		m.keys = append(m.keys, k)
		return ctx.Err()
	})
	return k, refs, err
}

func (m *memKeys) Add(_ context.Context, k domain.Key) (domain.Key, error) {
	k = k.Complete()
	err := m.lookup(k.App, k.Room, k.Label, func(i int) error {
		if i >= 0 {
			return domain.Errorf(domain.Conflict, "room %s has such a key", k.Room)
		}
		m.keys = append(m.keys, k)
		return nil
	})
	return k, err
}

func (m *memKeys) Revoke(_ context.Context, id string) (refs []domain.KeyRef, err error) {
	err = m.lookup("", "", "", func(int) error {
		if refs = m.remove(func(k domain.Key) bool { return k.ID == id }); refs == nil {
			return domain.Errorf(domain.NotFound, "no key with this ID")
		}
		return nil
	})
	return refs, err
}

func (m *memKeys) Delete(ctx context.Context, app, room string) (refs []domain.KeyRef, err error) {
	err = m.lookup(app, room, "", func(int) error {
		if refs = m.remove(func(k domain.Key) bool { return k.Room == room && (app == "" || k.App == app) }); refs == nil {
			return domain.Errorf(domain.NotFound, "this text is the store's")
		}
		return ctx.Err()
	})
	return refs, err
}

func (m *memKeys) Resolve(_ context.Context, app, secret string) (k domain.Key, err error) {
	err = m.lookup("", "", "", func(int) error {
		i := slices.IndexFunc(m.keys, func(k domain.Key) bool { return k.Secret == secret && k.ValidFor(app, time.Now()) })
		if i < 0 {
			return domain.Errorf(domain.Denied, "unknown key")
		}
		k = m.keys[i]
		return nil
	})
	return k, err
}

func (m *memKeys) Page(_ context.Context, after string, limit int) (keys []domain.Key, err error) {
	all, err := m.Dump(context.Background())
	var rooms []string
	for _, k := range all {
		known := slices.Contains(rooms, k.Room)
		if k.Room <= after || !known && len(rooms) == limit {
			continue
		}
		if keys = append(keys, k); !known {
			rooms = append(rooms, k.Room)
		}
	}
	return keys, err
}

func (m *memKeys) List(_ context.Context, room string) (keys []domain.Key, err error) {
	all, err := m.Dump(context.Background())
	return slices.DeleteFunc(all, func(k domain.Key) bool { return k.Room != room }), err
}

func (m *memKeys) Dump(context.Context) (keys []domain.Key, err error) {
	err = m.lookup("", "", "", func(int) error {
		keys = slices.Clone(m.keys)
		slices.SortFunc(keys, func(a, b domain.Key) int {
			return cmp.Or(cmp.Compare(a.Room, b.Room),
				cmp.Compare(a.Label, b.Label))
		})
		return nil
	})
	return keys, err
}

func (m *memKeys) Touch(context.Context, domain.KeyRef, time.Time) error { return nil }

func (m *memKeys) count() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.keys)
}
