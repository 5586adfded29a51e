package e2e

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"livego/e2e/harness"
	"livego/e2e/mediacompare"
	"livego/e2e/sample"
)

// patience is the limit for a viewer to receive a stream of a few seconds.
const patience = 60 * time.Second

// copyArgs returns arguments with which ffmpeg copies every packet, those before the first keyframe
// included.
func copyArgs(url string) []string { return []string{"-i", url, "-c", "copy", "-copyinkf"} }

// watchRTMP plays url with ffmpeg.
func watchRTMP(t testing.TB, url string) *harness.Process {
	t.Helper()
	return harness.FFmpeg(t, append(copyArgs(url), "-f", "framemd5", "-")...)
}

// watchRTMPEarly is watchRTMP for a stream that is not published yet. It returns when ffmpeg has
// sent play.
func watchRTMPEarly(t testing.TB, url string) *harness.Process {
	t.Helper()
	p := harness.FFmpeg(t, append([]string{"-v", "debug"}, append(copyArgs(url), "-f", "framemd5", "-")...)...)
	p.AwaitStderr(patience, func(s string) bool { return strings.Contains(s, "Sending play command") })
	return p
}

// awaitWaitingViewer waits until the log of s contains that a viewer waits for room, so that it
// will get the stream from the first frame on.
func awaitWaiting(s *harness.Server, room string) {
	s.AwaitStderr(patience, func(log string) bool {
		for line := range strings.Lines(log) {
			if strings.Contains(line, "waiting for the stream") &&
				strings.HasSuffix(strings.TrimSpace(line), " stream=live/"+room) {
				return true
			}
		}
		return false
	})
}

// frames waits until a viewer has exited by itself, and returns what it received.
func frames(t testing.TB, p *harness.Process) mediacompare.Stream {
	t.Helper()
	p.WaitOK(patience)
	s, err := mediacompare.ReadFrameMD5(p.StdoutReader())
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// watchFLV plays an HTTP-FLV URL to its end.
func watchFLV(ctx context.Context, c *http.Client, url string) (*mediacompare.FLVFile, error) {
	resp, body, err := pollFetch(ctx, c, url)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode != 200 || resp.Header.Get("Content-Type") != "video/x-flv" ||
		resp.Header.Get("Access-Control-Allow-Origin") != "*" {
		return nil, fmt.Errorf("%s: HTTP %d, %v", url, resp.StatusCode, resp.Header)
	}
	return mediacompare.ReadFLV(bytes.NewReader(body))
}

// A source is a sample with its contents.
type source struct {
	sample.Sample
	file                  *mediacompare.FLVFile
	packets, decoderUnits mediacompare.Stream
}

func load(t testing.TB, s sample.Sample) source {
	t.Helper()
	src := source{Sample: s, file: s.Read(t)}
	var err error
	if src.packets, err = src.file.Packets(); err != nil {
		t.Fatal(err)
	}
	if src.decoderUnits, err = src.file.DecoderUnits(); err != nil {
		t.Fatal(err)
	}
	return src
}

// push publishes the sample to a room.
func (src source) push(s *harness.Server, t testing.TB, room string) *harness.Process {
	if src.NonzeroStart {
		return s.Push(src.File(t), room, "-copyts")
	}
	return s.Push(src.File(t), room)
}

// audioBeforeVideo returns the number of audio frames before the first picture. A stream with video
// starts at its first keyframe.
func (src source) audioBeforeVideo() int {
	return max(0, slices.IndexFunc(src.packets, func(u mediacompare.Unit) bool { return u.Kind == mediacompare.Video }))
}

// check compares what a viewer received with the source, up to the end of the source.
func check(t testing.TB, label string, want, got mediacompare.Stream, tolerance time.Duration) mediacompare.Match {
	t.Helper()
	m, err := mediacompare.Compare(want, got, tolerance)
	switch {
	case err != nil:
		t.Errorf("%s: %v", label, err)
	case m.Video.Missing() != 0 || m.Audio.Missing() != 0:
		t.Errorf("%s: the end is missing: video %+v, audio %+v", label, m.Video, m.Audio)
	}
	return m
}

// checkFLV is check for an FLV file, with its headers and flags.
func (src source) checkFLV(t testing.TB, label string, got *mediacompare.FLVFile) {
	t.Helper()
	if got.HasVideo != src.Video || got.HasAudio != src.Audio {
		t.Errorf("%s: the header has flags video %v, audio %v, want %v, %v", label, got.HasVideo, got.HasAudio, src.Video,
			src.Audio)
	}
	if !slices.Equal(slices.Sorted(slices.Values(got.Headers())), slices.Sorted(slices.Values(src.file.Headers()))) {
		t.Errorf("%s: codec headers %q, want %q", label, got.Headers(), src.file.Headers())
	}
	if len(got.Tags) == 0 || got.Tags[0].Type != mediacompare.TagScript ||
		!bytes.Contains(got.Tags[0].Body, []byte("onMetaData")) {
		t.Errorf("%s: does not start with onMetaData", label)
	}
	packets, err := got.Packets()
	if err != nil {
		t.Errorf("%s: %v", label, err)
		return
	}
	check(t, label, src.packets, packets, mediacompare.Millisecond)
}

// checkHLS is check for an HLS stream without discontinuities.
func (src source) checkHLS(t testing.TB, label string, got hlsView) mediacompare.Match {
	t.Helper()
	if got.discontinuities > 0 {
		t.Errorf("%s: %d discontinuities in a continuous stream", label, got.discontinuities)
	}
	return check(t, label, src.decoderUnits, got.units, mediacompare.TSTick)
}

// TestWatch pushes each sample once and watches it by every protocol at the same time, while it is
// recorded. A viewer that waited for it by RTMP gets all of it.
func TestWatch(t *testing.T) {
	harness.Need(t, "ffmpeg")
	server, dir := startRecording(t, harness.Options{})
	for _, sam := range sample.All() {
		t.Run(sam.Name, func(t *testing.T) {
			t.Parallel()
			s, src, room := server.WithT(t), load(t, sam), sam.Name
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()

			early := watchRTMPEarly(t, s.RTMP(room))
			awaitWaiting(s, room)
			push := src.push(s, t, room)
			s.AwaitLive(room)
			late := watchRTMP(t, s.RTMP(room))
			flv := async(func() (*mediacompare.FLVFile, error) { return watchFLV(ctx, harness.Client(), s.FLV(room)) })
			hls := async(func() (hlsView, error) { return watchHLS(ctx, harness.Client(), s.HLS(room)) })
			push.WaitOK(patience)

			m := check(t, "RTMP, waiting before the push", src.packets, frames(t, early), mediacompare.Millisecond)
			if m.Video.First != 0 || m.Audio.First > src.audioBeforeVideo() {
				t.Errorf("RTMP: the viewer that waited starts at picture %d and audio frame %d", m.Video.First, m.Audio.First)
			}
			check(t, "RTMP, joining later", src.packets, frames(t, late), mediacompare.Millisecond)
			if got, err := flv(); err != nil {
				t.Errorf("HTTP-FLV: %v", err)
			} else {
				src.checkFLV(t, "HTTP-FLV", got)
			}
			if got, err := hls(); err != nil {
				t.Errorf("HLS: %v", err)
			} else if m := src.checkHLS(t, "HLS", got); m.Video.First != 0 {
				t.Errorf("HLS: the first segment starts at picture %d of the stream", m.Video.First)
			}
			src.checkFLV(t, "recording", src.checkRecording(t, s, dir, room))
		})
	}
}

// TestFFmpegPlaysHLSAndFLV plays with ffmpeg, where TestWatch has readers of its own.
func TestFFmpegPlaysHLSAndFLV(t *testing.T) {
	harness.Need(t, "ffmpeg")
	t.Parallel()
	s, src := harness.Start(t, harness.Options{}), load(t, sample.AV)
	push := src.push(s, t, "movie")
	s.AwaitLive("movie")

	flv := watchRTMP(t, s.FLV("movie"))
	harness.Eventually(t, patience, "playlist", func() error {
		_, err := mediaURL(t.Context(), harness.Client(), s.HLS("movie"))
		return err
	})
	ts := filepath.Join(t.TempDir(), "out.ts")
	fromStart := []string{"-live_start_index", "0"}
	hls := harness.FFmpeg(t, append(fromStart, append(copyArgs(s.HLS("movie")+"?format=ts"), "-f", "mpegts", ts)...)...)
	fmp4 := harness.FFmpeg(t, append(fromStart, append(copyArgs(s.HLS("movie")), "-f", "framemd5", "-")...)...)
	push.WaitOK(patience)

	check(t, "HTTP-FLV", src.packets, frames(t, flv), mediacompare.Millisecond)
	hls.WaitOK(patience)
	data, err := os.ReadFile(ts)
	if err != nil {
		t.Fatal(err)
	}
	got, err := mediacompare.ReadTS(data)
	if err != nil {
		t.Fatal(err)
	}
	check(t, "HLS, MPEG-TS", src.decoderUnits, got, mediacompare.TSTick)
	check(t, "HLS, fragmented MP4", src.packets, frames(t, fmp4), mediacompare.Millisecond)
}

// async starts f and returns a function that waits for its results.
func async[T any](f func() (T, error)) func() (T, error) {
	var v T
	var err error
	done := make(chan struct{})
	go func() {
		defer close(done)
		v, err = f()
	}()
	return func() (T, error) {
		<-done
		return v, err
	}
}
