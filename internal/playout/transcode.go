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

// HasFFmpeg reports whether there is an ffmpeg to transcode by.
func HasFFmpeg() bool {
	_, err := exec.LookPath("ffmpeg")
	return err == nil
}

// transcode opens a file by a child that encodes its pictures, its sound or both, and copies the other.
func transcode(ctx context.Context, e Entry, from time.Duration, video, audio bool) (*source.Source, error) {
	path, err := filepath.Abs(e.Path) // so that no name is an option or a protocol of ffmpeg's
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
	maxStderr = 512         // bytes of what ffmpeg says
	waitDelay = time.Second // for what an ffmpeg that is over has left behind
)

// A ffmpegProcess is an ffmpeg that writes to us. Not for concurrent use.
type ffmpegProcess struct {
	cmd    *exec.Cmd
	cancel context.CancelFunc
	out    io.ReadCloser
	stderr limitedBuffer // whole once over
	err    error         // what Read ends with, nil before
}

// startFFmpeg starts an ffmpeg. The end of ctx kills it.
func startFFmpeg(ctx context.Context, args []string) (*ffmpegProcess, error) {
	ctx, cancel := context.WithCancel(ctx)
	c := &ffmpegProcess{cmd: exec.CommandContext(ctx, "ffmpeg", args...), cancel: cancel}
	c.cmd.Stderr = &c.stderr
	out, err := c.cmd.StdoutPipe()
	if err == nil {
		c.out = out
		c.cmd.Cancel = func() error {
			out.Close() // whom it has started may hold the other end
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

// Read reads what ffmpeg writes. It ends with io.EOF only if ffmpeg says that it has done all it
// was to do; else with what it said first and how it ended. It may be called again then.
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

// Close kills ffmpeg if it still runs.
func (c *ffmpegProcess) Close() error {
	c.cancel()
	if c.err == nil {
		c.wait()
	}
	return nil
}

// wait waits for the end of ffmpeg, of which nothing is to be read any more.
func (c *ffmpegProcess) wait() {
	c.err = io.EOF
	// then it has ended well, but not whom it has started
	if err := c.cmd.Wait(); err != nil && !errors.Is(err, exec.ErrWaitDelay) {
		c.err = fmt.Errorf("ffmpeg: %s (%w)", cmp.Or(c.stderr.firstLine(), "it broke off"), err)
	}
}

// A limitedBuffer is the beginning of what is written to it.
type limitedBuffer []byte

func (c *limitedBuffer) Write(b []byte) (int, error) {
	*c = append(*c, b[:min(len(b), maxStderr-len(*c))]...)
	return len(b), nil
}

// firstLine returns its first firstLine.
func (c *limitedBuffer) firstLine() string {
	line, _, _ := strings.Cut(strings.TrimSpace(string(*c)), "\n")
	return line
}
