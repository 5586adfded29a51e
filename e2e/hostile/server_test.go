package hostile

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"livego/e2e/harness"
)

// A target is the server under test, and its state before.
type target struct {
	*harness.Server

	mu   sync.Mutex
	keys []string // every key that it returned

	fds, goroutines int
	cpu             int // ticks
}

// start starts a target. Its streams end with their publisher, so that each test leaves nothing
// behind.
func start(t *testing.T, flags ...string) *target {
	t.Helper()
	return startApps(t, harness.Options{Flags: flags})
}

// startApps is start with options of the harness.
func startApps(t *testing.T, o harness.Options) *target {
	t.Helper()
	dir := t.TempDir()
	config := "server:\n- appname: live\n- appname: other\n- appname: closed\n  live: false\n"
	if err := os.WriteFile(filepath.Join(dir, "livego.yaml"), []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	o.Dir = dir
	return startWith(t, o)
}

// startWith is startApps with the default apps, or those of the directory in o.
func startWith(t *testing.T, o harness.Options) *target {
	t.Helper()
	o.NoRace, o.Flags = true, append([]string{"--level=debug", "--publish_hold=0s", "--play_wait=1s"}, o.Flags...)
	s := &target{Server: harness.Start(t, o)}
	s.streamKey(t, "first") // so that the server opens its files
	s.fds, s.goroutines, s.cpu = s.OpenFiles(), s.Goroutines(), s.CPUTicks()
	return s
}

// streamKey returns the key of a room.
func (s *target) streamKey(t testing.TB, room string) string {
	t.Helper()
	key := s.WithT(t).Key(room)
	s.remember(key)
	return key
}

func (s *target) remember(key string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.keys = append(s.keys, key)
}

// audit checks what must be true after inputs inputs.
func (s *target) audit(t *testing.T, inputs int) {
	t.Helper()
	if s.Ended() {
		t.Fatal("the server has ended")
	}
	// On average: most inputs cost nothing and a few are megabytes. This includes the CPU time of valid
	// publishers and viewers.
	const perInput = 50 // ms
	if used := (s.WithT(t).CPUTicks() - s.cpu) * 10; inputs > 0 && used > perInput*inputs {
		t.Errorf("%d inputs took %d ms of processor time, want at most %d ms each", inputs, used, perInput)
	} else {
		t.Logf("%d inputs took %d ms of processor time", inputs, used)
	}
	t.Logf("memory: %d MiB now, %d MiB at most", s.WithT(t).MemoryMiB("VmRSS"), s.WithT(t).MemoryMiB("VmHWM"))
	if peak := s.WithT(t).MemoryMiB("VmHWM"); peak >= 200 {
		t.Errorf("the server used %d MiB of memory at its peak, want less than 200", peak)
	}
	http.DefaultClient.CloseIdleConnections()
	harness.Eventually(t, 60e9, "goroutines and file descriptors as before", func() error {
		if n := s.WithT(t).Goroutines(); n > s.goroutines+5 {
			return fmt.Errorf("%d goroutines, there were %d", n, s.goroutines)
		}
		if n := s.WithT(t).OpenFiles(); n > s.fds+5 {
			return fmt.Errorf("%d file descriptors, there were %d", n, s.fds)
		}
		return nil
	})
	s.auditLog(t)
}

// auditLog checks that the log has no keys, panics or terminal control characters.
func (s *target) auditLog(t *testing.T) {
	t.Helper()
	log := s.Stdout() + s.Stderr()
	for _, bad := range []string{"panic", "goroutine 1 [", "fatal error", "DATA RACE", "\x1b", "\x00"} {
		if strings.Contains(log, bad) {
			t.Errorf("the log holds %q", bad)
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, key := range s.keys {
		if strings.Contains(log, key) {
			t.Errorf("the log holds the key %s", key)
		}
	}
}
