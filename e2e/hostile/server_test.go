package hostile

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"

	"livego/e2e/rig"
)

// A target is a server that is thrown things at, and what was known of it before.
type target struct {
	*rig.Server

	mu   sync.Mutex
	keys []string // every key that it gave out

	fds, goroutines int
	cpu             int // ticks
}

// start starts a target. It publishes no longer than the publisher is there, so that each test leaves nothing behind.
func start(t *testing.T, flags ...string) *target {
	t.Helper()
	dir := t.TempDir()
	config := "server:\n- appname: live\n- appname: other\n- appname: closed\n  live: false\n"
	if err := os.WriteFile(filepath.Join(dir, "livego.yaml"), []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	s := &target{Server: rig.Start(t, rig.Options{Plain: true, Dir: dir, Flags: append([]string{"--level=debug", "--publish_hold=0s", "--play_wait=1s"}, flags...)})}
	s.pushKey(t, "first") // opens what is opened once
	s.fds, s.goroutines, s.cpu = s.countFDs(t), s.countGoroutines(t), s.ticks(t)
	return s
}

// pushKey returns the key of a room.
func (s *target) pushKey(t testing.TB, room string) string {
	t.Helper()
	key := s.In(t).Key(room)
	s.remember(key)
	return key
}

func (s *target) remember(key string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.keys = append(s.keys, key)
}

// proc reads a file of the server's directory in /proc.
func (s *target) proc(t testing.TB, name string) string {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/%s", s.PID(), name))
	if err != nil {
		t.Fatalf("the server is gone: %v", err)
	}
	return string(b)
}

// ticks returns the processor time that the server has used, in hundredths of a second.
func (s *target) ticks(t testing.TB) int {
	t.Helper()
	stat := s.proc(t, "stat")
	fields := strings.Fields(stat[strings.LastIndexByte(stat, ')')+1:]) // from the state on: a name may hold spaces
	user, err1 := strconv.Atoi(fields[11])
	system, err2 := strconv.Atoi(fields[12])
	if err1 != nil || err2 != nil {
		t.Fatalf("/proc/PID/stat: %q", stat)
	}
	return user + system
}

// memory returns a line of /proc/PID/status in MiB.
func (s *target) memory(t testing.TB, line string) int {
	t.Helper()
	for l := range strings.Lines(s.proc(t, "status")) {
		if value, ok := strings.CutPrefix(l, line+":"); ok {
			kb, err := strconv.Atoi(strings.TrimSuffix(strings.TrimSpace(value), " kB"))
			if err != nil {
				t.Fatal(err)
			}
			return kb >> 10
		}
	}
	t.Fatalf("/proc/PID/status has no %s", line)
	return 0
}

func (s *target) countFDs(t testing.TB) int {
	t.Helper()
	entries, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", s.PID()))
	if err != nil {
		t.Fatal(err)
	}
	return len(entries)
}

func (s *target) countGoroutines(t testing.TB) int {
	t.Helper()
	n := 0
	profile := rig.Get(t, s.API("/debug/pprof/goroutine?debug=1"))
	if _, err := fmt.Sscanf(string(profile), "goroutine profile: total %d", &n); err != nil {
		t.Fatalf("%v: %.80s", err, profile)
	}
	return n
}

// audit holds the server to what must be true after any number of inputs, of which there were so many.
func (s *target) audit(t *testing.T, inputs int) {
	t.Helper()
	if s.Ended() {
		t.Fatal("the server has ended")
	}
	// On average: most inputs cost nothing and a few are megabytes. The clock runs for good publishers and viewers too.
	const perInput = 50 // ms
	if used := (s.ticks(t) - s.cpu) * 10; inputs > 0 && used > perInput*inputs {
		t.Errorf("%d inputs took %d ms of processor time, want at most %d ms each", inputs, used, perInput)
	} else {
		t.Logf("%d inputs took %d ms of processor time", inputs, used)
	}
	t.Logf("memory: %d MiB now, %d MiB at most", s.memory(t, "VmRSS"), s.memory(t, "VmHWM"))
	if peak := s.memory(t, "VmHWM"); peak >= 200 {
		t.Errorf("it took %d MiB of memory at its peak, want less than 200", peak)
	}
	http.DefaultClient.CloseIdleConnections()
	rig.Eventually(t, 60e9, "goroutines and file descriptors as before", func() error {
		if n := s.countGoroutines(t); n > s.goroutines+5 {
			return fmt.Errorf("%d goroutines, there were %d", n, s.goroutines)
		}
		if n := s.countFDs(t); n > s.fds+5 {
			return fmt.Errorf("%d file descriptors, there were %d", n, s.fds)
		}
		return nil
	})
	s.auditLog(t)
}

// auditLog looks for keys, panics and bytes that a terminal would obey in the log.
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
