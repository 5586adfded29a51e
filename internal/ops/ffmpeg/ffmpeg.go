// Package ffmpeg runs the program ffmpeg as a child process. It knows no media.
package ffmpeg

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"strings"
	"time"
)

// Name is the program that is run by default, which must be in PATH.
const Name = "ffmpeg"

// Installed reports whether Name is in PATH.
func Installed() bool {
	_, err := Find(Name)
	return err == nil
}

// Find returns the path of program, a name in PATH or a path.
func Find(program string) (path string, err error) { return exec.LookPath(program) }

// Options are what Start runs.
type Options struct {
	Program string // a name in PATH, or a path; "": Name
	Args    []string
	Stdin   io.Reader // nil: none
	// Untrusted runs it for input that may be hostile: with a low priority, limited memory, and no
	// environment. On Linux it is killed when the thread dies that called Start, and it is the first that
	// the kernel kills when memory is short.
	Untrusted bool
}

const (
	maxStderr = 512         // bytes of ffmpeg's error output
	waitDelay = time.Second // for child processes that outlive ffmpeg
)

// A Process is an ffmpeg that writes to a pipe. Not for concurrent use.
type Process struct {
	cmd    *exec.Cmd
	cancel context.CancelFunc
	out    io.ReadCloser
	stderr limitedBuffer // complete once err is set
	err    error         // the final result of Read, nil before
}

// Start starts an ffmpeg process. The end of ctx kills it. The caller must call Close.
func Start(ctx context.Context, o Options) (*Process, error) {
	ctx, cancel := context.WithCancel(ctx)
	c := &Process{cmd: exec.CommandContext(ctx, cmp.Or(o.Program, Name), o.Args...), cancel: cancel}
	c.cmd.Stdin, c.cmd.Stderr = o.Stdin, &c.stderr
	if o.Untrusted {
		isolate(c.cmd)
	}
	out, err := c.cmd.StdoutPipe()
	if err == nil {
		c.out = out
		c.cmd.Cancel = func() error {
			out.Close() // a child process may hold the other end
			return kill(c.cmd.Process, o.Untrusted)
		}
		c.cmd.WaitDelay = waitDelay
		err = c.cmd.Start()
	}
	if err != nil {
		cancel()
		return nil, fmt.Errorf("starting ffmpeg: %w", err)
	}
	if o.Untrusted {
		limit(c.cmd.Process.Pid)
	}
	return c, nil
}

// Read reads ffmpeg's output. It returns io.EOF only if ffmpeg exits successfully, else an error
// with the first line of its error output and its exit status. Later calls return the same.
func (c *Process) Read(b []byte) (int, error) {
	if c.err != nil {
		return 0, c.err
	}
	n, err := c.out.Read(b)
	if err != nil {
		c.wait()
	}
	return n, c.err
}

// Close kills ffmpeg if it is still running.
func (c *Process) Close() error {
	c.cancel()
	if c.err == nil {
		c.wait()
	}
	return nil
}

// wait waits for ffmpeg to exit. Its output must have been read.
func (c *Process) wait() {
	c.err = io.EOF
	// With ErrWaitDelay, ffmpeg exited successfully, but a child process still runs.
	if err := c.cmd.Wait(); err != nil && !errors.Is(err, exec.ErrWaitDelay) {
		c.err = fmt.Errorf("ffmpeg: %s (%w)", cmp.Or(c.stderr.firstLine(), "stopped unexpectedly"), err)
	}
}

// A limitedBuffer keeps the first maxStderr bytes written to it.
type limitedBuffer []byte

func (c *limitedBuffer) Write(b []byte) (int, error) {
	*c = append(*c, b[:min(len(b), maxStderr-len(*c))]...)
	return len(b), nil
}

// firstLine returns its first line.
func (c *limitedBuffer) firstLine() string {
	line, _, _ := strings.Cut(strings.TrimSpace(string(*c)), "\n")
	return line
}
