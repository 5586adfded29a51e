package harness

import (
	"fmt"
	"math/rand/v2"
	"net"
	"runtime"
	"testing"
)

// FreePorts returns n ports of the loopback interface that nobody listens on. They are the test's
// until its end, whatever other tests run meanwhile, in this process or another: a server may be
// started on them again and again. They are below those that systems give to outgoing connections:
// of these tests make thousands, and one could take a port while a server is restarted.
func FreePorts(t testing.TB, n int) []int {
	t.Helper()
	const first, beyond, tries = 10_000, 32_000, 1000
	var ports []int
	for range tries {
		if len(ports) == n {
			return ports
		}
		port := first + rand.IntN(beyond-first) //nolint:forbidigo // no secret
		if reservePort(t, port) && isFree(port) {
			ports = append(ports, port)
		}
	}
	t.Fatalf("no %d free ports", n)
	return nil
}

// reservePort takes a port for the test, and reports whether no other test has it. What says so is
// the name of a socket, which the system forgets with the process at the latest. Where there are no
// such names, as on systems that are not Linux, nothing is reserved.
func reservePort(t testing.TB, port int) bool {
	if runtime.GOOS != "linux" {
		return true
	}
	l, err := net.Listen("unix", fmt.Sprintf("@livego-test-port-%d", port))
	if err != nil {
		return false
	}
	t.Cleanup(func() { l.Close() }) // after the end of the servers that are started later
	return true
}

// isFree reports whether a port can be listened on, on every address.
func isFree(port int) bool {
	for _, host := range []string{"", "127.0.0.1"} {
		l, err := net.Listen("tcp", fmt.Sprintf("%s:%d", host, port))
		if err != nil {
			return false
		}
		l.Close()
	}
	return true
}
