package bench

import (
	"net/netip"
	"os"
	"slices"
	"testing"
)

func TestLocalAddr(t *testing.T) {
	for _, c := range []struct {
		to   string
		n    int
		want string
	}{
		{"127.0.0.1", 0, "127.0.0.1"},
		{"127.0.0.1", viewersPerAddress, "127.0.0.2"},
		{"127.0.0.1", 249 * viewersPerAddress, "127.0.0.250"},
		{"192.0.2.1", 0, "invalid IP"},
		{"::1", 0, "invalid IP"},
	} {
		if got := localAddr(netip.MustParseAddr(c.to), c.n).String(); got != c.want {
			t.Errorf("viewer %d of %s connects from %s, want %s", c.n, c.to, got, c.want)
		}
	}
}

// TestProcessUsage measures this process.
func TestProcessUsage(t *testing.T) {
	ln := listen(t)
	defer ln.Close()
	pids := listeningProcesses([]*target{{addr: ln.Addr().String()}, {addr: "192.0.2.1:80"}})
	if !slices.Equal(pids, []int{os.Getpid()}) {
		t.Errorf("processes %v listen, want %d", pids, os.Getpid())
	}
	u, err := usageOf(pids)
	if err != nil || u.memory < 1<<20 {
		t.Errorf("it uses %+v, %v", u, err)
	}
	if _, err := usageOf([]int{-1}); err == nil {
		t.Error("no error for a process that is not there")
	}
	if busy, all := machineTimes(); busy <= 0 || all <= busy || ownCPU() <= 0 {
		t.Errorf("the machine was busy for %d of %d, this process for %v", busy, all, ownCPU())
	}
	if checkFileLimit(10) != nil || checkFileLimit(1<<40) == nil {
		t.Error("wrong limit of open files")
	}
}
