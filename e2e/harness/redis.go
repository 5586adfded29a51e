package harness

import (
	"fmt"
	"net"
	"strings"
	"testing"
	"time"
)

// A Redis is a redis-server that syncs each write to disk.
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

// Restart starts it again after Crash, with its data.
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

// Crash kills it and waits until it has exited.
func (r *Redis) Crash() {
	r.t.Helper()
	r.Kill()
	<-r.Done()
}

// Pause stops the process, so that clients get no answer until Resume.
func (r *Redis) Pause() { r.sendSignal("-STOP") }

// Resume lets the process continue.
func (r *Redis) Resume() { r.sendSignal("-CONT") }

// sendSignal sends a signal that Go does not name on every system.
func (r *Redis) sendSignal(signal string) {
	r.t.Helper()
	StartProgram(r.t, "kill", signal, fmt.Sprint(r.PID())).WaitOK(5 * time.Second)
}

// Do runs a command by redis-cli and returns the reply.
func (r *Redis) Do(args ...string) string {
	r.t.Helper()
	host, port, _ := net.SplitHostPort(r.addr)
	p := StartProgram(r.t, "redis-cli", append([]string{"-h", host, "-p", port}, args...)...)
	p.WaitOK(5 * time.Second)
	return strings.TrimSpace(p.Stdout())
}
