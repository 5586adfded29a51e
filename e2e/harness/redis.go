package harness

import (
	"fmt"
	"net"
	"strings"
	"testing"
	"time"
)

// A Redis is a redis-server under test that syncs each write.
type Redis struct {
	t    testing.TB
	addr string
	args []string
	*Process
}

// StartRedis starts a redis-server on a free port, with further arguments.
func StartRedis(t testing.TB, args ...string) *Redis {
	t.Helper()
	port := FreePorts(t, 1)[0]
	r := &Redis{t: t, addr: fmt.Sprintf("127.0.0.1:%d", port)}
	r.args = append([]string{
		"--port", fmt.Sprint(port), "--bind", "127.0.0.1", "--dir", t.TempDir(), "--save", "", "--appendonly", "yes",
		"--appendfsync", "always",
	}, args...)
	r.Restart()
	return r
}

// Addr returns host:port.
func (r *Redis) Addr() string { return r.addr }

// Restart starts it again after Crash, with what it had.
func (r *Redis) Restart() {
	r.t.Helper()
	r.Process = StartProgram(r.t, "redis-server", r.args...)
	Eventually(r.t, 10*time.Second, "redis-server answers", func() error {
		c, err := net.Dial("tcp", r.addr)
		if err == nil {
			c.Close()
		}
		return err
	})
}

// Crash kills it.
func (r *Redis) Crash() {
	r.t.Helper()
	r.Kill()
	<-r.Done()
}

// Pause has it answer nothing any more, until Resume.
func (r *Redis) Pause() { r.sendSignal("-STOP") }

// Resume has it go on.
func (r *Redis) Resume() { r.sendSignal("-CONT") }

// sendSignal sends a signal that not every system's Go has a name for.
func (r *Redis) sendSignal(signal string) {
	r.t.Helper()
	StartProgram(r.t, "kill", signal, fmt.Sprint(r.PID())).WaitOK(5 * time.Second)
}

// Do runs a command by redis-cli and returns its answer.
func (r *Redis) Do(args ...string) string {
	r.t.Helper()
	host, port, _ := net.SplitHostPort(r.addr)
	p := StartProgram(r.t, "redis-cli", append([]string{"-h", host, "-p", port}, args...)...)
	p.WaitOK(5 * time.Second)
	return strings.TrimSpace(p.Stdout())
}
