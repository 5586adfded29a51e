package thumbnail

import (
	"bytes"
	"context"
	"fmt"
	"image/jpeg"
	"io"
	"strconv"

	"livego/internal/container/fmp4"
	"livego/internal/media"
	"livego/internal/ops/ffmpeg"
)

const (
	maxWidth    = 480
	maxHeight   = 2 * maxWidth // for video that is higher than wide
	maxKeyframe = 16 << 20     // bytes; 8K video at 100 Mbit/s has keyframes of some megabytes
	maxJPEG     = 1 << 20      // bytes; a picture of noise has a fifth of it
	maxPixels   = 8192 * 4352  // of the video
	maxAlloc    = 256 << 20    // bytes that ffmpeg allocates at once
)

// scaling makes square pixels, and colors as JPEG has them.
var scaling = fmt.Sprintf("scale=w='max(2,trunc(min(%d,iw*sar)/2)*2)':h='max(2,min(%d,trunc(ow/dar/2)*2))'"+
	":out_color_matrix=bt601:out_range=pc,setsar=1", maxWidth, maxHeight)

// arguments are those of ffmpeg. It reads and writes pipes only.
var arguments = []string{
	"-nostdin", "-v", "error", "-max_alloc", strconv.Itoa(maxAlloc),
	"-threads", "1", "-max_pixels", strconv.Itoa(maxPixels), "-protocol_whitelist", "pipe", "-f", "mov", "-i", "pipe:0",
	"-map", "0:v:0", "-frames:v", "1", "-vf", scaling, "-threads", "1", "-c:v", "mjpeg", "-pix_fmt", "yuvj420p",
	"-q:v", "4", "-f", "image2pipe", "pipe:1",
}

// render returns the picture of f as JPEG. program is ffmpeg. The end of ctx kills it.
func render(ctx context.Context, program string, f *media.Frame) ([]byte, error) {
	if len(f.Payload) > maxKeyframe {
		return nil, fmt.Errorf("the keyframe is larger than %d bytes", maxKeyframe)
	}
	input, err := fmp4.Init([]*media.Track{f.Track})
	if err != nil {
		return nil, err
	}
	if input, err = fmp4.AppendFragment(input, 1, []*media.Frame{f}); err != nil {
		return nil, err
	}
	p, err := ffmpeg.Start(ctx, ffmpeg.Options{
		Program: program, Args: arguments, Stdin: bytes.NewReader(input), Untrusted: true,
	})
	if err != nil {
		return nil, err
	}
	defer func() { _ = p.Close() }()
	out, err := io.ReadAll(io.LimitReader(p, maxJPEG+1))
	switch {
	case ctx.Err() != nil:
		return nil, context.Cause(ctx)
	case err != nil:
		return nil, err
	case len(out) > maxJPEG:
		return nil, fmt.Errorf("ffmpeg returned more than %d bytes", maxJPEG)
	}
	c, err := jpeg.DecodeConfig(bytes.NewReader(out))
	if err != nil || c.Width > maxWidth || c.Height > maxHeight {
		return nil, fmt.Errorf("ffmpeg returned no JPEG of at most %dx%d", maxWidth, maxHeight)
	}
	return out, nil
}
