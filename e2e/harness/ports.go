package harness

import (
	"fmt"
	"math/rand/v2"
	"net"
	"runtime"
	"testing"
)

// FreePorts returns n ports of the loopback interface on which nothing listens. They are reserved
// until the test ends, against tests in other processes too, so that a server can be started on
// them several times. They are below the range for outgoing connections, of which these tests make
// thousands: one of those could occupy a port while a server restarts.
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

// reservePort reserves a port for the test, and reports whether no other test has reserved it. The
// reservation is an abstract socket, which Linux releases when the process ends at the latest.
// Other systems have none: there nothing is reserved.
func reservePort(t testing.TB, port int) bool {
	if runtime.GOOS != "linux" {
		return true
	}
	l, err := net.Listen("unix", fmt.Sprintf("@livego-test-port-%d", port))
	if err != nil {
		return false
	}
	t.Cleanup(func() { l.Close() }) // after the servers that are started later have stopped
	return true
}

// isFree reports whether a listener can use the port on every address.
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
