package bench

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"livego/internal/codec/h264"
	"livego/internal/container/flv"
	"livego/internal/media"
)

// recordFLV returns the first messages of a source as an FLV file.
func recordFLV(s *source, d time.Duration) []byte {
	out := flv.FileHeader(true, true)
	for _, h := range s.header {
		out = flv.AppendTag(out, h.typ, 0, h.body)
	}
	head, seq := newPlayhead(s), uint32(0)
	for head.due() < d {
		it, at := head.advance()
		if it.mark > 0 {
			seq++
		}
		out = flv.AppendTag(out, it.typ, uint32(at.Milliseconds()), it.appendBody(nil, int64(at), seq))
	}
	return out
}

func mustSynthesize(t testing.TB, bitrate, fps int, gop time.Duration) *source {
	t.Helper()
	s, err := synthesize(bitrate, fps, gop)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// TestBuiltInStreamDecodes checks the bitrate of the built-in stream, and decodes it with livego's
// demuxer and with ffmpeg.
func TestBuiltInStreamDecodes(t *testing.T) {
	for _, c := range []struct {
		bitrate, fps int
		gop          time.Duration
	}{
		{2_670_000, 30, 2 * time.Second},
		{200_000, 30, 2 * time.Second},
		{500_000, 25, 4 * time.Second},
		{8_000_000, 60, time.Second},
		{1_000_000, 10, 30 * time.Second}, // frame_num wraps
	} {
		t.Run(fmt.Sprint(c.bitrate, "at", c.fps), func(t *testing.T) {
			s := mustSynthesize(t, c.bitrate, c.fps, c.gop)
			if got := s.bits / float64(c.bitrate); got < .97 || got > 1.03 {
				t.Errorf("%.0f bit/s, want %d", s.bits, c.bitrate)
			}
			file := recordFLV(s, c.gop+time.Second)
			frames, keys := countPictures(t, file)
			if want := int((c.gop + time.Second).Seconds()) * c.fps; frames != want || keys != 2 {
				t.Errorf("%d frames and %d keyframes, want %d and 2", frames, keys, want)
			}
			decodeWithFFmpeg(t, file, frames)
		})
	}
	for _, bad := range []struct{ bitrate, fps, frames int }{{1000, 30, 60}, {1e6, 0, 60}, {1e6, 30, 1}} {
		if _, err := synthesize(bad.bitrate, bad.fps, time.Duration(bad.frames)*time.Second/30); err == nil {
			t.Errorf("%v was accepted", bad)
		}
	}
}

// countPictures counts the frames and keyframes of an FLV file, by livego's demuxer.
func countPictures(t *testing.T, file []byte) (frames, keys int) {
	t.Helper()
	var d flv.Demuxer
	r := flv.NewReader(bytes.NewReader(file), maxFileTag)
	for {
		tag, err := r.Next()
		if err != nil {
			return frames, keys
		}
		got, err := d.Message(tag.Type, tag.Timestamp, tag.Body, time.Time{})
		if err != nil {
			t.Fatal(err)
		}
		if len(got) == 0 || got[0].Track.Kind != media.Video {
			continue
		}
		f := got[0]
		frames++
		rap, err := h264.RandomAccess(f.Payload, 4)
		if err != nil {
			t.Fatal(err)
		}
		if rap == media.Keyframe {
			keys++
		}
		if f.Track.Width != pictureWidth || f.Track.Height != pictureHeight {
			t.Fatalf("picture of %dx%d", f.Track.Width, f.Track.Height)
		}
	}
}

// decodeWithFFmpeg decodes a file with ffmpeg, which must find every frame and report no problem.
func decodeWithFFmpeg(t *testing.T, file []byte, frames int) {
	t.Helper()
	if _, err := exec.LookPath("ffprobe"); err != nil {
		t.Log("ffprobe is not installed: not decoded")
		return
	}
	path := filepath.Join(t.TempDir(), "built-in.flv")
	if err := os.WriteFile(path, file, 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := exec.CommandContext(t.Context(), "ffprobe", "-v", "warning", "-count_frames",
		"-show_entries", "stream=codec_name,nb_read_frames,sample_rate", "-of", "csv=p=0", path).CombinedOutput()
	got := string(out)
	if err != nil || !strings.Contains(got, fmt.Sprintf("h264,%d", frames)) || !strings.Contains(got, "aac,44100,") ||
		strings.Count(got, "\n") != 2 {
		t.Errorf("ffprobe: %v, want %d frames of h264\n%s", err, frames, out)
	}
}
