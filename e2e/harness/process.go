package harness

import (
	"bytes"
	"errors"
	"io"
	"os"
	"os/exec"
	"sync"
	"syscall"
	"testing"
	"time"
)

// A Process is a running program. The end of the test kills it if it still runs.
type Process struct {
	t    testing.TB
	name string
	cmd  *exec.Cmd
	out  *Output // standard output and standard error
	errs *Output
	done chan struct{}
}

// An Output collects what a process prints. It can be read, and waited on, while the process runs.
type Output struct {
	mu      sync.Mutex
	buf     bytes.Buffer
	changed chan struct{} // closed and replaced at each write
}

func newOutput() *Output { return &Output{changed: make(chan struct{})} }

// Write appends to the output.
func (o *Output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	close(o.changed)
	o.changed = make(chan struct{})
	return o.buf.Write(p)
}

func (o *Output) String() string {
	s, _ := o.snapshot()
	return s
}

func (o *Output) snapshot() (string, <-chan struct{}) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.String(), o.changed
}

// await waits until ok returns true for the output so far, and reports whether that was within the
// limit.
func (o *Output) await(limit time.Duration, ok func(string) bool) bool {
	return waitUntil(limit, func() (bool, <-chan struct{}) {
		s, changed := o.snapshot()
		return ok(s), changed
	}, nil)
}

// startCommand starts cmd.
func startCommand(t testing.TB, cmd *exec.Cmd) *Process {
	t.Helper()
	p := &Process{t: t, name: cmd.Args[0], cmd: cmd, out: newOutput(), errs: newOutput(), done: make(chan struct{})}
	cmd.Stdout, cmd.Stderr = p.out, p.errs
	cmd.WaitDelay = 5 * time.Second // for grandchildren that keep the pipes open
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		cmd.Wait()
		close(p.done)
	}()
	t.Cleanup(func() {
		p.cmd.Process.Kill()
		<-p.done
	})
	return p
}

// StartProgram starts an installed program. If it is not installed, the test is skipped: see Need.
func StartProgram(t testing.TB, name string, args ...string) *Process {
	t.Helper()
	return startCommand(t, programCommand(t, name, args))
}

func programCommand(t testing.TB, name string, args []string) *exec.Cmd {
	t.Helper()
	Need(t, name)
	if path, err := exec.LookPath(name); err == nil {
		return exec.Command(path, args...)
	}
	return exec.Command("/usr/sbin/"+name, args...)
}

// FFmpeg starts ffmpeg, which prints warnings and errors to standard error.
func FFmpeg(t testing.TB, args ...string) *Process {
	t.Helper()
	return StartProgram(t, "ffmpeg", append([]string{"-nostdin", "-hide_banner", "-v", "warning", "-y"}, args...)...)
}

// Wait waits until the process has exited by itself, and returns its exit code.
func (p *Process) Wait(limit time.Duration) int {
	p.t.Helper()
	if !WaitClosed(limit, p.done) {
		p.t.Fatalf("%s still runs after %v:\n%s", p.cmd, limit, p.errs)
	}
	return p.cmd.ProcessState.ExitCode()
}

// WaitOK waits until the process has exited, which must be with code 0.
func (p *Process) WaitOK(limit time.Duration) {
	p.t.Helper()
	if code := p.Wait(limit); code != 0 {
		p.t.Fatalf("%s: exit code %d:\n%s", p.cmd, code, p.errs)
	}
}

// PID returns the process ID.
func (p *Process) PID() int { return p.cmd.Process.Pid }

// CPUTime waits until the process has exited, and returns the processor time that it used.
func (p *Process) CPUTime() time.Duration {
	<-p.done
	return p.cmd.ProcessState.UserTime() + p.cmd.ProcessState.SystemTime()
}

// Done returns a channel that is closed when the process has exited.
func (p *Process) Done() <-chan struct{} { return p.done }

// Ended reports whether the process has exited.
func (p *Process) Ended() bool {
	select {
	case <-p.done:
		return true
	default:
		return false
	}
}

// Signal sends sig. It is no error if the process has exited already.
func (p *Process) Signal(sig syscall.Signal) {
	p.t.Helper()
	if err := p.cmd.Process.Signal(sig); err != nil && !errors.Is(err, os.ErrProcessDone) {
		p.t.Fatal(err)
	}
}

// Kill sends SIGKILL.
func (p *Process) Kill() {
	p.t.Helper()
	p.Signal(syscall.SIGKILL)
}

// Stdout returns what the process has printed to standard output so far.
func (p *Process) Stdout() string { return p.out.String() }

// Stderr returns what the process has printed to standard error so far.
func (p *Process) Stderr() string { return p.errs.String() }

// StdoutReader returns a reader of the standard output so far.
func (p *Process) StdoutReader() io.Reader { return bytes.NewReader([]byte(p.out.String())) }

// AwaitStderr waits until ok returns true for the standard error so far, and fails the test after
// the limit.
func (p *Process) AwaitStderr(limit time.Duration, ok func(string) bool) {
	p.t.Helper()
	if !p.errs.await(limit, ok) {
		p.t.Fatalf("%s: the expected output did not come within %v:\n%s", p.cmd, limit, p.errs)
	}
}
