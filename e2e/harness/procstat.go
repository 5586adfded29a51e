package harness

import (
	"fmt"
	"os"
	"strconv"
	"strings"
)

// readProc reads a file of the server's directory in /proc.
func (s *Server) readProc(name string) string {
	s.t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/%s", s.PID(), name))
	if err != nil {
		s.t.Fatalf("the server is gone: %v", err)
	}
	return string(b)
}

// CPUTicks returns the processor time that the server has used, in hundredths of a second.
func (s *Server) CPUTicks() int {
	s.t.Helper()
	stat := s.readProc("stat")
	// from the state on: the name of a process may contain spaces
	fields := strings.Fields(stat[strings.LastIndexByte(stat, ')')+1:])
	user, err1 := strconv.Atoi(fields[11])
	system, err2 := strconv.Atoi(fields[12])
	if err1 != nil || err2 != nil {
		s.t.Fatalf("/proc/PID/stat: %q", stat)
	}
	return user + system
}

// MemoryMiB returns the value of a line of /proc/PID/status, in MiB.
func (s *Server) MemoryMiB(line string) int {
	s.t.Helper()
	for l := range strings.Lines(s.readProc("status")) {
		if value, ok := strings.CutPrefix(l, line+":"); ok {
			kb, err := strconv.Atoi(strings.TrimSuffix(strings.TrimSpace(value), " kB"))
			if err != nil {
				s.t.Fatal(err)
			}
			return kb >> 10
		}
	}
	s.t.Fatalf("/proc/PID/status has no %s", line)
	return 0
}

// OpenFiles returns the number of file descriptors that the server has open.
func (s *Server) OpenFiles() int {
	s.t.Helper()
	entries, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", s.PID()))
	if err != nil {
		s.t.Fatal(err)
	}
	return len(entries)
}

// Goroutines returns the number of goroutines in the server.
func (s *Server) Goroutines() int {
	s.t.Helper()
	n := 0
	profile := Get(s.t, s.API("/debug/pprof/goroutine?debug=1"))
	if _, err := fmt.Sscanf(string(profile), "goroutine profile: total %d", &n); err != nil {
		s.t.Fatalf("%v: %.80s", err, profile)
	}
	return n
}

// HeapBytes returns the number of bytes that are live on the server's heap after a garbage
// collection.
func (s *Server) HeapBytes() int {
	s.t.Helper()
	profile := Get(s.t, s.API("/debug/pprof/heap?gc=1&debug=1"))
	for l := range strings.Lines(string(profile)) {
		if value, ok := strings.CutPrefix(l, "# HeapAlloc = "); ok {
			n, err := strconv.Atoi(strings.TrimSpace(value))
			if err != nil {
				s.t.Fatal(err)
			}
			return n
		}
	}
	s.t.Fatal("the heap profile has no HeapAlloc")
	return 0
}
