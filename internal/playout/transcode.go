package playout

import (
	"bytes"
	"context"
	"errors"
	"fmt"
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
		args = append(args, "-c:v", "libx264", "-preset", "veryfast", "-pix_fmt", "yuv420p", "-vf", "crop=trunc(iw/2)*2:trunc(ih/2)*2", "-force_key_frames", "expr:gte(t,n_forced*2)")
	} else {
		args = append(args, "-c:v", "copy")
	}
	if audio {
		args = append(args, "-c:a", "aac", "-b:a", "128k", "-ac", "2")
	} else {
		args = append(args, "-c:a", "copy")
	}
	ctx, cancel := context.WithCancel(ctx)
	cmd := exec.CommandContext(ctx, "ffmpeg", append(args, "-f", "matroska", "pipe:1")...)
	var said bytes.Buffer
	cmd.Stderr = &said
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		cancel()
		return nil, fmt.Errorf("starting ffmpeg: %w", err)
	}
	end := func() error {
		cancel()
		return cmd.Wait()
	}
	s, err := source.Pipe(e.Path, out)
	if err != nil {
		_ = end() // what it said counts
		if line, _, _ := strings.Cut(strings.TrimSpace(said.String()), "\n"); line != "" {
			err = errors.New("ffmpeg: " + line)
		}
		return nil, err
	}
	s.OnClose(end)
	return s, nil
}
