package relay

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"

	"livego/internal/domain"
	"livego/internal/proto/rtmp"
	"livego/internal/stream"
)

// A storedManager is a Manager with a file, which can be restarted.
type storedManager struct {
	*Manager
	t      *testing.T
	file   string
	change func(*Options)
	hub    *stream.Hub

	mu     sync.Mutex
	events []domain.Event
}

func newStoredManager(t *testing.T, change func(*Options)) *storedManager {
	t.Helper()
	s := &storedManager{t: t, file: filepath.Join(t.TempDir(), "data", "relays.json"), change: change}
	s.start()
	return s
}

// start starts a Manager without Run.
func (s *storedManager) start() {
	s.t.Helper()
	s.hub, s.Manager = newManager(s.t, func(o *Options) {
		o.File, o.Event = s.file, func(e domain.Event) {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.events = append(s.events, e)
		}
		if s.change != nil {
			s.change(o)
		}
	})
}

// restart ends the Manager and starts another with the same file, and runs it.
func (s *storedManager) restart() {
	s.t.Helper()
	s.Close()
	s.start()
	s.t.Cleanup(runStatic(s.Manager))
}

func (s *storedManager) create(w domain.Relay, persist bool) domain.RelayStatus {
	s.t.Helper()
	r, created, err := s.Create(s.t.Context(), w, persist)
	if err != nil || !created {
		s.t.Fatalf("%+v, created %v, %v", r, created, err)
	}
	return r
}

// ids returns the IDs of all relays, ordered.
func (s *storedManager) ids() (ids []string) {
	for _, r := range s.List() {
		ids = append(ids, r.ID)
	}
	slices.Sort(ids)
	return ids
}

func sorted(ids ...string) []string { slices.Sort(ids); return ids }

func accept(_ context.Context, c *rtmp.ServerConn, _ *rtmp.Request) {
	if c.AcceptPublish() == nil {
		for {
			if _, err := c.ReadMessage(); err != nil {
				return
			}
		}
	}
}

// TestCreateIsIdempotent creates relays twice: the second time it returns the same.
func TestCreateIsIdempotent(t *testing.T) {
	remote := serve(t, accept)
	m := newStoredManager(t, nil)
	push := domain.Relay{Direction: domain.Push, Name: movie, URL: remote.url("s3cret")}
	pull := domain.Relay{Direction: domain.Pull, Name: movie, URL: remote.url("s3cret")}
	first, other := m.create(push, false), m.create(pull, true)
	if first.ID == other.ID || first.Persist || !other.Persist ||
		first.URL != "rtmp://"+remote.Addr().String()+"/app/***" {
		t.Errorf("%+v, %+v", first, other)
	}
	for _, c := range []struct{ persist, want bool }{{false, false}, {true, true}, {false, true}} {
		again, created, err := m.Create(t.Context(), push, c.persist)
		if err != nil || created || again.ID != first.ID || again.Persist != c.want {
			t.Errorf("again: %+v, created %v, %v", again, created, err)
		}
		if got, err := m.Get(first.ID); err != nil || got.Persist != c.want {
			t.Errorf("%+v, %v", got, err)
		}
	}
	if _, err := m.Start(t.Context(), push); domain.KindOf(err) != domain.Conflict {
		t.Errorf("Start: %v", err)
	}
	if _, err := m.Get("x"); domain.KindOf(err) != domain.NotFound {
		t.Errorf("Get: %v", err)
	}
	if err := m.Delete("x"); domain.KindOf(err) != domain.NotFound {
		t.Errorf("Delete: %v", err)
	}
	if err := m.Delete(first.ID); err != nil || !slices.Equal(m.ids(), []string{other.ID}) {
		t.Errorf("%v, left: %v", err, m.ids())
	}
}

// TestCreateErrors checks which relays cannot be created. One whose server does not respond can.
func TestCreateErrors(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ln.Close()
	m := newStoredManager(t, func(o *Options) { o.Max = 1 })
	for url, want := range map[string]domain.Kind{
		"rtmp://10.0.0.1/app/s3cret": domain.Denied, "http://127.0.0.1/app/s3cret": domain.Invalid,
	} {
		_, created, err := m.Create(t.Context(), domain.Relay{Direction: domain.Push, Name: movie, URL: url}, true)
		if domain.KindOf(err) != want || created || strings.Contains(err.Error(), "s3cret") {
			t.Errorf("%s: %v", url, err)
		}
	}
	if _, err := os.Stat(m.file); len(m.List()) != 0 || !errors.Is(err, os.ErrNotExist) {
		t.Errorf("relays: %+v; the file: %v", m.List(), err)
	}
	r := m.create(domain.Relay{Direction: domain.Push, Name: movie,
		URL: "rtmp://" + ln.Addr().String() + "/app/s3cret"}, true)
	if r.State != stateFailed || r.Attempts != 1 || !strings.Contains(r.Error, "refused") {
		t.Errorf("%+v", r)
	}
	_, _, err = m.Create(t.Context(), domain.Relay{Direction: domain.Push, Name: movie, URL: "rtmp://h/app/other"}, true)
	if domain.KindOf(err) != domain.Limit {
		t.Errorf("above the limit: %v", err)
	}
}

// TestRelaysSurviveRestart restarts the Manager: persistent relays start again with their IDs, and
// relay streams. The file is for its owner only.
func TestRelaysSurviveRestart(t *testing.T) {
	remote := serve(t, accept)
	m := newStoredManager(t, nil)
	push := func(name string) domain.Relay {
		return domain.Relay{Direction: domain.Push, Name: movie, URL: remote.url(name)}
	}
	kept, gone, stopped := m.create(push("a"), true), m.create(push("b"), true), m.create(push("c"), true)
	m.create(push("d"), false)
	if _, err := m.Start(t.Context(), push("e")); err != nil {
		t.Error(err)
	}
	pull := m.create(domain.Relay{Direction: domain.Pull, Name: domain.Name{App: "live", Room: "film"},
		URL: remote.url("f")}, true)
	if err := m.Delete(gone.ID); err != nil {
		t.Error(err)
	}
	if _, err := m.Stop(push("c")); err != nil {
		t.Error(err)
	}
	if info, err := os.Stat(m.file); err != nil || runtime.GOOS != "windows" && info.Mode().Perm() != 0o600 {
		t.Errorf("the file has %v, %v", info.Mode(), err)
	}
	for range 2 {
		m.restart()
		if got, want := m.ids(), sorted(kept.ID, pull.ID); !slices.Equal(got, want) {
			t.Fatalf("relays %v, want %v, without %s and %s", got, want, gone.ID, stopped.ID)
		}
	}
	p := publishAudio(t, m.hub)
	defer p.End(stream.Clean)
	p.Write(audioFrame(0))
	awaitStatus(t, m.Manager, kept.ID, func(s domain.RelayStatus) bool { return s.State == stateRunning && s.Bytes > 0 })
	if again := m.create(push("g"), true); again.ID == kept.ID {
		t.Errorf("two relays have the ID %s", again.ID)
	}
	if _, created, err := m.Create(t.Context(), push("a"), true); created || err != nil {
		t.Errorf("the restored relay was created again: %v", err)
	}
}

// awaitStatus waits until the status of a relay satisfies want.
func awaitStatus(t *testing.T, m *Manager, id string, want func(domain.RelayStatus) bool) domain.RelayStatus {
	t.Helper()
	var found domain.RelayStatus
	await(t, func() bool {
		s, err := m.Get(id)
		found = s
		return err == nil && want(s)
	}, func() string { return fmt.Sprintf("%+v", m.List()) })
	return found
}

// TestRestoredRelaysWithProblems restores relays that may not run any more: each says why, the others
// run, and each can be deleted.
func TestRestoredRelaysWithProblems(t *testing.T) {
	m := newStoredManager(t, func(o *Options) {
		o.CheckApp = func(app string) error {
			if app == "gone" {
				return domain.Errorf(domain.NotFound, "app %q is not configured", app)
			}
			return nil
		}
	})
	const file = `{"relays":[
		{"id":"gone","direction":"push","app":"gone","room":"movie","url":"rtmp://127.0.0.1/app/s3cret"},
		{"id":"private","direction":"pull","app":"live","room":"movie","url":"rtmp://10.0.0.1/app/s3cret"},
		{"id":"unused","direction":"push","app":"live","room":"nobody","url":"rtmp://10.0.0.1/app/s3cret"},
		{"id":"invalid","direction":"push","app":"live","room":"movie","url":"s3cret"},
		{"id":"good","direction":"push","app":"live","room":"movie","url":"rtmp://127.0.0.1/app/s3cret"}]}`
	err := errors.Join(os.MkdirAll(filepath.Dir(m.file), 0o700), os.WriteFile(m.file, []byte(file), 0o600))
	if err != nil {
		t.Fatal(err)
	}
	m.restart()
	for id, want := range map[string]string{"gone": "not configured", "private": "private address",
		"unused": "private address", "invalid": "a push URL"} {
		s := awaitStatus(t, m.Manager, id, func(s domain.RelayStatus) bool { return s.State == stateFailed })
		if !strings.Contains(s.Error, want) || !s.Persist {
			t.Errorf("%+v, want %s", s, want)
		}
	}
	awaitStatus(t, m.Manager, "good", func(s domain.RelayStatus) bool { return s.State == stateWaiting })
	if list := fmt.Sprint(m.List()); strings.Contains(list, "s3cret") {
		t.Error(list)
	}
	for _, id := range []string{"gone", "private", "unused", "invalid"} {
		if err := m.Delete(id); err != nil {
			t.Errorf("%s: %v", id, err)
		}
	}
	m.restart()
	if got := m.ids(); !slices.Equal(got, []string{"good"}) {
		t.Errorf("relays %v", got)
	}
}

// TestDamagedFile does not start with a damaged file, and leaves it as it is.
func TestDamagedFile(t *testing.T) {
	for _, content := range []string{
		"", "{", "[]", `{"relays":[{}]}`,
		`{"relays":[{"id":"a","direction":"aside","app":"live","room":"a","url":"rtmp://h/a/s3cret"}]}`,
		`{"relays":[{"id":"a","direction":"push","app":"..","room":"a","url":"rtmp://h/a/s3cret"}]}`, `{"s3cret":[]}`,
	} {
		file := filepath.Join(t.TempDir(), "relays.json")
		if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		hub := stream.NewHub(stream.Options{})
		_, err := New(hub, Options{File: file})
		hub.Close()
		if err == nil || !strings.Contains(err.Error(), "relays.json") || strings.Contains(err.Error(), "s3cret") {
			t.Errorf("%s: %v", content, err)
		}
		if got, err := os.ReadFile(file); err != nil || string(got) != content {
			t.Errorf("%s: the file is now %s, %v", content, got, err)
		}
	}
}

// TestFileCannotBeWritten creates and deletes relays while the file cannot be written: no relay is
// created, and none is lost. Those that do not persist need no file.
func TestFileCannotBeWritten(t *testing.T) {
	remote := serve(t, accept)
	m := newStoredManager(t, nil)
	first := m.create(domain.Relay{Direction: domain.Push, Name: movie, URL: remote.url("a")}, true)
	if err := errors.Join(os.Remove(m.file), os.MkdirAll(filepath.Join(m.file, "full"), 0o700)); err != nil {
		t.Fatal(err)
	}
	_, created, err := m.Create(t.Context(), domain.Relay{Direction: domain.Push, Name: movie, URL: remote.url("b")}, true)
	if domain.KindOf(err) != domain.Unavailable || created {
		t.Errorf("created %v, %v", created, err)
	}
	if err := m.Delete(first.ID); domain.KindOf(err) != domain.Unavailable {
		t.Errorf("deleted: %v", err)
	}
	other, created, err := m.Create(t.Context(),
		domain.Relay{Direction: domain.Push, Name: movie, URL: remote.url("c")}, false)
	if err != nil || !created {
		t.Errorf("without the file: created %v, %v", created, err)
	}
	if err := m.Delete(other.ID); err != nil {
		t.Errorf("without the file: %v", err)
	}
	if got := m.ids(); !slices.Equal(got, []string{first.ID}) {
		t.Errorf("relays %v", got)
	}
	if err := os.RemoveAll(m.file); err != nil {
		t.Fatal(err)
	}
	if err := m.Delete(first.ID); err != nil {
		t.Error(err)
	}
	if m.restart(); len(m.List()) != 0 {
		t.Errorf("relays after a restart: %+v", m.List())
	}
}

// TestConcurrentCreateAndDelete creates and deletes one relay 1000 times each, in parallel. The file
// then has what the list has.
func TestConcurrentCreateAndDelete(t *testing.T) {
	remote := serve(t, accept)
	m := newStoredManager(t, nil)
	p := publishAudio(t, m.hub)
	defer p.End(stream.Clean)
	p.Write(audioFrame(0))
	w := domain.Relay{Direction: domain.Push, Name: movie, URL: remote.url("key")}
	var all sync.WaitGroup
	for range 1000 {
		all.Go(func() {
			s, _, err := m.Create(t.Context(), w, true)
			if err != nil && domain.KindOf(err) != domain.Conflict {
				t.Errorf("create: %v", err)
			}
			if err == nil && s.URL != "rtmp://"+remote.Addr().String()+"/app/***" {
				t.Errorf("%+v", s)
			}
		})
		all.Go(func() {
			for _, s := range m.List() {
				if err := m.Delete(s.ID); err != nil && domain.KindOf(err) != domain.NotFound {
					t.Errorf("delete: %v", err)
				}
			}
		})
	}
	all.Wait()
	before := m.ids()
	if len(before) > 1 {
		t.Errorf("%d relays", len(before))
	}
	if m.restart(); !slices.Equal(m.ids(), before) {
		t.Errorf("relays %v, after a restart %v", before, m.ids())
	}
}

// TestRelayEvents creates a relay that connects, loses its server and is deleted.
func TestRelayEvents(t *testing.T) {
	remote := serve(t, accept)
	m := newStoredManager(t, nil)
	p := publishAudio(t, m.hub)
	defer p.End(stream.Clean)
	p.Write(audioFrame(0))
	r := m.create(domain.Relay{Direction: domain.Push, Name: movie, URL: remote.url("s3cret")}, false)
	awaitStatus(t, m.Manager, r.ID, func(s domain.RelayStatus) bool { return s.State == stateRunning })
	if err := m.Delete(r.ID); err != nil {
		t.Error(err)
	}
	m.Close()
	var got []domain.EventType
	for _, e := range m.events {
		got = append(got, e.Type)
		if e.App != "live" || e.Room != "movie" || e.Fields["relay"] != r.ID || strings.Contains(fmt.Sprint(e), "s3cret") {
			t.Errorf("%+v", e)
		}
	}
	want := []domain.EventType{domain.EventRelayStarted, domain.EventRelayConnected, domain.EventRelayStopped}
	if !slices.Equal(got, want) {
		t.Errorf("events %v, want %v", got, want)
	}
}

// TestDeleteStaticRelay cannot delete a relay of static_push, nor create it.
func TestDeleteStaticRelay(t *testing.T) {
	remote := serve(t, accept)
	m := newStoredManager(t, func(o *Options) {
		o.Static = map[string][]string{"live": {"rtmp://" + remote.Addr().String() + "/app"}}
	})
	t.Cleanup(runStatic(m.Manager))
	p := publishAudio(t, m.hub)
	defer p.End(stream.Clean)
	p.Write(audioFrame(0))
	s := awaitState(t, m.Manager, func(s domain.RelayStatus) bool { return s.State == stateRunning && s.Static })
	if err := m.Delete(s.ID); domain.KindOf(err) != domain.Conflict || !strings.Contains(err.Error(), "static_push") {
		t.Errorf("delete: %v", err)
	}
	_, _, err := m.Create(t.Context(), domain.Relay{Direction: domain.Push, Name: movie, URL: remote.url("movie")}, true)
	if domain.KindOf(err) != domain.Conflict || !strings.Contains(err.Error(), "static_push") {
		t.Errorf("create: %v", err)
	}
}
