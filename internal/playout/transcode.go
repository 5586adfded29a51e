package playout

import (
	"context"
	"fmt"
	"path/filepath"
	"time"

	"livego/internal/ops/ffmpeg"
	"livego/internal/source"
)

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
	c, err := ffmpeg.Start(ctx, ffmpeg.Options{Args: append(args, "-f", "matroska", "pipe:1")})
	if err != nil {
		return nil, err
	}
	s, err := source.Pipe(e.Path, c)
	if err != nil {
		return nil, e.wrapError(err)
	}
	return s, nil
}
