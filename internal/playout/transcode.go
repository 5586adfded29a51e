package playout

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"livego/internal/source"
)

// HasFFmpeg reports whether ffmpeg is in PATH.
func HasFFmpeg() bool {
	_, err := exec.LookPath("ffmpeg")
	return err == nil
}

// transcode opens a file through ffmpeg, which encodes its video, its audio or both, and copies
// the other.
func transcode(ctx context.Context, e Entry, from time.Duration, video, audio bool) (*source.Source, error) {
	path, err := filepath.Abs(e.Path) // so that no path is an option or a protocol of ffmpeg
	if err != nil {
		return nil, err
	}
	args := []string{"-nostdin", "-v", "error"}
	if from > 0 {
		args = append(args, "-ss", fmt.Sprintf("%.3f", from.Seconds()))
	}
	if e.Out > 0 {
		args = append(args, "-t", fmt.Sprintf("%.3f", (e.Out-from).Seconds()))
	}
	args = append(args, "-i", "file:"+path, "-map", "0:v:0?", "-map", "0:a:0?")
	if video {
		args = append(args, "-c:v", "libx264", "-preset", "veryfast", "-pix_fmt", "yuv420p", "-vf",
			"crop=trunc(iw/2)*2:trunc(ih/2)*2", "-force_key_frames", "expr:gte(t,n_forced*2)")
	} else {
		args = append(args, "-c:v", "copy")
	}
	if audio {
		args = append(args, "-c:a", "aac", "-b:a", "128k", "-ac", "2")
	} else {
		args = append(args, "-c:a", "copy")
	}
	c, err := startFFmpeg(ctx, append(args, "-f", "matroska", "pipe:1"))
	if err != nil {
		return nil, err
	}
	s, err := source.Pipe(e.Path, c)
	if err != nil {
		return nil, e.wrapError(err)
	}
	return s, nil
}

const (
	maxStderr = 512         // bytes of ffmpeg's error output
	waitDelay = time.Second // for child processes that outlive ffmpeg
)

// An ffmpegProcess is an ffmpeg that writes to a pipe. Not for concurrent use.
type ffmpegProcess struct {
	cmd    *exec.Cmd
	cancel context.CancelFunc
	out    io.ReadCloser
	stderr limitedBuffer // complete once err is set
	err    error         // the final result of Read, nil before
}

// startFFmpeg starts an ffmpeg process. The end of ctx kills it.
func startFFmpeg(ctx context.Context, args []string) (*ffmpegProcess, error) {
	ctx, cancel := context.WithCancel(ctx)
	c := &ffmpegProcess{cmd: exec.CommandContext(ctx, "ffmpeg", args...), cancel: cancel}
	c.cmd.Stderr = &c.stderr
	out, err := c.cmd.StdoutPipe()
	if err == nil {
		c.out = out
		c.cmd.Cancel = func() error {
			out.Close() // a child process may hold the other end
			return c.cmd.Process.Kill()
		}
		c.cmd.WaitDelay = waitDelay
		err = c.cmd.Start()
	}
	if err != nil {
		cancel()
		return nil, fmt.Errorf("starting ffmpeg: %w", err)
	}
	return c, nil
}

// Read reads ffmpeg's output. It returns io.EOF only if ffmpeg exits successfully, else an error
// with the first line of its error output and its exit status. Later calls return the same.
func (c *ffmpegProcess) Read(b []byte) (int, error) {
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
func (c *ffmpegProcess) Close() error {
	c.cancel()
	if c.err == nil {
		c.wait()
	}
	return nil
}

// wait waits for ffmpeg to exit. Its output must have been read.
func (c *ffmpegProcess) wait() {
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
